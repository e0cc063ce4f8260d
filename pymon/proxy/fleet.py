"""What runs where and whose it is, from the last inventory of each node. No I/O; the clock comes as an argument.

UUIDs of containers and nodes are text in lower case. A container that two nodes claim is where it started last; when
both say the same time it stays where it was. One that is no longer in its node's inventory is remembered as stopped.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import msgspec

from pymon.proxy.agent_document import Container, Inventory, checked, share

if TYPE_CHECKING:
    from pymon.directory.model import Snapshot

STOPPED_SECONDS = 86400.0
"""A container that stopped is remembered so long."""

MAX_STOPPED = 1000
"""Stopped containers remembered for each node; the oldest goes first."""


class NodeView(msgspec.Struct, frozen=True, gc=False):
    """A node: its name in the directory, and what its agent says of it."""

    name: str
    uuid: str
    hostname: str


class Place(msgspec.Struct, frozen=True, gc=False):
    """A container, where it is and whose. owner: None without one and for accounts that are not there."""

    container: Container
    node: NodeView
    owner: UUID | None


class Conflict(NamedTuple):
    """A container that one node began to claim while another had it; winner and loser are names of nodes."""

    uuid: str
    winner: str
    loser: str


class Changes(NamedTuple):
    """What an inventory changed."""

    changed: bool
    conflicts: list[Conflict]


class _Index:
    """Places by UUID and by owner. journal: takes the UUIDs of what changes."""

    __slots__ = ("by_owner", "by_uuid", "journal")

    def __init__(self) -> None:
        self.journal: set[str] | None = None
        self.by_uuid: dict[str, Place] = {}
        self.by_owner: dict[UUID | None, dict[str, Place]] = {}

    def put(self, place: Place) -> None:
        uuid = place.container.uuid
        before = self.by_uuid.get(uuid)
        if before is not None and before.owner != place.owner:
            self.drop(uuid)
        self.by_uuid[uuid] = place
        self.by_owner.setdefault(place.owner, {})[uuid] = place
        if self.journal is not None:
            self.journal.add(uuid)

    def drop(self, uuid: str) -> None:
        owner = self.by_uuid.pop(uuid).owner
        owned = self.by_owner[owner]
        del owned[uuid]
        if not owned:
            del self.by_owner[owner]
        if self.journal is not None:
            self.journal.add(uuid)

    def of(self, owner: UUID | None) -> list[Place]:
        return list(self.by_owner.get(owner, {}).values())


class _Node:
    """stopped: when, by UUID; the oldest first."""

    __slots__ = ("containers", "stopped", "view")

    def __init__(self, view: NodeView) -> None:
        self.view = view
        self.containers: dict[str, Container] = {}
        self.stopped: dict[str, float] = {}


class Fleet:
    """All nodes. version grows with every change that anybody could see; conflicts counts what two nodes claimed."""

    def __init__(self) -> None:
        self.version = 0
        self.conflicts = 0
        self._nodes: dict[str, _Node] = {}
        self._running = _Index()
        self._stopped = _Index()
        self._places = self._running.by_uuid
        self._rivals: dict[str, list[str]] = {}  # nodes that claim a container, where there are several
        self._views: dict[str, NodeView] = {}
        self._accounts: Snapshot | None = None
        self._names: dict[str, UUID] = {}

    def __len__(self) -> int:
        return len(self._places)

    # What others ask. Lists are theirs to keep.

    def find(self, uuid: str) -> Place | None:
        """Where a container runs."""
        return self._places.get(uuid)

    def last(self, uuid: str) -> Place | None:
        """Where a container runs, or ran when it stopped lately."""
        return self._places.get(uuid) or self._stopped.by_uuid.get(uuid)

    def all(self) -> list[Place]:
        """All that runs and, where they do not run elsewhere, those that stopped lately."""
        return list({**self._running.by_uuid, **self._stopped.by_uuid, **self._running.by_uuid}.values())

    def follow(self) -> set[str]:
        """A set that takes the UUIDs of the containers that change from now on; who asked empties it. For one only."""
        self._running.journal = self._stopped.journal = journal = set(self._places) | set(self._stopped.by_uuid)
        return journal

    def node(self, uuid: str) -> NodeView | None:
        """The node with this UUID; the one that had it first where several say that they have."""
        return self._views.get(uuid)

    def owned(self, account: UUID) -> list[Place]:
        """What an account has running."""
        return self._running.of(account)

    def unowned(self) -> list[Place]:
        """What runs and is nobody's: the operators' own."""
        return self._running.of(None)

    def stopped(self, account: UUID | None) -> list[Place]:
        """What an account had, or nobody: containers with the state ``stopped``."""
        return self._stopped.of(account)

    def nodes(self) -> list[NodeView]:
        """One node for each UUID."""
        return list(self._views.values())

    def view(self, name: str) -> NodeView | None:
        """The node with this name in the directory."""
        node = self._nodes.get(name)
        return node.view if node is not None else None

    def stops(self, name: str) -> list[tuple[Container, float]]:
        """The stopped containers of a node and when they stopped."""
        node = self._nodes.get(name)
        stopped = node.stopped if node is not None else {}
        return [(self._stopped.by_uuid[uuid].container, since) for uuid, since in stopped.items()]

    # What changes it.

    def expect(self, name: str, uuid: UUID) -> None:
        """A node of the directory, which is there even if its agent never answered."""
        if name not in self._nodes:
            self._nodes[name] = _Node(NodeView(name, str(uuid), name))
            self._renew_views()
            self.version += 1

    def replace(self, name: str, inventory: Inventory, accounts: Snapshot, now: float) -> Changes:
        """The inventory of a node. Costs a comparison for each of its containers, and more for those that changed."""
        self.resolve_owners(accounts)
        view = NodeView(name, inventory.uuid, inventory.hostname or name)
        node = self._nodes.get(name)
        renewed = node is None or node.view != view
        if node is None:
            node = self._nodes[name] = _Node(view)
        before, after = node.containers, dict(inventory.containers)
        changed: list[str] = []
        for uuid, container in after.items():
            known = before.get(uuid)
            if known == container:
                after[uuid] = known  # so that the other one's memory is free again
            else:
                share(container)
                changed.append(uuid)
        gone = before.keys() - after.keys()
        node.containers = after
        if renewed:
            self._renew(node, view)
        conflicts: list[Conflict] = []
        for uuid in changed:
            self._claim(uuid, node, conflicts)
        for uuid in sorted(gone):
            self._release(uuid, name)
            if uuid not in self._places:
                self._remember(node, before[uuid], now)
        different = bool(renewed or changed or gone)
        self.version += different
        self.conflicts += len(conflicts)
        return Changes(different, conflicts)

    def forget(self, name: str) -> None:
        """A node that is no longer in the directory, with all that it had."""
        node = self._nodes.pop(name, None)
        if node is None:
            return
        for uuid in node.containers:
            self._release(uuid, name)
        for uuid in node.stopped:
            self._stopped.drop(uuid)
        self._renew_views()
        self.version += 1

    def rename(self, name: str, to: str) -> None:
        """Another name for a node, which keeps all that it has."""
        node = self._nodes.pop(name, None)
        if node is None or to in self._nodes:
            raise KeyError(name if node is None else to)
        self._nodes[to] = node
        for uuid in node.containers.keys() & self._rivals.keys():
            self._rivals[uuid] = [to if rival == name else rival for rival in self._rivals[uuid]]
        hostname = to if node.view.hostname == name else node.view.hostname
        self._renew(node, NodeView(to, node.view.uuid, hostname))
        self.version += 1

    def resolve_owners(self, accounts: Snapshot) -> None:
        """The accounts of the directory. Costs nothing for the same snapshot, and no scan for the same names."""
        if accounts is self._accounts:
            return
        self._accounts = accounts
        names = {account.name.lower(): account.uuid for account in accounts.accounts.values()}
        names |= {str(uuid): uuid for uuid in accounts.accounts}
        before, self._names = self._names, names
        if names == before:
            return
        changed = {name for name in names.keys() | before.keys() if names.get(name) != before.get(name)}
        for index in (self._running, self._stopped):
            for place in tuple(index.by_uuid.values()):
                if place.container.owner in changed:
                    index.put(self._place(place.container, place.node))
                    self.version += 1

    def restore_stopped(self, name: str, stops: Iterable[tuple[Container, float]], now: float) -> None:
        """The stopped containers of a node as `stops` once told them."""
        node = self._nodes[name]
        for container, since in stops:
            found = checked(container)
            if found is not None and found.uuid not in self._places and found.uuid not in self._stopped.by_uuid:
                self._remember(node, found, since)
        self.expire(now)
        self.version += 1

    def expire(self, now: float) -> None:
        """Let go of what stopped long ago."""
        for node in self._nodes.values():
            for uuid, since in tuple(node.stopped.items()):
                if since > now:  # the clock was set back: count from now on
                    node.stopped[uuid] = now
                elif not now - since < STOPPED_SECONDS:
                    del node.stopped[uuid]
                    self._stopped.drop(uuid)
                    self.version += 1

    # The parts of that.

    def _place(self, container: Container, view: NodeView) -> Place:
        owner = container.owner
        return Place(container, view, self._names.get(owner) if owner is not None else None)

    def _claim(self, uuid: str, node: _Node, conflicts: list[Conflict]) -> None:
        """A container of a node that is new or has changed."""
        name = node.view.name
        holder = self._places.get(uuid)
        rivals = self._rivals.get(uuid)
        if holder is None:
            self._unstop(uuid)
            self._running.put(self._place(node.containers[uuid], node.view))
        elif holder.node.name == name and rivals is None:
            self._running.put(self._place(node.containers[uuid], node.view))
        else:
            rivals = self._rivals.setdefault(uuid, [holder.node.name])
            new = name not in rivals
            if new:
                rivals.append(name)
            winner = self._settle(uuid, rivals, holder.node.name)
            if new and holder.node.uuid != node.view.uuid:
                conflicts.append(Conflict(uuid, winner, name if winner != name else holder.node.name))

    def _release(self, uuid: str, name: str) -> None:
        """A node no longer claims a container."""
        rivals = self._rivals.get(uuid)
        if rivals is None:
            self._running.drop(uuid)
            return
        rivals.remove(name)
        self._settle(uuid, rivals, self._places[uuid].node.name)
        if len(rivals) == 1:
            del self._rivals[uuid]

    def _settle(self, uuid: str, rivals: list[str], holder: str) -> str:
        """Let the newest claim have a container; the holder when it is as new, else the first by name."""
        winner = max(sorted(rivals), key=lambda name: (self._nodes[name].containers[uuid].start, name == holder))
        node = self._nodes[winner]
        self._running.put(self._place(node.containers[uuid], node.view))
        return winner

    def _remember(self, node: _Node, container: Container, since: float) -> None:
        if len(node.stopped) >= MAX_STOPPED:
            oldest = next(iter(node.stopped))
            del node.stopped[oldest]
            self._stopped.drop(oldest)
        node.stopped[container.uuid] = since
        self._stopped.put(self._place(msgspec.structs.replace(container, state="stopped"), node.view))

    def _unstop(self, uuid: str) -> None:
        place = self._stopped.by_uuid.get(uuid)
        if place is not None:
            del self._nodes[place.node.name].stopped[uuid]
            self._stopped.drop(uuid)

    def _renew(self, node: _Node, view: NodeView) -> None:
        """Let every place of a node show another view of it."""
        before, node.view = node.view, view
        for index, uuids in ((self._running, node.containers), (self._stopped, node.stopped)):
            for uuid in uuids:
                place = index.by_uuid.get(uuid)
                if place is not None and place.node.name == before.name:
                    index.put(Place(place.container, view, place.owner))
        if before.uuid == view.uuid and self._views.get(view.uuid) == before:
            self._views[view.uuid] = view
        self._renew_views()

    def _renew_views(self) -> None:
        """Who has a UUID keeps it for as long as it says so."""
        views = {}
        for uuid, view in self._views.items():
            node = self._nodes.get(view.name)
            if node is not None and node.view.uuid == uuid:
                views[uuid] = node.view
        for node in self._nodes.values():
            views.setdefault(node.view.uuid, node.view)
        self._views = views

"""Which containers run on which nodes and who owns them, from the last inventory of each node.

No I/O; the clock comes as an argument. UUIDs of containers and nodes are text in lower case. `pymon.proxy.claims`
decides which node holds a container UUID. A container that disappears from its node's inventory, or that has ended by
what its node says, is remembered as stopped.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from pymon.inventory_document import Container, checked
from pymon.proxy.agent_document import Difference, Inventory, share, text_bytes
from pymon.proxy.claim_refusals import CONFLICTS
from pymon.proxy.claims import Claims
from pymon.proxy.places import NodeView, Place, Places

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from pymon.directory.model import Snapshot
    from pymon.proxy.holder_rows import Row

STOPPED_SECONDS = 86400.0
"""How long a stopped container is remembered."""

MAX_STOPPED = 1000
MAX_STOPPED_BYTES = 4 << 20
"""Limits of the remembered stopped containers of one node: their number, and the memory of their texts. The oldest is
dropped first."""

QUICK_AT_ONCE = 10
"""New containers that nobody else claims, which are added in one step."""


class IdentityError(Exception):
    """A node reports a UUID that it cannot have. The text is one line."""


class _Node:
    """The state of one node.

    containers: all claimed containers by UUID; `Claims` shares this dictionary. stopped: stop time by UUID, oldest
    first. stopped_bytes: memory of the stopped containers' texts.
    """

    __slots__ = ("containers", "stopped", "stopped_bytes", "view")

    def __init__(self, view: NodeView, containers: dict[str, Container]) -> None:
        self.view = view
        self.containers = containers
        self.stopped: dict[str, float] = {}
        self.stopped_bytes = 0


class Fleet(Places):
    """All nodes and their containers, as the inventories tell of them."""

    def __init__(self, claims: Claims | None = None) -> None:
        super().__init__()
        self.claims = claims or Claims()
        self.claims.stopped_at = self._stopped_at
        self._nodes: dict[str, _Node] = {}
        self._accounts: Snapshot | None = None
        self._now = 0.0

    @property
    def conflicts(self) -> int:
        """Number of claims refused because another node has the container."""
        return sum(count for (_, reason), count in self.claims.counts.items() if reason in CONFLICTS)

    # Queries.

    def view(self, name: str) -> NodeView | None:
        """Return the node with this name in the directory, or None when its UUID is unknown."""
        node = self._nodes.get(name)
        return node.view if node is not None else None

    def stops(self, name: str) -> list[tuple[Container, float]]:
        """Return a node's stopped containers, each with its stop time in seconds since the epoch."""
        node = self._nodes.get(name)
        stopped = node.stopped if node is not None else {}
        return [(self._stopped.by_uuid[uuid].container, since) for uuid, since in stopped.items()]

    # Changes.

    def expect(self, name: str, uuid: UUID) -> None:
        """Add a node of the directory by its UUID, even if its agent has never answered."""
        if name not in self._nodes:
            self.pin(name, str(uuid))
            self._begin(NodeView(name, str(uuid), name))

    def containers(self, name: str) -> Mapping[str, Container]:
        """Return all containers that a node claims, granted or not, by UUID."""
        node = self._nodes.get(name)
        return node.containers if node is not None else {}

    def replace(self, name: str, inventory: Inventory, accounts: Snapshot, now: float, *, copy: bool = False) -> bool:
        """Replace the inventory of a node. Return whether it changed. Raises IdentityError.

        copy: the inventory comes from disk, and the node has not answered.
        """
        steps = self.replacing(name, inventory, accounts, now, copy=copy)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return bool(end.value)

    def replacing(
        self, name: str, inventory: Inventory, accounts: Snapshot, now: float, *, copy: bool = False
    ) -> Generator[None, None, bool]:
        """Do `replace` in short steps. The fleet is consistent after each step.

        The cost is one comparison per container, and more for each changed one.
        """
        node, different = self._answering(name, inventory, accounts, now)
        if not copy:
            self.claims.answers(name)
        containers, after = node.containers, inventory.containers
        gone = sorted(containers.keys() - after.keys())
        different |= yield from self._change(node, gone, after, now)
        if not copy:
            self.heard(name)
        return different

    def changing(
        self, name: str, difference: Difference, accounts: Snapshot, now: float
    ) -> Generator[None, None, bool]:
        """Apply a difference to the inventory of a known node with the same UUID, in short steps.

        Return whether anything changed. Raises IdentityError.
        """
        node, different = self._answering(name, difference, accounts, now)
        self.claims.answers(name)
        gone = sorted(difference.removed & node.containers.keys())
        different |= yield from self._change(node, gone, difference.changed, now)
        self.heard(name)
        return different

    def is_named(self, name: str, uuid: str) -> bool:
        """Return whether a node may keep the UUID that it has in the fleet."""
        identity = self.claims.identity(name, uuid)
        return not identity.problem and (identity.pinned or not self.claims.durable)

    def pin(self, name: str, uuid: str) -> None:
        """Assign a UUID to a node of the directory."""
        self._decide_all(self.claims.pin(name, uuid))

    def heard(self, name: str) -> None:
        """Record that a node answered and that its answer was applied."""
        self._decide_all(self.claims.heard(name))

    def learn(self, rows: Mapping[str, Row], released: Iterable[str], now: float) -> None:
        """Take over changed rows of holders from the directory. now: seconds since the epoch."""
        self._now = now
        self._decide_all(self.claims.learn(rows, released))

    def settle(self, now: float, at: float, count: int) -> None:
        """Update the claims' clock, and decide up to `count` claims again that are not granted.

        now: seconds since the epoch. at: seconds of a monotonic clock.
        """
        self._now = now
        self.claims.tick(at)
        self._decide_all(self.claims.again(count))

    def deciding(self, uuids: Iterable[str]) -> Generator[None, None, None]:
        """Decide again which nodes hold these containers, in short steps."""
        for uuid in uuids:
            self._decide(uuid)
            yield

    def forget(self, *names: str) -> None:
        """Remove nodes, with their running and stopped containers."""
        known = False
        for name in names:
            node = self._nodes.pop(name, None)
            self._decide_all(self.claims.forget(name))
            if node is not None:
                known = True
                for uuid in node.stopped:
                    self._stopped.drop(uuid)
        if known:
            self._renew_views()
            self.version += 1

    def rename(self, name: str, to: str) -> None:
        """Rename a node, which keeps its containers. Raises KeyError for an unknown node or a name in use."""
        node = self._nodes.pop(name, None)
        if node is None or to in self._nodes:
            raise KeyError(name if node is None else to)
        self._nodes[to] = node
        self.claims.rename(name, to)
        hostname = to if node.view.hostname == name else node.view.hostname
        self._renew(node, NodeView(to, node.view.uuid, hostname))
        self._decide_all(node.containers)
        self.version += 1

    def resolve_owners(self, accounts: Snapshot) -> None:
        """Take over a snapshot of the directory, and decide owners again where it changed.

        Returns at once when the snapshot is the current one.
        """
        if accounts is self._accounts:
            return
        self._accounts = accounts
        version = self.claims.owners_version
        self._decide_all(self.claims.set_directory(accounts))
        if self.claims.owners_version != version:
            self._resolve_stopped()
        self.wake()

    def _resolve_stopped(self) -> None:
        for place in tuple(self._stopped.by_uuid.values()):
            owner = self.claims.owner(place.container)
            if not self.claims.allowed(place.node.name, owner):
                self._unstop(place.container.uuid)
            elif owner != place.owner:
                self._stopped.put(Place(place.container, place.node, owner))
                self.version += 1

    def restore_stopped(self, name: str, stops: Iterable[tuple[Container, float]], now: float) -> None:
        """Restore the stopped containers of a node from a saved result of `stops`."""
        node = self._nodes[name]
        for container, since in stops:
            found = checked(container)
            if found is not None:
                found = msgspec.structs.replace(found, ended=None)  # the inventory names those that are answered for
            if (
                found is not None
                and found.uuid not in self._places
                and found.uuid not in self._stopped.by_uuid
                and self.claims.allowed(name, self.claims.owner(found))
            ):
                self._remember(node, found, since)
        self._expire(node, now)
        self.version += 1

    def expire(self, now: float) -> None:
        """Forget containers that stopped more than `STOPPED_SECONDS` ago. now: seconds since the epoch."""
        for node in self._nodes.values():
            self._expire(node, now)

    # Internals.

    def _expire(self, node: _Node, now: float) -> None:
        for uuid, since in tuple(node.stopped.items()):
            if since > now:  # the clock was set back: count from now on
                node.stopped[uuid] = now
            elif not now - since < STOPPED_SECONDS:
                self._unstop(uuid)

    def _place(self, container: Container, view: NodeView) -> Place:
        return Place(container, view, self.claims.owner(container))

    def _answering(self, name: str, said: Inventory | Difference, accounts: Snapshot, now: float) -> tuple[_Node, bool]:
        """Return the node of an answer, and whether its view changed. Raises IdentityError."""
        self._now = now
        self.resolve_owners(accounts)
        self._identify(name, said.uuid)
        view = NodeView(name, said.uuid, said.hostname or name)
        node = self._nodes.get(name)
        if node is None:
            return self._begin(view), True
        if node.view == view:
            return node, False
        self._renew(node, view)
        self.version += 1
        return node, True

    def _change(
        self, node: _Node, gone: Iterable[str], changed: Mapping[str, Container], now: float
    ) -> Generator[None, None, bool]:
        """Remove the claims `gone`, and add or update the claims `changed`, in steps. Return whether any changed."""
        different, quick = False, 0
        name, containers, claims = node.view.name, node.containers, self.claims
        for uuid in gone:
            self._end(node, uuid, now)
            different = True
            yield
        for uuid, container in changed.items():
            known = containers.get(uuid)
            if known != container:
                share(container)
                containers[uuid] = container
                if known is None and container.ended is None and claims.first(name, container):
                    self._unstop(uuid)
                    self._running.put(self._place(container, node.view))
                    self.version += 1
                    different = True
                    quick += 1
                    if quick % QUICK_AT_ONCE:
                        continue
                else:
                    if known is None:
                        claims.claim(name, uuid)
                    self._decide(uuid)
                different = True
            yield
        return different

    def _identify(self, name: str, uuid: str) -> None:
        """Check the UUID that a node reports. Raises IdentityError when it is refused.

        A node with another UUID than before loses its containers. A new UUID is pinned.
        """
        identity = self.claims.identity(name, uuid)
        if identity.problem or (self.claims.durable and not identity.pinned):
            raise IdentityError(identity.problem or f"the node {uuid} is not in the directory")
        node = self._nodes.get(name)
        if node is not None and node.view.uuid != uuid:
            self.forget(name)
        if not identity.pinned:
            self.pin(name, uuid)

    def _begin(self, view: NodeView) -> _Node:
        node = self._nodes[view.name] = _Node(view, self.claims.node(view.name, view.uuid))
        # Not `_renew_views`, whose cost is that of all nodes: every node of the directory comes by here at the start.
        if self._views.setdefault(view.uuid, view) is view:
            self.nodes_version += 1
            self.wake()
        self.version += 1
        return node

    def _decide_all(self, uuids: Iterable[str]) -> None:
        for uuid in uuids:
            self._decide(uuid)

    def _decide(self, uuid: str) -> None:
        """Update the place of a container by the decision of the claims."""
        holder = self.claims.decide(uuid, self._now)
        place = self._places.get(uuid)
        if holder is None:
            if place is not None:
                self._running.drop(uuid)
                self.version += 1
            return
        node = self._nodes[holder]
        if node.containers[uuid].ended is not None:
            self._stop(node, node.containers[uuid])
            return
        found = self._place(node.containers[uuid], node.view)
        if place is not None and place.container is found.container and place == found:
            return
        self._unstop(uuid)
        self._running.put(found)
        self.version += 1

    def _stop(self, node: _Node, container: Container) -> None:
        """Remember a container of this node as stopped that has ended by what the node says."""
        uuid = container.uuid
        if uuid in self._places:
            self._running.drop(uuid)
        known = self._stopped.by_uuid.get(uuid)
        if known != self._place(container, node.view):
            self._unstop(uuid)
            self._remember(node, container, self._now)
            self.version += 1

    def _end(self, node: _Node, uuid: str, now: float) -> None:
        """Remove a claim. If the container ran on this node, remember it as stopped."""
        before = self._places.get(uuid)
        container = node.containers.pop(uuid)
        self.claims.drop(node.view.name, uuid)
        if before is not None and before.node.name == node.view.name:
            self._remember(node, container, now)  # before `_decide`: no other node may take it only because it stopped
        elif container.ended is not None:
            self._silence(node, uuid)
        self._decide(uuid)

    def _stopped_at(self, uuid: str) -> str | None:
        """Return the name of the node where a container with a verified UUID stopped recently, or None."""
        place = self._stopped.by_uuid.get(uuid)
        return place.node.name if place is not None and place.container.uuid_name is not None else None

    def _silence(self, node: _Node, uuid: str) -> None:
        """Note that the agent of this node answers no more for a stopped container."""
        place = self._stopped.by_uuid.get(uuid)
        if place is not None and place.node.name == node.view.name and place.container.ended is not None:
            self._stopped.put(Place(msgspec.structs.replace(place.container, ended=None), place.node, place.owner))
            self.version += 1

    def _remember(self, node: _Node, container: Container, since: float) -> None:
        container = msgspec.structs.replace(container, state="stopped")
        size = text_bytes(container)
        while node.stopped and (len(node.stopped) >= MAX_STOPPED or node.stopped_bytes + size > MAX_STOPPED_BYTES):
            self._unstop(next(iter(node.stopped)))
        node.stopped[container.uuid] = since
        node.stopped_bytes += size
        self._stopped.put(self._place(container, node.view))

    def _unstop(self, uuid: str) -> None:
        place = self._stopped.by_uuid.get(uuid)
        if place is not None:
            node = self._nodes[place.node.name]
            del node.stopped[uuid]
            node.stopped_bytes -= text_bytes(place.container)
            self._stopped.drop(uuid)
            self.version += 1

    def _renew(self, node: _Node, view: NodeView) -> None:
        """Replace the view of a node in all its places."""
        before, node.view = node.view, view
        for index, uuids in ((self._running, node.containers), (self._stopped, node.stopped)):
            for uuid in uuids:
                place = index.by_uuid.get(uuid)
                if place is not None and place.node.name == before.name:
                    index.put(Place(place.container, view, place.owner))
        if before.uuid == view.uuid and self._views.get(view.uuid) == before:
            # Not `_renew_views`, whose cost is that of all nodes: every node may tell another host name at the start.
            self._views[view.uuid] = view
            self.nodes_version += 1
            self.wake()
        else:
            self._renew_views()

    def _renew_views(self) -> None:
        """Rebuild the nodes by UUID. A node keeps a UUID for as long as it reports it."""
        views = {}
        for uuid, view in self._views.items():
            node = self._nodes.get(view.name)
            if node is not None and node.view.uuid == uuid:
                views[uuid] = node.view
        for node in self._nodes.values():
            views.setdefault(node.view.uuid, node.view)
        self._set_views(views)

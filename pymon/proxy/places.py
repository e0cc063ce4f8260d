"""Which containers run on which nodes and who owns them, as requests and names look it up. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from pymon.inventory_document import Container

if TYPE_CHECKING:
    from collections.abc import Callable


class NodeView(msgspec.Struct, frozen=True, gc=False):
    """A node: its name in the directory, and the UUID and host name that its agent reports."""

    name: str
    uuid: str
    hostname: str


class Place(msgspec.Struct, frozen=True, gc=False):
    """A container with its node and its owner. owner: UUID of an existing account, else None."""

    container: Container
    node: NodeView
    owner: UUID | None


class Index:
    """Places by UUID and by owner. changed: called with the UUID of each changed place.

    ended: those by owner of containers that have ended and whose agents answer scrapes of them.
    """

    __slots__ = ("_changed", "by_owner", "by_uuid", "ended")

    def __init__(self, changed: Callable[[str], None]) -> None:
        self._changed = changed
        self.by_uuid: dict[str, Place] = {}
        self.by_owner: dict[UUID | None, dict[str, Place]] = {}
        self.ended: dict[UUID | None, dict[str, Place]] = {}

    def put(self, place: Place) -> None:
        """Add a place, or replace that of its container."""
        uuid = place.container.uuid
        before = self.by_uuid.get(uuid)
        if before is not None and (before.owner != place.owner or before.container.ended is not None):
            self.drop(uuid)
        self.by_uuid[uuid] = place
        self.by_owner.setdefault(place.owner, {})[uuid] = place
        if place.container.ended is not None:
            self.ended.setdefault(place.owner, {})[uuid] = place
        self._changed(uuid)

    def drop(self, uuid: str) -> None:
        """Remove a place. Raises KeyError when there is none."""
        place = self.by_uuid.pop(uuid)
        for owners in (self.by_owner, self.ended) if place.container.ended is not None else (self.by_owner,):
            owned = owners[place.owner]
            del owned[uuid]
            if not owned:
                del owners[place.owner]
        self._changed(uuid)

    def of(self, owner: UUID | None) -> list[Place]:
        """Return the places of an owner."""
        return list(self.by_owner.get(owner, {}).values())


class Places:
    """All containers with their nodes and owners. `version` increases with every visible change.

    nodes_version: increases when a node's name, UUID or host name changes. The caller may keep and change lists that
    are returned.
    """

    def __init__(self) -> None:
        self.version = 0
        self.nodes_version = 0
        self._followers: list[tuple[set[str], Callable[[], object]]] = []
        self._running = Index(self._note)
        self._stopped = Index(self._note)
        self._places = self._running.by_uuid
        self._views: dict[str, NodeView] = {}

    def __len__(self) -> int:
        return len(self._places)

    def find(self, uuid: str) -> Place | None:
        """Return the place of a running container, or None."""
        return self._places.get(uuid)

    def last(self, uuid: str) -> Place | None:
        """Return the place of a container that runs or that stopped recently, or None."""
        return self._places.get(uuid) or self._stopped.by_uuid.get(uuid)

    def answering(self, uuid: str) -> Place | None:
        """Return the place of a container that runs, or that has ended and whose agent answers scrapes of it."""
        place = self.last(uuid)
        return place if place is None or uuid in self._places or place.container.ended is not None else None

    def both(self, uuid: str) -> tuple[Place | None, Place | None]:
        """Return where a container runs and where it stopped recently."""
        return self._places.get(uuid), self._stopped.by_uuid.get(uuid)

    def all(self) -> list[Place]:
        """Return the places of all running containers, and of recently stopped ones that do not run elsewhere."""
        return list({**self._running.by_uuid, **self._stopped.by_uuid, **self._running.by_uuid}.values())

    def follow(self, wake: Callable[[], object] = lambda: None) -> set[str]:
        """Return a set that collects the UUIDs of changed containers. It starts with all known UUIDs.

        The caller removes what it has processed. wake: called after each change of places, nodes or accounts.
        """
        journal = set(self._places) | set(self._stopped.by_uuid)
        self._followers.append((journal, wake))
        return journal

    def unfollow(self, journal: set[str]) -> None:
        """Stop updating a set that `follow` returned."""
        self._followers = [follower for follower in self._followers if follower[0] is not journal]

    def node(self, uuid: str) -> NodeView | None:
        """Return the node with this UUID, or None. When several nodes report it, the first one keeps it."""
        return self._views.get(uuid)

    def owned(self, *owners: UUID | None) -> list[Place]:
        """Return the running containers of these accounts. None stands for containers without an owner."""
        return [place for owner in owners for place in self._running.of(owner)]

    def count(self, owner: UUID | None) -> int:
        """Return the number of running containers of an account, or of those without an owner for None."""
        return len(self._running.by_owner.get(owner, ()))

    def ended(self, *owners: UUID | None) -> list[Place]:
        """Return the stopped containers of these accounts whose agents answer scrapes of them."""
        return [place for owner in owners for place in self._stopped.ended.get(owner, {}).values()]

    def count_ended(self, owner: UUID | None) -> int:
        """Return how many `ended` returns for an account, or for those without an owner for None."""
        return len(self._stopped.ended.get(owner, ()))

    def stopped(self, *owners: UUID | None) -> list[Place]:
        """Return the remembered stopped containers of these accounts. None stands for those without an owner."""
        return [place for owner in owners for place in self._stopped.of(owner)]

    def nodes(self) -> list[NodeView]:
        """Return all nodes, one for each UUID."""
        return list(self._views.values())

    def wake(self) -> None:
        """Wake all followers."""
        for _, wake in self._followers:
            wake()

    def _note(self, uuid: str) -> None:
        for journal, wake in self._followers:
            journal.add(uuid)
            wake()

    def _set_views(self, views: dict[str, NodeView]) -> None:
        """Replace the nodes by UUID."""
        if views != self._views:
            self._views = views
            self.nodes_version += 1
            self.wake()

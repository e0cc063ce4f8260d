"""What the poller of inventories uses of others, and copies of inventories: made from a fleet, and loaded into one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pymon.proxy.agent_document import Document, NodeDocument
from pymon.proxy.fleet import IdentityError
from pymon.proxy.inventory_store import Copy, KeptCopy, MadeCopy, Stop

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from pymon.directory.model import Snapshot
    from pymon.proxy.fleet import Fleet
    from pymon.service.http1 import Response

STOPS_AT_ONCE = 100
"""Stopped containers of a copy that are taken over before other tasks run."""


class UpstreamLike(Protocol):
    """A client of one agent; the interface of `pymon.proxy.upstream.Upstream`."""

    async def get(
        self,
        path: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        timeout_seconds: float,
        max_bytes: int = ...,
        background: bool = False,
    ) -> Response:
        """Send GET for a path and return the response. Raises UpstreamError."""
        ...


class Copies(Protocol):
    """Inventories of other proxies; the interface of `pymon.proxy.peers.Peers`."""

    def that_reach(self, node: str) -> bool:
        """Return whether another proxy says that it reaches a node."""
        ...

    async def copy(self, name: str, etag: str, max_bytes: int) -> Copy | None:
        """Return a node's inventory as another proxy has heard it. None if there is none, or it still has this ETag."""
        ...


class Pins(Protocol):
    """Stores the UUIDs of nodes where all proxies see them; the interface of `pymon.proxy.holders.Holders`."""

    async def pin(self, name: str, uuid: str) -> None:
        """Assign a UUID to a node permanently. Raises PinError."""
        ...

    def offer(self, name: str, uuid: str) -> None:
        """Record a refused UUID for the operator."""
        ...

    def wake(self) -> None:
        """Start writing pending rows now."""
        ...


def made_copy(fleet: Fleet, name: str, etag: str, node: NodeDocument, saved_at: float) -> MadeCopy:
    """Return a copy made from the fleet's current state, which is that of the ETag or newer.

    Not from the document that the agent sent, which would stay in memory until the copy is written.
    """
    return MadeCopy(saved_at, etag, Document(node, list(fleet.containers(name).values())), _stops(fleet, name))


def _stops(fleet: Fleet, name: str) -> list[Stop]:
    return [Stop(since, container) for container, since in fleet.stops(name)]


def restoring(fleet: Fleet, name: str, copy: KeptCopy, accounts: Snapshot, now: float) -> Generator[None, None, bool]:
    """Load a node's copy into the fleet, in short steps. Return False when it belongs to another node."""
    try:
        yield from fleet.replacing(name, copy.inventory, accounts, now, copy=True)
    except IdentityError:
        return False
    stops = [(stop.container, stop.since) for stop in copy.stopped]
    for first in range(0, len(stops), STOPS_AT_ONCE):
        fleet.restore_stopped(name, stops[first : first + STOPS_AT_ONCE], now)
        yield
    return True


def restore(fleet: Fleet, name: str, copy: KeptCopy, accounts: Snapshot, now: float) -> None:
    """Load a node's copy as `restoring` does, without a pause for other tasks."""
    for _ in restoring(fleet, name, copy, accounts, now):
        pass

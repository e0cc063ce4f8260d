"""Takes over the answers of agents, whole inventories and changes of them, into the fleet."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote

from pymon.config import shown
from pymon.proxy.agent_document import (
    NodeDocument,
    find_changes,
    find_containers,
    read_changes,
    read_inventory,
    text_bytes,
)
from pymon.proxy.fleet import IdentityError
from pymon.proxy.holders import PinError
from pymon.proxy.inventory_copy import made_copy
from pymon.proxy.polled_node import NOT_ASKED, PollError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Generator

    from pymon.directory.model import Snapshot
    from pymon.inventory_document import Container
    from pymon.proxy.agent_document import Inventory, Offsets
    from pymon.proxy.fleet import Fleet
    from pymon.proxy.inventory_copy import Pins
    from pymon.proxy.inventory_store import InventoryStore
    from pymon.proxy.polled_node import PolledNode
    from pymon.proxy.settling import Settling
    from pymon.proxy.slices import Slices
    from pymon.service.http1 import Response

DOUBT_SECONDS = 60.0
"""After changes that could not be applied, the agent is asked for whole inventories for this time."""

MAX_CHANGES_BYTES = 4 << 20
"""Limit of the changes since the last whole inventory, as counted by `text_bytes`. Beyond it the whole inventory is
requested, so that the limits of a whole inventory are applied again.
"""

_SMALL_BYTES = 1 << 20
"""A document up to this size is searched on the event loop, a larger one in a thread."""

_LATE_SECONDS = 30.0
"""Timeout of a pin."""

_FIRST_ROWS_SECONDS = 5.0
_LOOK_SECONDS = 0.02
"""A node that answers for the first time counts as known when its claims are decided, or after `_FIRST_ROWS_SECONDS`.
They are looked at every `_LOOK_SECONDS`."""

_VERSION = re.compile(r"[A-Za-z0-9._~%-]{1,256}")
_ETAG = re.compile(r'(?:W/)?"[!#-~]{0,256}"')
_OK, _NOT_MODIFIED = 200, 304

_log = logging.getLogger(__name__)

_Result = TypeVar("_Result")


class Answers:
    """Takes over answers. The arguments are those of `Poller`, and what it shares with this.

    failures: changes that cannot be applied are counted here. settling: logs claims that an answer made refused.
    """

    def __init__(
        self,
        fleet: Fleet,
        accounts: Callable[[], Snapshot],
        store: InventoryStore | None,
        *,
        pins: Pins | None,
        max_containers: int,
        clock: Callable[[], float],
        slices: Slices,
        failures: Counter[tuple[str, str]],
        settling: Settling,
    ) -> None:
        self._fleet = fleet
        self._accounts = accounts
        self._store = store
        self._pins = pins
        self._max_containers = max_containers
        self._clock = clock
        self._slices = slices
        self._failures = failures
        self._settling = settling

    async def take(self, polled: PolledNode, answer: Response) -> None:
        """Take over an answer. Raises PollError when it is refused; the fleet then keeps what it has of the node."""
        name = polled.node.name
        version = answer.headers.get("inventory-version", "")
        if not _VERSION.fullmatch(version) or time.monotonic() < polled.doubt_until:
            version = ""
        if answer.status == _NOT_MODIFIED and polled.known and polled.etag:
            polled.version = version
            self._fleet.heard(name)
            return
        asked, polled.version = polled.version, ""
        polled.known = False
        if answer.status != _OK:
            if asked:
                self._doubt(polled, "refused")
            raise PollError("status", f"expected status 200, got {answer.status}")
        encoding = answer.headers.get("content-encoding", "")
        if encoding not in ("", "identity"):
            raise PollError("malformed", f"expected an inventory, got Content-Encoding {shown(encoding)}")
        body = answer.body
        known = self._fleet.containers(name)
        try:
            changes = await searched(find_changes, body) if asked else None
            if changes is not None:
                if await self._take_changes(polled, answer, unquote(asked), changes):
                    polled.version = version
                return
            polled.changes_bytes = 0
            offsets = await searched(find_containers, body)
            inventory = await self._slices.run(polled, read_inventory(body, offsets, known, self._max_containers))
        except ValueError as error:
            what = f", Content-Type {shown(answer.headers.get('content-type', ''))}"
            raise PollError("malformed", f"{error}{what}") from None
        await self._identify(polled, inventory.uuid)
        await self._apply(polled, inventory, answer)
        # Differences do not show which containers to leave out. Only a whole inventory does.
        if not (inventory.refused or inventory.left_out):
            polled.version = version

    async def _take_changes(self, polled: PolledNode, answer: Response, asked: str, offsets: Offsets) -> bool:
        """Apply the changes since version `asked`. Return False when the whole inventory must be requested instead."""
        name = polled.node.name
        try:
            difference = await self._slices.run(polled, read_changes(answer.body, offsets))
        except ValueError as error:
            return self._doubt(polled, str(error))
        view = self._fleet.view(name)
        if difference.since != asked or view is None or view.uuid != difference.uuid:
            return self._doubt(polled, "not what was asked for")
        polled.changes_bytes += sum(map(text_bytes, difference.changed.values()))
        if polled.changes_bytes > MAX_CHANGES_BYTES:
            return False
        await self._identify(polled, difference.uuid)
        if difference.total > self._max_containers or not difference.fits(self._fleet.containers(name)):
            return self._doubt(polled, f"{difference.total} containers do not fit what is known")
        steps = self._fleet.changing(name, difference, self._accounts(), self._clock())
        await self._applied(polled, answer, steps, NodeDocument(difference.uuid, difference.hostname))
        return True

    def _doubt(self, polled: PolledNode, problem: str) -> bool:
        """Count changes that cannot be applied, and request whole inventories for a while. Return False."""
        polled.doubt_until = time.monotonic() + DOUBT_SECONDS
        self._failures[polled.node.name, "changes"] += 1
        _log.debug("changes not taken over", extra={"fields": {"node": polled.node.name, "problem": problem}})
        return False

    async def first_rows(self, polled: PolledNode) -> None:
        """Wait until the claims of a node that answers for the first time are decided, within a time limit.

        The node counts as polled only afterwards.
        """
        if self._pins is None:
            return
        name = polled.node.name
        until = time.monotonic() + _FIRST_ROWS_SECONDS
        while polled.problem is NOT_ASKED and self._fleet.claims.waiting(name) and time.monotonic() < until:
            await self._slices.run(polled, self._fleet.deciding(self._fleet.claims.waiting(name)))
            self._pins.wake()
            await asyncio.sleep(_LOOK_SECONDS)
        if self._fleet.claims.wanted:
            self._pins.wake()

    async def _identify(self, polled: PolledNode, uuid: str) -> None:
        """Check the UUID that a node reports, and pin it when it is new. Raises PollError when it is refused."""
        name = polled.node.name
        identity = self._fleet.claims.identity(name, uuid)
        if identity.problem:
            if self._pins is not None:
                self._pins.offer(name, uuid)
            raise PollError("identity", identity.problem)
        if identity.pinned or self._pins is None:
            return
        try:
            async with asyncio.timeout(_LATE_SECONDS):
                await self._pins.pin(name, uuid)
        except TimeoutError:
            raise PollError("directory", "the directory takes too long to pin the node's UUID") from None
        except PinError as error:
            if error.away:
                raise PollError("directory", str(error)) from None
            self._pins.offer(name, uuid)
            raise PollError("identity", str(error)) from None

    async def _apply(self, polled: PolledNode, inventory: Inventory, answer: Response) -> None:
        steps = self._fleet.replacing(polled.node.name, inventory, self._accounts(), self._clock())
        await self._applied(polled, answer, steps, NodeDocument(inventory.uuid, inventory.hostname))
        self._left_out(polled, inventory)
        await self._slices.run(polled, _freeing(inventory.containers))

    async def _applied(
        self,
        polled: PolledNode,
        answer: Response,
        steps: Generator[None, None, bool],
        said: NodeDocument,
    ) -> None:
        """Apply an answer to the fleet by running `steps`, and save a copy. said: the node in the answer."""
        try:
            changed = await self._slices.run(polled, steps)
        except IdentityError as error:
            raise PollError("identity", str(error)) from None
        self._settling.tell()
        now = self._clock()
        etag = answer.headers.get("etag", "")
        etag = etag if is_etag(etag) else ""
        polled.known = True
        # The copy on disk carries the ETag, so a new ETag is saved even if the content is the same.
        if changed or etag != polled.etag:
            polled.etag = etag
            if self._store is not None:
                self._store.save(polled.node.name, partial(made_copy, self._fleet, polled.node.name, etag, said, now))

    def _left_out(self, polled: PolledNode, inventory: Inventory) -> None:
        """Log the containers that are left out, when that changes."""
        if inventory.refused != polled.refused:
            fields = {"node": polled.node.name, "containers": inventory.refused}
            _log.warning("containers left out, they have no UUID of their own", extra={"fields": fields})
        if inventory.left_out and not polled.left_out:
            fields = {"node": polled.node.name, "containers": inventory.left_out, "limit": self._max_containers}
            _log.warning("containers left out, the node has more than it may", extra={"fields": fields})
        polled.refused, polled.left_out = inventory.refused, inventory.left_out


async def searched(find: Callable[[bytes], _Result], body: bytes) -> _Result:
    """Return `find(body)`, found in a thread when the document is larger than `_SMALL_BYTES`."""
    return await asyncio.to_thread(find, body) if len(body) > _SMALL_BYTES else find(body)


def is_etag(text: str) -> bool:
    """Return whether a text is an ETag that can be sent back to the agent: no control characters, of limited length."""
    return _ETAG.fullmatch(text) is not None


def _freeing(containers: dict[str, Container]) -> Generator[None, None, None]:
    """Free containers that are no longer needed, in short steps: thousands at once take milliseconds."""
    while containers:
        containers.popitem()
        yield

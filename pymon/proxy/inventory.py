"""Keeps the fleet up to date with one long poll per node of the directory.

A node whose poll fails keeps its last known inventory. The cost of an agent is bounded: the size of its document, the
number of its containers, how long a document blocks the event loop at a time, and its share of the loop's time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import re
import time
from collections import Counter, defaultdict
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote

from pymon.config import shown
from pymon.proxy.agent_document import (
    CONTAINER_FIELDS,
    NodeDocument,
    find_changes,
    find_containers,
    read_changes,
    read_inventory,
    text_bytes,
)
from pymon.proxy.claims import MAX_CONTAINERS
from pymon.proxy.fleet import IdentityError
from pymon.proxy.holders import PinError
from pymon.proxy.inventory_copy import STOPS_AT_ONCE, made_copy
from pymon.proxy.inventory_load import Loader
from pymon.proxy.slices import Slices
from pymon.proxy.upstream import UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from pymon.directory.model import Node, Snapshot
    from pymon.inventory_document import Container
    from pymon.proxy.agent_document import Inventory, Offsets
    from pymon.proxy.fleet import Fleet
    from pymon.proxy.inventory_copy import Copies, Pins, UpstreamLike
    from pymon.proxy.inventory_store import InventoryStore, KeptCopy, MadeCopy
    from pymon.service.http1 import Response

WAIT_SECONDS = 20.0
"""How long an agent may hold a poll. The death of a node, or a container that starts right after its return, may go
unnoticed for this time plus `ANSWER_SECONDS`."""

ANSWER_SECONDS = 5.0
"""How long an answer may take beyond `WAIT_SECONDS`."""

RETRY_SECONDS = (0.2, 5.0)
"""The first and the longest pause after a failed poll. The pause doubles with each failure."""

OTHERS_SECONDS = (1.0, 20.0)
"""The first and the longest pause before other proxies are asked again about a node that none of them has heard either.
The pause doubles. A node that one of them says it reaches is asked about at once."""

PACE_SECONDS = 0.25
PACE_BURST = 4
"""Polls of a node take place once in `PACE_SECONDS` on average, `PACE_BURST` of them at once, so that a change soon
after another one is not late. An agent that sends no ETag is polled once in four times as long.
"""

WHOLE_AT_ONCE = 256
"""Nodes that are asked at the same time without waiting for a change, which may answer with whole inventories. So a
proxy that starts does not hold the documents of all nodes in memory. Nodes that are away hold a place until their
connection fails, so there are more places than documents need."""

MAX_DOCUMENT_BYTES = 64 << 20
_LEAST_DOCUMENT_BYTES = 40 << 20
_DOCUMENT_BYTES_EACH = 2048
"""Limits of a document's size: bytes for each container that a node may have, within these two bounds. An agent sends
at most 32 MiB.
"""

EXPIRE_SECONDS = 60.0

SETTLE_SECONDS = 0.25
SETTLE_CLAIMS = 500
"""How often claims that are not granted are decided again, and how many at a time."""

SAY_AGAIN_SECONDS = 3600.0
"""Minimum time between two log lines about claims of one node that are refused for the same reason."""

DOUBT_SECONDS = 60.0
"""After changes that could not be applied, the agent is asked for whole inventories for this time."""

MAX_CHANGES_BYTES = 4 << 20
"""Limit of the changes since the last whole inventory, as counted by `text_bytes`. Beyond it the whole inventory is
requested, so that the limits of a whole inventory are applied again.
"""

_SMALL_BYTES = 1 << 20

_LATE_SECONDS = 30.0
"""Timeout of a pin."""

_FIRST_ROWS_SECONDS = 5.0
_LOOK_SECONDS = 0.02
"""A node that answers for the first time counts as known when its claims are decided, or after `_FIRST_ROWS_SECONDS`.
"""

_REST = 20.0
"""The pause after a document is at least this many times the loop time that the document took."""

_VERSION = re.compile(r"[A-Za-z0-9._~%-]{1,256}")
_ETAG = re.compile(r'(?:W/)?"[!#-~]{0,256}"')
_OK, _NOT_MODIFIED = 200, 304
_NOT_ASKED = "not asked yet"

_log = logging.getLogger(__name__)


_Result = TypeVar("_Result")


class _PollError(Exception):
    """A failed poll. reason: the value of a metric's label. The text is one line."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class _Polled:
    """The state of one polled node.

    etag: of the last document, "" without one. known: whether the fleet has the document of this ETag.
    version: inventory version for the parameter ``since``; "" when the agent sends none or the whole is requested.
    seen_at: monotonic time of the last good answer or of the loaded copy. failures: consecutive failed polls.
    problem: text of the last failure, None after a good poll. spent: CPU seconds of the loop that the last answer took.
    paced_until: loop time until which polls have been made in advance, see `PACE_SECONDS`.
    refused, left_out: numbers of containers left out, as in `Inventory`. doubt_until: monotonic time until which whole
    inventories are requested. changes_bytes: size of the changes since the last whole inventory. own: whether this
    proxy has heard the node itself. peer_etag: of the last copy of another proxy, "" without one. others_at: monotonic
    time before which other proxies are not asked again, see `OTHERS_SECONDS`. others_pause: the last such pause.
    """

    __slots__ = (
        "changes_bytes", "doubt_until", "etag", "failures", "known", "left_out", "node", "others_at", "others_pause",
        "own", "paced_until", "peer_etag", "problem", "refused", "seen_at", "spent", "task", "version",
    )  # fmt: skip

    def __init__(self, node: Node) -> None:
        self.node = node
        self.task: asyncio.Task[None] | None = None
        self.etag = ""
        self.known = False
        self.seen_at = -math.inf
        self.failures = 0
        self.problem: str | None = _NOT_ASKED
        self.refused = 0
        self.left_out = 0
        self.spent = 0.0
        self.paced_until = -math.inf
        self.version = ""
        self.doubt_until = -math.inf
        self.changes_bytes = 0
        self.own = False
        self.peer_etag = ""
        self.others_at = -math.inf
        self.others_pause = 0.0


class Poller:
    """Polls all nodes. `set_nodes` starts the polls. Use one object for one event loop.

    accounts: returns the current snapshot of the directory. connect: returns a client of a node's agent.
    store: keeps copies on disk, None for none. copies: inventories of other proxies, for nodes that this one has never
    heard; None for none. reach: called with the node and "ok" or the reason of the failure after each poll. pins:
    stores the UUIDs of nodes; with None, a node keeps the UUID that it reports first. answered: called with a node's
    name after each of its good answers. clock: returns seconds since the epoch. failures: failed polls by
    (node, reason).
    """

    def __init__(
        self,
        fleet: Fleet,
        accounts: Callable[[], Snapshot],
        connect: Callable[[Node], UpstreamLike],
        store: InventoryStore | None = None,
        *,
        pins: Pins | None = None,
        answered: Callable[[str], None] = lambda _: None,
        copies: Copies | None = None,
        reach: Callable[[str, str], None] = lambda _, __: None,
        max_containers: int = MAX_CONTAINERS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.failures: Counter[tuple[str, str]] = Counter()
        self.never_heard: set[str] = set()
        """Names of the nodes of which nothing is known: no answer, no copy on disk, none of another proxy."""
        self.never_heard_version = 0
        """Increases when `never_heard` changes."""
        self._pins = pins
        self._answered = answered
        self._copies = copies
        self._reach = reach
        self._max_containers = max_containers
        self._max_bytes = min(MAX_DOCUMENT_BYTES, max(_LEAST_DOCUMENT_BYTES, max_containers * _DOCUMENT_BYTES_EACH))
        self._slices = Slices()
        self._whole = asyncio.Semaphore(WHOLE_AT_ONCE)
        self._said: dict[tuple[str, str], float] = {}
        self._fleet = fleet
        self._accounts = accounts
        self._connect = connect
        self._store = store
        self._loader = (
            Loader(store, fleet, accounts, self._slices, max_containers, clock, self._restored)
            if store is not None
            else None
        )
        self._clock = clock
        self._polled: dict[str, _Polled] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._settling: asyncio.Task[None] | None = None
        self._started = False

    # Queries.

    def age_seconds(self, name: str) -> float:
        """Return the seconds since a node last confirmed its inventory, infinite when it never did.

        The time of a loaded copy counts.
        """
        polled = self._polled.get(name)
        return time.monotonic() - polled.seen_at if polled is not None else math.inf

    def up(self, name: str) -> bool:
        """Return whether the last poll of a node succeeded."""
        polled = self._polled.get(name)
        return polled is not None and polled.problem is None

    def left_out(self, name: str) -> int:
        """Return the number of a node's containers that are left out because of its limits."""
        polled = self._polled.get(name)
        return polled.left_out if polled is not None else 0

    def heard(self, name: str) -> MadeCopy | None:
        """Return what is known of a node that this proxy has heard itself, else None."""
        polled = self._polled.get(name)
        view = self._fleet.view(name)
        if polled is None or view is None or not polled.own:
            return None
        now = self._clock()
        saved_at = now - (time.monotonic() - polled.seen_at)
        etag = polled.etag if polled.known else ""
        return made_copy(self._fleet, name, etag, NodeDocument(view.uuid, view.hostname), saved_at)

    def unknown(self) -> list[str]:
        """Return the names of nodes that have neither completed a poll nor a copy on disk."""
        never = -math.inf
        return [name for name, node in self._polled.items() if node.problem is _NOT_ASKED and node.seen_at == never]

    # The directory's nodes.

    def set_nodes(self, nodes: Mapping[str, Node]) -> None:
        """Poll these nodes and no others. Call this again whenever the directory changes.

        A node that changed only its name keeps its inventory.
        """
        self._settling = self._settling or asyncio.get_running_loop().create_task(self._settle())
        gone = {name: polled.node for name, polled in self._polled.items() if name not in nodes}
        renamed = _renamed(gone, {name: node for name, node in nodes.items() if name not in self._polled})
        before_of = {after: self._polled[before] for before, after in renamed.items()}
        for name in gone:
            self._end(name)
        self._fleet.forget(*(name for name in gone if name not in renamed))
        for counted in (self.failures, self._said):
            for key in [key for key in counted if key[0] in gone]:
                del counted[key]
        for before, after in renamed.items():
            if self._fleet.view(before) is not None:
                self._fleet.rename(before, after)
        mistaken = set()
        for name in nodes:  # UUIDs in the directory override those that agents reported
            view = self._fleet.view(name)
            if view is not None and not self._fleet.is_named(name, view.uuid):
                self._fleet.forget(name)
                mistaken.add(name)
        for name, node in nodes.items():
            polled = self._polled.get(name)
            if name in mistaken:
                self._end(name, keep_copy=True)
                self._begin(node)
            elif polled is None or reached(polled.node) != reached(node):
                self._begin(node, before_of.get(name))
            else:
                polled.node = node
        if self._store is not None and nodes and not self._started:
            self._store.keep_only(nodes)
        self._started = self._started or bool(nodes)

    async def stop(self) -> None:
        """Stop all polls and write pending copies."""
        for name in list(self._polled):
            self._end(name, keep_copy=True)
        if self._settling is not None:
            self._settling.cancel()
            self._ending.add(self._settling)
        if self._loader is not None:
            await self._loader.stop()
        await asyncio.gather(*self._ending, return_exceptions=True)
        if self._store is not None:
            await self._store.close()

    def _begin(self, node: Node, renamed: _Polled | None = None) -> None:
        """Begin to poll a node. renamed: its state under another name."""
        before = self._polled.get(node.name)
        if before is not None:
            self._end(node.name, keep_copy=True)
        before = before or renamed
        polled = self._polled[node.name] = _Polled(node)
        if before is not None:
            polled.seen_at, polled.own = before.seen_at, before.own
        elif self._loader is not None and self._fleet.view(node.name) is None:
            self._loader.add(node.name)
        if polled.seen_at == -math.inf:
            self.never_heard.add(node.name)
            self.never_heard_version += 1
        if node.uuid is not None:
            self._fleet.expect(node.name, node.uuid)
        polled.task = asyncio.get_running_loop().create_task(self._poll(polled), name=f"inventory of {node.name}")

    def _end(self, name: str, *, keep_copy: bool = False) -> None:
        polled = self._polled.pop(name)
        self._known(name)
        if polled.task is not None:
            polled.task.cancel()
            self._ending.add(polled.task)
            polled.task.add_done_callback(self._ending.discard)
        if not keep_copy:
            if self._loader is not None:
                self._loader.drop(name)
            if self._store is not None:
                self._store.remove(name)

    async def _settle(self) -> None:
        expire_at = 0.0
        while True:
            now = time.monotonic()
            self._fleet.settle(self._clock(), now, SETTLE_CLAIMS)
            self._tell()
            if now >= expire_at:
                self._fleet.expire(self._clock())
                expire_at = now + EXPIRE_SECONDS
            await asyncio.sleep(SETTLE_SECONDS)

    def _tell(self) -> None:
        """Log newly refused claims, at most one line per node and reason in `SAY_AGAIN_SECONDS`."""
        found = self._fleet.claims.news
        now = time.monotonic()
        for key in list(found):
            if now - self._said.get(key, -math.inf) < SAY_AGAIN_SECONDS:
                del found[key]
                continue
            self._said[key] = now
            news = found.pop(key)
            fields = {"node": key[0], "reason": key[1], "containers": news.containers, "uuid": news.uuid}
            _log.warning("claims refused", extra={"fields": fields | ({"holder": news.other} if news.other else {})})

    # The copy on disk.

    async def loaded(self) -> None:
        """Return when the copies of all nodes are loaded."""
        if self._loader is not None:
            await self._loader.wait_all()

    def _restored(self, name: str, copy: KeptCopy) -> None:
        polled = self._polled[name]
        self._seen(polled, max(0.0, self._clock() - copy.saved_at))
        polled.own = True
        # A copy made by another version may lack fields; its ETag must not prevent a new read.
        if _ETAG.fullmatch(copy.etag) and copy.fields in {"", CONTAINER_FIELDS}:
            polled.etag = copy.etag
            polled.known = True

    # The copy of another proxy.

    async def _take_copy(self, polled: _Polled) -> None:
        """Learn from another proxy of a node that this one has never heard."""
        copies, name = self._copies, polled.node.name
        if copies is None or polled.own:
            return
        try:
            if time.monotonic() < polled.others_at and not copies.that_reach(name):
                return
            await self._copied(polled, copies)
        except Exception:  # noqa: BLE001  # polling must survive every error
            _log.exception("internal error: copy of %s", name)
        if polled.seen_at == -math.inf:
            first, longest = OTHERS_SECONDS
            polled.others_pause = min(longest, max(first, 2 * polled.others_pause))
            polled.others_at = time.monotonic() + polled.others_pause

    async def _copied(self, polled: _Polled, copies: Copies) -> None:
        """Take over another proxy's copy like one on disk: the directory and the claims decide.

        Its ETag is not the agent's word, so the agent's next answer replaces all of it.
        """
        name = polled.node.name
        try:
            copy = await copies.copy(name, polled.peer_etag, self._max_bytes)
            if copy is None:
                return
            body = bytes(copy.document)
            offsets = await self._found(find_containers, body)
            inventory = await self._slices.run(polled, read_inventory(body, offsets, (), self._max_containers))
            accounts = self._accounts()
            await self._slices.run(polled, self._fleet.replacing(name, inventory, accounts, self._clock(), copy=True))
        except (ValueError, IdentityError) as error:
            _log.warning("inventory of another proxy ignored", extra={"fields": {"node": name, "problem": str(error)}})
            return
        for first in range(0, len(copy.stopped), STOPS_AT_ONCE):
            some = copy.stopped[first : first + STOPS_AT_ONCE]
            may = self._fleet.claims.may_have_had
            stops = [(stop.container, stop.since) for stop in some if may(name, stop.container)]
            self._fleet.restore_stopped(name, stops, self._clock())
            await asyncio.sleep(0)
        polled.peer_etag = copy.etag
        self._seen(polled, max(0.0, self._clock() - copy.saved_at))
        if self._store is not None:
            node = NodeDocument(inventory.uuid, inventory.hostname)
            self._store.save(name, partial(made_copy, self._fleet, name, "", node, copy.saved_at))

    def _seen(self, polled: _Polled, ago_seconds: float = 0.0) -> None:
        polled.seen_at = time.monotonic() - ago_seconds
        self._known(polled.node.name)

    def _known(self, name: str) -> None:
        if name in self.never_heard:
            self.never_heard.remove(name)
            self.never_heard_version += 1

    # The polls.

    async def _poll(self, polled: _Polled) -> None:
        upstream: UpstreamLike | None = None
        loop = asyncio.get_running_loop()
        if self._loader is not None:
            await self._loader.wait(polled.node.name)
        await self._take_copy(polled)
        while True:
            polled.spent = 0.0
            try:
                upstream = upstream or self._connect(polled.node)
                waits = polled.known and polled.problem is None
                async with contextlib.nullcontext() if waits else self._whole:
                    begun = loop.time()
                    answer = await self._ask(upstream, polled)
                    answered = loop.time()
                    await self._take(polled, answer)
                    del answer
                await self._first_rows(polled)
            except Exception as error:  # noqa: BLE001  # polling must survive every error
                pause = self._failed(polled, error)
                await self._take_copy(polled)
            else:
                self._seen(polled)
                polled.own = True
                self._well(polled)
                self._answered(polled.node.name)
                self._reach(polled.node.name, "ok")
                if polled.etag:
                    polled.paced_until = max(polled.paced_until, begun) + PACE_SECONDS
                    pause = polled.paced_until - PACE_BURST * PACE_SECONDS - answered
                else:
                    pause = 4 * PACE_SECONDS - (answered - begun)
            await asyncio.sleep(max(0.0, pause, _REST * polled.spent))

    async def _ask(self, upstream: UpstreamLike, polled: _Polled) -> Response:
        headers = [("Accept", "application/json")]
        wait, since = 0.0, ""
        if polled.known and polled.etag:
            since = f"since={polled.version}&" if polled.version else ""
            headers.append(("If-None-Match", polled.etag))
            # After a failure, poll without waiting, so that the recovery is seen at once.
            wait = WAIT_SECONDS if polled.problem is None else 0.0
        return await upstream.get(
            f"/v1/containers?{since}wait={wait:g}",
            headers=headers,
            timeout_seconds=wait + ANSWER_SECONDS,
            max_bytes=self._max_bytes,
            background=True,
        )

    async def _take(self, polled: _Polled, answer: Response) -> None:
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
            raise _PollError("status", f"expected status 200, got {answer.status}")
        encoding = answer.headers.get("content-encoding", "")
        if encoding not in ("", "identity"):
            raise _PollError("malformed", f"expected an inventory, got Content-Encoding {shown(encoding)}")
        body = answer.body
        known = self._fleet.containers(name)
        try:
            changes = await self._found(find_changes, body) if asked else None
            if changes is not None:
                if await self._take_changes(polled, answer, unquote(asked), changes):
                    polled.version = version
                return
            polled.changes_bytes = 0
            offsets = await self._found(find_containers, body)
            inventory = await self._slices.run(polled, read_inventory(body, offsets, known, self._max_containers))
        except ValueError as error:
            what = f", Content-Type {shown(answer.headers.get('content-type', ''))}"
            raise _PollError("malformed", f"{error}{what}") from None
        await self._identify(polled, inventory.uuid)
        await self._apply(polled, inventory, answer)
        # Differences do not show which containers to leave out. Only a whole inventory does.
        if not (inventory.refused or inventory.left_out):
            polled.version = version

    @staticmethod
    async def _found(find: Callable[[bytes], _Result], body: bytes) -> _Result:
        """Return `find(body)`. A large document is searched in a thread."""
        return await asyncio.to_thread(find, body) if len(body) > _SMALL_BYTES else find(body)

    async def _take_changes(self, polled: _Polled, answer: Response, asked: str, offsets: Offsets) -> bool:
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

    def _doubt(self, polled: _Polled, problem: str) -> bool:
        """Count changes that cannot be applied, and request whole inventories for a while. Return False."""
        polled.doubt_until = time.monotonic() + DOUBT_SECONDS
        self.failures[polled.node.name, "changes"] += 1
        _log.debug("changes not taken over", extra={"fields": {"node": polled.node.name, "problem": problem}})
        return False

    async def _first_rows(self, polled: _Polled) -> None:
        """Wait until the claims of a node that answers for the first time are decided, within a time limit.

        The node counts as polled only afterwards.
        """
        if self._pins is None:
            return
        name = polled.node.name
        until = time.monotonic() + _FIRST_ROWS_SECONDS
        while polled.problem is _NOT_ASKED and self._fleet.claims.waiting(name) and time.monotonic() < until:
            await self._slices.run(polled, self._fleet.deciding(self._fleet.claims.waiting(name)))
            self._pins.wake()
            await asyncio.sleep(_LOOK_SECONDS)
        if self._fleet.claims.wanted:
            self._pins.wake()

    async def _identify(self, polled: _Polled, uuid: str) -> None:
        """Check the UUID that a node reports, and pin it when it is new. Raises _PollError when it is refused."""
        name = polled.node.name
        identity = self._fleet.claims.identity(name, uuid)
        if identity.problem:
            if self._pins is not None:
                self._pins.offer(name, uuid)
            raise _PollError("identity", identity.problem)
        if identity.pinned or self._pins is None:
            return
        try:
            async with asyncio.timeout(_LATE_SECONDS):
                await self._pins.pin(name, uuid)
        except TimeoutError:
            raise _PollError("directory", "the directory takes too long to pin the node's UUID") from None
        except PinError as error:
            if error.away:
                raise _PollError("directory", str(error)) from None
            self._pins.offer(name, uuid)
            raise _PollError("identity", str(error)) from None

    async def _apply(self, polled: _Polled, inventory: Inventory, answer: Response) -> None:
        steps = self._fleet.replacing(polled.node.name, inventory, self._accounts(), self._clock())
        await self._applied(polled, answer, steps, NodeDocument(inventory.uuid, inventory.hostname))
        self._left_out(polled, inventory)
        await self._slices.run(polled, _freeing(inventory.containers))

    async def _applied(
        self,
        polled: _Polled,
        answer: Response,
        steps: Generator[None, None, bool],
        said: NodeDocument,
    ) -> None:
        """Apply an answer to the fleet by running `steps`, and save a copy. said: the node in the answer."""
        try:
            changed = await self._slices.run(polled, steps)
        except IdentityError as error:
            raise _PollError("identity", str(error)) from None
        self._tell()
        now = self._clock()
        etag = answer.headers.get("etag", "")
        etag = etag if _ETAG.fullmatch(etag) else ""
        polled.known = True
        # The copy on disk carries the ETag, so a new ETag is saved even if the content is the same.
        if changed or etag != polled.etag:
            polled.etag = etag
            if self._store is not None:
                self._store.save(polled.node.name, partial(made_copy, self._fleet, polled.node.name, etag, said, now))

    def _left_out(self, polled: _Polled, inventory: Inventory) -> None:
        """Log the containers that are left out, when that changes."""
        if inventory.refused != polled.refused:
            fields = {"node": polled.node.name, "containers": inventory.refused}
            _log.warning("containers left out, they have no UUID of their own", extra={"fields": fields})
        if inventory.left_out and not polled.left_out:
            fields = {"node": polled.node.name, "containers": inventory.left_out, "limit": self._max_containers}
            _log.warning("containers left out, the node has more than it may", extra={"fields": fields})
        polled.refused, polled.left_out = inventory.refused, inventory.left_out

    # Outcomes.

    def _failed(self, polled: _Polled, error: Exception) -> float:
        """Count and log a failure. Return the seconds to pause before the next poll."""
        name = polled.node.name
        if isinstance(error, _PollError | UpstreamError):
            reason, text = error.reason, str(error)
        else:
            reason, text = "internal", repr(error)
            _log.error("internal error: inventory of %s", name, exc_info=error)
        self.failures[name, reason] += 1
        self._reach(name, reason)
        if polled.problem != text:
            _log.warning(
                "inventory not read", extra={"fields": {"node": name, "url": polled.node.url, "problem": text}}
            )
        polled.problem = text
        first, longest = RETRY_SECONDS
        pause = min(longest, first * 2.0 ** min(polled.failures, 16))
        polled.failures += 1
        return pause * random.uniform(0.5, 1.0)  # noqa: S311  # spreads the retries

    @staticmethod
    def _well(polled: _Polled) -> None:
        if polled.failures:
            _log.info("inventory read again", extra={"fields": {"node": polled.node.name}})
        polled.failures = 0
        polled.problem = None


def _freeing(containers: dict[str, Container]) -> Generator[None, None, None]:
    """Free containers that are no longer needed, in short steps: thousands at once take milliseconds."""
    while containers:
        containers.popitem()
        yield


def reached(node: Node) -> tuple[str, str, str]:
    """Return the fields that define how a node is reached. When they change, its poll starts again."""
    return node.url, node.tls_server_name, node.tls_fingerprint


def _renamed(gone: Mapping[str, Node], come: Mapping[str, Node]) -> dict[str, str]:
    """Return the new name by old name of renamed nodes. Nodes are matched by UUID, or by URL without both UUIDs."""
    by_uuid = {old.uuid: before for before, old in gone.items() if old.uuid is not None}
    by_url: defaultdict[str, list[str]] = defaultdict(list)
    for before, old in gone.items():
        by_url[old.url].append(before)
    found: dict[str, str] = {}
    for name, node in come.items():
        at_url = (one for one in by_url.get(node.url, ()) if node.uuid is None or gone[one].uuid is None)
        of_uuid = by_uuid.get(node.uuid) if node.uuid is not None else None
        candidates = (one for one in (of_uuid, *at_url) if one is not None and one not in found)
        if (first := next(candidates, None)) is not None:
            found[first] = name
    return found

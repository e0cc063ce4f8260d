"""Keeps the fleet in step with the agents: one long poll for each node of the directory.

A node that fails keeps what is known of it. What an agent may cost is bounded: the size of its document, and the part
of the loop's time that documents take which come one after the other.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import re
import time
from collections import Counter
from typing import TYPE_CHECKING, Protocol

import msgspec

from pymon.config import shown
from pymon.proxy.agent_document import decode_inventory
from pymon.proxy.inventory_store import Copy, Stop
from pymon.proxy.upstream import UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pymon.directory.model import Node, Snapshot
    from pymon.proxy.agent_document import Inventory
    from pymon.proxy.fleet import Changes, Conflict, Fleet
    from pymon.proxy.inventory_store import InventoryStore
    from pymon.proxy.upstream import Response

WAIT_SECONDS = 20.0
"""An agent may keep a poll so long. A node that dies without a word, and what starts on it when it is back, is not seen
for longer than this and `ANSWER_SECONDS`."""

ANSWER_SECONDS = 5.0
"""An answer may take so long beyond that."""

RETRY_SECONDS = (0.2, 5.0)
"""Between polls that fail: the first pause, which doubles, and the longest."""

PACE_SECONDS = 0.25
"""Between the beginnings of two polls; four times that for an agent that does not say what its document's ETag is."""

MAX_DOCUMENT_BYTES = 64 << 20

EXPIRE_SECONDS = 60.0

_REST = 20.0
"""A node's documents take at most one part in so many of the loop's time."""

_ETAG = re.compile(r'(?:W/)?"[!#-~]{0,256}"')
_OK, _NOT_MODIFIED = 200, 304
_NOT_ASKED = "not asked yet"

_log = logging.getLogger(__name__)


class UpstreamLike(Protocol):
    """The agent of a node, as `pymon.proxy.upstream.Upstream`."""

    async def get(
        self,
        path: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        timeout_seconds: float,
        max_bytes: int = ...,
        background: bool = False,
    ) -> Response:
        """GET a path. Raises UpstreamError."""
        ...


class _PollError(Exception):
    """A poll that failed. reason: a word for a metric; the text is one line."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class _Polled:
    """A node that is polled. seen_at: monotonic. known: whether the fleet has the document of the ETag."""

    __slots__ = ("document", "etag", "failures", "known", "node", "problem", "refused", "seen_at", "task")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.task: asyncio.Task[None] | None = None
        self.document = b""
        self.etag = ""
        self.known = False
        self.seen_at = -math.inf
        self.failures = 0
        self.problem: str | None = _NOT_ASKED
        self.refused = 0


class Poller:
    """The polls of all nodes; `set_nodes` begins them. Belongs to one loop.

    accounts: the directory as it is now. connect: the agent of a node. failures: by (node, reason). clock: seconds
    since the epoch.
    """

    def __init__(
        self,
        fleet: Fleet,
        accounts: Callable[[], Snapshot],
        connect: Callable[[Node], UpstreamLike],
        store: InventoryStore | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.failures: Counter[tuple[str, str]] = Counter()
        self._fleet = fleet
        self._accounts = accounts
        self._connect = connect
        self._store = store
        self._clock = clock
        self._polled: dict[str, _Polled] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._expiring: asyncio.Task[None] | None = None
        self._started = False

    # What others ask.

    def age_seconds(self, name: str) -> float:
        """How long ago a node said what it has, or that this had not changed; infinite when it never did."""
        polled = self._polled.get(name)
        return time.monotonic() - polled.seen_at if polled is not None else math.inf

    def up(self, name: str) -> bool:
        """Whether the last poll of a node went well."""
        polled = self._polled.get(name)
        return polled is not None and polled.problem is None

    def unknown(self) -> list[str]:
        """Nodes that were not asked to an end yet, and of which no copy says what they have."""
        never = -math.inf
        return [name for name, node in self._polled.items() if node.problem is _NOT_ASKED and node.seen_at == never]

    # The directory's nodes.

    def set_nodes(self, nodes: Mapping[str, Node]) -> None:
        """Poll these nodes and no others. Call it again when the directory changed."""
        self._expiring = self._expiring or asyncio.get_running_loop().create_task(self._expire())
        gone = {name: polled.node for name, polled in self._polled.items() if name not in nodes}
        renamed = _renamed(gone, {name: node for name, node in nodes.items() if name not in self._polled})
        for name in gone:
            self._end(name)
            if name not in renamed:
                self._fleet.forget(name)
        for before, after in renamed.items():
            if self._fleet.view(before) is not None:
                self._fleet.rename(before, after)
        for name in nodes:  # what the directory says of a UUID wins over what agents said before
            view = self._fleet.view(name)
            if view is not None and _impostor(name, view.uuid, nodes):
                self._fleet.forget(name)
        for name, node in nodes.items():
            polled = self._polled.get(name)
            if polled is None or polled.node != node:
                self._begin(node, nodes)
        if self._store is not None and nodes and not self._started:
            self._store.keep_only(nodes)
        self._started = self._started or bool(nodes)

    async def stop(self) -> None:
        """End all polls and write what waits to be written."""
        for name in list(self._polled):
            self._end(name, keep_copy=True)
        if self._expiring is not None:
            self._expiring.cancel()
            self._ending.add(self._expiring)
        await asyncio.gather(*self._ending, return_exceptions=True)
        if self._store is not None:
            await self._store.close()

    def _begin(self, node: Node, nodes: Mapping[str, Node]) -> None:
        before = self._polled.get(node.name)
        if before is not None:
            self._end(node.name, keep_copy=True)
        polled = self._polled[node.name] = _Polled(node)
        if before is not None:
            polled.seen_at = before.seen_at
        elif self._fleet.view(node.name) is None:
            self._load(polled, nodes)
        if node.uuid is not None:
            self._fleet.expect(node.name, node.uuid)
        polled.task = asyncio.get_running_loop().create_task(self._poll(polled), name=f"inventory of {node.name}")

    def _end(self, name: str, *, keep_copy: bool = False) -> None:
        polled = self._polled.pop(name)
        if polled.task is not None:
            polled.task.cancel()
            self._ending.add(polled.task)
            polled.task.add_done_callback(self._ending.discard)
        if not keep_copy:
            for key in [key for key in self.failures if key[0] == name]:
                del self.failures[key]
            if self._store is not None:
                self._store.remove(name)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRE_SECONDS)
            self._fleet.expire(self._clock())

    # The copy on disk.

    def _load(self, polled: _Polled, nodes: Mapping[str, Node]) -> None:
        name = polled.node.name
        copy = self._store.load(name) if self._store is not None else None
        if copy is None:
            return
        now = self._clock()
        changes = restore(self._fleet, name, copy, nodes, self._accounts(), now)
        if changes is None:
            return
        self._conflicts(name, changes)
        polled.seen_at = time.monotonic() - max(0.0, now - copy.saved_at)
        polled.document = bytes(copy.document)
        if _ETAG.fullmatch(copy.etag):
            polled.etag = copy.etag
            polled.known = True

    def _copy(self, polled: _Polled) -> Copy:
        stopped = [Stop(since, container) for container, since in self._fleet.stops(polled.node.name)]
        return Copy(self._clock(), polled.etag, msgspec.Raw(polled.document), stopped)

    # The polls.

    async def _poll(self, polled: _Polled) -> None:
        upstream: UpstreamLike | None = None
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            try:
                upstream = upstream or self._connect(polled.node)
                answer = await self._ask(upstream, polled)
                answered = loop.time()
                self._take(polled, answer)
            except Exception as error:  # noqa: BLE001  # a node must never be left without its poll
                pause = self._failed(polled, error)
            else:
                polled.seen_at = time.monotonic()
                self._well(polled)
                pace = PACE_SECONDS if polled.etag else 4 * PACE_SECONDS
                pause = max(pace - (answered - begun), _REST * (loop.time() - answered))
            await asyncio.sleep(max(0.0, pause))

    @staticmethod
    async def _ask(upstream: UpstreamLike, polled: _Polled) -> Response:
        headers = [("Accept", "application/json")]
        wait = 0.0
        if polled.known and polled.etag:
            headers.append(("If-None-Match", polled.etag))
            # A node that was away says at once that it is back.
            wait = WAIT_SECONDS if polled.problem is None else 0.0
        return await upstream.get(
            f"/v1/containers?wait={wait:g}",
            headers=headers,
            timeout_seconds=wait + ANSWER_SECONDS,
            max_bytes=MAX_DOCUMENT_BYTES,
            background=True,
        )

    def _take(self, polled: _Polled, answer: Response) -> None:
        if answer.status == _NOT_MODIFIED and polled.known and polled.etag:
            return
        polled.known = False
        if answer.status != _OK:
            raise _PollError("status", f"expected status 200, got {answer.status}")
        encoding = answer.headers.get("content-encoding", "")
        if encoding not in ("", "identity"):
            raise _PollError("malformed", f"expected an inventory, got Content-Encoding {shown(encoding)}")
        try:
            inventory = decode_inventory(answer.body)
        except ValueError as error:
            what = f", Content-Type {shown(answer.headers.get('content-type', ''))}"
            raise _PollError("malformed", f"{error}{what}") from None
        nodes = {name: other.node for name, other in self._polled.items()}
        problem = _impostor(polled.node.name, inventory.uuid, nodes)
        if problem:
            raise _PollError("identity", problem)
        self._apply(polled, inventory, answer)

    def _apply(self, polled: _Polled, inventory: Inventory, answer: Response) -> None:
        name = polled.node.name
        before = self._fleet.view(name)
        if before is not None and before.uuid != inventory.uuid:
            fields = {"node": name, "before": before.uuid, "uuid": inventory.uuid}
            _log.warning("node has another UUID", extra={"fields": fields})
        changes = self._fleet.replace(name, inventory, self._accounts(), self._clock())
        self._conflicts(name, changes)
        etag = answer.headers.get("etag", "")
        etag = etag if _ETAG.fullmatch(etag) else ""
        polled.known = True
        # The document on disk is of this ETag, so it is written even if it tells nothing new.
        if changes.changed or etag != polled.etag:
            polled.etag, polled.document = etag, answer.body
            if inventory.refused != polled.refused:
                polled.refused = inventory.refused
                left_out = {"node": name, "containers": inventory.refused}
                _log.warning("containers left out, they have no UUID of their own", extra={"fields": left_out})
            if self._store is not None:
                self._store.save(name, lambda: self._copy(polled))

    @staticmethod
    def _conflicts(name: str, changes: Changes) -> None:
        """One line for each other node."""
        others: dict[str, list[Conflict]] = {}
        for conflict in changes.conflicts:
            others.setdefault(conflict.loser if conflict.winner == name else conflict.winner, []).append(conflict)
        for other, conflicts in others.items():
            first = conflicts[0]
            fields = {
                "node": name,
                "other": other,
                "containers": len(conflicts),
                "uuid": first.uuid,
                "winner": first.winner,
            }
            _log.warning("two nodes claim a container, the newer start has it", extra={"fields": fields})

    # How they went.

    def _failed(self, polled: _Polled, error: Exception) -> float:
        """Count a failure; how long to pause."""
        name = polled.node.name
        if isinstance(error, _PollError | UpstreamError):
            reason, text = error.reason, str(error)
        else:
            reason, text = "internal", repr(error)
            _log.error("internal error: inventory of %s", name, exc_info=error)
        self.failures[name, reason] += 1
        if polled.problem != text:
            _log.warning(
                "inventory not read", extra={"fields": {"node": name, "url": polled.node.url, "problem": text}}
            )
        polled.problem = text
        first, longest = RETRY_SECONDS
        pause = min(longest, first * 2.0 ** min(polled.failures, 16))
        polled.failures += 1
        return pause * random.uniform(0.5, 1.0)  # noqa: S311  # so that not all come back at once

    @staticmethod
    def _well(polled: _Polled) -> None:
        if polled.failures:
            _log.info("inventory read again", extra={"fields": {"node": polled.node.name}})
        polled.failures = 0
        polled.problem = None


def restore(
    fleet: Fleet, name: str, copy: Copy, nodes: Mapping[str, Node], accounts: Snapshot, now: float
) -> Changes | None:
    """Take over what the copy of a node's inventory says; None where it is damaged or another node's."""
    try:
        inventory = decode_inventory(bytes(copy.document))
    except ValueError as error:
        _log.warning("copy of an inventory ignored", extra={"fields": {"node": name, "problem": str(error)}})
        return None
    if _impostor(name, inventory.uuid, nodes):
        return None
    changes = fleet.replace(name, inventory, accounts, now)
    fleet.restore_stopped(name, [(stop.container, stop.since) for stop in copy.stopped], now)
    return changes


def _renamed(gone: Mapping[str, Node], come: Mapping[str, Node]) -> dict[str, str]:
    """The new names of nodes that are the same: by the UUID in the directory, or else by the URL."""
    found: dict[str, str] = {}
    for name, node in come.items():
        for before, old in gone.items():
            same = old.uuid == node.uuid if old.uuid and node.uuid else old.url == node.url
            if same and before not in found:
                found[before] = name
                break
    return found


def _impostor(name: str, uuid: str, nodes: Mapping[str, Node]) -> str:
    """Why a node cannot have this UUID, by the directory; "" when it can."""
    own = nodes[name].uuid
    if own is not None:
        return "" if str(own) == uuid else f"expected the node {own}, got {uuid}"
    for other in nodes.values():
        if other.uuid is not None and str(other.uuid) == uuid:
            return f"the node {uuid} is {other.name} in the directory"
    return ""

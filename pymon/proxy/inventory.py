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
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from pymon.proxy.agent_document import CONTAINER_FIELDS, NodeDocument, find_containers, read_inventory
from pymon.proxy.claims import MAX_CONTAINERS
from pymon.proxy.fleet import IdentityError
from pymon.proxy.inventory_answer import Answers, is_etag, searched
from pymon.proxy.inventory_copy import STOPS_AT_ONCE, made_copy
from pymon.proxy.inventory_load import Loader
from pymon.proxy.node_changes import reached, renamed
from pymon.proxy.polled_node import NOT_ASKED, PolledNode, PollError
from pymon.proxy.settling import Settling
from pymon.proxy.slices import Slices
from pymon.proxy.upstream import UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pymon.directory.model import Node, Snapshot
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

_REST = 20.0
"""The pause after a document is at least this many times the loop time that the document took."""

_log = logging.getLogger(__name__)


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
        self._answered = answered
        self._copies = copies
        self._reach = reach
        self._max_containers = max_containers
        self._max_bytes = min(MAX_DOCUMENT_BYTES, max(_LEAST_DOCUMENT_BYTES, max_containers * _DOCUMENT_BYTES_EACH))
        self._slices = Slices()
        self._whole = asyncio.Semaphore(WHOLE_AT_ONCE)
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
        self._settling = Settling(fleet, clock)
        self._answers = Answers(
            fleet, accounts, store, pins=pins, max_containers=max_containers, clock=clock, slices=self._slices,
            failures=self.failures, settling=self._settling,
        )  # fmt: skip
        self._polled: dict[str, PolledNode] = {}
        self._ending: set[asyncio.Task[None]] = set()
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
        return [name for name, node in self._polled.items() if node.problem is NOT_ASKED and node.seen_at == never]

    # The directory's nodes.

    def set_nodes(self, nodes: Mapping[str, Node]) -> None:
        """Poll these nodes and no others. Call this again whenever the directory changes.

        A node that changed only its name keeps its inventory.
        """
        self._settling.start()
        gone = {name: polled.node for name, polled in self._polled.items() if name not in nodes}
        new_names = renamed(gone, {name: node for name, node in nodes.items() if name not in self._polled})
        before_of = {after: self._polled[before] for before, after in new_names.items()}
        for name in gone:
            self._end(name)
        self._fleet.forget(*(name for name in gone if name not in new_names))
        self._settling.forget(gone)
        for key in [key for key in self.failures if key[0] in gone]:
            del self.failures[key]
        for before, after in new_names.items():
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
        await self._settling.stop()
        if self._loader is not None:
            await self._loader.stop()
        await asyncio.gather(*self._ending, return_exceptions=True)
        if self._store is not None:
            await self._store.close()

    def _begin(self, node: Node, renamed: PolledNode | None = None) -> None:
        """Begin to poll a node. renamed: its state under another name."""
        before = self._polled.get(node.name)
        if before is not None:
            self._end(node.name, keep_copy=True)
        before = before or renamed
        polled = self._polled[node.name] = PolledNode(node)
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
        if is_etag(copy.etag) and copy.fields in {"", CONTAINER_FIELDS}:
            polled.etag = copy.etag
            polled.known = True

    # The copy of another proxy.

    async def _take_copy(self, polled: PolledNode) -> None:
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

    async def _copied(self, polled: PolledNode, copies: Copies) -> None:
        """Take over another proxy's copy like one on disk: the directory and the claims decide.

        Its ETag is not the agent's word, so the agent's next answer replaces all of it.
        """
        name = polled.node.name
        try:
            copy = await copies.copy(name, polled.peer_etag, self._max_bytes)
            if copy is None:
                return
            body = bytes(copy.document)
            offsets = await searched(find_containers, body)
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

    def _seen(self, polled: PolledNode, ago_seconds: float = 0.0) -> None:
        polled.seen_at = time.monotonic() - ago_seconds
        self._known(polled.node.name)

    def _known(self, name: str) -> None:
        if name in self.never_heard:
            self.never_heard.remove(name)
            self.never_heard_version += 1

    # The polls.

    async def _poll(self, polled: PolledNode) -> None:
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
                    await self._answers.take(polled, answer)
                    del answer
                await self._answers.first_rows(polled)
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

    async def _ask(self, upstream: UpstreamLike, polled: PolledNode) -> Response:
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

    # Outcomes.

    def _failed(self, polled: PolledNode, error: Exception) -> float:
        """Count and log a failure. Return the seconds to pause before the next poll."""
        name = polled.node.name
        if isinstance(error, PollError | UpstreamError):
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
    def _well(polled: PolledNode) -> None:
        if polled.failures:
            _log.info("inventory read again", extra={"fields": {"node": polled.node.name}})
        polled.failures = 0
        polled.problem = None

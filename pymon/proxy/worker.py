"""The part of a worker process that knows what the parent tells it, and answers tenants from that."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

from pymon.directory.model import Snapshot
from pymon.proxy.fair import FairGate
from pymon.proxy.feed import (
    Answer,
    Begin,
    Complete,
    Demand,
    Directory,
    Division,
    Down,
    Failed,
    Fed,
    FedPlaces,
    Found,
    Good,
    Look,
    Looked,
    Metrics,
    Readiness,
    Report,
    Up,
    Views,
    Ways,
    framed,
    read_down,
)
from pymon.proxy.nodes import Nodes
from pymon.proxy.peer_identity import PeerIdentity, authorities
from pymon.proxy.peer_web import PeerWeb
from pymon.proxy.self_metrics import SelfMetrics
from pymon.proxy.shared_limits import SharedAccountLimits, SharedGate, SharedPassLimits
from pymon.proxy.tenants import Tenants
from pymon.proxy.worker_peers import Ahead, Questions

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

    from pymon.proxy.cells import Cells
    from pymon.proxy.options import ProxyOptions

DEMAND_SECONDS = 1.0

SILENT_SECONDS = 5.0
"""After this time without a word of the parent, which tells something every second, the worker is not ready. Other
proxies take the proxy out of DNS as soon."""

MAX_UNSENT_BYTES = 1 << 20
"""Nothing is told while the parent has not read this much."""

_OWN = frozenset(("pymon_build_info", "process_start_time_seconds", "process_max_fds"))
"""Families whose sum over processes means nothing."""


class Worker:
    """One of several workers. Call `follow` on the event loop.

    worker: its number. port: of the proxy. hash_key: of all workers, for `Authenticator`. fed: set when it knows what
    there is. Raises ConfigError for bad options.
    """

    def __init__(self, options: ProxyOptions, cells: Cells, worker: int, *, port: int, hash_key: bytes) -> None:
        self.metrics = SelfMetrics()
        self.fed = asyncio.Event()
        self._snapshot = Snapshot.of()
        self._reason: str | None = "the parent process has sent nothing yet"
        self._unknown_nodes: list[str] = []
        self._left = False  # whether the proxy is out of DNS
        self._heard_at = math.inf
        self._places = FedPlaces()
        self._account_numbers: dict[int, int] = {}
        self._node_numbers: dict[str, int] = {}
        self._writer: asyncio.StreamWriter | None = None

        def gate(name: str) -> FairGate:
            number = self._node_numbers.get(name)
            if number is None:  # more nodes than shared memory has room for
                return FairGate(max(1, options.upstream_max_requests // options.workers))
            return SharedGate(options.upstream_max_requests, cells, worker, number)

        self._nodes = Nodes(options, gate, follows=False)
        self._ahead = Ahead(lambda: self._nodes.pinned, self._send)
        self._nodes.renewed = lambda: self._ahead.use(self._nodes.pinned)
        self._questions = Questions(self._send)
        self._identity = PeerIdentity(authorities(options.data_dir, options.upstream_ca), options.peer_crl)
        self._accounts = SharedAccountLimits(cells, worker, self._account_numbers)
        self.tenants = Tenants(
            options,
            self._places,
            self._nodes,
            self.metrics,
            self._accounts,
            SharedPassLimits(cells, self._account_numbers),
            snapshot=lambda: self._snapshot,
            ready=lambda: "the parent process is silent" if self._silent() else self._reason,
            unknown=self._unknown,
            reach=self._ahead,
            others=self._ahead,
            peers=lambda relay: PeerWeb(self._identity, self._questions.known, relay, parts=options.workers),
            parts=options.workers,
            failed=lambda address: self._tell(Failed(address)),
            hash_key=hash_key,
            found_good=lambda digest: self._tell(Good(digest)),
            hasten=lambda: self._tell(Look()),
        )
        self.tenants.port = port

    async def follow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Follow the parent until it is gone."""
        self._writer = writer
        self._nodes.start()
        tasks = [asyncio.create_task(one) for one in (self._tell_demand(), self._identity.follow())]
        try:
            while True:
                message = await read_down(reader)
                self._heard_at = time.monotonic()
                if isinstance(message, Directory):
                    self._take_directory(message, *await asyncio.to_thread(_indexed, message))
                else:
                    self._take(message)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            for task in tasks:
                task.cancel()
            self._writer = None

    def closing(self) -> bool:
        """Return whether kept connections are to be closed after their next answer."""
        return self._left or self._silent()

    def _silent(self) -> bool:
        return time.monotonic() - self._heard_at > SILENT_SECONDS

    def close(self) -> None:
        """Tell the parent the last metrics, and close connections to agents."""
        self._report()
        self._ahead.close()
        self._nodes.close()
        self.tenants.close()

    def _take(self, message: Down) -> None:
        match message:
            case Found(places):
                self._places.put(places)
            case Views(nodes):
                self._places.set_nodes(nodes)
            case Begin():
                self._places.begin()
            case Complete():
                self._places.complete()
                self.fed.set()
                self._tell(Fed())
            case Readiness(reason, unknown, left):
                self._reason, self._unknown_nodes, self._left = reason, unknown, left
            case Looked(at):
                self.tenants.look.seen(at)
            case Ways():
                self._ahead.take(message)
            case Answer():
                self._questions.take(message)
            case Division(shares, share):
                self._accounts.divide({int(key, 16): part for key, part in shares.items()}, share)
            case Failed(address):
                self.tenants.addresses.failed(address, time.monotonic())
            case Good(digest):
                self.tenants.authenticator.learn_good(digest)
            case Report():
                self._report()

    def _take_directory(self, message: Directory, snapshot: Snapshot, account_numbers: dict[int, int]) -> None:
        self._account_numbers.clear()
        self._account_numbers.update(account_numbers)
        self._node_numbers.clear()
        self._node_numbers.update(message.node_numbers)
        self._snapshot = snapshot
        self._nodes.set(snapshot.nodes)

    def _unknown(self, owners: Collection[UUID | None]) -> str | None:
        """Return the name of a node of which nothing is known and that may have containers of these owners, or None."""
        for name in self._unknown_nodes:
            node = self._snapshot.nodes.get(name)
            if node is not None and (node.accounts is None or None in owners or not node.accounts.isdisjoint(owners)):
                return name
        return None

    def _tell(self, message: Up) -> None:
        """Send a message to the parent, if that is possible."""
        self._send(message)

    def _send(self, message: Up) -> bool:
        """Send a message to the parent. Return whether it could be sent."""
        writer = self._writer
        if writer is None or writer.is_closing() or writer.transport.get_write_buffer_size() >= MAX_UNSENT_BYTES:
            return False
        writer.write(framed(message))
        return True

    def _report(self) -> None:
        families = {name: samples for name, samples in self.metrics.samples().items() if name not in _OWN}
        self._tell(Metrics(families))

    async def _tell_demand(self) -> None:
        loop = asyncio.get_running_loop()
        before = loop.time()
        while True:
            await asyncio.sleep(DEMAND_SECONDS)
            now = loop.time()
            demands = self._accounts.demands(now - before)
            before = now
            # Also without any: the parent hears that this process does not hang.
            self._tell(Demand({f"{key:x}": demand for key, demand in demands.items()}))


def _indexed(message: Directory) -> tuple[Snapshot, dict[int, int]]:
    """Return the snapshot and the numbers of accounts. For many accounts this takes long, so it runs in a thread."""
    return message.snapshot(), {int(key, 16): number for key, number in message.account_numbers.items()}

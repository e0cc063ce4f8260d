"""The worker processes of a proxy: starts them, feeds them, starts them again, and ends them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import pickle
import secrets
import socket
import struct
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pymon.config import Address
from pymon.proxy.authn import HASH_KEY_BYTES
from pymon.proxy.cells import ACCOUNTS, NODES, Cells, Numbers
from pymon.proxy.feed import (
    Answer,
    Demand,
    Division,
    Failed,
    Fed,
    Feeder,
    Good,
    Look,
    Looked,
    Lost,
    Metrics,
    Question,
    Readiness,
    Report,
    Up,
    Way,
    Ways,
    framed,
    read_up,
)
from pymon.proxy.peer_web import Told
from pymon.service.listen import raise_descriptor_limit, reserved

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from pymon.config import Listen
    from pymon.exposition.own_metrics import Samples
    from pymon.proxy.build import Proxy
    from pymon.proxy.options import ProxyOptions

RESTART_SECONDS = 1.0
"""Minimum time between two starts of a worker."""

LOOK_SECONDS = 0.1
"""How often workers are told whether discovery is complete."""

SILENT_LOOKS = 50
"""A worker of which nothing was heard between so many looks hangs, and is killed. Looks are counted and not seconds, in
which this process may have been stopped too.
"""

END_SECONDS = 4.0
"""How long a worker may take to end after SIGTERM and the time of ``--drain``: longer than its answers in progress
may take."""

COLLECT_SECONDS = 1.0
"""How long a scrape of the proxy's own metrics waits for workers. One that does not answer in time is in it with its
last metrics."""

TELL_SECONDS = 1.0
"""How often a worker hears from its parent, even if there is nothing new."""

_MAX_UNREAD_BYTES = 1 << 20
_COUNTED = ("_total", "_bucket", "_count", "_sum")
_LENGTH = struct.Struct(">I")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker is given at its start.

    cells: descriptor of the shared memory. hash_key: see `Authenticator`. listeners: descriptors of listening sockets
    that all workers share, by name of the server. addresses: on which each listens by itself, by name.
    """

    options: ProxyOptions
    number: int
    port: int
    cells: int
    hash_key: bytes
    listeners: Mapping[str, Sequence[int]]
    addresses: Mapping[str, Sequence[Address]]


def send_task(task: Task) -> bytes:
    """Return the bytes of a task, which come first on the socket of a worker."""
    data = pickle.dumps(task)
    return _LENGTH.pack(len(data)) + data


async def receive_task(reader: asyncio.StreamReader) -> Task:
    """Return the task of this worker. Raises IncompleteReadError when the parent is gone."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    task = pickle.loads(await reader.readexactly(length))  # noqa: S301  # from the parent process
    assert isinstance(task, Task)  # noqa: S101  # the parent is of the same version
    return task


@dataclass(slots=True)
class _Running:
    """A worker that runs. samples: its last metrics. reported: is set when the next ones have arrived. answering: what
    it has asked and is not told yet, one after the other by `telling`. silent: the number of looks since it was heard.
    """

    process: asyncio.subprocess.Process
    writer: asyncio.StreamWriter
    feeder: Feeder
    fed: bool = False
    samples: Samples = field(default_factory=dict)
    reported: asyncio.Event = field(default_factory=asyncio.Event)
    answering: set[asyncio.Task[None]] = field(default_factory=set)
    telling: asyncio.Lock = field(default_factory=asyncio.Lock)
    silent: int = 0

    def reads(self) -> bool:
        """Return whether the worker reads what it is told."""
        writer = self.writer
        return not writer.is_closing() and writer.transport.get_write_buffer_size() < _MAX_UNREAD_BYTES


class Workers:
    """The workers of a proxy, of which this is the parent process.

    The constructor makes the proxy divide quotas among its workers, and say that it is not ready before they are.
    """

    def __init__(self, proxy: Proxy, options: ProxyOptions) -> None:
        self._proxy = proxy
        self._options = options
        self._cells = Cells(options.workers)
        self._accounts = Numbers(ACCOUNTS)
        self._nodes = Numbers(NODES)
        self._running: dict[int, _Running] = {}
        self._demands: dict[int, float] = {}
        self._division: tuple[Mapping[int, float], float] = ({}, 1.0)
        self._told = Readiness(None)
        self._ways = Ways([], [], True)
        self._looked = Looked(-math.inf)
        self._ended: dict[str, dict[str, tuple[str, dict[str, str], float]]] = {}
        self.restarts = 0
        proxy.directory_changed = self._directory_changed
        proxy.directory_seen = self._directory_seen
        proxy.not_serving = self._not_serving
        proxy.quotas.limits = self
        proxy.peers.told = self._tell_ways
        proxy.metrics.gauge(
            "pymon_proxy_workers", "Worker processes that answer.",
            lambda: sum(running.fed for running in self._running.values()),
        )  # fmt: skip
        proxy.metrics.counters(
            "pymon_proxy_worker_restarts", "Worker processes that ended and were started again.", (),
            lambda: {(): self.restarts},
        )  # fmt: skip

    async def serve(
        self,
        parts: Sequence[str],
        *,
        stop: asyncio.Event,
        started: Callable[[str], Callable[[tuple[Listen, ...]], None]],
    ) -> None:
        """Run the workers until `stop` is set.

        parts: what is served, "proxy" or "terminator". started: as in `serve_proxy`. Raises OSError if an address
        cannot be bound.
        """
        raise_descriptor_limit()
        count, hash_key = self._options.workers, secrets.token_bytes(HASH_KEY_BYTES)
        with contextlib.ExitStack() as close:
            close.callback(self._cells.close)
            listening = close.enter_context(contextlib.ExitStack())
            listeners: dict[str, list[int]] = {}
            own: dict[str, list[Address]] = {}
            port = self._options.listen_addresses[0].port
            for part in parts:
                addresses = self._options.listen_addresses if part == "proxy" else self._options.terminator_addresses
                found: list[Listen] = []
                for address in addresses:
                    shared, bound = listening.enter_context(reserved(address))
                    found += bound
                    listeners.setdefault(part, []).extend(listener.fileno() for listener in shared)
                    if not shared:
                        own.setdefault(part, []).extend(one for one in bound if isinstance(one, Address))
                if part == "proxy" and isinstance(found[0], Address):
                    port = found[0].port
                started(part)(tuple(found))
            async with asyncio.TaskGroup() as group:
                looking = group.create_task(self._look())
                for number in range(count):
                    task = Task(self._options, number, port, self._cells.descriptor, hash_key, listeners, own)
                    group.create_task(self._keep(task, stop))
                await stop.wait()
                listening.close()  # connections that no worker accepts any more are refused, and do not wait
                looking.cancel()

    async def collect(self) -> None:
        """Ask the workers for their metrics, and wait for them."""
        asked = [running for running in self._running.values() if running.fed and running.reads()]
        for running in asked:
            running.reported.clear()
            running.writer.write(framed(Report()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(COLLECT_SECONDS):
                for running in asked:
                    await running.reported.wait()

    def samples(self) -> list[Samples]:
        """Return the last metrics of each worker, and what was counted by workers that ended."""
        ended: Samples = {family: list(samples.values()) for family, samples in self._ended.items()}
        return [ended, *(running.samples for running in self._running.values())]

    # --- what the proxy's parts call ---------------------------------------------------------------

    def demands(self, seconds: float) -> dict[int, float]:  # noqa: ARG002  # workers tell it every second
        """Return what part of its quota each account asked of all workers since the last call."""
        demands, self._demands = self._demands, {}
        return demands

    def divide(self, shares: Mapping[int, float], share: float) -> None:
        """Apply shares of quotas in all workers. share: of all other accounts."""
        before, self._division = self._division, (shares, share)
        if before == self._division:
            return
        for running in self._running.values():
            running.feeder.tell(self._division_message())

    def _division_message(self) -> Division:
        shares, share = self._division
        return Division({f"{key:x}": part for key, part in shares.items()}, share)

    def _readiness(self) -> Readiness:
        return Readiness(self._proxy.incomplete(), self._proxy.unknown_nodes(), self._proxy.presence.left)

    def _tell_ways(self) -> None:
        """Tell the workers which agents are out of reach and the other proxies, if that has changed."""
        lost = self._proxy.reach.lost
        asked, others = self._proxy.peers.reaching(lost)
        ways = Ways(sorted(lost), [Way(*other) for other in others], asked)
        if ways != self._ways:
            self._ways = ways
            for running in self._running.values():
                running.feeder.tell(ways)

    def _directory_changed(self) -> None:
        snapshot = self._proxy.live.snapshot
        for number in self._accounts.keep(account.int for account in snapshot.accounts):
            self._cells.clear_account(number)
        self._nodes.keep(snapshot.nodes)
        for running in self._running.values():
            running.feeder.wake()

    def _directory_seen(self, at: float) -> None:
        self._looked = Looked(at)
        for running in self._running.values():
            running.feeder.tell(self._looked)

    def _not_serving(self) -> str | None:
        for number in range(self._options.workers):
            running = self._running.get(number)
            if running is None or not running.fed:
                return f"worker {number} is not ready"
        return None

    # --- one worker --------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Tell the workers whether discovery is complete, bound what is kept for them, and kill those that hang, until
        cancelled.
        """
        loop = asyncio.get_running_loop()
        told_at = loop.time()
        while True:
            readiness, now = self._readiness(), loop.time()
            self._tell_ways()
            tells = readiness != self._told or now - told_at >= TELL_SECONDS
            for running in self._running.values():
                running.feeder.check()
                if tells:
                    running.feeder.tell(readiness)
                running.silent += running.fed
                if running.silent == SILENT_LOOKS:
                    _log.warning("worker with process %d hangs and is ended", running.process.pid)
                    with contextlib.suppress(ProcessLookupError):
                        running.process.kill()
            if tells:
                self._told, told_at = readiness, now
            await asyncio.sleep(LOOK_SECONDS)

    async def _keep(self, task: Task, stop: asyncio.Event) -> None:
        """Run a worker until `stop` is set, and start it again whenever it ends."""
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            try:
                status = await self._run(task, stop)
            except OSError as error:
                _log.warning("worker %d cannot be started: %s", task.number, error.strerror or error)
            else:
                if stop.is_set():
                    return
                _log.warning("worker %d ended with status %d and is started again", task.number, status)
            self.restarts += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(begun + RESTART_SECONDS):
                    await stop.wait()
            if stop.is_set():
                return

    async def _run(self, task: Task, stop: asyncio.Event) -> int:
        """Run a worker to its end and return its status. Raises OSError when it cannot be started."""
        here, there = socket.socketpair()
        with here, there:
            descriptors = (there.fileno(), task.cells, *(one for every in task.listeners.values() for one in every))
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "pymon.front.worker", str(there.fileno()),
                stdin=asyncio.subprocess.DEVNULL, pass_fds=descriptors, start_new_session=True,
            )  # fmt: skip
            there.close()
            reader, writer = await asyncio.open_unix_connection(sock=here)
            writer.write(send_task(task))
            feeder = Feeder(self._proxy.fleet, self._proxy.directory, self._accounts, self._nodes)
            feeder.tell(self._division_message())
            feeder.tell(self._readiness())
            feeder.tell(self._looked)
            feeder.tell(self._ways)
            running = self._running[task.number] = _Running(process, writer, feeder)
            talks = feeder.run(writer), self._read(running, reader)
            tasks = [asyncio.create_task(self._talking(running, talk)) for talk in talks]
            try:
                return await self._end_of(process, stop, self._options.drain_seconds + END_SECONDS)
            finally:
                await asyncio.wait(tasks[1:], timeout=COLLECT_SECONDS)  # the last metrics
                tasks += running.answering
                for one in tasks:
                    one.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                del self._running[task.number]
                feeder.close()
                writer.close()
                self._cells.clear_worker(task.number)
                self._count(running.samples)

    @staticmethod
    async def _end_of(process: asyncio.subprocess.Process, stop: asyncio.Event, seconds: float) -> int:
        """Wait for the end of a process, which has `seconds` for it when `stop` is set. Return its status."""
        ending = asyncio.ensure_future(process.wait())
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((ending, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                await asyncio.wait((ending,), timeout=seconds)
            return ending.result() if ending.done() else -1
        finally:
            stopping.cancel()
            if not ending.done():
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await ending

    async def _read(self, running: _Running, reader: asyncio.StreamReader) -> None:
        while True:
            self._take(running, await read_up(reader))

    @staticmethod
    async def _talking(running: _Running, talk: Coroutine[None, None, None]) -> None:
        """Talk with a worker for as long as its socket is open. A worker with which this fails is ended."""
        try:
            await talk
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except Exception as error:  # noqa: BLE001  # the other workers must go on
            _log.error("worker with process %d is ended: %r", running.process.pid, error)
            with contextlib.suppress(ProcessLookupError):
                running.process.kill()

    def _take(self, running: _Running, message: Up) -> None:
        running.silent = 0
        match message:
            case Fed():
                running.fed = True
            case Demand(demands):
                for text, demand in demands.items():
                    key = int(text, 16)
                    self._demands[key] = self._demands.get(key, 0.0) + demand
            case Metrics(families):
                running.samples = families
                running.reported.set()
            case Look():
                self._proxy.hasten()
            case Lost(node, outcome):
                if node in self._proxy.live.snapshot.nodes:
                    self._proxy.reach.tell(node, outcome)
                self._tell_ways()
                running.feeder.tell(self._ways)
            case Question():
                task = asyncio.create_task(self._answer(running, message))
                running.answering.add(task)
                task.add_done_callback(running.answering.discard)
            case Failed() | Good():
                for other in self._running.values():
                    if other is not running and other.reads():
                        other.writer.write(framed(message))

    async def _answer(self, running: _Running, question: Question) -> None:
        """Answer the question of another proxy, when the worker has read the answer before."""
        async with running.telling:
            try:
                told = await self._proxy.knowledge.known(question.what, question.node, question.condition)
            except Exception as error:  # noqa: BLE001  # the workers must go on
                _log.error("internal error: peer: %r", error)
                told = Told(503)
            if running.writer.is_closing():
                return
            running.writer.write(framed(Answer(question.number, told)))
            with contextlib.suppress(ConnectionError):
                await running.writer.drain()

    def _count(self, samples: Samples) -> None:
        """Keep what a worker that ended has counted."""
        for family, found in samples.items():
            kept = self._ended.setdefault(family, {})
            for name, labels, value in found:
                if name.endswith(_COUNTED):
                    key = repr((name, sorted(labels.items())))
                    kept[key] = name, labels, value + (kept[key][2] if key in kept else 0.0)

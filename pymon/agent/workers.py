"""Threads for node collectors. One thread runs them all in turn, until one blocks: then another takes over.

A thread for each collector would cost several times what the collectors do, in turns at the interpreter's lock.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING

from pymon.sources.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from pymon.sources.node import NodeSource

TAKE_OVER_SECONDS = 0.05
"""A collector that runs for this time, or up to twice as long, holds up those behind it."""


class NodeWorker:
    """A collector and its last collection that ended.

    seconds, error, problems: duration, failure and partial failures; error is None if there is anything to show.
    success: whether it read its files without an error.
    """

    def __init__(self, source: NodeSource) -> None:
        self.source = source
        self.name = source.name
        self.seconds = 0.0
        self.error: SourceError | None = None
        self.problems: list[SourceError] = []
        self.success = False

    def collect(self) -> None:
        """Collect once, in the calling thread."""
        error: SourceError | None = None
        started = time.monotonic()
        try:
            self.source.collect()
        except SourceError as failure:
            error = failure
        except Exception as failure:  # noqa: BLE001 - a bug in one collector must not affect the others
            error = SourceError("bug", f"{self.name}: {failure!r}")
        self.error, self.problems = error, list(self.source.problems)
        self.success = error is None and self.source.is_whole()
        self.seconds = time.monotonic() - started


class Run:
    """Collections that were started together.

    started: the workers that were not busy. late: those that were, and those that had not ended at the last
    `NodeWorkers.settle`. waiting: done when all that were started have ended.
    """

    def __init__(self, workers: Iterable[NodeWorker], busy: Container[NodeWorker]) -> None:
        self.late = set(workers)
        self.started = [worker for worker in workers if worker not in busy]
        self._left = len(self.started)
        self.waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self.started:
            self.waiting.set_result(None)

    def ended(self, worker: NodeWorker) -> None:
        """Take note that a worker has ended."""
        self.late.discard(worker)
        self._left -= 1
        if not self._left and not self.waiting.done():
            self.waiting.set_result(None)


class NodeWorkers:
    """Runs workers on threads, each worker at most once at a time. Its methods are called on the loop."""

    def __init__(self, workers: Iterable[NodeWorker]) -> None:
        self.all = tuple(workers)
        self._busy: dict[NodeWorker, Run] = {}
        self._ended: deque[NodeWorker] = deque()
        self._next: NodeWorker | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._turns: SimpleQueue[asyncio.AbstractEventLoop | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._queue: deque[NodeWorker] = deque()
        self._running: set[NodeWorker] = set()
        self._idle = 0
        self._threads = 0
        self._closed = False

    def start(self, workers: Sequence[NodeWorker], seconds: float = math.inf) -> Run:
        """Start a collection of each worker that is not busy with an earlier one.

        seconds: how long their results are waited for.
        """
        self.settle()
        run = Run(workers, self._busy)
        for worker in run.started:
            worker.source.seconds = seconds  # no thread has it
            self._busy[worker] = run
        if run.started:
            loop = asyncio.get_running_loop()
            with self._lock:
                self._queue.extend(run.started)
            self._give_turn(loop)
            if self._timer is None:
                self._look_later(loop)
        return run

    def settle(self) -> None:
        """Take note of the workers that have ended by now."""
        while self._ended:
            worker = self._ended.popleft()
            self._busy.pop(worker).ended(worker)
        if self._timer is not None and not self._busy:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Close the sources, those that are read now on their threads. Does not wait. Nothing is started any more."""
        with self._lock:
            self._closed = True
            running = set(self._running)
        for _ in range(self._threads):
            self._turns.put(None)
        for worker in self.all:
            if worker not in running:
                worker.source.close()

    def _give_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            start = not self._idle
            self._idle -= not start
            self._threads += start
        self._turns.put(loop)
        if start:
            # A daemon thread: if it hangs in the kernel, it must not keep the process from exiting.
            threading.Thread(target=self._work, name=f"pymon-node-{self._threads}", daemon=True).start()

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._next = self._first()
        self._timer = None if self._next is None else loop.call_later(TAKE_OVER_SECONDS, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let another thread go on if none has taken a worker since the last look."""
        self.settle()
        if self._next is not None and self._first() is self._next and self._turns.empty():
            self._give_turn(loop)
        self._look_later(loop)

    def _first(self) -> NodeWorker | None:
        with self._lock:
            return self._queue[0] if self._queue else None

    def _take(self) -> NodeWorker | None:
        with self._lock:
            if self._closed or not self._queue:
                return None
            worker = self._queue.popleft()
            self._running.add(worker)
            return worker

    def _work(self) -> None:
        while (loop := self._turns.get()) is not None:
            while (worker := self._take()) is not None:
                worker.collect()
                with self._lock:
                    self._running.discard(worker)
                    closed = self._closed
                if closed:
                    worker.source.close()
                    return
                self._ended.append(worker)
            with self._lock:
                self._idle += 1
            try:
                loop.call_soon_threadsafe(self.settle)
            except RuntimeError:
                return  # the loop has closed

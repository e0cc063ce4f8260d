"""Threads for what may block: each collector of the node has one, so that a stuck one holds up nobody else."""

from __future__ import annotations

import asyncio
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING

from pymon.sources.errors import SourceError

if TYPE_CHECKING:
    from pymon.sources.node import NodeSource


class NodeWorker:
    """Runs one source, one collection at a time.

    seconds, error, problems: of the last collection that ended; error is None when it went well.
    """

    def __init__(self, source: NodeSource) -> None:
        self.source = source
        self.name = source.name
        self.seconds = 0.0
        self.error: SourceError | None = None
        self.problems: list[SourceError] = []
        self._queue: SimpleQueue[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None] = SimpleQueue()
        self._busy: asyncio.Future[None] | None = None
        self._thread: threading.Thread | None = None

    def collect(self) -> asyncio.Future[None] | None:
        """Start a collection; the future ends with it. None while an earlier one is still under way."""
        if self._busy is not None and not self._busy.done():
            return None
        loop = asyncio.get_running_loop()
        self._busy = loop.create_future()
        if self._thread is None:
            # A daemon: a thread that hangs in the kernel must not hold up the end of the process.
            self._thread = threading.Thread(target=self._run, name=f"pymon-{self.name}", daemon=True)
            self._thread.start()
        self._queue.put((loop, self._busy))
        return self._busy

    def close(self) -> None:
        """Let the thread end after what it is at; it closes the source."""
        if self._thread is not None:
            self._queue.put(None)
        else:
            self.source.close()

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            loop, future = job
            error: SourceError | None = None
            started = time.monotonic()
            try:
                self.source.collect()
            except SourceError as failure:
                error = failure
            except Exception as failure:  # noqa: BLE001 - a bug in one collector is that collector's failure
                error = SourceError("bug", f"{self.name}: {failure!r}")
            problems = list(self.source.problems)
            seconds = time.monotonic() - started
            try:
                loop.call_soon_threadsafe(self._ended, future, seconds, error, problems)
            except RuntimeError:
                break  # the loop has closed
        self.source.close()

    def _ended(
        self, future: asyncio.Future[None], seconds: float, error: SourceError | None, problems: list[SourceError]
    ) -> None:
        self.seconds, self.error, self.problems = seconds, error, problems
        if not future.done():
            future.set_result(None)

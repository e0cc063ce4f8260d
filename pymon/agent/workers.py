"""Threads for node collectors. Each collector has its own, so that one that blocks does not delay the others."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING

from pymon.sources.errors import SourceError

if TYPE_CHECKING:
    from pymon.sources.node import NodeSource


class NodeWorker:
    """Runs the collections of one source on a thread, one at a time.

    seconds, error, problems: duration, failure and partial failures of the last collection that ended; error is None if
    there is anything to show. success: whether it read its files without an error.
    """

    def __init__(self, source: NodeSource) -> None:
        self.source = source
        self.name = source.name
        self.seconds = 0.0
        self.error: SourceError | None = None
        self.problems: list[SourceError] = []
        self.success = False
        self._queue: SimpleQueue[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None] = SimpleQueue()
        self._busy: asyncio.Future[None] | None = None
        self._thread: threading.Thread | None = None

    def collect(self, seconds: float = math.inf) -> asyncio.Future[None] | None:
        """Start a collection. Return a future that is done when it ends, None if the last one is still running.

        seconds: how long its result is waited for.
        """
        if self._busy is not None and not self._busy.done():
            return None
        loop = asyncio.get_running_loop()
        self._busy = loop.create_future()
        self.source.seconds = seconds  # the thread waits for the queue
        if self._thread is None:
            # A daemon thread: if it hangs in the kernel, it must not keep the process from exiting.
            self._thread = threading.Thread(target=self._run, name=f"pymon-{self.name}", daemon=True)
            self._thread.start()
        self._queue.put((loop, self._busy))
        return self._busy

    def close(self) -> None:
        """Close the source: at once if there is no thread, else on the thread after its current collection.

        Does not wait for the thread.
        """
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
            except Exception as failure:  # noqa: BLE001 - a bug in one collector must not affect the others
                error = SourceError("bug", f"{self.name}: {failure!r}")
            problems = list(self.source.problems)
            success = error is None and self.source.is_whole()
            seconds = time.monotonic() - started
            try:
                loop.call_soon_threadsafe(self._ended, future, seconds, error, problems, success)
            except RuntimeError:
                break  # the loop has closed
        self.source.close()

    def _ended(
        self,
        future: asyncio.Future[None],
        seconds: float,
        error: SourceError | None,
        problems: list[SourceError],
        success: bool,
    ) -> None:
        self.seconds, self.error, self.problems, self.success = seconds, error, problems, success
        if not future.done():
            future.set_result(None)

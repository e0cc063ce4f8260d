"""A thread that owns what must not be shared between threads."""

from __future__ import annotations

import asyncio
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


class HandleThread:
    """Calls functions one after the other on a thread of its own: a handle of libkstat is for one thread."""

    def __init__(self, name: str) -> None:
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._begun: float | None = None
        self._closing = False
        self._held: threading.Event | None = None
        # A daemon: one that hangs in the kernel must not hold up the end of the process.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def busy_seconds(self) -> float:
        """How long it has been at what it is doing."""
        begun = self._begun
        return 0.0 if begun is None else time.monotonic() - begun

    def call(self, function: Callable[[], _T], hold: threading.Event | None = None) -> asyncio.Future[_T]:
        """Its result; who cancels that before its turn has it not called. hold: awaited before the next call."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()

        def job() -> None:
            if future.cancelled():
                return
            result: Any = None
            error: Exception | None = None
            try:
                result = function()
            except Exception as failure:  # noqa: BLE001 - it is the caller's, whatever it is
                error = failure
            try:
                loop.call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:
                return  # the loop has closed
            if hold is not None:
                self._held = hold
                if not self._closing:
                    hold.wait()

        self._queue.put(job)
        return future

    def close(self, last: Callable[[], None]) -> None:
        """Call `last` after all that is queued, and let the thread end. Nothing holds it any more."""
        self._closing = True
        if self._held is not None:
            self._held.set()
        self._queue.put(last)
        self._queue.put(None)
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            self._begun = time.monotonic()
            job()
            self._begun = None


def _settle(future: asyncio.Future[_T], result: _T, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)

"""A thread that runs functions one at a time, for an object which only one thread may use, or that may hang."""

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
    """Runs functions one at a time on a dedicated thread, as those that use a libkstat handle must."""

    def __init__(self, name: str) -> None:
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._begun: float | None = None
        self._closing = False
        self._held: threading.Event | None = None
        # A daemon thread: if it hangs in the kernel, it must not keep the process from exiting.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def busy_seconds(self) -> float:
        """Seconds since the current call began, 0 when the thread is idle. A thread that waits for `hold` is busy."""
        begun = self._begun
        return 0.0 if begun is None else time.monotonic() - begun

    def call(self, function: Callable[[], _T], hold: threading.Event | None = None) -> asyncio.Future[_T]:
        """Queue a function. Return a future of the running loop for its result or its exception.

        If the future is cancelled before the function starts, the function is not called. hold: after the function has
        returned, the thread waits for this event before it runs the next one.
        """
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
        """Queue `last` as the final function and wait up to 1 s for the thread to end. Events in `hold` are ignored."""
        self._closing = True
        if self._held is not None:
            self._held.set()
        self._queue.put(last)
        self._queue.put(None)
        self._thread.join(timeout=1.0)

    def end(self) -> None:
        """Tell the thread to end after what is queued. Does not wait for it."""
        self._queue.put(None)

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

"""Listens to the events of a container engine on a thread, and tells the loop which containers have changed.

Events are hints: they say whose description to read again, and nothing else is believed. After each connection all may
have changed, because events before it were missed.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from pymon.containers.files import UnreadableError
from pymon.token_bucket import TokenBucket

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from pymon.containers.engine import Event, Started

COLLECT_SECONDS = 0.2
"""Delay before the loop is told, so that what happens together is told together, and files are written meanwhile."""

RETRY_SECONDS = (1.0, 10.0)
"""Shortest and longest time before the next attempt to listen."""

_log = logging.getLogger(__name__)

_EVENTS_PER_SECOND, _EVENTS_BURST = 500, 5000
"""An engine that tells more is not listened to until the next attempt."""

_CPU_SHARE, _CPU_BURST_SECONDS = 0.02, 0.3
"""Nor is one whose events take more than this share of a CPU, after so much time at once: a user's engine can tell
events of hundreds of kilobytes, or of nothing."""


class EngineEvents:
    """Listens to one engine from construction until `close`."""

    def __init__(
        self,
        name: str,
        events: Callable[[Callable[[socket.socket], None]], Iterator[Event]],
        changed: Callable[[frozenset[str | Started]], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """name: of the thread. events: opens the engine's events, as `Runtimes.events` does.

        changed: called on the loop with the ids of containers that have changed or started. "" stands for all.
        """
        self.listening = False
        """Whether the engine tells its events."""
        self._name = name
        self._events = events
        self._changed = changed
        self._loop = loop
        self._lock = threading.Lock()
        self._ids: set[str | Started] = set()
        self._connection: socket.socket | None = None
        self._closing = threading.Event()
        # A daemon thread: if it hangs in the kernel, it must not keep the process from exiting.
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def close(self) -> None:
        """Tell the thread to end. Does not wait for it."""
        self._closing.set()
        if (connection := self._connection) is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    # On the loop.

    def _hand_on(self) -> None:
        with self._lock:
            ids, self._ids = self._ids, set()
        if not self._closing.is_set():
            self._changed(frozenset(ids))

    # On the thread.

    def _run(self) -> None:
        shortest, longest = RETRY_SECONDS
        delay = shortest
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                self._listen()
            except (UnreadableError, OSError):
                pass
            except Exception as error:  # noqa: BLE001  # the thread must survive any error
                _log.error("internal error: %s: %r", self._name, error, exc_info=_log.isEnabledFor(logging.DEBUG))
            self.listening = False
            if time.monotonic() - began > longest:
                delay = shortest
            self._closing.wait(delay)
            delay = min(delay * 2, longest)

    def _listen(self) -> None:
        bucket = TokenBucket(_EVENTS_PER_SECOND, _EVENTS_BURST)
        left, at, used = _CPU_BURST_SECONDS, time.monotonic(), time.thread_time()
        for event in self._events(self._opened):
            now, cpu = time.monotonic(), time.thread_time()
            left = min(_CPU_BURST_SECONDS, left + (now - at) * _CPU_SHARE) - (cpu - used)
            at, used = now, cpu
            if self._closing.is_set() or bucket.take(now) or left < 0:
                return
            if event is not None:
                self.listening = True
                self._tell(event)

    def _opened(self, connection: socket.socket) -> None:
        self._connection = connection
        if self._closing.is_set():
            self.close()

    def _tell(self, event: str | Started) -> None:
        with self._lock:
            first = not self._ids
            self._ids.add(event)
        if first:
            try:
                self._loop.call_soon_threadsafe(self._loop.call_later, COLLECT_SECONDS, self._hand_on)
            except RuntimeError:  # the loop has closed
                self._closing.set()

"""A thread with a directory of its own, which ends soon although the directory hangs."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable

from pymon.directory.directory import Directory, open_directory

BUSY_SECONDS = 3.0
"""How long a thread of a service waits for another process that writes to the directory's file."""

LEAVE_SECONDS = 1.0
"""How long a thread may take for its last step before it is interrupted."""

END_SECONDS = 3.5
"""How long to wait for an interrupted thread. It is a daemon, so that one that takes longer ends with the process."""


LOOP_SECONDS = 3.0
"""An event loop that has not run for this long hangs."""


class Worker:
    """Runs a function in a thread that uses a directory.

    stopping: set when the function has to return. name: of the thread.
    """

    def __init__(self, url: str, name: str, *, read_only: bool = False) -> None:
        self.stopping = threading.Event()
        self.directory: Directory | None = None
        self._url = url
        self._name = name
        self._read_only = read_only
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked_at: float | None = None

    def start(self, run: Callable[[], None]) -> None:
        """Start the thread. Without an event loop that runs here, `loop_hangs` is always false."""
        with contextlib.suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=run, name=self._name, daemon=True)
        self._thread.start()

    def open(self) -> Directory:
        """Return the directory, which is opened if it is not. Raises DirectoryError, ConfigError."""
        if self.directory is None:
            self.directory = open_directory(self._url, read_only=self._read_only, busy_seconds=BUSY_SECONDS)
        return self.directory

    def close(self) -> None:
        """Close the directory."""
        if self.directory is not None:
            self.directory.close()
            self.directory = None

    def loop_hangs(self) -> bool:
        """Return whether the event loop of `start` has not run for `LOOP_SECONDS`. To be asked every few seconds."""
        asked_at, now = self._asked_at, time.monotonic()
        if self._loop is None or asked_at is not None:
            return asked_at is not None and now - asked_at > LOOP_SECONDS
        self._asked_at = now
        with contextlib.suppress(RuntimeError):  # it is closed
            self._loop.call_soon_threadsafe(self._answer)
        return False

    def _answer(self) -> None:
        self._asked_at = None

    async def stop(self) -> None:
        """Stop the thread. Its queries fail after `LEAVE_SECONDS`."""
        self.stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(self._end, thread)

    def _end(self, thread: threading.Thread) -> None:
        thread.join(LEAVE_SECONDS)
        directory = self.directory
        if thread.is_alive() and directory is not None:
            directory.interrupt()
        thread.join(END_SECONDS)

"""A lease of the directory: what one of several processes has at a time, and another within seconds of its end."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from enum import Enum, auto

from pymon.directory.directory import Directory, open_directory
from pymon.directory.model import DirectoryError

LEASE_SECONDS = 6.0
RENEW_SECONDS = 2.0
LOOK_SECONDS = 0.5
"""Between looks at a lease that another has; the pause after an error too."""

_STOP_SECONDS = 10.0

_log = logging.getLogger(__name__)


class Standing(Enum):
    """What a process knows of a lease."""

    HELD = auto()
    """It has it, and nobody else can have it yet."""
    UNSURE = auto()
    """It had it, and has not heard since: the directory is away. Another may have it by now."""
    LOST = auto()
    """It does not have it."""


class HeldLease:
    """A lease that is taken when it is free and then renewed, in a thread of its own.

    holder: this process, another name than any other's. changed: called in that thread after the standing or the
    `error` has changed.

    The expiry in the directory is by the database's clock. What counts here is a clock that cannot be set, from before
    the renewal was asked for: so it ends here before it ends there, whatever the clocks of the machines say.
    """

    def __init__(self, url: str, name: str, holder: str, changed: Callable[[], None] = lambda: None) -> None:
        self._url = url
        self._name = name
        self._holder = holder
        self._changed = changed
        self._directory: Directory | None = None
        self._until = 0.0
        self._had = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.error = ""
        """Why the last attempt failed, one line; empty when it went well."""

    def start(self) -> None:
        """Begin. It takes a moment until the first standing is known."""
        self._thread = threading.Thread(target=self._run, name=f"lease {self._name}", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Release it and stop."""
        self._stopping.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, _STOP_SECONDS)
            self._thread = None

    def standing(self) -> Standing:
        """What is known now. Cheap; for any thread."""
        if not self._had:
            return Standing.LOST
        return Standing.HELD if time.monotonic() < self._until else Standing.UNSURE

    # --- in the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._stopping.wait(self._step())
        finally:
            self._end()

    def _step(self) -> float:
        """Try once; how long to wait then."""
        before = time.monotonic()
        had, error = self._had, self.error
        try:
            if self._directory is None:
                self._directory = open_directory(self._url)
            if had or not self._directory.lease_holder(self._name, LEASE_SECONDS):
                holder = self._directory.acquire_lease(self._name, self._holder, LEASE_SECONDS)
                if holder == self._holder:
                    self._until = before + LEASE_SECONDS
                self._had = holder == self._holder
            self.error = ""
        except Exception as failure:  # noqa: BLE001  # the thread goes on, whatever comes
            self._close()
            self.error = str(failure) if isinstance(failure, DirectoryError) else f"{type(failure).__name__}: {failure}"
        if self.error and self.error != error:
            _log.warning("lease %s cannot be renewed: %s", self._name, self.error)
        if self._had != had:
            _log.info("lease %s is %s", self._name, "held" if self._had else "another's")
        if (self._had, self.error) != (had, error):
            self._changed()
        return RENEW_SECONDS if self._had and not self.error else LOOK_SECONDS

    def _end(self) -> None:
        had, self._had = self._had, False
        try:
            if had and self._directory is not None:
                self._directory.release_lease(self._name, self._holder)
        except DirectoryError as error:
            _log.warning("lease %s is not released: %s", self._name, error)
        self._close()
        if had:
            self._changed()

    def _close(self) -> None:
        if self._directory is not None:
            self._directory.close()
            self._directory = None

"""A lease in the directory. One of several processes holds it at a time, and another takes over within seconds."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from enum import Enum, auto

from pymon.directory.model import DirectoryError
from pymon.directory.worker import Worker

LEASE_SECONDS = 6.0
RENEW_SECONDS = 2.0
LOOK_SECONDS = 0.5
"""The time between checks of a lease that another process holds, and the pause after an error."""

_log = logging.getLogger(__name__)


class Standing(Enum):
    """What a process knows about a lease."""

    HELD = auto()
    """This process holds the lease, and no other process can hold it."""
    UNSURE = auto()
    """This process held the lease but could not renew it in time. Another process may hold it now."""
    LOST = auto()
    """This process does not hold the lease."""


class HeldLease:
    """Acquires a lease as soon as it is free and renews it, in a thread of its own, which releases it while the event
    loop hangs on which it was started.

    holder: a name of this process that no other process has. changed: called in that thread after the standing or
    `error` has changed.

    The expiry in the directory uses the database's clock. This class uses the monotonic clock and counts from before
    the renewal was sent. So the lease always ends here before it ends in the directory, even if clocks are wrong.
    """

    def __init__(self, url: str, name: str, holder: str, changed: Callable[[], None] = lambda: None) -> None:
        self._worker = Worker(url, f"lease {name}")
        self._name = name
        self._holder = holder
        self._changed = changed
        self._until = 0.0
        self._had = False
        self.error = ""
        """The reason why the last attempt failed, one line, "" if it succeeded."""

    def start(self) -> None:
        """Start the thread. The standing is LOST until the first attempt succeeds."""
        self._worker.start(self._run)

    async def stop(self) -> None:
        """Release the lease and stop the thread, within seconds although the directory hangs."""
        await self._worker.stop()

    def standing(self) -> Standing:
        """Return the current standing. Cheap, and may be called in any thread."""
        if not self._had:
            return Standing.LOST
        return Standing.HELD if time.monotonic() < self._until else Standing.UNSURE

    # --- in the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._worker.stopping.is_set():
                self._worker.stopping.wait(self._step())
        finally:
            self._end()

    def _step(self) -> float:
        """Try once to acquire or renew. Returns the seconds until the next attempt."""
        if self._worker.loop_hangs():
            self._release()
            return LOOK_SECONDS
        before = time.monotonic()
        had, error = self._had, self.error
        try:
            directory = self._worker.open()
            if had or not directory.lease_holder(self._name, LEASE_SECONDS):
                holder = directory.acquire_lease(self._name, self._holder, LEASE_SECONDS)
                if holder == self._holder:
                    self._until = before + LEASE_SECONDS
                self._had = holder == self._holder
            self.error = ""
        except Exception as failure:  # noqa: BLE001  # the thread must survive any error
            self._worker.close()
            self.error = str(failure) if isinstance(failure, DirectoryError) else f"{type(failure).__name__}: {failure}"
        if self.error and self.error != error:
            _log.warning("lease %s cannot be renewed: %s", self._name, self.error)
        if self._had != had:
            _log.info("lease %s is %s", self._name, "held" if self._had else "another's")
        if (self._had, self.error) != (had, error):
            self._changed()
        return RENEW_SECONDS if self._had and not self.error else LOOK_SECONDS

    def _end(self) -> None:
        self._release()
        self._worker.close()

    def _release(self) -> None:
        had, self._had = self._had, False
        try:
            if had and self._worker.directory is not None:
                self._worker.directory.release_lease(self._name, self._holder)
        except DirectoryError as error:
            _log.warning("lease %s is not released: %s", self._name, error)
        if had:
            self._changed()

"""Files that are read again while a process runs: what became of it, and a thread that looks for changes."""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import TYPE_CHECKING

from cryptography import x509

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_SECONDS = 1.0
"""How often a `FileThread` looks."""

_log = logging.getLogger(__name__)


class Reload:
    """What became of reading the files of one use.

    use: a short name, the label of metrics. ends_at: when the first of the certificates or lists in the files ends, in
    seconds since the epoch; infinite if nothing in them does. failures: attempts that failed. error: one line, "" if
    the last attempt worked. worked_at: when the last attempt that worked ended, in seconds since the epoch; 0 if none
    did.
    """

    def __init__(self, use: str) -> None:
        self.use = use
        self.ends_at = math.inf
        self.failures = 0
        self.error = ""
        self.worked_at = 0.0

    def worked(self, ends_at: float = math.inf) -> None:
        """Record an attempt that worked."""
        self.ends_at, self.error, self.worked_at = ends_at, "", time.time()

    def failed(self, what: str, error: Exception, *, changed: bool = False) -> None:
        """Record an attempt that failed, and log it, unless the last one failed in the same way with the same files.

        what: what the files are. changed: they are other files than at the last attempt.
        """
        self.failures += 1
        if changed or str(error) != self.error:
            _log.error("%s is not usable, the last good one stays: %s", what, error)
        self.error = str(error)


def first_end(pem: bytes) -> float:
    """Return when the first of the certificates in a PEM text ends, in seconds since the epoch.

    It is infinite if there is none, or if one of them cannot be parsed.
    """
    try:
        return min(one.not_valid_after_utc.timestamp() for one in x509.load_pem_x509_certificates(pem))
    except ValueError:
        return math.inf


class FileThread:
    """Calls a function every `LOOK_SECONDS` in a thread of its own, so that a file that hangs delays nothing else.

    look: reads files again if they have changed. It must log its errors. The thread does not keep the process alive.
    """

    def __init__(self, name: str, look: Callable[[], None]) -> None:
        self._look = look
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Tell the thread to end. Does not wait for it."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self._look()
            except Exception:  # noqa: BLE001  # the thread must survive any error
                _log.exception("internal error: %s", self._thread.name)

"""The directory as a proxy uses it: the last good snapshot, updated within a second, and a copy of it on disk."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pymon.directory import labels, rows
from pymon.directory.changes import with_changes
from pymon.directory.directory import decode
from pymon.directory.model import DamagedError, DirectoryError, Snapshot, UnavailableError
from pymon.directory.rows import Rows
from pymon.directory.url import identity
from pymon.directory.worker import Worker
from pymon.whole_file import replace_file

POLL_SECONDS = 0.25

UP_SECONDS = 5.0
"""The directory counts as up if it has answered within this time, which is more than a poll takes."""

SAVE_AGAIN_SECONDS = 10.0
"""The pause after a copy could not be written."""

_COPY_VERSION = 1

_log = logging.getLogger(__name__)


class LiveDirectory:
    """Polls a directory in a thread of its own.

    snapshot: the last good snapshot, also while the directory is unavailable. It is stored in the file `copy` (mode
    0600, replaced atomically), which is used if the directory is unavailable or damaged at the start. changed: called
    on the event loop with each new snapshot. looked: called there after each look that succeeded, and after `changed`,
    with the time when the look began, in seconds of the monotonic clock.
    """

    def __init__(
        self,
        url: str,
        copy: Path | None,
        changed: Callable[[Snapshot], None],
        looked: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._url = url
        self._copy = copy
        self._changed = changed
        self._looked = looked
        self._woken = threading.Event()
        self._worker = Worker(url, "directory", read_only=True)
        self._answered_at = -math.inf
        self._loop: asyncio.AbstractEventLoop | None = None
        self._current_at = 0.0
        self._seen = -1
        self._unsaved: Rows | None = None
        self._remarks: frozenset[str] = frozenset()
        self._save_at = -math.inf
        self.error = ""
        """The reason why the last poll failed, one line, "" if it succeeded."""
        self.copy_error = ""
        """Why the copy on disk could not be written, one line, "" if it is written."""
        self.snapshot = Snapshot.of()
        self._last = self.snapshot  # that was decoded

    def start(self) -> None:
        """Load the first snapshot and start polling. Must be called on the event loop.

        `changed` is not called for the first snapshot. Raises DirectoryError if the directory has another version, or
        if it is unavailable or damaged and there is no copy of it. Raises ConfigError if the URL is not valid.
        """
        self._loop = asyncio.get_running_loop()
        try:
            self._start()
        except DirectoryError:
            self._worker.close()
            raise
        self._worker.start(self._run)

    def _start(self) -> None:
        at, begun = time.time(), time.monotonic()
        try:
            found = self._changed_rows()
            if found is not None:
                self.snapshot = self._decode(found)
                self._log_remarks(self.snapshot)
        except (UnavailableError, DamagedError) as error:
            self._worker.close()
            self.snapshot = self._from_copy(error)
            self.error = str(error)
            _log.warning("serving from the copy of the directory: %s", error)
            return
        self._unsaved = found
        self._save()
        self._current_at = at
        self._answered_at = time.monotonic()
        self._looked(begun)

    def peek(self) -> Snapshot:
        """Return the snapshot that `start` would load, without starting a thread or writing a copy.

        If it is from the copy, `error` says why. Raises DirectoryError, ConfigError.
        """
        try:
            found = self._changed_rows()
            return self._decode(found) if found is not None else self.snapshot
        except (UnavailableError, DamagedError) as error:
            self.error = str(error)
            return self._from_copy(error)
        finally:
            self._worker.close()

    async def stop(self) -> None:
        """Stop polling. `changed` and `looked` are not called after this returns."""
        self._worker.stopping.set()
        self._woken.set()
        await self._worker.stop()

    def hasten(self) -> None:
        """Look at the directory now, and not only when the next look is due."""
        self._woken.set()

    def age_seconds(self) -> float:
        """Return the time since the snapshot was last known to be current."""
        return max(0.0, time.time() - self._current_at)

    def up(self) -> bool:
        """Return whether the directory has answered within `UP_SECONDS`, and the last poll did not fail."""
        return not self.error and time.monotonic() - self._answered_at < UP_SECONDS

    # --- in the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._worker.stopping.is_set():
                self._woken.wait(POLL_SECONDS)
                self._woken.clear()
                if not self._worker.stopping.is_set():
                    self._poll()
        finally:
            self._worker.close()

    def _poll(self) -> None:
        at, begun = time.time(), time.monotonic()
        try:
            found = self._changed_rows()
            if found is not None:
                snapshot = self._decode(found)
                self._on_loop(lambda: self._take(snapshot))
                self._log_remarks(snapshot)
        except Exception as error:  # noqa: BLE001  # the thread must survive any error
            self._worker.close()
            text = str(error) if isinstance(error, DirectoryError) else f"{type(error).__name__}: {error}"
            if text != self.error:
                _log.error("directory cannot be read, serving what was there %.0f s ago: %s", self.age_seconds(), text)
            self.error = text
            return
        self._current_at = at
        self._answered_at = time.monotonic()
        if self.error:
            _log.info("directory can be read again")
            self.error = ""
        self._on_loop(lambda: self._looked(begun))
        self._unsaved = found or self._unsaved
        self._save()

    def _changed_rows(self) -> Rows | None:
        """Return the rows, None if they have not changed since the last snapshot."""
        directory = self._worker.open()
        return None if directory.generation() == self._seen else directory.rows()

    def _decode(self, found: Rows) -> Snapshot:
        snapshot = with_changes(self._last, decode(found, identity(self._url)))
        self._seen, self._last = snapshot.generation, snapshot
        return snapshot

    def _log_remarks(self, snapshot: Snapshot) -> None:
        """Log features that are unavailable and accounts without a DNS name, if they were not logged before."""
        try:
            off = self._worker.open().off()
        except DirectoryError:  # the next poll reports it
            return
        remarks = [*off, *labels.conflicts(snapshot)]
        for line in remarks:
            if line not in self._remarks:
                _log.warning("%s", line)
        self._remarks = frozenset(remarks)

    def _on_loop(self, tell: Callable[[], None]) -> None:
        """Call a function on the event loop, unless this is stopped by then."""
        assert self._loop is not None  # noqa: S101  # set by start, which starts the thread

        def called() -> None:
            if not self._worker.stopping.is_set():
                tell()

        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(called)

    def _take(self, snapshot: Snapshot) -> None:
        """Set the snapshot. This runs on the event loop, so that no code there sees it change during a step."""
        self.snapshot = snapshot
        self._changed(snapshot)

    # --- the copy --------------------------------------------------------------------------------

    def _save(self) -> None:
        """Write the copy if it is out of date, unless writing failed less than `SAVE_AGAIN_SECONDS` ago."""
        found = self._unsaved
        if self._copy is None or found is None or time.monotonic() < self._save_at:
            return
        document = {
            "pymon_directory_copy": _COPY_VERSION,
            "directory": identity(self._url),
            "saved_at": time.time(),
            "rows": rows.to_json(found),
        }
        error = ""
        try:
            replace_file(self._copy, json.dumps(document, separators=(",", ":")).encode() + b"\n")
            self._unsaved = None
        except OSError as failure:
            error = f"{self._copy}: {failure.strerror}"
            self._save_at = time.monotonic() + SAVE_AGAIN_SECONDS
        if error and error != self.copy_error:
            _log.warning("directory's copy cannot be written: %s", error)
        if self.copy_error and not error:
            _log.info("directory's copy is written again")
        self.copy_error = error

    def _from_copy(self, reason: DirectoryError) -> Snapshot:
        """Return the snapshot from the copy. If that fails, raises `reason` or a DirectoryError that starts with it."""
        if self._copy is None:
            raise reason
        try:
            document = json.loads(self._copy.read_bytes())
            if document["pymon_directory_copy"] != _COPY_VERSION or document["directory"] != identity(self._url):
                raise DirectoryError(f"{reason}; {self._copy} is the copy of another directory")
            snapshot = self._last = decode(rows.from_json(document["rows"]), str(self._copy))
            self._current_at = float(document["saved_at"])
            self._seen = snapshot.generation
        except FileNotFoundError:
            raise reason from None
        except OSError as error:
            raise DirectoryError(f"{reason}; {self._copy}: {error.strerror}") from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise DirectoryError(f"{reason}; {self._copy}: no copy of a directory") from None
        return snapshot

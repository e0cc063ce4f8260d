"""The directory as a proxy sees it: the last good snapshot, fresh within a second, and a copy of it on disk."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pymon.directory import rows
from pymon.directory.directory import Directory, decode, open_directory
from pymon.directory.model import DirectoryError, Snapshot, UnavailableError
from pymon.directory.rows import Rows
from pymon.directory.url import identity

POLL_SECONDS = 0.25
SAVE_AGAIN_SECONDS = 10.0
"""After a copy that could not be written the next one is tried so much later."""

_STOP_SECONDS = 10.0
_COPY_VERSION = 1

_log = logging.getLogger(__name__)


class LiveDirectory:
    """A directory that is looked at four times a second, in a thread of its own.

    `snapshot` is the last good one, whatever happens to the directory. It is also kept in the file `copy` (mode 0600,
    replaced whole), which serves when the directory is away at the start.
    """

    def __init__(self, url: str, copy: Path | None, changed: Callable[[Snapshot], None]) -> None:
        self._url = url
        self._copy = copy
        self._changed = changed
        self._directory: Directory | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._looked_at = 0.0
        self._seen = -1
        self._copy_error = ""
        self._unsaved: Rows | None = None
        self._save_at = -math.inf
        self.error = ""
        """Why the last look failed, one line; empty when it went well."""
        self.snapshot = Snapshot.of()

    def start(self) -> None:
        """Load the first snapshot and begin to look. `changed` is called with each later one, on the running loop.

        Raises DirectoryError when the directory is unusable, or is away and there is no copy of it; ConfigError when
        the URL is none.
        """
        self._loop = asyncio.get_running_loop()
        try:
            self._start()
        except DirectoryError:
            self._close()
            raise
        self._thread = threading.Thread(target=self._run, name="directory", daemon=True)
        self._thread.start()

    def _start(self) -> None:
        at = time.time()
        try:
            found = self._changed_rows()
        except UnavailableError as error:
            self._close()
            self.snapshot = self._from_copy(error)
            self.error = str(error)
            _log.warning("serving from the copy of the directory: %s", error)
            return
        if found is not None:
            self.snapshot = self._decode(found)
            self._unsaved = found
            self._save()
        self._looked_at = at

    def peek(self) -> Snapshot:
        """What `start` would begin with, for who looks once: nothing is begun and nothing written. `error` says why
        it is of the copy.
        """
        try:
            found = self._changed_rows()
            return self._decode(found) if found is not None else self.snapshot
        except UnavailableError as error:
            self.error = str(error)
            return self._from_copy(error)
        finally:
            self._close()

    async def stop(self) -> None:
        """Look no more. `changed` is not called after this returns."""
        self._stopping.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, _STOP_SECONDS)
            self._thread = None

    def age_seconds(self) -> float:
        """How long ago the directory was last seen as it is."""
        return max(0.0, time.time() - self._looked_at)

    # --- in the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping.wait(POLL_SECONDS):
                self._look()
        finally:
            self._close()

    def _look(self) -> None:
        at = time.time()
        try:
            found = self._changed_rows()
            if found is not None:
                self._tell(self._decode(found))
        except Exception as error:  # noqa: BLE001  # the thread goes on, whatever comes
            self._close()
            text = str(error) if isinstance(error, DirectoryError) else f"{type(error).__name__}: {error}"
            if text != self.error:
                _log.error("directory cannot be read, serving what was there %.0f s ago: %s", self.age_seconds(), text)
            self.error = text
            return
        self._looked_at = at
        if self.error:
            _log.info("directory can be read again")
            self.error = ""
        self._unsaved = found or self._unsaved
        self._save()

    def _changed_rows(self) -> Rows | None:
        """The rows, when they are others than those of the last snapshot."""
        if self._directory is None:
            self._directory = open_directory(self._url, read_only=True)
        return None if self._directory.generation() == self._seen else self._directory.rows()

    def _decode(self, found: Rows) -> Snapshot:
        snapshot = decode(found, identity(self._url))
        self._seen = snapshot.generation
        return snapshot

    def _close(self) -> None:
        if self._directory is not None:
            self._directory.close()
            self._directory = None

    def _tell(self, snapshot: Snapshot) -> None:
        assert self._loop is not None  # noqa: S101  # set by start, which starts the thread
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._take, snapshot)

    def _take(self, snapshot: Snapshot) -> None:
        """On the loop: nobody there sees a snapshot change in the middle of something."""
        if not self._stopping.is_set():
            self.snapshot = snapshot
            self._changed(snapshot)

    # --- the copy --------------------------------------------------------------------------------

    def _save(self) -> None:
        """Write the rows that no copy has yet, unless that failed a moment ago."""
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
            _replace(self._copy, json.dumps(document, separators=(",", ":")).encode() + b"\n")
            self._unsaved = None
        except OSError as failure:
            error = f"{self._copy}: {failure.strerror}"
            self._save_at = time.monotonic() + SAVE_AGAIN_SECONDS
        if error and error != self._copy_error:
            _log.warning("directory's copy cannot be written: %s", error)
        self._copy_error = error

    def _from_copy(self, reason: UnavailableError) -> Snapshot:
        """The snapshot of the copy. Raises `reason`, with what is wrong with the copy."""
        if self._copy is None:
            raise reason
        try:
            document = json.loads(self._copy.read_bytes())
            if document["pymon_directory_copy"] != _COPY_VERSION or document["directory"] != identity(self._url):
                raise DirectoryError(f"{reason}; {self._copy} is the copy of another directory")
            snapshot = decode(rows.from_json(document["rows"]), str(self._copy))
            self._looked_at = float(document["saved_at"])
            self._seen = snapshot.generation
        except FileNotFoundError:
            raise reason from None
        except OSError as error:
            raise DirectoryError(f"{reason}; {self._copy}: {error.strerror}") from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise DirectoryError(f"{reason}; {self._copy}: no copy of a directory") from None
        return snapshot


def _replace(file: Path, data: bytes) -> None:
    """Put a file of mode 0600 in place, whole; its directory is made when it is missing."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with open(descriptor, "wb") as stream:  # noqa: PTH123  # a descriptor
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

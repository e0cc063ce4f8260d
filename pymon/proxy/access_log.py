"""The access log: a line for each request, written by a thread, so that no file delays an answer.

Each write is of whole lines and is appended, so that several processes may write to one file. The file is opened again
when its path names another file, or none, which is how it is rotated.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import Counter
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from pymon.config import ConfigError
from pymon.log import line_of, time_of

if TYPE_CHECKING:
    from pathlib import Path

    from pymon.config import LogFormat

_log = logging.getLogger(__name__)

MAX_QUEUED = 8192
"""Lines that wait to be written. Later ones are dropped."""

BATCH_BYTES = select.PIPE_BUF
"""The most bytes of one write of several lines: what a pipe takes in one piece."""

BATCH_SECONDS = 0.05
"""How long lines are gathered for one write."""

CLOSE_SECONDS = 1.0
"""How long `close` waits for the last lines."""

MAX_FIELD_CHARACTERS = 256

REPEAT_SECONDS = 60.0
"""Minimum time between two log lines that the file cannot be written."""

_STANDARD_OUTPUT = "-"
_MODE = 0o640


class Line(NamedTuple):
    """A request that ended. at: in seconds since the epoch. seconds: until its last byte was handed to the kernel."""

    at: float
    request: str
    account: str
    route: str
    code: int
    seconds: float
    bytes: int
    node: str
    source: str


def check(path: Path) -> None:
    """Raise ConfigError if a line could not be appended to the file now. The file is made."""
    if str(path) == _STANDARD_OUTPUT:
        return
    try:
        os.close(_open(path, os.O_NONBLOCK))
    except OSError as error:
        raise ConfigError(f"access-log: {path}: cannot be written: {error.strerror}") from None


def _open(path: Path, more: int = 0) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | more, _MODE)


class AccessLog:
    """The access log of a process. Its thread starts with the first line.

    lost: number of lines that were not written, by reason: "queue" is full, or "write" failed.
    """

    def __init__(self, path: Path, format: LogFormat, *, queued: int = MAX_QUEUED) -> None:
        self.lost: Counter[str] = Counter(queue=0, write=0)
        self._path = path
        self._format: LogFormat = format
        self._bound = queued
        self._queue: SimpleQueue[Line | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        # Of the thread alone:
        self._file: int | None = None
        self._torn = False
        self._warned_at = -REPEAT_SECONDS

    def put(self, line: Line) -> None:
        """Have a line written later. It is dropped if too many wait."""
        if self._queue.qsize() >= self._bound:
            self.lost["queue"] += 1
            return
        self._queue.put(line)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="access log", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Write what waits, for at most `CLOSE_SECONDS`."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(CLOSE_SECONDS)

    # --- the thread ---

    def _run(self) -> None:
        going = True
        while going:
            batch = [self._queue.get()]
            if batch[0] is not None:
                time.sleep(BATCH_SECONDS)
            try:
                while batch[-1] is not None and len(batch) < self._bound:
                    batch.append(self._queue.get_nowait())
            except Empty:
                pass
            going = batch[-1] is not None
            self._write_all([line for line in batch if line is not None])
        if self._file is not None and str(self._path) != _STANDARD_OUTPUT:
            os.close(self._file)

    def _write_all(self, lines: list[Line]) -> None:
        piece = b""
        count = 0
        for text in map(self._text, lines):
            if len(piece) + len(text) > BATCH_BYTES and piece:
                self._write(piece, count)
                piece, count = b"", 0
            piece += text
            count += 1
        if piece:
            self._write(piece, count)

    def _text(self, line: Line) -> bytes:
        fields: list[tuple[str, object]] = [
            ("time", time_of(line.at)),
            ("request", line.request),
            ("account", line.account[:MAX_FIELD_CHARACTERS]),
            ("route", line.route),
            ("code", line.code),
            ("seconds", round(line.seconds, 6)),
            ("bytes", line.bytes),
            ("node", line.node[:MAX_FIELD_CHARACTERS]),
            ("source", line.source[:MAX_FIELD_CHARACTERS]),
        ]
        return line_of(fields, self._format).encode("ascii") + b"\n"

    def _write(self, data: bytes, lines: int) -> None:
        """Append whole lines. After an error the rest of a line may be missing, so the next write ends it first."""
        if self._torn:
            data = b"\n" + data
        sent = 0
        try:
            file = self._current()
            while sent < len(data):
                sent += os.write(file, data[sent:])
        except OSError as error:
            self.lost["write"] += lines - data[:sent].removeprefix(b"\n").count(b"\n")
            now = time.monotonic()
            if now - self._warned_at >= REPEAT_SECONDS:
                self._warned_at = now
                _log.warning("access log %s cannot be written: %s", self._path, error.strerror)
        if sent:
            self._torn = data[sent - 1 : sent] != b"\n"

    def _current(self) -> int:
        """Return the descriptor of the file that has the path now. Raises OSError."""
        if str(self._path) == _STANDARD_OUTPUT:
            return 1
        if self._file is not None:
            own = os.fstat(self._file)
            try:
                there = self._path.stat()
            except FileNotFoundError:
                there = None
            if there is not None and (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino):
                return self._file
            os.close(self._file)
            self._file = None
        self._file = _open(self._path)
        return self._file

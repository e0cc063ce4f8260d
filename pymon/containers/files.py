"""Bounded reading of the files that runtimes, and rootless users, leave on disk.

Nothing here trusts a file: it may be a pipe, a link, endless, not JSON, or nested ten thousand deep. Each of these
costs the details of one container and gives a line that says why.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

LIMIT = 4 * 1024 * 1024
"""Bytes read of a file at most."""
_SHOWN = 80


class UnreadableError(Exception):
    """A file that could not be used: one line with its path. `missing` is true when it is simply not there."""

    def __init__(self, path: Path | str, why: str, *, missing: bool = False) -> None:
        super().__init__(f"{path}: {why}")
        self.missing = missing


def read_bytes(path: Path, uid: int | None = None, limit: int = LIMIT) -> bytes:
    """Content of a regular file of at most `limit` bytes, which belongs to `uid` when that is given."""
    data, _ = read_with_mtime(path, uid, limit)
    return data


def read_with_mtime(path: Path, uid: int | None = None, limit: int = LIMIT) -> tuple[bytes, float]:
    """As `read_bytes`, with the time of the last modification in seconds since the epoch."""
    try:
        # O_NONBLOCK: opening a pipe that nobody writes to would block for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        raise UnreadableError(path, (error.strerror or str(error)).lower(), missing=missing) from error
    except ValueError as error:
        raise UnreadableError(repr(str(path)), "not a path") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableError(path, "not a regular file")
        if uid is not None and status.st_uid != uid:
            raise UnreadableError(path, f"belongs to uid {status.st_uid}, expected {uid}")
        parts: list[bytes] = []
        left = limit + 1
        while left > 0 and (part := os.read(descriptor, left)):
            parts.append(part)
            left -= len(part)
    except OSError as error:
        raise UnreadableError(path, (error.strerror or str(error)).lower()) from error
    finally:
        os.close(descriptor)
    if left <= 0:
        raise UnreadableError(path, f"larger than {limit} bytes")
    return b"".join(parts), status.st_mtime


def read_json(path: Path, uid: int | None = None) -> object:
    """The JSON document in a file."""
    return parse_json(read_bytes(path, uid), path)


def parse_json(data: bytes | str, origin: Path | str) -> object:
    """The JSON document in `data`; errors name `origin`."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(origin, "not valid JSON") from error


def mapping(value: object) -> Mapping[str, object]:
    """`value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def text(value: object) -> str:
    """`value` if it is a string, else "". Halves of surrogate pairs, which JSON has and UTF-8 has not, become "?"."""
    if not isinstance(value, str):
        return ""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def texts(value: object) -> dict[str, str]:
    """The members of a JSON object that are strings."""
    return {text(key): text(member) for key, member in mapping(value).items() if isinstance(member, str)}


def shown(value: str) -> str:
    """`value` quoted for a line of a log, where it may be as long and as odd as a tenant likes."""
    return ascii(value if len(value) <= _SHOWN else value[:_SHOWN] + "...")


def epoch(value: object) -> float | None:
    """Seconds since the epoch of a time as Go writes it, `2026-11-02T10:00:00.123456789+01:00`.

    Go's zero time, `0001-01-01T00:00:00Z`, means that it never happened: None, like what cannot be read.
    """
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = moment.timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds if seconds > 0 else None

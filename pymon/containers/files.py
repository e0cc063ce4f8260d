"""Bounded reads of the files that container runtimes and rootless users write.

No file is trusted: it may be a pipe, a symbolic link, endless, not JSON, or JSON nested ten thousand levels deep. Each
of these raises UnreadableError, which costs the details of one container.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

LIMIT = 4 * 1024 * 1024
"""The most bytes that are read of a file."""
USER_LIMIT = 512 * 1024
"""The most bytes that are read of a user's JSON document. Decoding one delays other threads."""
_READ_BYTES = 65536
"""Bytes per read call. The kernel allocates a buffer of this size to read one of its own files.

Reading a sysctl file with 4 MiB fails with ENOMEM.
"""
_SHOWN = 80


class UnreadableError(Exception):
    """A file cannot be used. The message is one line that begins with its path. missing: the file does not exist."""

    def __init__(self, path: Path | str, why: str, *, missing: bool = False) -> None:
        super().__init__(f"{path}: {why}")
        self.missing = missing


def is_there(path: Path) -> bool:
    """Return whether a path exists. One that must not be looked at counts as existing."""
    try:
        path.stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def read_bytes(path: Path, uid: int | None = None, limit: int = LIMIT) -> bytes:
    """Return the content of a regular file.

    Raises UnreadableError if the file is not regular, has more than `limit` bytes, does not belong to `uid` (if that is
    given), or cannot be read.
    """
    data, _ = read_with_mtime(path, uid, limit)
    return data


def read_with_mtime(path: Path, uid: int | None = None, limit: int = LIMIT) -> tuple[bytes, float]:
    """Return the content of a regular file, and its modification time in seconds since the epoch.

    Raises UnreadableError as `read_bytes` does.
    """
    try:
        # O_NONBLOCK: without it, opening a pipe that has no writer blocks.
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
        while left > 0 and (part := os.read(descriptor, min(left, _READ_BYTES))):
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
    """Return the JSON document in a file that belongs to `uid`, if that is given. Raises UnreadableError."""
    return parse_json(read_bytes(path, uid, LIMIT if uid is None else USER_LIMIT), path)


def first_json(paths: Sequence[Path], uid: int | None = None) -> object:
    """Return the JSON document in the first of several files that exists.

    Raises UnreadableError if that cannot be read, or names the last file if none exists.
    """
    *others, last = paths
    for path in others:
        try:
            return read_json(path, uid)
        except UnreadableError as error:
            if not error.missing:
                raise
    return read_json(last, uid)


def parse_json(data: bytes | str, origin: Path | str) -> object:
    """Return the JSON document in `data`. Raises UnreadableError, whose message names `origin`."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(origin, "not valid JSON") from error


def mapping(value: object) -> Mapping[str, object]:
    """Return `value` if it is a JSON object, else an empty mapping."""
    return value if isinstance(value, dict) else {}


def text(value: object) -> str:
    """Return `value` if it is a string, else "". Lone surrogates, which JSON allows and UTF-8 does not, become "?"."""
    if not isinstance(value, str):
        return ""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def whole(value: object) -> int | None:
    """Return `value` if it is an integer of 32 bits, else None."""
    is_whole = isinstance(value, int) and not isinstance(value, bool) and -(1 << 31) <= value < 1 << 31
    return value if is_whole and isinstance(value, int) else None


def texts(value: object) -> dict[str, str]:
    """Return the members of a JSON object that are strings; an empty dict if `value` is not an object."""
    return {text(key): text(member) for key, member in mapping(value).items() if isinstance(member, str)}


def shown(value: str) -> str:
    """Return the first 80 characters of untrusted text for a log line, quoted and with escapes for non-ASCII."""
    return ascii(value if len(value) <= _SHOWN else value[:_SHOWN] + "...")


def epoch(value: object) -> float | None:
    """Parse a time as Go writes it, `2026-11-02T10:00:00.123456789+01:00`. Return seconds since the epoch, or None.

    None stands for text that is not a time, and for times up to the epoch, such as Go's zero time
    `0001-01-01T00:00:00Z`.
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

"""Stamps of files, which tell without reading a file whether it has changed since it was last read."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

Stamps = tuple[tuple[int, ...], ...]
"""One tuple of numbers for each file: those that change with its content, or the number of the error."""

SETTLED_NS = 50_000_000
"""Age at which a change is settled, in nanoseconds.

The clock of file systems advances in steps of up to 10 ms. Two changes within one step leave the same stamp.
"""


def stamps_of(paths: Iterable[Path], now_ns: int | None = None) -> Stamps | None:
    """Return the stamps of files, or None if one of them changed so recently that its next change may not show.

    Symbolic links are not followed. now_ns: nanoseconds since the epoch; the current time if it is None.
    """
    if now_ns is None:
        now_ns = time.time_ns()
    found: list[tuple[int, ...]] = []
    for path in paths:
        try:
            status = path.lstat()
        except (OSError, ValueError) as error:
            found.append((getattr(error, "errno", None) or 0,))
            continue
        if 0 <= now_ns - status.st_ctime_ns < SETTLED_NS:
            return None
        found.append((status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size))
    return tuple(found)

"""Detects changes of files that have been read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Fingerprint = tuple[tuple[int, ...] | int, ...]


def fingerprint(files: Iterable[Path]) -> Fingerprint:
    """Return a value that changes when one of the files changes. It takes one stat() for each file.

    Take it before the files are read, so that a change during the reading is noticed later.
    """
    prints: list[tuple[int, ...] | int] = []
    for file in files:
        try:
            stat = os.stat(file)  # noqa: PTH116  # faster than Path.stat, and called for each request
        except OSError as error:
            prints.append(error.errno or 0)
        else:
            prints.append((stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_dev))
    return tuple(prints)

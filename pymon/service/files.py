"""Whether files that are read once have changed since."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Fingerprint = tuple[tuple[int, ...] | int, ...]


def fingerprint(files: Iterable[Path]) -> Fingerprint:
    """What changes when one of the files does: a stat for each. Take it before the files are read."""
    prints: list[tuple[int, ...] | int] = []
    for file in files:
        try:
            stat = os.stat(file)  # noqa: PTH116  # on the path of each request
        except OSError as error:
            prints.append(error.errno or 0)
        else:
            prints.append((stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_dev))
    return tuple(prints)

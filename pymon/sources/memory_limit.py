"""The memory that this process may use, by the control groups that it is in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pymon.sources.cgroup import Hierarchies

_UNLIMITED = 1 << 60
"""Version 1 writes the largest number of pages for no limit."""

_LINE_BYTES = 32


def memory_limit(groups: str, hierarchies: Hierarchies) -> int | None:
    """Return the lowest memory limit of a process's cgroup and those above it, in bytes, None if there is none.

    groups: the content of /proc/PID/cgroup.
    """
    found = [limit for directory, name in _places(groups, hierarchies) if (limit := _limit(directory / name))]
    return min(found, default=None)


def _places(groups: str, hierarchies: Hierarchies) -> Iterator[tuple[Path, str]]:
    """Yield the directories to look in and the name of the file there."""
    for line in groups.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers and hierarchies.v2 is not None:
            top, name = hierarchies.v2, "memory.max"
        elif "memory" in controllers.split(",") and "memory" in hierarchies.v1:
            top, name = hierarchies.v1["memory"], "memory.limit_in_bytes"
        else:
            continue
        directory = top
        yield directory, name
        for part in path.split("/"):
            if part in ("", ".", ".."):  # ".." is a cgroup above the root of this process's cgroup namespace
                continue
            directory = directory / part
            yield directory, name


def _limit(file: Path) -> int | None:
    try:
        with file.open("rb") as content:
            limit = int(content.read(_LINE_BYTES))
    except (OSError, ValueError):  # no such file, or "max"
        return None
    return limit if 0 < limit < _UNLIMITED else None

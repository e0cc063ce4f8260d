"""Cache occupancy and memory bandwidth of groups in resctrl (Documentation/filesystems/resctrl.rst).

A group is a directory of /sys/fs/resctrl, or of mon_groups there or in another group. Its mon_data has a directory for
each cache of the last level, such as mon_L3_00, with a file for each counter. Nothing is created here: a processor has
few of these groups, and who has made them knows what for.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING

from pymon.sources.errors import SourceError
from pymon.sources.kernel_file import read_small
from pymon.sources.node.kernel_text import unsigned

if TYPE_CHECKING:
    from pathlib import Path

GROUPS_MAX = 1024
"""Groups that are looked at; the hardware has fewer."""

_CACHE = re.compile(r"mon_L3_([0-9]{1,4})")
_OWN = frozenset(("info", "mon_data", "mon_groups"))
_ID = re.compile(r"[0-9a-f]{64}")


def find_groups(root: Path) -> dict[str, str]:
    """Return the paths of the groups by their name, the first of those that have one name.

    Raises SourceError: "nodata" where resctrl is not mounted, "toomany" with more than 1,024 groups.
    """
    groups: dict[str, str] = {}
    try:
        top = _directories(f"{root}")
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise SourceError("nodata", f"{root}: resctrl is not mounted") from None
        raise SourceError.from_os_error(root, error) from None
    controls = [name for name in top if name not in _OWN]
    for parent in ("", *controls):
        if parent:
            groups.setdefault(parent, f"{root}/{parent}")
        below = f"{root}/{parent}/mon_groups" if parent else f"{root}/mon_groups"
        with contextlib.suppress(OSError):  # it has gone, or the processor counts nothing
            for name in _directories(below):
                groups.setdefault(name, f"{below}/{name}")
        if len(groups) > GROUPS_MAX:
            raise SourceError("toomany", f"{root}: more than {GROUPS_MAX} groups")
    return groups


def group_of(groups: dict[str, str], cgroup: str) -> str | None:
    """Return the path of a container's group, None if it has none.

    cgroup: its path. A group is the container's if it is called as its control group, or as the 64 digits of the id in
    that name: runc and crun name groups by the id.
    """
    name = cgroup.rpartition("/")[2]
    found = _ID.search(name)
    for candidate in (name, found[0] if found else ""):
        if candidate in groups:
            return groups[candidate]
    return None


def read_group(path: str, fields: tuple[str, ...]) -> dict[tuple[str, int], int]:
    """Return the counters of a group by file and number of the cache. Those that the hardware cannot tell are absent.

    Raises SourceError when the group cannot be read.
    """
    found: dict[tuple[str, int], int] = {}
    try:
        names = _directories(f"{path}/mon_data")
    except OSError as error:
        raise SourceError.from_os_error(path, error) from None
    for name in names:
        cache = _CACHE.fullmatch(name)
        for field in fields if cache else ():
            # The kernel writes "Unavailable" or "Error" for what it cannot read now.
            value = unsigned(read_small(f"{path}/mon_data/{name}/{field}").strip())
            if cache and value is not None:
                found[field, int(cache[1])] = value
    return found


def _directories(path: str) -> list[str]:
    """Return the names of the directories in a directory, not more than can be groups. Raises OSError."""
    names: list[str] = []
    with os.scandir(path) as entries:
        for entry in entries:
            if len(names) > GROUPS_MAX:
                break
            if entry.is_dir(follow_symlinks=False):
                names.append(entry.name)
    return sorted(names)

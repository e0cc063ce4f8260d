"""Tells whether a cgroup, or a cgroup below it, has processes."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

from pymon.sources.cgroup import procs_root

if TYPE_CHECKING:
    from pymon.sources.cgroup import Hierarchies

MAX_DIRECTORIES = 64
"""Most directories that are read for one version 1 cgroup, nearest first. Its owner may create any number of them."""

_EVENTS_BYTES = 4096


class Populated:
    """Tells whether cgroups have processes.

    It reads the hierarchy of `procs_root` first. The other hierarchies are read only for a cgroup that is not in that
    one.
    """

    def __init__(self, hierarchies: Hierarchies) -> None:
        first = procs_root(hierarchies)
        roots = dict.fromkeys((*([first] if first else []), *hierarchies.roots))
        self._roots = [(os.fspath(root), root == hierarchies.v2) for root in roots]

    def __call__(self, path: str) -> bool:
        """Return whether the cgroup at `path` has processes. False when it does not exist."""
        for root, unified in self._roots:
            found = _by_events(root + path) if unified else _by_walk(root + path)
            if found is not None:
                return found
        return False


def _by_events(directory: str) -> bool | None:
    """Return `populated` of cgroup.events, which covers the whole subtree (cgroup-v2.rst), or None without the file."""
    events = _read(f"{directory}/cgroup.events", _EVENTS_BYTES)
    return None if events is None else b"populated 1\n" in events


def _by_walk(top: str) -> bool | None:
    """Return whether a version 1 cgroup or one below it has processes, or None when `top` does not exist.

    cgroup.procs of version 1 lists only the processes of the cgroup itself.
    """
    waiting, seen = deque([top]), 1
    while waiting:
        directory = waiting.popleft()
        found = _read(f"{directory}/cgroup.procs", 1)
        if found is None and directory == top:
            return None
        if found:
            return True
        if seen >= MAX_DIRECTORIES:
            continue
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                        seen += 1
                        if seen >= MAX_DIRECTORIES:
                            break
        except OSError:
            pass  # removed meanwhile
    return False


def _read(path: str, size: int) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(descriptor, size)
    except OSError:
        return None
    finally:
        os.close(descriptor)

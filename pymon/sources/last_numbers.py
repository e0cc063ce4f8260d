"""Reads the few numbers of a cgroup that are kept when its container has ended.

The files are opened for each reading: descriptors of a cgroup that was removed read nothing.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from pymon.sources.cgroup import procs_root
from pymon.sources.populated import Populated

if TYPE_CHECKING:
    from pathlib import Path

    from pymon.sources.cgroup import Hierarchies

_FILE_BYTES = 4096
_ENTRIES, _BELOW = 256, 16  # of a cgroup's directory, which are looked at for a process: its owner makes any number
_USEC_NS, _TICK_NS = 1_000, 10_000_000


class Numbers(NamedTuple):
    """The numbers of a cgroup, None where the kernel does not tell.

    usage_ns, user_ns, system_ns: CPU time. peak_bytes: the most memory. oom_kills: processes killed for want of memory.
    """

    usage_ns: int | None = None
    user_ns: int | None = None
    system_ns: int | None = None
    peak_bytes: int | None = None
    oom_kills: int | None = None

    def most(self, other: Numbers) -> Numbers:
        """Return the larger of each number here and in `other`. None of them ever shrinks."""
        pairs = zip(self, other, strict=True)
        return Numbers(*(max((one for one in pair if one is not None), default=None) for pair in pairs))


class _Field(NamedTuple):
    """A number in a file: field of `Numbers`, key of its line, "" if the file is the number, and unit in base units."""

    name: str
    key: bytes
    unit: int


class LastNumbers:
    """Reads the numbers of cgroups, by their paths. May be used by any thread."""

    def __init__(self, hierarchies: Hierarchies) -> None:
        self._files: list[tuple[str, str, tuple[_Field, ...]]] = []
        v1, v2 = hierarchies.v1, hierarchies.v2
        if "cpuacct" in v1:
            self._file(v1["cpuacct"], "cpuacct.usage", _Field("usage_ns", b"", 1))
            times = _Field("user_ns", b"user", _TICK_NS), _Field("system_ns", b"system", _TICK_NS)
            self._file(v1["cpuacct"], "cpuacct.stat", *times)
        elif v2 is not None:
            fields = (("usage_ns", b"usage_usec"), ("user_ns", b"user_usec"), ("system_ns", b"system_usec"))
            self._file(v2, "cpu.stat", *(_Field(name, key, _USEC_NS) for name, key in fields))
        if "memory" in v1:
            self._file(v1["memory"], "memory.max_usage_in_bytes", _Field("peak_bytes", b"", 1))
            self._file(v1["memory"], "memory.oom_control", _Field("oom_kills", b"oom_kill", 1))
        elif v2 is not None and "memory" in hierarchies.v2_controllers:
            self._file(v2, "memory.peak", _Field("peak_bytes", b"", 1))
            self._file(v2, "memory.events", _Field("oom_kills", b"oom_kill", 1))
        procs = procs_root(hierarchies)
        self._procs = None if procs is None else os.fspath(procs)
        self.populated = Populated(hierarchies)

    def _file(self, root: Path, name: str, *fields: _Field) -> None:
        self._files.append((os.fspath(root), name, fields))

    def read(self, path: str) -> Numbers:
        """Return the numbers of a cgroup as they are now; all None if it is gone."""
        found: dict[str, int] = {}
        for root, name, fields in self._files:
            text = _read(f"{root}{path}/{name}")
            if text is None:
                continue
            lines = dict(line.split(b" ", 1) for line in text.splitlines() if b" " in line)
            for field in fields:
                digits = lines.get(field.key, b"") if field.key else text.strip()
                if digits.isdigit():
                    found[field.name] = int(digits) * field.unit
        return Numbers(**found)

    def first_process(self, path: str) -> int | None:
        """Return the pid of the first process of a cgroup, or of one right below it; None if this process sees none.

        A container that runs systemd has its init in `init.scope`.
        """
        if self._procs is None:
            return None
        directory = self._procs + path
        pid = _first_pid(directory)
        if pid is not None:
            return pid
        try:
            with os.scandir(directory) as entries:
                below = [entry.path for entry in islice(entries, _ENTRIES) if entry.is_dir(follow_symlinks=False)]
        except OSError:
            return None
        return next(filter(None, map(_first_pid, sorted(below)[:_BELOW])), None)


def _first_pid(directory: str) -> int | None:
    first = (_read(f"{directory}/cgroup.procs") or b"").partition(b"\n")[0]
    return int(first) or None if first.isdigit() else None


def _read(path: str) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(descriptor, _FILE_BYTES)
    except OSError:
        return None
    finally:
        os.close(descriptor)

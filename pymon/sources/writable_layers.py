"""Where the writable layers of containers are: the upper directories of overlays that the node has mounted.

A container's root is an overlay that Docker, containerd, CRI-O or Podman has mounted where the node's first process
sees it, too. Its device number, which the kernel gives, says which one it is. What a container mounts itself is not in
the first process's list of mounts, so it cannot name a directory that is not its own.
"""

from __future__ import annotations

import json
import os
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from pymon.sources import tree_size
from pymon.sources.device_number import device_number
from pymon.sources.errors import SourceError
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.kernel_text import complete_lines, text, unescaped
from pymon.sources.programs.process import Runner

BATCH = 16
"""Layers that one process measures."""

GROUPS_MAX = 64
"""Groups in which a process of a container is looked for, nearest first. Their owner may create any number."""

PROCESSES_MAX = 64
"""Processes of a container that are looked at."""

_DEVICE_NUMBER, _MOUNT_POINT = 2, 4
_LINE_BYTES = 4096
_SLACK_SECONDS = 60.0


class Mounts(NamedTuple):
    """Mounts of the node. upper: directories by the device number of an overlay. devices: names by device number."""

    upper: dict[str, str]
    devices: dict[str, str]


class Usage(NamedTuple):
    """What a writable layer takes, in bytes, and what its file system has, in bytes and inodes."""

    device: str
    used: int
    limit: int
    inodes: int
    inodes_free: int


def parse_mounts(mountinfo: bytes) -> Mounts:
    """Return the overlays and devices in a mountinfo (Documentation/filesystems/proc.rst)."""
    mounts = Mounts({}, {})
    for line in complete_lines(mountinfo):
        mount, _, file_system = (part.split(b" ") for part in line.partition(b" - "))
        if len(mount) <= _MOUNT_POINT or len(file_system) < 3:  # noqa: PLR2004 - type, device, options
            continue
        number = text(mount[_DEVICE_NUMBER])
        kind, device, options = file_system[:3]
        if kind != b"overlay":
            mounts.devices.setdefault(number, text(unescaped(device)))
            continue
        for option in options.split(b","):
            if option.startswith(b"upperdir=/"):
                mounts.upper[number] = os.fsdecode(unescaped(option.partition(b"=")[2]))
    return mounts


class WritableLayers:
    """Finds and measures writable layers. One thread may use it; `cancel` may be called from any thread."""

    def __init__(self, procs_root: Path | None, procfs: Path, rootfs: Path) -> None:
        """procs_root: the hierarchy whose cgroup.procs lists the processes of containers, if there is one."""
        self._procs_root = procs_root
        self._procfs = procfs
        self._rootfs = str(rootfs).rstrip("/")
        self._runner = Runner()

    def cancel(self) -> None:
        """End what is under way. Nothing can be measured any more."""
        self._runner.cancel()

    def close(self) -> None:
        """Close the descriptors. Nothing may be under way."""
        self._runner.close()

    def mounts(self) -> Mounts:
        """Return the mounts of the node's first process. Raises SourceError."""
        file = KernelFile(self._procfs / "1" / "mountinfo")
        try:
            return parse_mounts(file.read())
        finally:
            file.close()

    def directory(self, group: str, mounts: Mounts) -> str | None:
        """Return the writable layer of the container of a group, None if it has none that the node has mounted."""
        for pid in self._processes(group)[:PROCESSES_MAX]:
            try:
                upper = mounts.upper.get(device_number(f"{self._procfs}/{pid}/root"))
            except OSError:
                continue
            # The number of a process that has ended may be another's by now.
            if upper is not None and pid in self._processes(group):
                return self._rootfs + upper
        return None

    def measure(self, directories: Sequence[str], mounts: Mounts) -> list[Usage | SourceError]:
        """Return what directories take, at most `BATCH`. Raises SourceError when none could be measured."""
        argv = [sys.executable, "-I", "-S", tree_size.__file__, *directories]
        until = monotonic() + len(directories) * tree_size.SECONDS + _SLACK_SECONDS
        output = self._runner.run(argv, until, _LINE_BYTES * len(directories))
        lines = output.stdout.splitlines()
        if output.status or len(lines) != len(directories):
            last = (output.stderr.splitlines() or [f"it has ended with {output.status}"])[-1]
            raise SourceError("parse", f"{tree_size.__file__}: expected a line for each directory: {last}")
        return [self._usage(path, line, mounts) for path, line in zip(directories, lines, strict=True)]

    @staticmethod
    def _usage(path: str, line: bytes, mounts: Mounts) -> Usage | SourceError:
        said = json.loads(line)
        if "error" in said:
            return SourceError(said["error"], f"{path}: not measured")
        device = mounts.devices.get(said["device"], said["device"])
        return Usage(device, said["used"], said["limit"], said["inodes"], said["inodes_free"])

    def _processes(self, group: str) -> list[str]:
        """Return the first processes of a group, or of the nearest group below it that has any."""
        if self._procs_root is None:
            return []
        waiting, seen = deque([f"{self._procs_root}{group}"]), 1
        while waiting:
            directory = waiting.popleft()
            pids = _first_pids(f"{directory}/cgroup.procs")
            if pids:
                return pids
            try:
                with os.scandir(directory) as entries:
                    for entry in entries:
                        if seen >= GROUPS_MAX:
                            break
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
                            seen += 1
            except OSError:
                continue
        return []


def _first_pids(path: str) -> list[str]:
    """Return the numbers that the first bytes of a cgroup.procs list whole, [] when it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return [text(pid) for pid in complete_lines(os.read(descriptor, _LINE_BYTES)) if pid != b"0"]
        finally:
            os.close(descriptor)
    except OSError:
        return []

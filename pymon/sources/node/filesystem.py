"""Sizes of mounted file systems.

The mounts are those of process 1, from /proc/1/mountinfo, or those of this process where hidepid hides that file:
    36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import Column, Metric, gauge
from pymon.sources.errors import SourceError
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.exclusions import DEFAULT_EXCLUSIONS, Exclusions
from pymon.sources.node.kernel_text import complete_lines, text, unescaped
from pymon.sources.node.source import INFO_FIELDS, Collector, NodeSource
from pymon.sources.node.statfs import Answer, StatfsProbe

FILESYSTEM_FIELDS = ("size", "free", "avail", "files", "files_free", "readonly", "device_error")
"""From statfs(2): sizes in bytes, numbers of files. readonly and device_error are 0 or 1."""

_DEVICE_NUMBER, _MOUNT_POINT, _MOUNT_OPTIONS = 2, 4, 5
_SUPER_OPTIONS = 2
_UINT64_MAX = 2**64 - 1
_PROBE_SHARE = 0.8
"""Share of the time of a collection that statfs may take, so that what is known of other mounts is in time."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of mountinfo.

    mount_point: on the node, as functions of `os` take it. readonly: the mount or its file system is read-only.
    """

    device_number: str
    mount_point: str
    fs_type: str
    device: str
    readonly: bool


def parse_mountinfo(data: bytes, rootfs: str = "", exclusions: Exclusions = DEFAULT_EXCLUSIONS) -> list[Mount] | None:
    """Return the mounts to publish, or None when no line describes a mount.

    rootfs: where the process of the file sees the node's root, without a slash at its end, "" for its own root. If a
    file system is mounted there, other mounts are not the node's.
    Of several mounts on one mount point only the last is returned, because it hides the others. File system types and
    mount points that `exclusions` names are left out: by default those of the kernel and of containers.
    """
    visible: dict[str, tuple[list[bytes], list[bytes]]] = {}
    below: dict[str, tuple[list[bytes], list[bytes]]] = {}
    for line in complete_lines(data):
        mount, _, file_system = (part.split(b" ") for part in line.partition(b" - "))
        if len(mount) > _MOUNT_OPTIONS and len(file_system) > _SUPER_OPTIONS:
            mount_point = os.fsdecode(unescaped(mount[_MOUNT_POINT]))
            if rootfs and f"{mount_point}/".startswith(f"{rootfs}/"):
                below[mount_point[len(rootfs) :] or "/"] = mount, file_system
            else:
                visible[mount_point] = mount, file_system
    if "/" in below:
        visible.clear()
    visible |= below
    mounts = []
    for mount_point, (mount, file_system) in visible.items():
        fs_type = text(unescaped(file_system[0]))
        if not (exclusions.file_system_types.search(fs_type) or exclusions.mount_points.search(mount_point)):
            options = mount[_MOUNT_OPTIONS].split(b",") + file_system[_SUPER_OPTIONS].split(b",")
            device_number, device = text(mount[_DEVICE_NUMBER]), text(unescaped(file_system[1]))
            mounts.append(Mount(device_number, mount_point, fs_type, device, b"ro" in options))
    return mounts if visible else None


class Filesystem(NodeSource):
    """Tables node_filesystem {device, mountpoint, fstype, device_error}, in bytes and counts, and node_filesystem_mount
    {device, major, minor, mountpoint} with the constant 1.

    A size is the number of blocks times the fragment size, which is the unit of statfs. A size that does not fit 64
    bits is absent. A mount whose statfs failed or hangs has only `device_error`.
    """

    name: ClassVar[str] = "filesystem"

    def __init__(
        self, procfs: Path, rootfs: Path, probe: StatfsProbe, exclusions: Exclusions = DEFAULT_EXCLUSIONS
    ) -> None:
        self._exclusions = exclusions
        self._rootfs = str(rootfs).rstrip("/")
        self._probe = probe
        self._first = KernelFile(procfs / "1" / "mountinfo")
        self._own = KernelFile(procfs / "self" / "mountinfo")
        self._sizes = Table("node_filesystem", FILESYSTEM_FIELDS)
        self._mounts = Table("node_filesystem_mount", INFO_FIELDS)
        self._listed = False
        self._parsed: tuple[bytes, list[Mount] | None] = (b"", None)
        super().__init__((self._sizes, self._mounts), (self._first, self._own))

    def is_whole(self) -> bool:
        """Return whether the mounts were read. Of a mount without numbers `device_error` tells."""
        return self._listed

    def _fill(self) -> None:
        mounts = self._mounted()
        self._listed = not self.problems
        by_device: dict[str, list[str]] = {}
        for mount in mounts:
            by_device.setdefault(mount.device_number, []).append(self._path(mount))
        answers = self._probe.probe(by_device, self.seconds * _PROBE_SHARE)
        for mount in mounts:
            self._add(mount, answers.get(self._path(mount)))

    def _mounted(self) -> list[Mount]:
        """Return the mounts to publish. The file is parsed again only when its content has changed."""
        try:
            data: bytes | None = self._first.read()
        except SourceError:
            data = self._read(self._own)
        if data is None:
            return []
        if data != self._parsed[0]:
            self._parsed = (data, parse_mountinfo(data, self._rootfs, self._exclusions))
        mounts = self._parsed[1]
        if mounts is None:
            self._misread(self._first.path, "lines such as '36 35 98:0 / /mnt rw - ext4 /dev/vda rw'")
        return mounts or []

    def _path(self, mount: Mount) -> str:
        """Return the path at which this process reaches the mount point."""
        return f"{self._rootfs}{mount.mount_point}"

    def _add(self, mount: Mount, answer: Answer | None) -> None:
        error = ""
        if answer is None:
            error = "mountpoint timeout"
            self.problems.append(SourceError("timeout", f"{self._path(mount)}: statfs does not return"))
        elif isinstance(answer, OSError):
            error = (os.strerror(answer.errno) if answer.errno else str(answer)).lower()
            self.problems.append(SourceError.from_os_error(self._path(mount), answer))
        place = (("device", mount.device), ("mountpoint", text(os.fsencode(mount.mount_point))))
        row = self._sizes.add_row((*place, ("fstype", mount.fs_type), ("device_error", error)))
        if not isinstance(answer, os.statvfs_result):
            self._sizes.set(row, "device_error", 1)
            return
        unit = answer.f_frsize or answer.f_bsize
        sizes = (answer.f_blocks * unit, answer.f_bfree * unit, answer.f_bavail * unit)
        fitting = (size if size <= _UINT64_MAX else None for size in sizes)
        self._sizes.fill(row, (*fitting, answer.f_files, answer.f_ffree, int(mount.readonly), 0))
        major, _, minor = mount.device_number.partition(":")
        mount_labels = (place[0], ("major", major), ("minor", minor), place[1])
        self._mounts.fill(self._mounts.add_row(mount_labels), (1,))


def _filesystem(suffix: str, help: str, key: str) -> Metric:
    return gauge(f"node_filesystem_{suffix}", help, "filesystem", Column("node_filesystem", key))


METRICS = (
    _filesystem("avail_bytes", "Filesystem space available to non-root users in bytes.", "avail"),
    _filesystem(
        "device_error", "Whether an error occurred while getting statistics for the given device.", "device_error"
    ),
    _filesystem("files", "Filesystem total file nodes.", "files"),
    _filesystem("files_free", "Filesystem total free file nodes.", "files_free"),
    _filesystem("free_bytes", "Filesystem free space in bytes.", "free"),
    gauge(
        "node_filesystem_mount_info",
        "Filesystem mount information.",
        "filesystem",
        Column("node_filesystem_mount", "info"),
    ),
    _filesystem("readonly", "Filesystem read-only status.", "readonly"),
    _filesystem("size_bytes", "Filesystem size in bytes.", "size"),
)

COLLECTOR = Collector(
    Filesystem.name,
    lambda node: Filesystem(node.procfs, node.rootfs, StatfsProbe(statvfs=node.statvfs), node.exclusions),
    METRICS,
    row_labels={
        "node_filesystem": ("device", "mountpoint", "fstype", "device_error"),
        "node_filesystem_mount": ("device", "major", "minor", "mountpoint"),
    },
)

"""Sizes of mounted file systems.

Mounts are those of process 1, from /proc/1/mountinfo (or, where hidepid hides it, this process's own):
    36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.node_fields import FILESYSTEM_FIELDS, INFO_FIELDS
from pymon.sources.errors import SourceError
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.kernel_text import complete_lines, text
from pymon.sources.node.source import NodeSource
from pymon.sources.node.statfs import Answer, StatfsProbe

_EXCLUDED_MOUNT_POINTS = re.compile(
    r"^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)"
)
_EXCLUDED_TYPES = re.compile(
    r"^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay"
    r"|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs)$"
)
_DEVICE_NUMBER, _MOUNT_POINT, _MOUNT_OPTIONS = 2, 4, 5
_SUPER_OPTIONS = 2
_OCTAL = re.compile(rb"\\([0-7]{3})")
_UINT64_MAX = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of mountinfo. `readonly` is either the mount's or its file system's; the mount point is as os takes it."""

    device_number: str
    mount_point: str
    fs_type: str
    device: str
    readonly: bool


def parse_mountinfo(data: bytes) -> list[Mount] | None:
    """The mounts to publish, or None when no line is a mount's.

    Of mounts on the same mount point only the last can be seen: it hides the others. Then node_exporter's defaults
    leave out types and mount points that are the kernel's or a container's.
    """
    visible = {}
    for line in complete_lines(data):
        mount, _, file_system = (part.split(b" ") for part in line.partition(b" - "))
        if len(mount) > _MOUNT_OPTIONS and len(file_system) > _SUPER_OPTIONS:
            visible[mount[_MOUNT_POINT]] = mount, file_system
    mounts = []
    for mount, file_system in visible.values():
        fs_type = text(_unescape(file_system[0]))
        mount_point = os.fsdecode(_unescape(mount[_MOUNT_POINT]))
        if not (_EXCLUDED_TYPES.search(fs_type) or _EXCLUDED_MOUNT_POINTS.search(mount_point)):
            options = mount[_MOUNT_OPTIONS].split(b",") + file_system[_SUPER_OPTIONS].split(b",")
            device_number, device = text(mount[_DEVICE_NUMBER]), text(_unescape(file_system[1]))
            mounts.append(Mount(device_number, mount_point, fs_type, device, b"ro" in options))
    return mounts if visible else None


class Filesystem(NodeSource):
    """Tables node_filesystem {device, mountpoint, fstype, device_error}, bytes and counts, and node_filesystem_mount
    {device, major, minor, mountpoint} with the constant 1.

    Sizes are blocks times the fragment size, the unit that statfs counts blocks in. One that 64 bits can't hold is
    absent. A mount whose statfs failed or hangs has only `device_error`.
    """

    name: ClassVar[str] = "filesystem"

    def __init__(self, procfs: Path, rootfs: Path, probe: StatfsProbe) -> None:
        self._rootfs = str(rootfs).rstrip("/")
        self._probe = probe
        self._first = KernelFile(procfs / "1" / "mountinfo")
        self._own = KernelFile(procfs / "self" / "mountinfo")
        self._sizes = Table("node_filesystem", FILESYSTEM_FIELDS)
        self._mounts = Table("node_filesystem_mount", INFO_FIELDS)
        self._parsed: tuple[bytes, list[Mount] | None] = (b"", None)
        super().__init__((self._sizes, self._mounts), (self._first, self._own))

    def _fill(self) -> None:
        mounts = self._mounted()
        by_device: dict[str, list[str]] = {}
        for mount in mounts:
            by_device.setdefault(mount.device_number, []).append(self._path(mount))
        answers = self._probe.probe(by_device)
        for mount in mounts:
            self._add(mount, answers.get(self._path(mount)))

    def _mounted(self) -> list[Mount]:
        """The mounts; parsed again only when the file has changed."""
        try:
            data: bytes | None = self._first.read()
        except SourceError:
            data = self._read(self._own)
        if data is None:
            return []
        if data != self._parsed[0]:
            self._parsed = (data, parse_mountinfo(data))
        mounts = self._parsed[1]
        if mounts is None:
            self._misread(self._first.path, "lines such as '36 35 98:0 / /mnt rw - ext4 /dev/vda rw'")
        return mounts or []

    def _path(self, mount: Mount) -> str:
        """Where this process finds what process 1 sees at the mount point."""
        return f"{self._rootfs}{self._on_node(mount)}"

    def _on_node(self, mount: Mount) -> str:
        """The mount point on the node, also where mountinfo is that of a process that sees the node under rootfs."""
        if self._rootfs and f"{mount.mount_point}/".startswith(f"{self._rootfs}/"):
            return mount.mount_point[len(self._rootfs) :] or "/"
        return mount.mount_point

    def _add(self, mount: Mount, answer: Answer | None) -> None:
        error = ""
        if answer is None:
            error = "mountpoint timeout"
            self.problems.append(SourceError("timeout", f"{self._path(mount)}: statfs does not return"))
        elif isinstance(answer, OSError):
            error = (os.strerror(answer.errno) if answer.errno else str(answer)).lower()
            self.problems.append(SourceError.from_os_error(self._path(mount), answer))
        place = (("device", mount.device), ("mountpoint", text(os.fsencode(self._on_node(mount)))))
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


def _unescape(word: bytes) -> bytes:
    """The kernel writes blank, tab, newline, backslash and # as a backslash and three octal digits."""
    return _OCTAL.sub(lambda match: bytes((int(match[1], 8) & 0xFF,)), word)

"""Block devices: traffic from /proc/diskstats, what they are from sysfs and udev's data base.

254       0 vda 9160 5769 1158922 8821 741 3777 263504 1947 0 4532 11229 3073 44 55376 460 5 0
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.node_fields import DISK_ATA_FIELDS, DISKSTATS_FIELDS, INFO_FIELDS
from pymon.sources.kernel_file import KernelFile, read_small
from pymon.sources.node.kernel_text import complete_lines, text, unsigned
from pymon.sources.node.source import NodeSource

_EXCLUDED = re.compile(r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$")


@dataclass(frozen=True, slots=True)
class Disk:
    """A line of diskstats: numbers in the order of DISKSTATS_FIELDS, fewer on an old kernel, more on a new one."""

    major: str
    minor: str
    name: str
    numbers: list[int | None]


def parse_diskstats(data: bytes) -> Iterator[Disk]:
    """The devices; lines that are no device's are passed over."""
    for line in complete_lines(data):
        words = line.split()
        major, minor, name, *numbers = words if len(words) > len(("major", "minor", "name")) else [b""] * 3
        if major.isdigit() and minor.isdigit():
            yield Disk(text(major), text(minor), text(name), [unsigned(word) for word in numbers])


def parse_udev(data: bytes) -> dict[str, str]:
    """Properties of a device: lines such as ``E:ID_MODEL=QEMU_HARDDISK``."""
    return {
        text(name): text(value)
        for line in complete_lines(data)
        if line.startswith(b"E:")
        for name, equals, value in (line[2:].partition(b"="),)
        if equals
    }


class Diskstats(NodeSource):
    """Tables node_disk {device}: sectors of 512 bytes, milliseconds and counts; node_disk_info, node_disk_filesystem,
    node_disk_mapper and node_disk_backing with the constant 1. Labels that nobody knows are empty.
    """

    name: ClassVar[str] = "diskstats"

    def __init__(self, procfs: Path, sysfs: Path, udev_data: Path) -> None:
        self._file = KernelFile(procfs / "diskstats")
        self._block = sysfs / "block"
        self._udev_data = udev_data
        self._traffic = Table("node_disk", DISKSTATS_FIELDS + DISK_ATA_FIELDS)
        self._info = Table("node_disk_info", INFO_FIELDS)
        self._filesystem = Table("node_disk_filesystem", INFO_FIELDS)
        self._mapper = Table("node_disk_mapper", INFO_FIELDS)
        self._backing = Table("node_disk_backing", INFO_FIELDS)
        super().__init__((self._traffic, self._info, self._filesystem, self._mapper, self._backing), (self._file,))

    def _fill(self) -> None:
        data = self._read(self._file)
        if data is None:
            return
        disks = list(parse_diskstats(data))
        for disk in disks:
            if not _EXCLUDED.search(disk.name):
                self._add(disk, parse_udev(read_small(f"{self._udev_data}/b{disk.major}:{disk.minor}")))
        if not disks:
            self._misread(self._file.path, "lines such as ' 254 0 vda 9160 5769 ...'")

    def _add(self, disk: Disk, udev: Mapping[str, str]) -> None:
        device = ("device", disk.name)
        # In a file name the kernel writes ! for the / of a device such as cciss/c0d0.
        directory = f"{self._block}/{disk.name.replace('/', '!')}"
        row = self._traffic.add_row((device,))
        self._traffic.fill(row, disk.numbers[: len(DISKSTATS_FIELDS)])
        if udev.get("ID_ATA"):
            ata = [unsigned(udev.get(field, "").encode()) for field in DISK_ATA_FIELDS]
            self._traffic.fill(row, ata, len(DISKSTATS_FIELDS))
        self._add_info(
            self._info,
            device,
            ("major", disk.major),
            ("minor", disk.minor),
            ("path", udev.get("ID_PATH", "")),
            ("wwn", udev.get("ID_WWN", "")),
            ("model", udev.get("ID_MODEL", "")),
            ("serial", _serial(udev)),
            ("revision", udev.get("ID_REVISION", "")),
            ("rotational", text(read_small(f"{directory}/queue/rotational").strip())),
        )
        if udev.get("ID_FS_TYPE"):
            self._add_info(
                self._filesystem,
                device,
                ("type", udev["ID_FS_TYPE"]),
                ("usage", udev.get("ID_FS_USAGE", "")),
                ("uuid", udev.get("ID_FS_UUID", "")),
                ("version", udev.get("ID_FS_VERSION", "")),
            )
        if udev.get("DM_NAME"):
            self._add_info(
                self._mapper,
                device,
                ("name", udev["DM_NAME"]),
                ("uuid", udev.get("DM_UUID", "")),
                ("vg_name", udev.get("DM_VG_NAME", "")),
                ("lv_name", udev.get("DM_LV_NAME", "")),
                ("lv_layer", udev.get("DM_LV_LAYER", "")),
            )
            for backing in _entries(Path(directory, "slaves")):
                self._add_info(self._backing, device, ("backing_device", backing))

    @staticmethod
    def _add_info(table: Table, *labels: tuple[str, str]) -> None:
        table.fill(table.add_row(labels), (1,))


def _serial(udev: Mapping[str, str]) -> str:
    """The serial number on the disk's label, or the nearest to it; virtio devices have only ID_SERIAL."""
    return udev.get("SCSI_IDENT_SERIAL") or udev.get("ID_SERIAL_SHORT") or udev.get("ID_SERIAL", "")


def _entries(path: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in path.iterdir())
    except OSError:
        return []

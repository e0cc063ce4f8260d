"""Block devices: traffic from /proc/diskstats, properties from sysfs and udev's database.

A line of /proc/diskstats:

254       0 vda 9160 5769 1158922 8821 741 3777 263504 1947 0 4532 11229 3073 44 55376 460 5 0
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import MILLI, ONE, SECTOR, Column, Unit, counter, gauge
from pymon.sources.kernel_file import KernelFile, read_small
from pymon.sources.node.exclusions import DEFAULT_EXCLUSIONS
from pymon.sources.node.kernel_text import complete_lines, text, unsigned
from pymon.sources.node.source import INFO_FIELDS, Collector, NodeSource

DISKSTATS_FIELDS = (
    "reads",
    "reads_merged",
    "read_sectors",
    "read_ms",
    "writes",
    "writes_merged",
    "written_sectors",
    "write_ms",
    "in_flight",
    "io_ms",
    "weighted_io_ms",
    "discards",
    "discards_merged",
    "discarded_sectors",
    "discard_ms",
    "flushes",
    "flush_ms",
)
"""/proc/diskstats, in order, after the device name (Documentation/admin-guide/iostats.rst).

Linux has discards since 4.18 and flushes since 5.5.
"""

DISK_ATA_FIELDS = ("ID_ATA_WRITE_CACHE", "ID_ATA_WRITE_CACHE_ENABLED", "ID_ATA_ROTATION_RATE_RPM")
"""Numeric properties of ATA disks in udev's database."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A line of diskstats.

    numbers: in the order of DISKSTATS_FIELDS. Old kernels have fewer, new ones can have more. None is not a number.
    """

    major: str
    minor: str
    name: str
    numbers: list[int | None]


def parse_diskstats(data: bytes, excluded: re.Pattern[str] | None = None) -> Iterator[Disk]:
    """Yield the devices. Lines that do not describe a device are skipped.

    excluded: names of devices that have no numbers.
    """
    for line in complete_lines(data):
        words = line.split()
        major, minor, name, *numbers = words if len(words) > len(("major", "minor", "name")) else [b""] * 3
        if major.isdigit() and minor.isdigit():
            device = text(name)
            left_out = excluded is not None and excluded.search(device)
            yield Disk(text(major), text(minor), device, [] if left_out else [unsigned(word) for word in numbers])


def parse_udev(data: bytes) -> dict[str, str]:
    """Return a device's properties by name, from lines such as ``E:ID_MODEL=QEMU_HARDDISK``."""
    return {
        text(name): text(value)
        for line in complete_lines(data)
        if line.startswith(b"E:")
        for name, equals, value in (line[2:].partition(b"="),)
        if equals
    }


_udev = lru_cache(maxsize=1024)(parse_udev)
"""Records change when a device does."""


class Diskstats(NodeSource):
    """Block devices.

    Table node_disk {device} has sectors of 512 bytes, milliseconds and counts. The tables node_disk_info,
    node_disk_filesystem, node_disk_mapper and node_disk_backing have labels and the constant 1. An unknown label value
    is empty.
    """

    name: ClassVar[str] = "diskstats"

    def __init__(
        self, procfs: Path, sysfs: Path, udev_data: Path, excluded: re.Pattern[str] = DEFAULT_EXCLUSIONS.disk_devices
    ) -> None:
        self._excluded = excluded
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
        self._expect_no_minus(self._file, data)
        disks = list(parse_diskstats(data, self._excluded))
        for disk in disks:
            if disk.numbers:
                self._add(disk, _udev(read_small(f"{self._udev_data}/b{disk.major}:{disk.minor}")))
        if not disks:
            self._misread(self._file.path, "lines such as ' 254 0 vda 9160 5769 ...'")

    def _add(self, disk: Disk, udev: Mapping[str, str]) -> None:
        device = ("device", disk.name)
        # The kernel replaces / by ! in the directory name of a device such as cciss/c0d0.
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
    """Return the serial number printed on the disk, or the closest to it. virtio devices have only ID_SERIAL."""
    return udev.get("SCSI_IDENT_SERIAL") or udev.get("ID_SERIAL_SHORT") or udev.get("ID_SERIAL", "")


def _entries(path: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in path.iterdir())
    except OSError:
        return []


def _disk(key: str, unit: Unit = ONE) -> Column:
    return Column("node_disk", key, unit)


METRICS = (
    gauge(
        "node_disk_ata_rotation_rate_rpm",
        "ATA disk rotation rate in RPMs (0 for SSDs).",
        "diskstats",
        _disk("ID_ATA_ROTATION_RATE_RPM"),
    ),
    gauge("node_disk_ata_write_cache", "ATA disk has a write cache.", "diskstats", _disk("ID_ATA_WRITE_CACHE")),
    gauge(
        "node_disk_ata_write_cache_enabled",
        "ATA disk has its write cache enabled.",
        "diskstats",
        _disk("ID_ATA_WRITE_CACHE_ENABLED"),
    ),
    gauge(
        "node_disk_device_mapper_backing_device_info",
        "Info about the underlying block devices of a device mapper device.",
        "diskstats",
        Column("node_disk_backing", "info"),
    ),
    gauge(
        "node_disk_device_mapper_info",
        "Info about disk device mapper.",
        "diskstats",
        Column("node_disk_mapper", "info"),
    ),
    counter(
        "node_disk_discard_time_seconds_total",
        "This is the total number of seconds spent by all discards.",
        "diskstats",
        _disk("discard_ms", MILLI),
    ),
    counter(
        "node_disk_discarded_sectors_total",
        "The total number of sectors discarded successfully.",
        "diskstats",
        _disk("discarded_sectors"),
    ),
    counter(
        "node_disk_discards_completed_total",
        "The total number of discards completed successfully.",
        "diskstats",
        _disk("discards"),
    ),
    counter(
        "node_disk_discards_merged_total", "The total number of discards merged.", "diskstats", _disk("discards_merged")
    ),
    gauge(
        "node_disk_filesystem_info",
        "Info about disk filesystem.",
        "diskstats",
        Column("node_disk_filesystem", "info"),
    ),
    counter(
        "node_disk_flush_requests_time_seconds_total",
        "This is the total number of seconds spent by all flush requests.",
        "diskstats",
        _disk("flush_ms", MILLI),
    ),
    counter(
        "node_disk_flush_requests_total",
        "The total number of flush requests completed successfully",
        "diskstats",
        _disk("flushes"),
    ),
    gauge("node_disk_info", "Info of /sys/block/<block_device>.", "diskstats", Column("node_disk_info", "info")),
    gauge("node_disk_io_now", "The number of I/Os currently in progress.", "diskstats", _disk("in_flight")),
    counter("node_disk_io_time_seconds_total", "Total seconds spent doing I/Os.", "diskstats", _disk("io_ms", MILLI)),
    counter(
        "node_disk_io_time_weighted_seconds_total",
        "The weighted # of seconds spent doing I/Os.",
        "diskstats",
        _disk("weighted_io_ms", MILLI),
    ),
    counter(
        "node_disk_read_bytes_total",
        "The total number of bytes read successfully.",
        "diskstats",
        _disk("read_sectors", SECTOR),
    ),
    counter(
        "node_disk_read_time_seconds_total",
        "The total number of seconds spent by all reads.",
        "diskstats",
        _disk("read_ms", MILLI),
    ),
    counter(
        "node_disk_reads_completed_total",
        "The total number of reads completed successfully.",
        "diskstats",
        _disk("reads"),
    ),
    counter("node_disk_reads_merged_total", "The total number of reads merged.", "diskstats", _disk("reads_merged")),
    counter(
        "node_disk_write_time_seconds_total",
        "This is the total number of seconds spent by all writes.",
        "diskstats",
        _disk("write_ms", MILLI),
    ),
    counter(
        "node_disk_writes_completed_total",
        "The total number of writes completed successfully.",
        "diskstats",
        _disk("writes"),
    ),
    counter("node_disk_writes_merged_total", "The number of writes merged.", "diskstats", _disk("writes_merged")),
    counter(
        "node_disk_written_bytes_total",
        "The total number of bytes written successfully.",
        "diskstats",
        _disk("written_sectors", SECTOR),
    ),
)

COLLECTOR = Collector(
    Diskstats.name,
    lambda node: Diskstats(
        node.procfs, node.sysfs, node.rootfs / "run" / "udev" / "data", node.exclusions.disk_devices
    ),
    METRICS,
    row_labels={
        "node_disk": ("device",),
        "node_disk_info": (
            "device",
            "major",
            "minor",
            "path",
            "wwn",
            "model",
            "serial",
            "revision",
            "rotational",
        ),
        "node_disk_filesystem": ("device", "type", "usage", "uuid", "version"),
        "node_disk_mapper": ("device", "name", "uuid", "vg_name", "lv_name", "lv_layer"),
        "node_disk_backing": ("device", "backing_device"),
    },
)

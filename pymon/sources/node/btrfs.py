"""Btrfs file systems, from /sys/fs/btrfs/UUID (fs/btrfs/sysfs.c)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import MILLI, ONE, SECTOR, USEC, Column, Kind, Metric, Sample, Unit
from pymon.sources.node.attributes import AttributeSource
from pymon.sources.node.source import INFO_FIELDS, Collector

BTRFS_FIELDS = ("global_rsv_size", "commits", "last_commit_ms", "max_commit_ms", "total_commit_ms")
"""Bytes, a count, and milliseconds. Commits are counted since Linux 6.0."""

_COPIES = {"single": 1, "raid0": 1, "dup": 2, "raid1": 2, "raid10": 2, "raid1c3": 3, "raid1c4": 4}
_PARITIES = {"raid5": 1, "raid6": 2}
_MILLION = 10**6


class Btrfs(AttributeSource):
    """Tables node_btrfs {uuid}, node_btrfs_label {uuid, label} with the constant 1, node_btrfs_device {uuid, device} in
    sectors of 512 bytes, node_btrfs_group {uuid, block_group_type} in bytes, and node_btrfs_layout {uuid,
    block_group_type, mode} in bytes, with the ratio in millionths.

    Errors of devices, which node_exporter asks each file system for by ioctl(2), are not in sysfs under these names and
    are left out: the call can hang.
    """

    name: ClassVar[str] = "btrfs"

    def __init__(self, sysfs: Path) -> None:
        self._directory = sysfs / "fs" / "btrfs"
        self._table = Table("node_btrfs", BTRFS_FIELDS)
        self._labels = Table("node_btrfs_label", INFO_FIELDS)
        self._devices = Table("node_btrfs_device", ("size",))
        self._groups = Table("node_btrfs_group", ("bytes_reserved",))
        self._layouts = Table("node_btrfs_layout", ("total_bytes", "used_bytes", "ratio"))
        super().__init__((self._table, self._labels, self._devices, self._groups, self._layouts))

    def _fill(self) -> None:
        self.answered = self._directory.is_dir()
        seen: set[str] = set()
        for entry in self._entries(self._directory, r"[0-9a-f]+-[0-9a-f-]+"):
            path = f"{self._directory}/{entry}"
            # File systems that were copied can have one metadata_uuid. The name of the directory is unique.
            name = self._word(f"{path}/metadata_uuid") or entry
            uuid = ("uuid", entry if name in seen else name)
            seen |= {name, entry}
            self._labels.fill(self._labels.add_row((uuid, ("label", self._word(f"{path}/label")))), (1,))
            row = self._table.add_row((uuid,))
            commits = self._attribute(f"{path}/commit_stats")
            if commits:
                self._table.scan_keyed(row, commits + b"\n")
            reserve = self._integer(f"{path}/allocation/global_rsv_size")
            if reserve is not None:
                self._table.set(row, "global_rsv_size", reserve)
            devices = self._entries(f"{path}/devices")
            for device in devices:
                size = self._integer(f"{path}/devices/{device}/size")
                if size is not None:
                    self._devices.fill(self._devices.add_row((uuid, ("device", device))), (size,))
            for kind in ("data", "metadata", "system"):
                self._add_group(f"{path}/allocation/{kind}", (uuid, ("block_group_type", kind)), len(devices))

    def _add_group(self, path: str, labels: tuple[tuple[str, str], ...], devices: int) -> None:
        reserved = self._integer(f"{path}/bytes_reserved")
        if reserved is not None:
            self._groups.fill(self._groups.add_row(labels), (reserved,))
        for mode in self._entries(path, "|".join((*_COPIES, *_PARITIES))):
            sizes = [self._integer(f"{path}/{mode}/{name}") for name in ("total_bytes", "used_bytes")]
            if sizes != [None, None]:
                row = self._layouts.add_row((*labels, ("mode", mode)))
                self._layouts.fill(row, (*sizes, _ratio(mode, devices)))


def _ratio(mode: str, devices: int) -> int | None:
    """Return the space that a byte takes on all devices, in millionths, or None when there are too few devices."""
    if mode in _COPIES:
        return _COPIES[mode] * _MILLION
    data = devices - _PARITIES[mode]
    return devices * _MILLION // data if data > 0 else None


def _btrfs(suffix: str, help: str, table: str, key: str, unit: Unit = ONE) -> Metric:
    kind = Kind.COUNTER if suffix.endswith("_total") else Kind.GAUGE
    return Metric(f"node_btrfs_{suffix}", kind, help, "btrfs", (Sample((Column(table, key, unit),)),))


METRICS = (
    _btrfs("allocation_ratio", "Data allocation ratio for a layout/data type", "node_btrfs_layout", "ratio", USEC),
    _btrfs(
        "commit_seconds_total",
        "Sum of the duration of all commits, in seconds.",
        "node_btrfs",
        "total_commit_ms",
        MILLI,
    ),
    _btrfs("commits_total", "The total number of commits that have occurred.", "node_btrfs", "commits"),
    _btrfs(
        "device_size_bytes",
        "Size of a device that is part of the filesystem.",
        "node_btrfs_device",
        "size",
        SECTOR,
    ),
    _btrfs("global_rsv_size_bytes", "Size of global reserve.", "node_btrfs", "global_rsv_size"),
    _btrfs("info", "Filesystem information", "node_btrfs_label", "info"),
    _btrfs(
        "last_commit_seconds",
        "Duration of the most recent commit, in seconds.",
        "node_btrfs",
        "last_commit_ms",
        MILLI,
    ),
    _btrfs("max_commit_seconds", "Duration of the slowest commit, in seconds.", "node_btrfs", "max_commit_ms", MILLI),
    _btrfs("reserved_bytes", "Amount of space reserved for a data type", "node_btrfs_group", "bytes_reserved"),
    _btrfs("size_bytes", "Amount of space allocated for a layout/data type", "node_btrfs_layout", "total_bytes"),
    _btrfs("used_bytes", "Amount of used space by a layout/data type", "node_btrfs_layout", "used_bytes"),
)

COLLECTOR = Collector(
    Btrfs.name,
    lambda node: Btrfs(node.sysfs),
    METRICS,
    row_labels={
        "node_btrfs_layout": ("uuid", "block_group_type", "mode"),
        "node_btrfs": ("uuid",),
        "node_btrfs_device": ("uuid", "device"),
        "node_btrfs_label": ("uuid", "label"),
        "node_btrfs_group": ("uuid", "block_group_type"),
    },
)

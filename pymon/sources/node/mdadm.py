"""Software RAID, from /proc/mdstat and /sys/block/md*/md (Documentation/admin-guide/md.rst).

md127 : active raid1 sdb2[1] sda2[0](F)
      248896 blocks [2/1] [_U]
      [==>..................]  recovery = 14.3% (35712/248896) finish=1.2min speed=2890K/sec
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import Column, Kind, Metric, Sample, gauge
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.attributes import AttributeSource, integer
from pymon.sources.node.kernel_text import complete_lines, text
from pymon.sources.node.source import Collector

MD_STATES = ("active", "inactive", "recovering", "resync", "check")
"""The states that node_exporter knows, each 1 or 0."""

MD_FIELDS = (*MD_STATES, "disks_active", "disks_failed", "disks_spare", "disks_required", "blocks", "blocks_synced")
"""States, numbers of disks, and blocks of 1 KiB."""

MD_RAID_FIELDS = ("raid_disks", "degraded")
"""Files of /sys/block/md*/md: numbers of disks that the array has and that it lacks."""

_DEVICE = re.compile(rb"(\S+) : (\S+) ?(.*)")
_BLOCKS = re.compile(rb"\s+(\d+) blocks\b")
_DISKS = re.compile(rb"\[(\d+)/(\d+)\] \[[U_]+\]")
_WORK = re.compile(rb"(recovery|reshape|resync|check)\s*=\s*(?:\S+% \((\d+)/\d+\)|(PENDING|DELAYED))")
_STATE_OF_WORK = {b"recovery": "recovering", b"resync": "resync", b"check": "check", b"reshape": "reshape"}


@dataclass(slots=True)
class Array:
    """A device of mdstat. state: one of MD_STATES, or another word. A number that is not there is None."""

    name: str
    state: str
    failed: int
    spare: int
    listed: int
    striped: bool
    blocks: int | None = None
    synced: int | None = None
    active: int | None = None
    required: int | None = None


def parse_mdstat(data: bytes) -> list[Array]:
    """Return the devices of /proc/mdstat in its order. Of two with the same name, both are in the list."""
    arrays: list[Array] = []
    for line in complete_lines(data):
        device = _DEVICE.fullmatch(line)
        if device and device[1] != b"Personalities":
            members = device[3]
            arrays.append(
                Array(
                    text(device[1]),
                    text(device[2]),
                    members.count(b"(F)"),
                    members.count(b"(S)"),
                    members.count(b"["),
                    bool(re.search(rb"\b(raid0|linear)\b", members)),
                )
            )
        elif arrays and line.startswith(b" "):
            _add_line(arrays[-1], line)
    return arrays


def _add_line(array: Array, line: bytes) -> None:
    """Take the numbers of a line below a device's."""
    if blocks := _BLOCKS.match(line):
        array.blocks = array.synced = integer(blocks[1])
        if array.striped:
            array.active = array.required = array.listed
        elif disks := _DISKS.search(line):
            array.required, array.active = integer(disks[1]), integer(disks[2])
        elif array.state == "inactive":
            array.required = array.active = 0
    elif work := _WORK.search(line):
        array.state = _STATE_OF_WORK[work[1]]
        array.synced = 0 if work[3] else integer(work[2])


class Mdadm(AttributeSource):
    """Tables node_md {device} and node_md_raid {device}."""

    name: ClassVar[str] = "mdadm"

    def __init__(self, procfs: Path, sysfs: Path) -> None:
        self._file = KernelFile(procfs / "mdstat")
        self._block = sysfs / "block"
        self._table = Table("node_md", MD_FIELDS)
        self._raid = Table("node_md_raid", MD_RAID_FIELDS)
        super().__init__((self._table, self._raid), (self._file,))

    def _fill(self) -> None:
        # The file is there while the md module is.
        data = self._read_text(self._file, optional=True)
        if data is None:
            return
        if not data.startswith(b"Personalities :"):
            self._misread(self._file.path, "a line 'Personalities : ...'")
        self.answered = True
        for array in {array.name: array for array in parse_mdstat(data)}.values():
            self._table.fill(
                self._table.add_row((("device", array.name),)),
                (
                    *(int(array.state == state) for state in MD_STATES),
                    array.active,
                    array.failed,
                    array.spare,
                    array.required,
                    array.blocks,
                    array.synced,
                ),
            )
        for device in self._entries(self._block, r"md.*"):
            # While disks are added, the number is followed by the one before in parentheses.
            disks = (self._attribute(f"{self._block}/{device}/md/raid_disks") or b"").split()
            numbers = (
                integer(disks[0]) if disks else None,
                self._integer(f"{self._block}/{device}/md/degraded"),
            )
            if numbers != (None, None):
                self._raid.fill(self._raid.add_row((("device", device),)), numbers)


def _md(key: str) -> Column:
    return Column("node_md", key)


METRICS = (
    gauge("node_md_blocks", "Total number of blocks on device.", "mdadm", _md("blocks")),
    gauge("node_md_blocks_synced", "Number of blocks synced on device.", "mdadm", _md("blocks_synced")),
    gauge("node_md_degraded", "Number of degraded disks on device.", "mdadm", Column("node_md_raid", "degraded")),
    Metric(
        "node_md_disks",
        Kind.GAUGE,
        "Number of active/failed/spare disks of device.",
        "mdadm",
        tuple(Sample((_md(f"disks_{state}"),), (("state", state),)) for state in ("active", "failed", "spare")),
    ),
    gauge("node_md_disks_required", "Total number of disks of device.", "mdadm", _md("disks_required")),
    gauge("node_md_raid_disks", "Number of raid disks on device.", "mdadm", Column("node_md_raid", "raid_disks")),
    Metric(
        "node_md_state",
        Kind.GAUGE,
        "Indicates the state of md-device.",
        "mdadm",
        tuple(Sample((_md(state),), (("state", state),)) for state in MD_STATES),
    ),
)

COLLECTOR = Collector(
    Mdadm.name,
    lambda node: Mdadm(node.procfs, node.sysfs),
    METRICS,
    row_labels={
        "node_md": ("device",),
        "node_md_raid": ("device",),
    },
)

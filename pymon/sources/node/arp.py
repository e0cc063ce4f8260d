"""Neighbours of IPv4 by device, from /proc/net/arp (net/ipv4/arp.c).

IP address       HW type     Flags       HW address            Mask     Device
192.0.2.1        0x1         0x2         02:00:5e:00:00:01     *        eth0
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import Column, gauge
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.kernel_text import complete_lines, text
from pymon.sources.node.source import Collector, NodeSource

ARP_FIELDS = ("entries",)

_COLUMNS = 6
_HEADER = b"IP address"


def parse_arp(data: bytes) -> Counter[str]:
    """Return the number of entries of each device."""
    lines = (line.split() for line in complete_lines(data) if not line.startswith(_HEADER))
    return Counter(text(words[-1]) for words in lines if len(words) == _COLUMNS)


class Arp(NodeSource):
    """Table node_arp {device}: a row for each device that has entries."""

    name: ClassVar[str] = "arp"

    def __init__(self, procfs: Path, excluded: re.Pattern[str]) -> None:
        self._excluded = excluded
        self._file = KernelFile(procfs / "net" / "arp")
        self._table = Table("node_arp", ARP_FIELDS)
        super().__init__((self._table,), (self._file,))

    def _fill(self) -> None:
        data = self._read_text(self._file)
        if data is None:
            return
        if not data.startswith(_HEADER):
            self._misread(self._file.path, "a header 'IP address ...'")
        self.answered = True
        for device, count in parse_arp(data).items():
            if not self._excluded.search(device):
                self._table.fill(self._table.add_row((("device", device),)), (count,))


METRICS = (gauge("node_arp_entries", "ARP entries by device", "arp", Column("node_arp", "entries")),)

COLLECTOR = Collector(
    Arp.name,
    lambda node: Arp(node.procfs, node.exclusions.arp_devices),
    METRICS,
    row_labels={
        "node_arp": ("device",),
    },
)

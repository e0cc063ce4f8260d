"""Sockets in use, from /proc/net/sockstat and /proc/net/sockstat6 (net/ipv4/proc.c, net/ipv6/proc.c).

sockets: used 48
TCP: inuse 1978 orphan 1271 tw 2160 alloc 2173 mem 2200
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import ONE, SIGNED, Column, Metric, Unit, gauge
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.attributes import integer
from pymon.sources.node.kernel_text import complete_lines, text
from pymon.sources.node.source import Collector, NodeSource

_FIELDS = {
    "FRAG": ("inuse", "memory"),
    "FRAG6": ("inuse", "memory"),
    "RAW": ("inuse",),
    "RAW6": ("inuse",),
    "TCP": ("alloc", "inuse", "mem", "orphan", "tw"),
    "TCP6": ("inuse",),
    "UDP": ("inuse", "mem"),
    "UDP6": ("inuse",),
    "UDPLITE": ("inuse",),
    "UDPLITE6": ("inuse",),
    "sockets": ("used",),
}

_PAGED = ("TCP_mem", "UDP_mem")

SOCKSTAT_FIELDS = (
    *(f"{protocol}_{name}" for protocol, names in _FIELDS.items() for name in names),
    *(f"{field}_bytes" for field in _PAGED),
)
"""PROTOCOL_NAME of a number; mem is in pages, and in bytes where the name says so."""


def parse_sockstat(data: bytes) -> dict[str, int]:
    """Return the numbers by PROTOCOL_NAME. Words that are not integers are left out."""
    found = {}
    for line in complete_lines(data):
        protocol, colon, rest = line.partition(b":")
        words = rest.split()
        for name, word in zip(words[::2], words[1::2], strict=False):
            value = integer(word)
            if colon and value is not None:
                found[f"{text(protocol)}_{text(name)}"] = value
    return found


class Sockstat(NodeSource):
    """Table node_sockstat: one row, from /proc/net/sockstat and sockstat6."""

    name: ClassVar[str] = "sockstat"

    def __init__(self, procfs: Path, page_size: int = os.sysconf("SC_PAGE_SIZE")) -> None:
        self._page_size = page_size
        self._four = KernelFile(procfs / "net" / "sockstat")
        self._six = KernelFile(procfs / "net" / "sockstat6")
        self._table = Table("node_sockstat", SOCKSTAT_FIELDS)
        super().__init__((self._table,), (self._four, self._six))

    def _fill(self) -> None:
        values: dict[str, int] = {}
        for file in (self._four, self._six):
            # A kernel without IPv6 lacks that file.
            data = self._read_text(file, optional=file is self._six)
            if data is not None:
                read = parse_sockstat(data)
                if not read:
                    self._misread(file.path, "lines such as 'TCP: inuse 4 orphan 0'")
                values |= read
        for field in _PAGED:
            if field in values and 0 <= values[field] < 2**48:
                values[f"{field}_bytes"] = values[field] * self._page_size
        cells = [values.get(field) for field in SOCKSTAT_FIELDS]
        if cells.count(None) < len(cells):
            self._table.fill(self._table.add_row(), cells)


def _sockstat(field: str) -> Metric:
    protocol, _, state = field.partition("_")
    if protocol == "sockets":
        help, unit = "Number of IPv4 sockets in use.", ONE
    else:
        help, unit = f"Number of {protocol} sockets in state {state}.", _signed(state)
    return gauge(f"node_sockstat_{field}", help, "sockstat", Column("node_sockstat", field, unit))


def _signed(state: str) -> Unit:
    """Return the unit of a state. The kernel's counters of memory are sums over CPUs that can be negative."""
    return SIGNED if state in {"mem", "memory"} else ONE


METRICS = tuple(_sockstat(field) for field in sorted(SOCKSTAT_FIELDS))

COLLECTOR = Collector(Sockstat.name, lambda node: Sockstat(node.procfs), METRICS)

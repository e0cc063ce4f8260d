"""Connection tracking, from /proc/sys/net/netfilter and /proc/net/stat/nf_conntrack.

The latter has a line of names, and a line of hexadecimal counters for each CPU
(net/netfilter/nf_conntrack_standalone.c).
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import Column, gauge
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.attributes import AttributeSource, hexadecimal
from pymon.sources.node.kernel_text import complete_lines, text
from pymon.sources.node.source import Collector

_STATISTICS = {
    "drop": "Number of packets dropped due to conntrack failure.",
    "early_drop": ("Number of dropped conntrack entries to make room for new ones, if maximum table size was reached."),
    "found": "Number of searched entries which were successful.",
    "ignore": "Number of packets seen which are already connected to a conntrack entry.",
    "insert": "Number of entries inserted into the list.",
    "insert_failed": "Number of entries for which list insertion was attempted but failed.",
    "invalid": "Number of packets seen which can not be tracked.",
    "search_restart": "Number of conntrack table lookups which had to be restarted due to hashtable resizes.",
}

CONNTRACK_FIELDS = ("entries", "limit", *_STATISTICS)
"""Numbers of entries, and sums of the counters of all CPUs."""


def parse_conntrack(data: bytes) -> dict[str, int]:
    """Return the sums of our columns over all CPUs, by name. A column with a word that is no number is left out."""
    names, *lines = [line.split() for line in complete_lines(data)] or [[]]
    of_cpus = [line for line in lines if len(line) == len(names)]
    sums = {}
    for at, name in enumerate(names):
        numbers = [hexadecimal(line[at]) for line in of_cpus] if text(name) in _STATISTICS else []
        if numbers and None not in numbers:
            sums[text(name)] = sum(filter(None, numbers)) % 2**64
    return sums


class Conntrack(AttributeSource):
    """Table node_conntrack: one row. The files exist while the kernel tracks connections."""

    name: ClassVar[str] = "conntrack"

    def __init__(self, procfs: Path) -> None:
        self._settings = procfs / "sys" / "net" / "netfilter"
        self._statistics = KernelFile(procfs / "net" / "stat" / "nf_conntrack")
        self._table = Table("node_conntrack", CONNTRACK_FIELDS)
        super().__init__((self._table,), (self._statistics,))

    def _fill(self) -> None:
        values = {
            "entries": self._integer(f"{self._settings}/nf_conntrack_count"),
            "limit": self._integer(f"{self._settings}/nf_conntrack_max"),
        }
        data = self._read_text(self._statistics, optional=True)
        if data is not None:
            sums = parse_conntrack(data)
            if not sums:
                self._misread(self._statistics.path, "a line of names, and a line of hexadecimal numbers for each CPU")
            values |= {name: sums.get(name) for name in _STATISTICS}
        cells = [values.get(field) for field in CONNTRACK_FIELDS]
        if cells.count(None) < len(cells):
            self._table.fill(self._table.add_row(), cells)


METRICS = (
    gauge(
        "node_nf_conntrack_entries",
        "Number of currently allocated flow entries for connection tracking.",
        "conntrack",
        Column("node_conntrack", "entries"),
    ),
    gauge(
        "node_nf_conntrack_entries_limit",
        "Maximum size of connection tracking table.",
        "conntrack",
        Column("node_conntrack", "limit"),
    ),
    *(
        gauge(f"node_nf_conntrack_stat_{key}", help, "conntrack", Column("node_conntrack", key))
        for key, help in _STATISTICS.items()
    ),
)

COLLECTOR = Collector(Conntrack.name, lambda node: Conntrack(node.procfs), METRICS)

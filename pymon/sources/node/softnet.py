"""Received packets by CPU, from /proc/net/softnet_stat (net/core/net-procfs.c).

A line has hexadecimal words: packets, dropped, squeezed, five zeros, collisions; since Linux 2.6.36 received RPS, since
3.11 flow limit, since 5.10 length of the backlog and number of the CPU, since 6.3 two parts of that length:
    000000b2 00000000 00000001 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import Column, counter, gauge
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.attributes import hexadecimal
from pymon.sources.node.kernel_text import complete_lines
from pymon.sources.node.source import Collector, NodeSource

SOFTNET_FIELDS = ("processed", "dropped", "times_squeezed", "cpu_collision", "received_rps", "flow_limit", "backlog")
"""The words of a line that have a meaning."""

_WORDS = (0, 1, 2, 8, 9, 10, 11)
_CPU = 12


class Softnet(NodeSource):
    """Table node_softnet {cpu}: a row for each CPU that is online."""

    name: ClassVar[str] = "softnet"

    def __init__(self, procfs: Path) -> None:
        self._file = KernelFile(procfs / "net" / "softnet_stat")
        self._table = Table("node_softnet", SOFTNET_FIELDS)
        super().__init__((self._table,), (self._file,))

    def _fill(self) -> None:
        data = self._read_text(self._file)
        if data is None:
            return
        rows: dict[int, list[int | None]] = {}
        for number, line in enumerate(complete_lines(data)):
            words = [hexadecimal(word) for word in line.split()]
            cells = [words[at] if at < len(words) else None for at in _WORDS]
            if None in cells[:4]:
                self._misread(self._file.path, "lines such as '000000b2 00000000 00000001 ...'")
                continue
            cpu = words[_CPU] if len(words) > _CPU else number
            rows.setdefault(number if cpu is None else cpu, cells)
        for cpu, cells in rows.items():
            self._table.fill(self._table.add_row((("cpu", str(cpu)),)), cells)


def _softnet(key: str) -> Column:
    return Column("node_softnet", key)


METRICS = (
    gauge("node_softnet_backlog_len", "Softnet backlog status", "softnet", _softnet("backlog")),
    counter(
        "node_softnet_cpu_collision_total",
        "Number of collision occur while obtaining device lock while transmitting",
        "softnet",
        _softnet("cpu_collision"),
    ),
    counter("node_softnet_dropped_total", "Number of dropped packets", "softnet", _softnet("dropped")),
    counter(
        "node_softnet_flow_limit_count_total",
        "Number of times flow limit has been reached",
        "softnet",
        _softnet("flow_limit"),
    ),
    counter("node_softnet_processed_total", "Number of processed packets", "softnet", _softnet("processed")),
    counter(
        "node_softnet_received_rps_total",
        "Number of times cpu woken up received_rps",
        "softnet",
        _softnet("received_rps"),
    ),
    counter(
        "node_softnet_times_squeezed_total",
        "Number of times processing packets ran out of quota",
        "softnet",
        _softnet("times_squeezed"),
    ),
)

COLLECTOR = Collector(
    Softnet.name,
    lambda node: Softnet(node.procfs),
    METRICS,
    row_labels={
        "node_softnet": ("cpu",),
    },
)

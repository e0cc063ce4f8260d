"""CPU time in the three states of illumos (idle, kernel, user), from /proc/stat."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.sources.node.cpu import CPU_FIELDS, CpuTimes, Ticks
from pymon.sources.node.source import Collector

CPU_UTIL_FIELDS = ("idle", "kernel", "user")
"""Columns of node_cpu_util, in ticks of USER_HZ: the sums of the fields of `CPU_FIELDS` that `_PARTS` names in the same
order.
"""

_PARTS = (("idle", "iowait"), ("system", "irq", "softirq"), ("user", "nice"))
_PLACES = tuple(tuple(map(CPU_FIELDS.index, fields)) for fields in _PARTS)


def utilisation(ticks: Ticks) -> Ticks:
    """Convert ticks in the order of CPU_FIELDS to ticks in the order of CPU_UTIL_FIELDS.

    iowait counts as idle. steal is in none of the three. guest time is already part of user time.
    """
    sums: Ticks = []
    for places in _PLACES:
        known = [value for value in map(ticks.__getitem__, places) if value is not None]
        sums.append(sum(known) if known else None)
    return sums


class CpuUtil(CpuTimes):
    """Table node_cpu_util {cpu_id}: a row for each CPU, in ticks of USER_HZ."""

    name: ClassVar[str] = "cpu_util"

    def __init__(self, procfs: Path) -> None:
        super().__init__(procfs, Table("node_cpu_util", CPU_UTIL_FIELDS))

    def _add(self, cpu: str, ticks: Ticks) -> None:
        self._table.fill(self._table.add_row((("cpu_id", cpu),)), utilisation(ticks))


COLLECTOR = Collector(
    CpuUtil.name, lambda node: CpuUtil(node.procfs), dialect="cmon", row_labels={"node_cpu_util": ("cpu_id",)}
)

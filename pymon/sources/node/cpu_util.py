"""CPU time as illumos counts it, from /proc/stat: every CPU is idle, in the kernel or in user mode."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.node_fields import CPU_FIELDS, CPU_UTIL_FIELDS
from pymon.sources.node.cpu import CpuTimes, Ticks

_PARTS = (("idle", "iowait"), ("system", "irq", "softirq"), ("user", "nice"))
_PLACES = tuple(tuple(map(CPU_FIELDS.index, fields)) for fields in _PARTS)


def utilisation(ticks: Ticks) -> Ticks:
    """Ticks in the order of CPU_UTIL_FIELDS. A CPU that waits for I/O is idle; time that the hypervisor took is none
    of the three, and that of guests is in user mode already.
    """
    sums: Ticks = []
    for places in _PLACES:
        known = [value for value in map(ticks.__getitem__, places) if value is not None]
        sums.append(sum(known) if known else None)
    return sums


class CpuUtil(CpuTimes):
    """Table node_cpu_util: a row for each CPU {cpu_id}, ticks of USER_HZ."""

    name: ClassVar[str] = "cpu_util"

    def __init__(self, procfs: Path) -> None:
        super().__init__(procfs, Table("node_cpu_util", CPU_UTIL_FIELDS))

    def _add(self, cpu: str, ticks: Ticks) -> None:
        self._table.fill(self._table.add_row((("cpu_id", cpu),)), utilisation(ticks))

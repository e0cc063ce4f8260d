"""Pressure stall totals, from /proc/pressure (kernel/sched/psi.c; irq since Linux 6.1).

some avg10=1.33 avg60=1.00 avg300=0.30 total=7578165
full avg10=0.00 avg60=0.00 avg300=0.00 total=0
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import USEC, Column, Metric, counter
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.kernel_text import complete_lines, text, unsigned
from pymon.sources.node.source import Collector, NodeSource

PRESSURE_FIELDS = ("cpu_some", "io_some", "io_full", "memory_some", "memory_full", "irq_full")
"""FILE_LINE of /proc/pressure: microseconds in which some or all tasks waited, since the kernel started."""


def parse_pressure(data: bytes) -> dict[str, int]:
    """Return the totals of the lines `some` and `full` that exist, in microseconds."""
    totals = {}
    for line in complete_lines(data):
        kind, *words = line.split() or [b""]
        for word in words:
            if word.startswith(b"total="):
                total = unsigned(word[len(b"total=") :])
                if total is not None:
                    totals[text(kind)] = total
    return totals


class Pressure(NodeSource):
    """Table node_pressure: one row, in microseconds. With PSI disabled every read fails with EOPNOTSUPP."""

    name: ClassVar[str] = "pressure"

    def __init__(self, procfs: Path) -> None:
        resources = dict.fromkeys(field.partition("_")[0] for field in PRESSURE_FIELDS)
        self._by_resource = {resource: KernelFile(procfs / "pressure" / resource) for resource in resources}
        self._table = Table("node_pressure", PRESSURE_FIELDS)
        super().__init__((self._table,), self._by_resource.values())

    def _fill(self) -> None:
        totals: dict[str, int] = {}
        for resource, file in self._by_resource.items():
            # /proc/pressure/irq exists only in kernels with accounting of interrupt time.
            data = self._read(file, optional=resource == "irq")
            if data is None:
                continue
            self._expect_no_minus(file, data)
            read = parse_pressure(data)
            if not read or not data.endswith(b"\n"):
                self._misread(file.path, "a line such as 'some avg10=0.00 avg60=0.00 avg300=0.00 total=0'")
            totals.update({f"{resource}_{kind}": total for kind, total in read.items()})
        cells = [totals.get(field) for field in PRESSURE_FIELDS]
        if cells.count(None) < len(cells):
            self._table.fill(self._table.add_row(), cells)


def _pressure(suffix: str, help: str, key: str) -> Metric:
    return counter(f"node_pressure_{suffix}_seconds_total", help, "pressure", Column("node_pressure", key, USEC))


METRICS = (
    _pressure("cpu_waiting", "Total time in seconds that processes have waited for CPU time", "cpu_some"),
    _pressure("io_stalled", "Total time in seconds no process could make progress due to IO congestion", "io_full"),
    _pressure("io_waiting", "Total time in seconds that processes have waited due to IO congestion", "io_some"),
    _pressure("irq_stalled", "Total time in seconds no process could make progress due to IRQ congestion", "irq_full"),
    _pressure(
        "memory_stalled",
        "Total time in seconds no process could make progress due to memory congestion",
        "memory_full",
    ),
    _pressure("memory_waiting", "Total time in seconds that processes have waited for memory", "memory_some"),
)

COLLECTOR = Collector(Pressure.name, lambda node: Pressure(node.procfs), METRICS)

"""Time that tasks ran and waited by CPU, from /proc/schedstat (Documentation/scheduler/sched-stats.rst).

cpu0 1830 1937 900 1601 2556 1876 17582603955 19929365564 9736
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import NSEC, Column, counter
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.kernel_text import complete_lines, text, unsigned
from pymon.sources.node.source import Collector, NodeSource

SCHEDSTAT_FIELDS = ("running", "waiting", "timeslices")
"""The seventh to ninth number of a CPU: nanoseconds, nanoseconds, number of timeslices."""

_FIRST = 7


class Schedstat(NodeSource):
    """Table node_schedstat {cpu}: a row for each CPU that is online, in nanoseconds and counts."""

    name: ClassVar[str] = "schedstat"

    def __init__(self, procfs: Path) -> None:
        self._file = KernelFile(procfs / "schedstat")
        self._table = Table("node_schedstat", SCHEDSTAT_FIELDS)
        super().__init__((self._table,), (self._file,))

    def _fill(self) -> None:
        # Not every kernel has these statistics.
        data = self._read_text(self._file, optional=True)
        if data is None:
            return
        cpus: dict[str, list[int | None]] = {}
        for line in complete_lines(data):
            name, *words = line.split() or [b""]
            if name.startswith(b"cpu") and name[3:].isdigit():
                cpus.setdefault(text(name[3:]), [unsigned(word) for word in words[_FIRST - 1 : _FIRST + 2]])
        if not any(cpus.values()):
            self._misread(self._file.path, "lines such as 'cpu0 0 0 0 0 0 0 17582603955 19929365564 9736'")
            return
        for cpu, numbers in cpus.items():
            self._table.fill(self._table.add_row((("cpu", cpu),)), numbers)


METRICS = (
    counter(
        "node_schedstat_running_seconds_total",
        "Number of seconds CPU spent running a process.",
        "schedstat",
        Column("node_schedstat", "running", NSEC),
    ),
    counter(
        "node_schedstat_timeslices_total",
        "Number of timeslices executed by CPU.",
        "schedstat",
        Column("node_schedstat", "timeslices"),
    ),
    counter(
        "node_schedstat_waiting_seconds_total",
        "Number of seconds spent by processing waiting for this CPU.",
        "schedstat",
        Column("node_schedstat", "waiting", NSEC),
    ),
)

COLLECTOR = Collector(
    Schedstat.name,
    lambda node: Schedstat(node.procfs),
    METRICS,
    row_labels={
        "node_schedstat": ("cpu",),
    },
)

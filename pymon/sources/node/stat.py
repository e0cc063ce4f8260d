"""Interrupts, context switches, forks, processes and the boot time, from /proc/stat."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import Column, counter, gauge
from pymon.sources.node.source import Collector, KeyedSource

STAT_FIELDS = ("intr", "ctxt", "btime", "processes", "procs_running", "procs_blocked")
"""Lines of /proc/stat besides those of CPUs, which `CpuTimes` reads."""


class Stat(KeyedSource):
    """Table node_stat: one row of counts, and `btime` in seconds since 1970. `intr` is the total of all interrupts."""

    name: ClassVar[str] = "stat"

    def __init__(self, procfs: Path) -> None:
        super().__init__(procfs / "stat", Table("node_stat", STAT_FIELDS))


METRICS = (
    gauge(
        "node_boot_time_seconds",
        "Node boot time, in unixtime.",
        "stat",
        Column("node_stat", "btime"),
        Column("kstat.system_misc", "boot_time"),
    ),
    counter("node_context_switches_total", "Total number of context switches.", "stat", Column("node_stat", "ctxt")),
    counter("node_forks_total", "Total number of forks.", "stat", Column("node_stat", "processes")),
    counter("node_intr_total", "Total number of interrupts serviced.", "stat", Column("node_stat", "intr")),
    gauge(
        "node_procs_blocked",
        "Number of processes blocked waiting for I/O to complete.",
        "stat",
        Column("node_stat", "procs_blocked"),
    ),
    gauge(
        "node_procs_running",
        "Number of processes in runnable state.",
        "stat",
        Column("node_stat", "procs_running"),
    ),
)

COLLECTOR = Collector(Stat.name, lambda node: Stat(node.procfs), METRICS)

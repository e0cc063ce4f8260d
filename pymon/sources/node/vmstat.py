"""Paging, swapping and out-of-memory kills, from /proc/vmstat."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import Column, unknown
from pymon.sources.node.source import Collector, KeyedSource

VMSTAT_FIELDS = ("pgpgin", "pgpgout", "pswpin", "pswpout", "pgfault", "pgmajfault", "oom_kill")
"""The fields of /proc/vmstat that node_exporter exports (mm/vmstat.c)."""


class Vmstat(KeyedSource):
    """Table node_vmstat: one row of counters. `pgpgin` and `pgpgout` are in KiB, the others in pages or events."""

    name: ClassVar[str] = "vmstat"

    def __init__(self, procfs: Path) -> None:
        super().__init__(procfs / "vmstat", Table("node_vmstat", VMSTAT_FIELDS))


METRICS = tuple(
    unknown(f"node_vmstat_{field}", f"/proc/vmstat information field {field}.", "vmstat", Column("node_vmstat", field))
    for field in VMSTAT_FIELDS
)

COLLECTOR = Collector(Vmstat.name, lambda node: Vmstat(node.procfs), METRICS)

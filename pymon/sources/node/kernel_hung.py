"""Tasks that the kernel found hanging, from /proc/sys/kernel/hung_task_detect_count (since Linux 6.15)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import Column, counter
from pymon.sources.node.attributes import AttributeSource
from pymon.sources.node.source import Collector


class KernelHung(AttributeSource):
    """Table node_kernel_hung: one row with the number of hung tasks that the kernel has found since it started."""

    name: ClassVar[str] = "kernel_hung"

    def __init__(self, procfs: Path) -> None:
        self._path = procfs / "sys" / "kernel" / "hung_task_detect_count"
        self._table = Table("node_kernel_hung", ("tasks",))
        super().__init__((self._table,))

    def _fill(self) -> None:
        count = self._integer(self._path)
        if count is not None:
            self._table.fill(self._table.add_row(), (count,))


METRICS = (
    counter(
        "node_kernel_hung_tasks_total",
        "Total number of tasks that have been detected as hung since the system booted.",
        "kernel_hung",
        Column("node_kernel_hung", "tasks"),
    ),
)

COLLECTOR = Collector(KernelHung.name, lambda node: KernelHung(node.procfs), METRICS)

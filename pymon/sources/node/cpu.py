"""CPU time, from /proc/stat.

A line for each CPU that is online, in ticks of USER_HZ (Documentation/filesystems/proc.rst):
    cpu0 1295 0 1298 116511 15 0 13 1555 0 0
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.node_fields import CPU_FIELDS
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.kernel_text import complete_lines, text, unsigned
from pymon.sources.node.source import NodeSource

Ticks = list[int | None]

_IDLE = CPU_FIELDS.index("idle")
_HOTPLUG_TICKS = 300


def parse_cpus(data: bytes) -> dict[str, Ticks]:
    """Ticks by CPU number, in the order of CPU_FIELDS; None for what is not there or no number."""
    cpus = {}
    for line in complete_lines(data):
        if not line.startswith(b"cpu"):
            break
        name, *words = line.split()
        if name[3:].isdigit() and words:
            ticks = [unsigned(word) for word in words[: len(CPU_FIELDS)]]
            cpus[text(name[3:])] = ticks + [None] * (len(CPU_FIELDS) - len(ticks))
    return cpus


def steady(before: Ticks | None, now: Ticks) -> Ticks:
    """The ticks to publish: none goes back, unless the CPU was taken out and put back.

    idle and iowait are estimates that the kernel lets go back a little; as in node_exporter, 3 seconds of idle time
    lost mean that the CPU started anew.
    """
    if before is None:
        return now
    idle_before, idle_now = before[_IDLE], now[_IDLE]
    if idle_before is not None and idle_now is not None and idle_before - idle_now >= _HOTPLUG_TICKS:
        return now
    return [new if new is None or old is None or new > old else old for old, new in zip(before, now, strict=True)]


class CpuTimes(NodeSource):
    """A table of one row for each CPU, from its line."""

    def __init__(self, procfs: Path, table: Table) -> None:
        self._file = KernelFile(procfs / "stat")
        self._table = table
        self._before: dict[str, Ticks] = {}
        super().__init__((self._table,), (self._file,))

    def _fill(self) -> None:
        data = self._read(self._file)
        if data is None:
            return
        cpus = {cpu: steady(self._before.get(cpu), ticks) for cpu, ticks in parse_cpus(data).items()}
        if not cpus:
            self._misread(self._file.path, "lines such as 'cpu0 1295 0 1298 116511 15 0 13 1555 0 0'")
        for cpu, ticks in cpus.items():
            self._add(cpu, ticks)
        self._before = cpus

    @abstractmethod
    def _add(self, cpu: str, ticks: Ticks) -> None:
        """Add the row of a CPU."""


class Cpu(CpuTimes):
    """Table node_cpu: a row for each CPU {cpu}, ticks of USER_HZ."""

    name: ClassVar[str] = "cpu"

    def __init__(self, procfs: Path) -> None:
        super().__init__(procfs, Table("node_cpu", CPU_FIELDS))

    def _add(self, cpu: str, ticks: Ticks) -> None:
        self._table.fill(self._table.add_row((("cpu", cpu),)), ticks)

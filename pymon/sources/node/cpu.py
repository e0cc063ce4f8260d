"""CPU time, from /proc/stat.

The file has a line for each online CPU, in ticks of USER_HZ (Documentation/filesystems/proc.rst):
    cpu0 1295 0 1298 116511 15 0 13 1555 0 0
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import NSEC, ONE, USER_HZ, Column, Kind, Metric, Sample, Unit, counter, gauge
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.cpu_throttles import CpuThrottles
from pymon.sources.node.kernel_text import complete_lines, text, unsigned
from pymon.sources.node.source import Collector, NodeSource

CPU_FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice")
"""The cpuN lines of /proc/stat, in order (fs/proc/stat.c)."""

Ticks = list[int | None]

_IDLE = CPU_FIELDS.index("idle")
_HOTPLUG_TICKS = 300


def parse_cpus(data: bytes) -> dict[str, Ticks]:
    """Return the ticks of each CPU in the order of CPU_FIELDS, by CPU number. A missing or invalid value is None."""
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
    """Return the ticks to publish. No value decreases, unless the CPU was removed and added again.

    idle and iowait are estimates, and the kernel lets them decrease slightly. As in node_exporter, a decrease of idle
    by 3 seconds or more means that the CPU was added again.
    """
    if before is None:
        return now
    idle_before, idle_now = before[_IDLE], now[_IDLE]
    if idle_before is not None and idle_now is not None and idle_before - idle_now >= _HOTPLUG_TICKS:
        return now
    return [new if new is None or old is None or new > old else old for old, new in zip(before, now, strict=True)]


class CpuTimes(NodeSource):
    """Base of collectors that fill one row for each CPU from /proc/stat."""

    def __init__(self, procfs: Path, table: Table) -> None:
        self._file = KernelFile(procfs / "stat")
        self._table = table
        self._before: dict[str, Ticks] = {}
        super().__init__((self._table,), (self._file,))

    def _fill(self) -> None:
        data = self._read(self._file)
        if data is None:
            return
        self._expect_no_minus(self._file, data)
        cpus = {cpu: steady(self._before.get(cpu), ticks) for cpu, ticks in parse_cpus(data).items()}
        if not cpus:
            self._misread(self._file.path, "lines such as 'cpu0 1295 0 1298 116511 15 0 13 1555 0 0'")
        for cpu, ticks in cpus.items():
            self._add(cpu, ticks)
        self._before = cpus

    @abstractmethod
    def _add(self, cpu: str, ticks: Ticks) -> None:
        """Add the row of a CPU to the table."""


class Cpu(CpuTimes):
    """Table node_cpu {cpu}: a row for each CPU, in ticks of USER_HZ, and the tables of CpuThrottles."""

    name: ClassVar[str] = "cpu"

    def __init__(self, procfs: Path, sysfs: Path) -> None:
        super().__init__(procfs, Table("node_cpu", CPU_FIELDS))
        self._throttles = CpuThrottles(sysfs)
        self.tables = (*self.tables, *self._throttles.tables)

    def _fill(self) -> None:
        super()._fill()
        self._throttles.fill(self.problems)

    def _add(self, cpu: str, ticks: Ticks) -> None:
        self._table.fill(self._table.add_row((("cpu", cpu),)), ticks)


def _by_label(table: str, label: str, keys: dict[str, str], unit: Unit = ONE) -> tuple[Sample, ...]:
    """Return a sample for each key of a table. keys: key -> value of the label."""
    return tuple(Sample((Column(table, key, unit),), ((label, value),)) for key, value in keys.items())


METRICS = (
    counter(
        "node_cpu_core_throttles_total",
        "Number of times this CPU core has been throttled.",
        "cpu",
        Column("node_cpu_core", "throttles"),
    ),
    Metric(
        "node_cpu_guest_seconds_total",
        Kind.COUNTER,
        "Seconds the CPUs spent in guests (VMs) for each mode.",
        "cpu",
        _by_label("node_cpu", "mode", {"guest": "user", "guest_nice": "nice"}, USER_HZ),
    ),
    gauge(
        "node_cpu_isolated",
        "Whether each core is isolated, information from /sys/devices/system/cpu/isolated.",
        "cpu",
        Column("node_cpu_isolated", "isolated"),
    ),
    counter(
        "node_cpu_package_throttles_total",
        "Number of times this CPU package has been throttled.",
        "cpu",
        Column("node_cpu_package", "throttles"),
    ),
    Metric(
        "node_cpu_seconds_total",
        Kind.COUNTER,
        "Seconds the CPUs spent in each mode.",
        "cpu",
        (
            *_by_label(
                "node_cpu",
                "mode",
                {mode: mode for mode in ("idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user")},
                USER_HZ,
            ),
            *_by_label(
                "kstat.cpu_sys",
                "mode",
                {"cpu_nsec_idle": "idle", "cpu_nsec_kernel": "kernel", "cpu_nsec_user": "user"},
                NSEC,
            ),
        ),
    ),
)

COLLECTOR = Collector(
    Cpu.name,
    lambda node: Cpu(node.procfs, node.sysfs),
    METRICS,
    row_labels={
        "node_cpu": ("cpu",),
        "node_cpu_core": ("package", "core"),
        "node_cpu_isolated": ("cpu",),
        "node_cpu_package": ("package",),
    },
)

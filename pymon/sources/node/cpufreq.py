"""Frequencies of CPUs, from /sys/devices/system/cpu/cpu*/cpufreq (Documentation/admin-guide/pm/cpufreq.rst)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import Column, Metric, Unit, gauge
from pymon.sources.node.attributes import AttributeSource
from pymon.sources.node.source import Collector

CPUFREQ_FIELDS = (
    "cpuinfo_cur_freq",
    "cpuinfo_avg_freq",
    "cpuinfo_min_freq",
    "cpuinfo_max_freq",
    "scaling_cur_freq",
    "scaling_min_freq",
    "scaling_max_freq",
)
"""Files, in kHz. Not every driver has each, and only root can read cpuinfo_cur_freq."""

_KHZ = Unit(multiply=1000)


class Cpufreq(AttributeSource):
    """Tables node_cpufreq {cpu}, in kHz, and node_cpu_governor {cpu, governor}: 1 for the one in use, 0 for others."""

    name: ClassVar[str] = "cpufreq"

    def __init__(self, sysfs: Path) -> None:
        self._cpus = sysfs / "devices" / "system" / "cpu"
        self._frequencies = Table("node_cpufreq", CPUFREQ_FIELDS)
        self._governors = Table("node_cpu_governor", ("used",))
        super().__init__((self._frequencies, self._governors))

    def _fill(self) -> None:
        for name in self._entries(self._cpus, r"cpu[0-9]+"):
            self.answered = True
            path, cpu = f"{self._cpus}/{name}/cpufreq", ("cpu", name.removeprefix("cpu"))
            # Those of one policy share a directory, which a CPU that is offline lacks.
            governor = self._word(f"{path}/scaling_governor")
            numbers = [self._integer(f"{path}/{field}") for field in CPUFREQ_FIELDS] if governor else []
            if numbers.count(None) < len(numbers):
                self._frequencies.fill(self._frequencies.add_row((cpu,)), numbers)
            available = self._word(f"{path}/scaling_available_governors").split() if governor else []
            for other in dict.fromkeys(available):
                row = self._governors.add_row((cpu, ("governor", other)))
                self._governors.fill(row, (int(other == governor),))
        self.problems[:] = [problem for problem in self.problems if problem.reason != "eacces"]


def _cpufreq(suffix: str, help: str, key: str) -> Metric:
    return gauge(f"node_cpu_{suffix}", help, "cpufreq", Column("node_cpufreq", key, _KHZ))


METRICS = (
    _cpufreq("frequency_avg_hertz", "Average CPU thread frequency in hertz.", "cpuinfo_avg_freq"),
    _cpufreq("frequency_hertz", "Current CPU thread frequency in hertz.", "cpuinfo_cur_freq"),
    _cpufreq("frequency_max_hertz", "Maximum CPU thread frequency in hertz.", "cpuinfo_max_freq"),
    _cpufreq("frequency_min_hertz", "Minimum CPU thread frequency in hertz.", "cpuinfo_min_freq"),
    _cpufreq("scaling_frequency_hertz", "Current scaled CPU thread frequency in hertz.", "scaling_cur_freq"),
    _cpufreq("scaling_frequency_max_hertz", "Maximum scaled CPU thread frequency in hertz.", "scaling_max_freq"),
    _cpufreq("scaling_frequency_min_hertz", "Minimum scaled CPU thread frequency in hertz.", "scaling_min_freq"),
    gauge(
        "node_cpu_scaling_governor",
        "Current enabled CPU frequency governor.",
        "cpufreq",
        Column("node_cpu_governor", "used"),
    ),
)

COLLECTOR = Collector(
    Cpufreq.name,
    lambda node: Cpufreq(node.sysfs),
    METRICS,
    row_labels={
        "node_cpufreq": ("cpu",),
        "node_cpu_governor": ("cpu", "governor"),
    },
)

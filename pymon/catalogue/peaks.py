"""The highest rates and memory use of containers in the last seconds.

The collector container_peaks takes a sample every second.
"""

from __future__ import annotations

from typing import NamedTuple

from pymon.catalogue.model import NSEC, USEC, Column, Kind, Metric, Sample

COLLECTOR = "container_peaks"

TABLE = "peaks"

WINDOWS_SECONDS = (15, 60)


class Counter(NamedTuple):
    """A counter of time, whose rate is a number of CPUs or a share of the time.

    key: in the names of columns. name, help: of the metric. columns: alternatives in order, as in `Sample`.
    """

    key: str
    name: str
    help: str
    columns: tuple[Column, ...]


COUNTERS = (
    Counter(
        "cpu",
        "container_cpu_usage_peak_cores",
        "Highest CPU time of a second, in CPUs.",
        (
            Column("cpu.v2", "cpu.stat:usage_usec", USEC),
            Column("percpu.v1", "cpuacct.usage_percpu", NSEC),
            Column("cpu.v1", "cpuacct.usage", NSEC),
        ),
    ),
    Counter(
        "throttled",
        "container_cpu_cfs_throttled_peak_ratio",
        "Highest share of a second for which the container was throttled; it is above 1 if several CPUs were.",
        (Column("cpu.v2", "cpu.stat:throttled_usec", USEC), Column("cpu.v1", "cpu.stat:throttled_time", NSEC)),
    ),
    *(
        Counter(
            f"pressure_{resource}",
            f"container_pressure_{resource}_waiting_peak_ratio",
            f"Highest share of a second in which a task waited for {what}.",
            (Column("pressure", f"{resource}.pressure:some:total", USEC),),
        )
        for resource, what in (("cpu", "a CPU"), ("memory", "memory"), ("io", "I/O"))
    ),
)


def column_of(counter: Counter, seconds: int) -> str:
    """Return the column of a counter's peak in a window. Its cells are millionths."""
    return f"{counter.key}:{seconds}"


COLUMNS = tuple(column_of(counter, seconds) for counter in COUNTERS for seconds in WINDOWS_SECONDS)

MEMORY_TABLE = "memory_peaks"

_MEMORY = {
    "memory": ("container_memory_usage_peak_bytes", "Highest memory use."),
    "swap": ("container_memory_swap_peak_bytes", "Highest use of swap."),
}
"""The names and help texts of metrics by what is in the names of columns."""

MEMORY_COLUMNS = tuple(f"{key}:{seconds}" for key in _MEMORY for seconds in WINDOWS_SECONDS)
"""Bytes: first of memory.peak, then of memory.swap.peak."""


def _window(column: Column, seconds: int) -> Sample:
    return Sample((column,), labels=(("window", f"{seconds}s"),))


METRICS: tuple[Metric, ...] = (
    *(
        Metric(
            counter.name,
            Kind.GAUGE,
            counter.help,
            COLLECTOR,
            tuple(_window(Column(TABLE, column_of(counter, seconds), USEC), seconds) for seconds in WINDOWS_SECONDS),
        )
        for counter in COUNTERS
    ),
    *(
        Metric(
            name,
            Kind.GAUGE,
            help,
            COLLECTOR,
            tuple(_window(Column(MEMORY_TABLE, f"{key}:{seconds}"), seconds) for seconds in WINDOWS_SECONDS),
        )
        for key, (name, help) in _MEMORY.items()
    ),
)

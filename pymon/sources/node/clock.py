"""The node's clock, time zone and clock sources."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import NSEC, SIGNED, Column, gauge
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.kernel_text import complete_lines, text
from pymon.sources.node.source import INFO_FIELDS, Collector, NodeSource

# kernel/time/clocksource.c registers only this device.
_DEVICE = "0"


class Time(NodeSource):
    """Tables node_time (nanoseconds since 1970), node_time_zone {time_zone} (seconds east of Greenwich), and
    node_time_clocksource_available and _current {device, clocksource} with the constant 1.
    """

    name: ClassVar[str] = "time"

    def __init__(self, sysfs: Path, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        directory = sysfs / "devices" / "system" / "clocksource" / f"clocksource{_DEVICE}"
        self._available_file = KernelFile(directory / "available_clocksource")
        self._current_file = KernelFile(directory / "current_clocksource")
        self._time = Table("node_time", ("now",))
        self._zone = Table("node_time_zone", ("offset",))
        self._available = Table("node_time_clocksource_available", INFO_FIELDS)
        self._current = Table("node_time_clocksource_current", INFO_FIELDS)
        super().__init__(
            (self._time, self._zone, self._available, self._current), (self._available_file, self._current_file)
        )

    def _fill(self) -> None:
        now_ns = self._clock()
        self._time.fill(self._time.add_row(), (now_ns,))
        local = time.localtime(now_ns // 10**9)
        self._zone.fill(self._zone.add_row((("time_zone", local.tm_zone),)), (local.tm_gmtoff,))
        self._fill_clocksources(self._available, self._available_file)
        self._fill_clocksources(self._current, self._current_file)

    def _fill_clocksources(self, table: Table, file: KernelFile) -> None:
        for line in complete_lines(self._read(file) or b""):
            for word in line.split():
                table.fill(table.add_row((("device", _DEVICE), ("clocksource", text(word)))), (1,))


METRICS = (
    gauge(
        "node_time_clocksource_available_info",
        "Available clocksources read from '/sys/devices/system/clocksource'.",
        "time",
        Column("node_time_clocksource_available", "info"),
    ),
    gauge(
        "node_time_clocksource_current_info",
        "Current clocksource read from '/sys/devices/system/clocksource'.",
        "time",
        Column("node_time_clocksource_current", "info"),
    ),
    gauge("node_time_seconds", "System time in seconds since epoch (1970).", "time", Column("node_time", "now", NSEC)),
    gauge(
        "node_time_zone_offset_seconds",
        "System time zone offset in seconds.",
        "time",
        Column("node_time_zone", "offset", SIGNED),
    ),
)

COLLECTOR = Collector(
    Time.name,
    lambda node: Time(node.sysfs, node.clock),
    METRICS,
    row_labels={
        "node_time_zone": ("time_zone",),
        "node_time_clocksource_available": ("device", "clocksource"),
        "node_time_clocksource_current": ("device", "clocksource"),
    },
)

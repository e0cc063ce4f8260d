"""Temperatures and cooling devices, from /sys/class/thermal (Documentation/driver-api/thermal/sysfs-api.rst)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import SIGNED, Column, Unit, gauge
from pymon.sources.node.attributes import AttributeSource
from pymon.sources.node.source import Collector

_SIGNED_MILLI = Unit(decimals=3, signed=True)


class ThermalZone(AttributeSource):
    """Tables node_thermal_zone {zone, type}, in thousandths of a degree, and node_cooling_device {name, type}."""

    name: ClassVar[str] = "thermal_zone"

    def __init__(self, sysfs: Path) -> None:
        self._directory = sysfs / "class" / "thermal"
        self._zones = Table("node_thermal_zone", ("temp",))
        self._devices = Table("node_cooling_device", ("cur_state", "max_state"))
        super().__init__((self._zones, self._devices))

    def _fill(self) -> None:
        self.answered = self._directory.is_dir()
        for name in self._entries(self._directory, r"thermal_zone[0-9]+"):
            path = f"{self._directory}/{name}"
            temp = self._integer(f"{path}/temp")
            if temp is not None:
                labels = (("zone", name.removeprefix("thermal_zone")), ("type", self._word(f"{path}/type")))
                self._zones.fill(self._zones.add_row(labels), (temp,))
        for name in self._entries(self._directory, r"cooling_device[0-9]+"):
            path = f"{self._directory}/{name}"
            states = [self._integer(f"{path}/{column}") for column in self._devices.columns]
            if None not in states:
                labels = (("name", name.removeprefix("cooling_device")), ("type", self._word(f"{path}/type")))
                self._devices.fill(self._devices.add_row(labels), states)


METRICS = (
    gauge(
        "node_cooling_device_cur_state",
        "Current throttle state of the cooling device",
        "thermal_zone",
        Column("node_cooling_device", "cur_state", SIGNED),
    ),
    gauge(
        "node_cooling_device_max_state",
        "Maximum throttle state of the cooling device",
        "thermal_zone",
        Column("node_cooling_device", "max_state", SIGNED),
    ),
    gauge(
        "node_thermal_zone_temp",
        "Zone temperature in Celsius",
        "thermal_zone",
        Column("node_thermal_zone", "temp", _SIGNED_MILLI),
    ),
)

COLLECTOR = Collector(
    ThermalZone.name,
    lambda node: ThermalZone(node.sysfs),
    METRICS,
    row_labels={
        "node_cooling_device": ("name", "type"),
        "node_thermal_zone": ("zone", "type"),
    },
)

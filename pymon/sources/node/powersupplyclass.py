"""Batteries and mains, from /sys/class/power_supply (Documentation/ABI/testing/sysfs-class-power)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import SIGNED, Column, Unit, gauge
from pymon.sources.node.attributes import AttributeSource
from pymon.sources.node.source import INFO_FIELDS, Collector

_TENTHS = Unit(decimals=1, signed=True)
_MICRO = Unit(decimals=6, signed=True)

_PLAIN = {
    "authentic": "authentic",
    "calibrate": "calibrate",
    "capacity": "capacity",
    "capacity_alert_max": "capacity_alert_max",
    "capacity_alert_min": "capacity_alert_min",
    "cyclecount": "cycle_count",
    "online": "online",
    "present": "present",
    "time_to_empty_seconds": "time_to_empty_now",
    "time_to_full_seconds": "time_to_full_now",
}
_MILLIONTHS = {
    "charge_ampere": "charge_now",
    "charge_control_limit": "charge_control_limit",
    "charge_control_limit_max": "charge_control_limit_max",
    "charge_counter": "charge_counter",
    "charge_empty": "charge_empty",
    "charge_empty_design": "charge_empty_design",
    "charge_full": "charge_full",
    "charge_full_design": "charge_full_design",
    "charge_term_current": "charge_term_current",
    "constant_charge_current": "constant_charge_current",
    "constant_charge_current_max": "constant_charge_current_max",
    "constant_charge_voltage": "constant_charge_voltage",
    "constant_charge_voltage_max": "constant_charge_voltage_max",
    "current_ampere": "current_now",
    "current_boot": "current_boot",
    "current_max": "current_max",
    "energy_empty": "energy_empty",
    "energy_empty_design": "energy_empty_design",
    "energy_full": "energy_full",
    "energy_full_design": "energy_full_design",
    "energy_watthour": "energy_now",
    "input_current_limit": "input_current_limit",
    "power_watt": "power_now",
    "precharge_current": "precharge_current",
    "voltage_boot": "voltage_boot",
    "voltage_max": "voltage_max",
    "voltage_max_design": "voltage_max_design",
    "voltage_min": "voltage_min",
    "voltage_min_design": "voltage_min_design",
    "voltage_ocv": "voltage_ocv",
    "voltage_volt": "voltage_now",
}
_DEGREES = {
    "temp_alert_max_celsius": "temp_alert_max",
    "temp_alert_min_celsius": "temp_alert_min",
    "temp_ambient_celsius": "temp_ambient",
    "temp_ambient_max_celsius": "temp_ambient_max",
    "temp_ambient_min_celsius": "temp_ambient_min",
    "temp_celsius": "temp",
    "temp_max_celsius": "temp_max",
    "temp_min_celsius": "temp_min",
}

_METRICS = {
    name: (file, unit)
    for names, unit in ((_PLAIN, SIGNED), (_MILLIONTHS, _MICRO), (_DEGREES, _TENTHS))
    for name, file in names.items()
}
"""File and unit of each metric."""

POWER_SUPPLY_FIELDS = tuple(file for file, _ in _METRICS.values())

_LABELS = (
    "capacity_level",
    "charge_type",
    "health",
    "manufacturer",
    "model_name",
    "serial_number",
    "status",
    "technology",
    "type",
    "usb_type",
    "scope",
)


class PowerSupply(AttributeSource):
    """Tables node_power_supply {power_supply} in the kernel's units, and node_power_supply_info with the constant 1 and
    those labels that the device has.
    """

    name: ClassVar[str] = "powersupplyclass"

    def __init__(self, sysfs: Path) -> None:
        self._directory = sysfs / "class" / "power_supply"
        self._table = Table("node_power_supply", POWER_SUPPLY_FIELDS)
        self._info = Table("node_power_supply_info", INFO_FIELDS)
        super().__init__((self._table, self._info))

    def _fill(self) -> None:
        self.answered = self._directory.is_dir()
        for name in self._entries(self._directory):
            path, label = f"{self._directory}/{name}", ("power_supply", name)
            files = set(self._entries(path))
            words = [(key, self._word(f"{path}/{key}")) for key in _LABELS if key in files]
            self._info.fill(self._info.add_row((label, *(word for word in words if word[1]))), (1,))
            numbers = [self._integer(f"{path}/{file}") if file in files else None for file in POWER_SUPPLY_FIELDS]
            self._table.fill(self._table.add_row((label,)), numbers)


METRICS = tuple(
    sorted(
        (
            gauge(
                "node_power_supply_info",
                "info of /sys/class/power_supply/<power_supply>.",
                "powersupplyclass",
                Column("node_power_supply_info", "info"),
            ),
            *(
                gauge(
                    f"node_power_supply_{name}",
                    f"{name} value of /sys/class/power_supply/<power_supply>.",
                    "powersupplyclass",
                    Column("node_power_supply", file, unit),
                )
                for name, (file, unit) in _METRICS.items()
            ),
        ),
        key=lambda metric: metric.name,
    )
)

COLLECTOR = Collector(
    PowerSupply.name,
    lambda node: PowerSupply(node.sysfs),
    METRICS,
    row_labels={
        "node_power_supply": ("power_supply",),
        "node_power_supply_info": (
            "power_supply",
            "capacity_level",
            "manufacturer",
            "model_name",
            "status",
            "technology",
            "type",
        ),
    },
)

"""Sensors of the hardware, from /sys/class/hwmon (Documentation/hwmon/sysfs-interface.rst).

A chip has a directory, or its device has, with files such as temp1_input, temp1_label and fan2_alarm.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import Column, Kind, Metric, Sample, Unit, gauge
from pymon.sources.node.attributes import AttributeSource
from pymon.sources.node.hwmon_fields import HWMON_CHIP_FIELDS, HWMON_CHIP_METRICS, HWMON_FIELDS, hwmon_metric
from pymon.sources.node.kernel_text import text
from pymon.sources.node.source import INFO_FIELDS, Collector

_FILE = re.compile(rf"({'|'.join(HWMON_FIELDS)}|freq)([0-9]{{1,9}})(?:_(.+))?")
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9:_]")


class Hwmon(AttributeSource):
    """Tables node_hwmon_<type> {chip, sensor} in the kernel's units, node_hwmon_chip {chip, sensor}, node_hwmon_names
    {chip, chip_name} and node_hwmon_labels {chip, sensor, label}.
    """

    name: ClassVar[str] = "hwmon"

    def __init__(self, sysfs: Path) -> None:
        self._directory = sysfs / "class" / "hwmon"
        self._sensors = {kind: Table(f"node_hwmon_{kind}", fields) for kind, fields in HWMON_FIELDS.items()}
        self._frequencies = Table("node_hwmon_freq", ("input",))
        self._chips = Table("node_hwmon_chip", HWMON_CHIP_FIELDS)
        self._names = Table("node_hwmon_names", INFO_FIELDS)
        self._labels = Table("node_hwmon_labels", INFO_FIELDS)
        super().__init__((*self._sensors.values(), self._frequencies, self._chips, self._names, self._labels))

    def _fill(self) -> None:
        self.answered = self._directory.is_dir()
        for chip, path in self._named().items():
            self._add(chip, path)

    def _named(self) -> dict[str, str]:
        """Return the directories by the label of their chip.

        The label comes from the device, whose path is stable, else from the driver. Where several would have the same
        label, the name of the driver or of the directory is added, as node_exporter does.
        """
        paths = [f"{self._directory}/{name}" for name in self._entries(self._directory)]
        of_device = [(self._device_name(path), _clean(self._word(f"{path}/name")), path) for path in paths]
        devices = Counter(device for device, _, _ in of_device)
        drivers = Counter((device, driver) for device, driver, _ in of_device)
        named: dict[str, str] = {}
        for device, driver, path in of_device:
            unique = driver if driver and drivers[device, driver] == 1 else _clean(Path(path).name)
            named.setdefault(f"{device}_{unique}" if devices[device] > 1 else device, path)
        return named

    def _device_name(self, path: str) -> str:
        link = Path(path, "device")
        device = Path(os.path.realpath(link))
        if link.exists() and _clean(device.name):
            return "_".join(filter(None, (_clean(device.parent.name), _clean(device.name))))
        return _clean(self._word(f"{path}/name")) or _clean(Path(os.path.realpath(path)).name)

    def _add(self, chip: str, path: str) -> None:
        label = ("chip", chip)
        name = _clean(self._word(f"{path}/name"))
        if name:
            self._names.fill(self._names.add_row((label, ("chip_name", name))), (1,))
        found: dict[tuple[str, str], dict[str, bytes]] = {}
        for directory in (path, f"{path}/device"):
            for file in self._entries(directory, _FILE.pattern):
                match = _FILE.fullmatch(file)
                if match and ((match[3] or "") in HWMON_FIELDS.get(match[1], ("input",)) or match[3] == "label"):
                    value = self._attribute(f"{directory}/{file}")
                    if value is not None:
                        found.setdefault((match[1], str(int(match[2]))), {})[match[3] or ""] = value
        for field in HWMON_CHIP_FIELDS:
            numbers = (self._integer(f"{directory}/{field}") for directory in (path, f"{path}/device"))
            number = next((number for number in numbers if number is not None), None)
            if number is not None:
                self._chips.set(self._chips.add_row((label, ("sensor", f"{field}0"))), field, number)
        clocks: set[str] = set()
        for (kind, number_of), values in found.items():
            sensor, words = f"{kind}{number_of}", text(values.pop("label", b""))
            if words:
                self._labels.fill(self._labels.add_row((label, ("sensor", sensor), ("label", words))), (1,))
            if kind != "freq":
                self._add_sensor(self._sensors[kind], (label, ("sensor", sensor)), values)
            elif _clean(words) not in {"", *clocks}:
                # Frequencies are told apart by their label.
                clocks.add(_clean(words))
                self._add_sensor(self._frequencies, (label, ("sensor", _clean(words))), values)

    def _add_sensor(self, table: Table, labels: tuple[tuple[str, str], ...], values: dict[str, bytes]) -> None:
        numbers = [self._number(values.get(field)) for field in table.columns]
        if numbers.count(None) < len(numbers):
            table.fill(table.add_row(labels), numbers)

    @staticmethod
    def _number(word: bytes | None) -> int | None:
        return int(word) if word and re.fullmatch(rb"-?\d{1,18}", word) else None


def _clean(name: str) -> str:
    """Return the name as node_exporter writes it in a label: in lower case, other characters replaced by _."""
    return _NOT_IN_A_NAME.sub("_", name.lower()).strip("_")


def _metric(name: str, kind: Kind, help: str, table: str, key: str, unit: Unit) -> Metric:
    return Metric(name, kind, help, "hwmon", (Sample((Column(table, key, unit),)),))


METRICS = tuple(
    sorted(
        (
            gauge(
                "node_hwmon_chip_names",
                "Annotation metric for human-readable chip names",
                "hwmon",
                Column("node_hwmon_names", "info"),
            ),
            gauge(
                "node_hwmon_sensor_label",
                "Label for given chip and sensor",
                "hwmon",
                Column("node_hwmon_labels", "info"),
            ),
            _metric(
                "node_hwmon_freq_freq_mhz",
                Kind.GAUGE,
                "Hardware monitor for GPU frequency in MHz",
                "node_hwmon_freq",
                "input",
                Unit(decimals=6, signed=True),
            ),
            *(
                _metric(name, Kind.GAUGE, help, "node_hwmon_chip", field, unit)
                for field, (name, help, unit) in HWMON_CHIP_METRICS.items()
            ),
            *(
                _metric(*hwmon_metric(sensor, field)[:3], f"node_hwmon_{sensor}", field, hwmon_metric(sensor, field)[3])
                for sensor, fields in HWMON_FIELDS.items()
                for field in fields
            ),
        ),
        key=lambda metric: metric.name,
    )
)

COLLECTOR = Collector(
    Hwmon.name,
    lambda node: Hwmon(node.sysfs),
    METRICS,
    row_labels={
        "node_hwmon_chip": ("chip", "sensor"),
        "node_hwmon_names": ("chip", "chip_name"),
        "node_hwmon_curr": ("chip", "sensor"),
        "node_hwmon_energy": ("chip", "sensor"),
        "node_hwmon_fan": ("chip", "sensor"),
        "node_hwmon_freq": ("chip", "sensor"),
        "node_hwmon_humidity": ("chip", "sensor"),
        "node_hwmon_in": ("chip", "sensor"),
        "node_hwmon_intrusion": ("chip", "sensor"),
        "node_hwmon_power": ("chip", "sensor"),
        "node_hwmon_pwm": ("chip", "sensor"),
        "node_hwmon_labels": ("chip", "sensor", "label"),
        "node_hwmon_temp": ("chip", "sensor"),
    },
)

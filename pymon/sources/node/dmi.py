"""What the firmware says of the machine, from /sys/class/dmi/id (drivers/firmware/dmi-id.c)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import Column, gauge
from pymon.sources.node.attributes import AttributeSource
from pymon.sources.node.kernel_text import text
from pymon.sources.node.source import INFO_FIELDS, Collector

_FILES = {
    "bios_date": "bios_date",
    "bios_release": "bios_release",
    "bios_vendor": "bios_vendor",
    "bios_version": "bios_version",
    "board_asset_tag": "board_asset_tag",
    "board_name": "board_name",
    "board_serial": "board_serial",
    "board_vendor": "board_vendor",
    "board_version": "board_version",
    "chassis_asset_tag": "chassis_asset_tag",
    "chassis_serial": "chassis_serial",
    "chassis_vendor": "chassis_vendor",
    "chassis_version": "chassis_version",
    "product_family": "product_family",
    "product_name": "product_name",
    "product_serial": "product_serial",
    "product_sku": "product_sku",
    "product_uuid": "product_uuid",
    "product_version": "product_version",
    "system_vendor": "sys_vendor",
}
"""Names of the files in /sys/class/dmi/id by the label that has their text."""


class Dmi(AttributeSource):
    """Table node_dmi: one row with the constant 1. A file that is not there, or that only root can read, has no label.

    The firmware does not change while the kernel runs, so the files are read only once.
    """

    name: ClassVar[str] = "dmi"

    def __init__(self, sysfs: Path) -> None:
        self._directory = sysfs / "class" / "dmi" / "id"
        self._labels: list[tuple[str, str]] = []
        self._table = Table("node_dmi", INFO_FIELDS)
        super().__init__((self._table,))

    def _fill(self) -> None:
        if not self._labels and self._directory.is_dir():
            words = ((label, self._attribute(f"{self._directory}/{file}")) for label, file in _FILES.items())
            self._labels = [(label, text(word)) for label, word in words if word is not None]
            self.problems[:] = [problem for problem in self.problems if problem.reason != "eacces"]
        if self._labels:
            self._table.fill(self._table.add_row(self._labels), (1,))


METRICS = (
    gauge(
        "node_dmi_info",
        f"A metric with a constant '1' value labeled by {', '.join(_FILES)} if provided by DMI.",
        "dmi",
        Column("node_dmi", "info"),
    ),
)

COLLECTOR = Collector(
    Dmi.name,
    lambda node: Dmi(node.sysfs),
    METRICS,
    row_labels={
        "node_dmi": (
            "bios_date",
            "bios_release",
            "bios_vendor",
            "bios_version",
            "board_name",
            "board_vendor",
            "chassis_asset_tag",
            "chassis_vendor",
            "product_family",
            "product_name",
            "product_uuid",
            "system_vendor",
        ),
    },
)

"""Energy that processors have used, from /sys/class/powercap (Documentation/power/powercap/powercap.rst).

Since Linux 5.10 only root can read the counters.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import USEC, Column, counter
from pymon.sources.node.attributes import AttributeSource
from pymon.sources.node.source import Collector

RAPL_ZONES = ("core", "dram", "package", "psys", "uncore")
"""The domains of Intel's and AMD's processors. Zones with other names are left out."""


class Rapl(AttributeSource):
    """Table node_rapl {index, path}: a row for each zone, in microjoules, with a cell in the column of its name."""

    name: ClassVar[str] = "rapl"

    def __init__(self, sysfs: Path) -> None:
        self._directory = sysfs / "class" / "powercap"
        self._table = Table("node_rapl", RAPL_ZONES)
        super().__init__((self._table,))

    def _fill(self) -> None:
        counts: dict[str, int] = {}
        for entry in self._entries(self._directory):
            path = f"{self._directory}/{entry}"
            # package-1 has its number in its name; zones such as dram are counted.
            name, dash, number = self._word(f"{path}/name").partition("-")
            if name not in RAPL_ZONES or (dash and not number.isdecimal()):
                continue
            index = int(number[:9]) if dash else counts.get(name, 0)
            counts[name] = index + 1
            energy = self._integer(f"{path}/energy_uj")
            if energy is not None:
                self._table.set(self._table.add_row((("index", str(index)), ("path", path))), name, energy)


METRICS = tuple(
    counter(
        f"node_rapl_{zone}_joules_total",
        f"Current RAPL {zone} value in joules",
        "rapl",
        Column("node_rapl", zone, USEC),
    )
    for zone in RAPL_ZONES
)

COLLECTOR = Collector(
    Rapl.name,
    lambda node: Rapl(node.sysfs),
    METRICS,
    row_labels={
        "node_rapl": ("index", "path"),
    },
)

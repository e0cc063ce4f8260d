"""Devices of bonds, from /sys/class/net (Documentation/networking/bonding.rst)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import Column, gauge
from pymon.sources.node.attributes import ENTRIES_MAX, AttributeSource
from pymon.sources.node.kernel_text import text
from pymon.sources.node.source import Collector

BONDING_FIELDS = ("slaves", "active")
"""Numbers of devices of a bond, and of those whose link is up."""

_NAME_BYTES = 15
"""The longest name of a device."""


class Bonding(AttributeSource):
    """Table node_bonding {master}: a row for each bond. Without the bonding module there is no data."""

    name: ClassVar[str] = "bonding"

    def __init__(self, sysfs: Path) -> None:
        self._directory = sysfs / "class" / "net"
        self._table = Table("node_bonding", BONDING_FIELDS)
        super().__init__((self._table,))

    def _fill(self) -> None:
        masters = self._attribute(f"{self._directory}/bonding_masters")
        if masters is None:
            return
        self.answered = True
        for master in self._names(masters):
            slaves = self._attribute(f"{self._directory}/{master}/bonding/slaves")
            if slaves is not None:
                states = [self._link(master, slave) for slave in self._names(slaves)]
                self._table.fill(self._table.add_row((("master", master),)), (len(states), states.count("up")))

    def _link(self, master: str, slave: str) -> str:
        """Return the state of a device's link. Before Linux 3.9 its directory had another name."""
        places = (f"{self._directory}/{master}/{kind}_{slave}/bonding_slave/mii_status" for kind in ("lower", "slave"))
        return next(filter(None, map(self._word, places)), "")

    @staticmethod
    def _names(words: bytes) -> list[str]:
        names = dict.fromkeys(text(word) for word in words.split() if len(word) <= _NAME_BYTES)
        return [name for name in names if name.isprintable() and "/" not in name and name not in {".", ".."}][
            :ENTRIES_MAX
        ]


METRICS = (
    gauge(
        "node_bonding_active",
        "Number of active slaves per bonding interface.",
        "bonding",
        Column("node_bonding", "active"),
    ),
    gauge(
        "node_bonding_slaves",
        "Number of configured slaves per bonding interface.",
        "bonding",
        Column("node_bonding", "slaves"),
    ),
)

COLLECTOR = Collector(
    Bonding.name,
    lambda node: Bonding(node.sysfs),
    METRICS,
    row_labels={
        "node_bonding": ("master",),
    },
)

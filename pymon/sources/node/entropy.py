"""The kernel's pool of entropy, from /proc/sys/kernel/random (drivers/char/random.c)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import Column, gauge
from pymon.sources.node.attributes import AttributeSource
from pymon.sources.node.source import Collector

ENTROPY_FIELDS = ("entropy_avail", "poolsize")
"""Both in bits, by name of the file."""


class Entropy(AttributeSource):
    """Table node_entropy: one row, in bits."""

    name: ClassVar[str] = "entropy"

    def __init__(self, procfs: Path) -> None:
        self._directory = procfs / "sys" / "kernel" / "random"
        self._table = Table("node_entropy", ENTROPY_FIELDS)
        super().__init__((self._table,))

    def _fill(self) -> None:
        cells = [self._integer(f"{self._directory}/{name}") for name in ENTROPY_FIELDS]
        if cells.count(None) < len(cells):
            self._table.fill(self._table.add_row(), cells)


METRICS = (
    gauge(
        "node_entropy_available_bits",
        "Bits of available entropy.",
        "entropy",
        Column("node_entropy", "entropy_avail"),
    ),
    gauge("node_entropy_pool_size_bits", "Bits of entropy pool.", "entropy", Column("node_entropy", "poolsize")),
)

COLLECTOR = Collector(Entropy.name, lambda node: Entropy(node.procfs), METRICS)

"""Interrupts, context switches, forks, processes and the boot time, from /proc/stat."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.node_fields import STAT_FIELDS
from pymon.sources.node.source import KeyedSource


class Stat(KeyedSource):
    """Table node_stat: one row; counts, and `btime` in seconds since 1970. Of `intr` it takes the sum."""

    name: ClassVar[str] = "stat"

    def __init__(self, procfs: Path) -> None:
        super().__init__(procfs / "stat", Table("node_stat", STAT_FIELDS))

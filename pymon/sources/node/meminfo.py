"""Memory of the node, from /proc/meminfo."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.node_fields import MEMINFO_COUNT_FIELDS, MEMINFO_KIB_FIELDS
from pymon.sources.node.source import KeyedSource


class Meminfo(KeyedSource):
    """Table node_meminfo: one row; KiB, and pages for the HugePages counts."""

    name: ClassVar[str] = "meminfo"

    def __init__(self, procfs: Path) -> None:
        super().__init__(procfs / "meminfo", Table("node_meminfo", MEMINFO_KIB_FIELDS + MEMINFO_COUNT_FIELDS))

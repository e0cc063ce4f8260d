"""Paging, swapping and kills for want of memory, from /proc/vmstat."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.node_fields import VMSTAT_FIELDS
from pymon.sources.node.source import KeyedSource


class Vmstat(KeyedSource):
    """Table node_vmstat: one row of event counts; `pgpgin` and `pgpgout` are in KiB, the others in pages or events."""

    name: ClassVar[str] = "vmstat"

    def __init__(self, procfs: Path) -> None:
        super().__init__(procfs / "vmstat", Table("node_vmstat", VMSTAT_FIELDS))

"""Statistics of OpenZFS's adaptive replacement cache, from /proc/spl/kstat/zfs/arcstats."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.zfs_fields import ZFS_FIELDS, ZFS_SIGNED
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.source import Collector, NodeSource
from pymon.sources.node.zfs import VALUE_WORD


class Arcstats(NodeSource):
    """Table node_zfs_arcstats: one row of bytes and counts, in the units of OpenZFS."""

    name: ClassVar[str] = "arcstats"

    def __init__(self, procfs: Path) -> None:
        self._file = KernelFile(procfs / "spl" / "kstat" / "zfs" / "arcstats")
        self._table = Table("node_zfs_arcstats", ZFS_FIELDS["arcstats"], ZFS_SIGNED)
        super().__init__((self._table,), (self._file,))

    def _fill(self) -> None:
        data = self._read(self._file, optional=True)
        if data is not None and not self._table.scan_keyed(self._table.add_row(), data, VALUE_WORD):
            self._table.clear()
            self._misread(self._file.path, "lines of name, type and an integer")


COLLECTOR = Collector(Arcstats.name, lambda node: Arcstats(node.procfs), dialect="cmon")

"""The adaptive replacement cache of OpenZFS by itself, from /proc/spl/kstat/zfs/arcstats."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.node_fields import ZFS_FIELDS
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.source import NodeSource
from pymon.sources.node.zfs import VALUE_WORD


class Arcstats(NodeSource):
    """Table node_zfs_arcstats: one row; bytes and counts, as OpenZFS has them."""

    name: ClassVar[str] = "arcstats"

    def __init__(self, procfs: Path) -> None:
        self._file = KernelFile(procfs / "spl" / "kstat" / "zfs" / "arcstats")
        self._table = Table("node_zfs_arcstats", ZFS_FIELDS["arcstats"])
        super().__init__((self._table,), (self._file,))

    def _fill(self) -> None:
        data = self._read(self._file, optional=True)
        if data is not None and not self._table.scan_keyed(self._table.add_row(), data, VALUE_WORD):
            self._table.clear()
            self._misread(self._file.path, "lines of name, type and an integer")

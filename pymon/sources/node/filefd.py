"""Open files of the node, from /proc/sys/fs/file-nr: allocated, free (always 0) and the limit (fs/file_table.c)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import Column, gauge
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.kernel_text import complete_lines, unsigned
from pymon.sources.node.source import Collector, NodeSource

FILEFD_FIELDS = ("allocated", "maximum")

_WORDS = 3


class Filefd(NodeSource):
    """Table node_filefd: one row with the numbers of open files and the limit of them, from /proc/sys/fs/file-nr."""

    name: ClassVar[str] = "filefd"

    def __init__(self, procfs: Path) -> None:
        self._file = KernelFile(procfs / "sys" / "fs" / "file-nr")
        self._table = Table("node_filefd", FILEFD_FIELDS)
        super().__init__((self._table,), (self._file,))

    def _fill(self) -> None:
        data = self._read_text(self._file)
        if data is None:
            return
        numbers = [unsigned(word) for word in (complete_lines(data) or [b""])[0].split()]
        if len(numbers) != _WORDS or None in numbers:
            self._misread(self._file.path, "a line such as '2360 0 97886'")
            return
        self._table.fill(self._table.add_row(), (numbers[0], numbers[2]))


METRICS = (
    gauge(
        "node_filefd_allocated",
        "File descriptor statistics: allocated.",
        "filefd",
        Column("node_filefd", "allocated"),
    ),
    gauge("node_filefd_maximum", "File descriptor statistics: maximum.", "filefd", Column("node_filefd", "maximum")),
)

COLLECTOR = Collector(Filefd.name, lambda node: Filefd(node.procfs), METRICS)

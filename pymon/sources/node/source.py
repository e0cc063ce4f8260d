"""What every collector of the node has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.sources.errors import SourceError
from pymon.sources.kernel_file import KernelFile


class NodeSource(ABC):
    """Fills its tables from files of the node. For one thread at a time.

    name: the collector's name, as its flag spells it.
    tables: what it fills; they are the same objects for its whole life.
    problems: what went wrong in the last collection while the rest could be read.
    """

    name: ClassVar[str]

    def __init__(self, tables: Iterable[Table], files: Iterable[KernelFile] = ()) -> None:
        self.tables = tuple(tables)
        self.problems: list[SourceError] = []
        self._files = tuple(files)

    def collect(self) -> None:
        """Clear the tables and fill them again. SourceError when nothing at all could be had."""
        for table in self.tables:
            table.clear()
        self.problems.clear()
        self._fill()
        if not any(map(len, self.tables)):
            raise self.problems[0] if self.problems else SourceError("nodata", f"{self.name}: no data on this node")

    @abstractmethod
    def _fill(self) -> None:
        """Add rows to the empty tables; append to `problems` what could not be read."""

    def close(self) -> None:
        """Close the files; the next collection opens them again."""
        for file in self._files:
            file.close()

    def _read(self, file: KernelFile, *, optional: bool = False) -> bytes | None:
        """The content of a file; None, and a problem, when it can't be read.

        optional: kernels without it are as good as others, so a missing file is no problem.
        """
        try:
            return file.read()
        except SourceError as error:
            if not (optional and error.reason == "enoent"):
                self.problems.append(error)
            return None

    def _misread(self, path: Path, expected: str) -> None:
        """Note that a file was read but did not hold what was expected."""
        self.problems.append(SourceError("parse", f"{path}: expected {expected}"))


class KeyedSource(NodeSource):
    """One file of ``key value`` lines: one table of one row, whose columns are named as the keys."""

    def __init__(self, path: Path, table: Table) -> None:
        self._file = KernelFile(path)
        self._table = table
        super().__init__((table,), (self._file,))

    def _fill(self) -> None:
        data = self._read(self._file)
        if data is None:
            return
        if not self._table.scan_keyed(self._table.add_row(), data):
            self._table.clear()
            self._misread(self._file.path, f"lines of a key and an integer, such as {self._table.columns[0]!r}")
        elif not data.endswith(b"\n"):
            self._misread(self._file.path, "a newline at the end")

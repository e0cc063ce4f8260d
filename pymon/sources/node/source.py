"""Base classes of the node's collectors."""

from __future__ import annotations

import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import Metric
from pymon.sources.errors import NOT_OFFERED, SourceError
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.adjtimex import Timex, read_timex
from pymon.sources.node.exclusions import DEFAULT_EXCLUSIONS, Exclusions
from pymon.sources.node.unit_choice import DEFAULT_UNITS, UnitChoice

INFO_FIELDS = ("info",)
"""The only column, always 1, of tables that have labels but no values."""


@dataclass(frozen=True, slots=True)
class NodeContext:
    """Environment of the collectors: roots of the node's file systems, clock (nanoseconds since 1970), system calls,
    and what is left out of devices, mounts and units.
    """

    procfs: Path = Path("/proc")
    sysfs: Path = Path("/sys")
    rootfs: Path = Path("/")
    clock: Callable[[], int] = time.time_ns
    statvfs: Callable[[str], os.statvfs_result] = os.statvfs
    adjtimex: Callable[[], tuple[int, Timex]] = read_timex
    exclusions: Exclusions = DEFAULT_EXCLUSIONS
    units: UnitChoice = DEFAULT_UNITS


class NodeSource(ABC):
    """Fills its tables from files of the node. Not safe for concurrent use.

    name: of the collector, as in its flag. tables: the objects never change. seconds: the time that the next collection
    has, infinite for no limit. A source that waits for what may hang waits for less.
    problems: errors of the last collection that did not make all of it fail.
    answered: the kernel has said that there is nothing, so empty tables are an answer.
    """

    name: ClassVar[str]

    def __init__(self, tables: Iterable[Table], files: Iterable[KernelFile] = ()) -> None:
        self.tables = tuple(tables)
        self.seconds = math.inf
        self.problems: list[SourceError] = []
        self.answered = False
        self._files = tuple(files)

    def collect(self) -> None:
        """Clear the tables and fill them again. Raises SourceError when all of them stay empty without an answer."""
        for table in self.tables:
            table.clear()
        self.problems.clear()
        self.answered = False
        self._fill()
        for table in self.tables:
            table.drop_repeated()
        if not any(map(len, self.tables)) and (self.problems or not self.answered):
            raise self.problems[0] if self.problems else SourceError("nodata", f"{self.name}: no data on this node")

    def is_whole(self) -> bool:
        """Return whether the last collection, which succeeded, read its files without an error."""
        return all(problem.reason in NOT_OFFERED for problem in self.problems)

    @abstractmethod
    def _fill(self) -> None:
        """Add rows to the empty tables. Append errors to `problems`. Set `answered` when there are none to add."""

    def close(self) -> None:
        """Close the files. The next collection opens them again."""
        for file in self._files:
            file.close()

    def _read(self, file: KernelFile, *, optional: bool = False) -> bytes | None:
        """Return the content of a file, or add a problem and return None when it cannot be read.

        optional: some kernels do not have the file, so no problem is added when it does not exist.
        """
        try:
            return file.read()
        except SourceError as error:
            if not (optional and error.reason == "enoent"):
                self.problems.append(error)
            return None

    def _expect_no_minus(self, file: KernelFile, data: bytes) -> None:
        """Add a problem if a number in the content of a file is negative, where the kernel's numbers cannot be."""
        if b" -" in data or b"=-" in data:
            self._misread(file.path, "numbers that are not negative")

    def _read_text(self, file: KernelFile, *, optional: bool = False) -> bytes | None:
        """Return the content as `_read` does, and add a problem when its last line was cut off."""
        data = self._read(file, optional=optional)
        if data and not data.endswith(b"\n"):
            self._misread(file.path, "a newline at the end")
        return data

    def _misread(self, path: Path, expected: str) -> None:
        """Add the problem that a file was read but its content is not what was expected."""
        self.problems.append(SourceError("parse", f"{path}: expected {expected}"))


@dataclass(frozen=True, slots=True)
class Collector:
    """A collector of the node.

    name: as in its flag. make: returns a new source for a node. metrics: the families that are made of its tables.
    dialect: the one that it belongs to. row_labels: names of the labels that rows of a table have, for
    the documentation. more_metrics: returns further families, which only this node has. default: whether it is on
    without its flag.
    """

    name: str
    make: Callable[[NodeContext], NodeSource]
    metrics: tuple[Metric, ...] = ()
    dialect: str = "cadvisor"
    row_labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    more_metrics: Callable[[NodeContext], tuple[Metric, ...]] = lambda _: ()
    default: bool = True


class KeyedSource(NodeSource):
    """Collector of a file with ``key value`` lines. It fills one row of a table whose columns are named as the keys."""

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
        elif self._table.malformed:
            self._misread(self._file.path, "integers that are not negative behind the keys")
        elif not data.endswith(b"\n"):
            self._misread(self._file.path, "a newline at the end")

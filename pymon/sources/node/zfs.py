"""ZFS, from /proc/spl/kstat/zfs of OpenZFS on Linux.

Files are named kstats: a line of numbers, a header, and lines of name, type and value:
    6 1 0x01 91 4368 5266997922 97951858082072
    name                            type data
    hits                            4    8772612
A pool is a directory, with `io` (a table of two lines), `state` (one word) and an `objset-0x…` for each dataset.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.node_fields import ZFS_DATASET_FIELDS, ZFS_FIELDS, ZFS_POOL_IO_FIELDS, ZFS_POOL_STATES
from pymon.sources.errors import SourceError
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.kernel_text import complete_lines, text, unsigned
from pymon.sources.node.source import NodeSource

VALUE_WORD = 2
_DATASET_NAME = b"dataset_name"


def parse_pool_io(data: bytes) -> dict[str, int]:
    """Fields of the two-line table, those that are numbers."""
    lines = [line.split() for line in complete_lines(data)]
    names, values = next(
        ((head, line) for head, line in pairwise(lines) if head[:1] == [b"nread"]),
        ([], []),
    )
    numbers = {text(name): unsigned(value) for name, value in zip(names, values, strict=False)}
    return {name: number for name, number in numbers.items() if number is not None}


def parse_dataset_name(data: bytes) -> str | None:
    """The string of the line `dataset_name`, blanks and all."""
    for line in complete_lines(data):
        if line.startswith(_DATASET_NAME):
            words = line.split(None, VALUE_WORD)
            return text(words[VALUE_WORD]) if len(words) > VALUE_WORD else None
    return None


class Zfs(NodeSource):
    """Tables node_zfs_<file> of one row; node_zfs_pool {zpool}; node_zfs_pool_state {zpool}, 1 for the state that the
    pool is in; node_zfs_dataset {zpool, dataset}. Bytes, counts and nanoseconds, as OpenZFS has them.
    """

    name: ClassVar[str] = "zfs"

    def __init__(self, procfs: Path) -> None:
        self._root = procfs / "spl" / "kstat" / "zfs"
        self._node = [
            (KernelFile(self._root / name), Table(f"node_zfs_{name}", fields)) for name, fields in ZFS_FIELDS.items()
        ]
        self._pools = Table("node_zfs_pool", ZFS_POOL_IO_FIELDS)
        self._states = Table("node_zfs_pool_state", ZFS_POOL_STATES)
        self._datasets = Table("node_zfs_dataset", ZFS_DATASET_FIELDS)
        super().__init__(
            (*(table for _, table in self._node), self._pools, self._states, self._datasets),
            (file for file, _ in self._node),
        )

    def _fill(self) -> None:
        try:
            pools = sorted(entry.name for entry in self._root.iterdir() if entry.is_dir())
        except FileNotFoundError:
            raise SourceError("nodata", f"{self._root}: not there, so ZFS is not loaded") from None
        except OSError as error:
            raise SourceError.from_os_error(self._root, error) from None
        for file, table in self._node:
            # Each release of ZFS has its own set of files.
            data = self._read(file, optional=True)
            if data is not None and not table.scan_keyed(table.add_row(), data, VALUE_WORD):
                table.clear()
                self._misread(file.path, "lines of name, type and an integer")
        for pool in pools:
            self._fill_pool(pool)

    def _fill_pool(self, pool: str) -> None:
        zpool = ("zpool", pool)
        io = self._read_once(self._root / pool / "io")
        if io is not None:
            fields = parse_pool_io(io)
            if fields:
                self._pools.fill(self._pools.add_row((zpool,)), [fields.get(name) for name in ZFS_POOL_IO_FIELDS])
            else:
                self._misread(self._root / pool / "io", "a line of names from 'nread' on, and a line of integers")
        state = self._read_once(self._root / pool / "state")
        if state is not None:
            word = text(state.strip()).lower()
            if word:
                self._states.fill(self._states.add_row((zpool,)), [int(word == name) for name in ZFS_POOL_STATES])
            else:
                self._misread(self._root / pool / "state", f"a word such as {ZFS_POOL_STATES[0].upper()}")
        for name in self._objsets(pool):
            data = self._read_once(self._root / pool / name)
            if data is None:
                continue
            dataset = parse_dataset_name(data)
            if dataset is None:
                self._misread(self._root / pool / name, "a line 'dataset_name 7 NAME'")
                continue
            self._datasets.scan_keyed(self._datasets.add_row((zpool, ("dataset", dataset))), data, VALUE_WORD)

    def _objsets(self, pool: str) -> list[str]:
        try:
            return sorted(entry.name for entry in (self._root / pool).iterdir() if entry.name.startswith("objset-"))
        except OSError as error:
            self.problems.append(SourceError.from_os_error(self._root / pool, error))
            return []

    def _read_once(self, path: Path) -> bytes | None:
        """A file of a pool. They come and go with pools and datasets, and there may be thousands: none stays open."""
        file = KernelFile(path)
        try:
            return self._read(file, optional=True)
        finally:
            file.close()

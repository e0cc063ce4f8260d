"""The files /proc/net/rpc/nfs and nfsd: lines of a name, then numbers (net/sunrpc/stats.c).

rpc 1218785755 374636 1218815394
proc2 18 16 57 74 ...

Lines that count the calls of procedures begin with the number of procedures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pymon._native.table import Table
from pymon.catalogue.model import Column, Sample
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.kernel_text import complete_lines, text, unsigned
from pymon.sources.node.source import NodeSource

Place = tuple[str, int]
"""Name of a line and place in it."""


def parse_rpc(data: bytes, places: Iterable[Place]) -> list[int | None]:
    """Return the numbers at these places. One that is not there, as in old kernels, or is not an integer is None."""
    lines = {text(words[0]): words[1:] for words in map(bytes.split, complete_lines(data)) if words}
    found = (lines.get(line, [])[at : at + 1] for line, at in places)
    return [unsigned(words[0]) if words else None for words in found]


def places_of(line: str, version: str, procedures: Iterable[str], first: int = 0) -> dict[str, Place]:
    """Return the place of each procedure, as VERSION NAME. first: the number of the first one."""
    return {f"{version} {name}": (line, at) for at, name in enumerate(procedures, first + 1)}


def calls(table: str, procedures: Iterable[tuple[str, Iterable[str]]]) -> Iterator[Sample]:
    """Return a sample for each procedure of each version, with the labels `proto` and `method`."""
    for version, names in procedures:
        for name in names:
            yield Sample((Column(table, f"{version} {name}"),), (("proto", version), ("method", name)))


class RpcSource(NodeSource):
    """One row of the numbers at places of a file. The file is there while the module that counts is loaded.

    example: a line that the file has, for the message when it has none that is known.
    """

    def __init__(self, path: Path, table: str, places: Mapping[str, Place], example: str) -> None:
        self._file = KernelFile(path)
        self._table = Table(table, tuple(places))
        self._places = places
        self._example = example
        super().__init__((self._table,), (self._file,))

    def _fill(self) -> None:
        data = self._read_text(self._file, optional=True)
        if data is None:
            return
        cells = parse_rpc(data, self._places.values())
        if cells.count(None) == len(cells):
            self._misread(self._file.path, f"lines such as '{self._example}'")
        else:
            self._table.fill(self._table.add_row(), cells)

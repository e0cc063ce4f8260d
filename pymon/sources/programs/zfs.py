"""Space of the zones' datasets, from one `zfs list` for all zones.

    zones/54f1cc77-68f1-42ab-acac-5c4f64f5d6e0	10212876288	524541952	…	1.53x	1.53x

Fields are separated by tabs (`-H`), and numbers are exact (`-p`). `-` means that a dataset does not have the property.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.program_fields import ZFS_FIELDS, ZFS_RATIO_FIELDS, ZFS_TABLE
from pymon.sources.node.kernel_text import text
from pymon.sources.programs.background import Problems, Program, Run
from pymon.sources.programs.numbers import hundredths, unsigned
from pymon.sources.programs.process import shown

LIMIT_BYTES = 32 << 20
"""Limit of the output: enough for more datasets than a node has, with twenty fields of twenty digits each."""

Space = dict[str, tuple[int | None, ...]]
"""Fields of each dataset in the order of ZFS_FIELDS, by the dataset's name below the parent."""


def parse_list(output: str, parent: str, problems: Problems) -> Space:
    """Return the datasets directly below `parent`, whose names are those of their zones."""
    space: Space = {}
    *lines, rest = output.split("\n")
    if rest:
        problems.misread("last line", "a newline at its end", rest)
    prefix = f"{parent}/"
    for line in lines:
        name, *words = line.split("\t")
        if len(words) != len(ZFS_FIELDS):
            problems.misread(shown(name), f"{len(ZFS_FIELDS)} fields behind the name", str(len(words)))
            continue
        zone = name.removeprefix(prefix)
        if zone != name and "/" not in zone:
            cells = tuple(_cell(field, word, zone, problems) for field, word in zip(ZFS_FIELDS, words, strict=True))
            space.setdefault(zone, cells)
    return space


def _cell(field: str, word: str, zone: str, problems: Problems) -> int | None:
    if word == "-":
        return None
    ratio = field in ZFS_RATIO_FIELDS
    value = hundredths(word) if ratio else unsigned(word)
    if value is None:
        problems.misread(f"{zone}: {field}", "a ratio as 1.53x" if ratio else "bytes", word)
    return value


class Zfs(Program[Space]):
    """Table zfs: row i belongs to the zone of row i. Sizes are in bytes, ratios in hundredths."""

    name: ClassVar[str] = "zfs"
    ttl_seconds: ClassVar[float] = 300.0
    deadline_seconds: ClassVar[float] = 30.0

    def __init__(
        self,
        *,
        parent: str = "zones",
        directories: Sequence[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """parent: the dataset that holds one dataset per zone, with the zone's name."""
        self._table = Table(ZFS_TABLE, ZFS_FIELDS)
        super().__init__((self._table,), directories=directories, clock=clock)
        self._parent = parent
        self._rows: dict[str, int] = {}
        self._missing: set[int] = set()

    def _query(self, run: Run, problems: Problems) -> Space:
        fields = ",".join(("name", *ZFS_FIELDS))
        argv = ("zfs", "list", "-H", "-p", "-t", "filesystem", "-d", "1", "-o", fields, self._parent)
        return parse_list(text(run.output(*argv, limit_bytes=LIMIT_BYTES)), self._parent, problems)

    def _publish(self, result: Space, rows: Mapping[str, int], *, new: bool) -> tuple[int, ...]:
        """See Program. Only zones that came or went are processed, when the result is not new."""
        if new:
            self._table.clear()
            self._rows, self._missing = {}, set()
        if rows != self._rows:
            for _, row in self._rows.items() - rows.items():
                self._table.unset(row)
                self._missing.discard(row)
            self._table.grow(max(rows.values(), default=-1) + 1)
            for zone, row in rows.items() - self._rows.items():
                if (space := result.get(zone)) is not None:
                    self._table.fill(row, space)
                else:
                    self._missing.add(row)
            self._rows = dict(rows)
        return tuple(sorted(self._missing))

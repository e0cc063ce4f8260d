"""Pools, from `zpool list`: a tab-separated line per pool, as ``zones	4612542464	12%	ONLINE	16911433728``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.program_fields import ZPOOL_FIELDS, ZPOOL_HEALTH, ZPOOL_TABLE
from pymon.sources.node.kernel_text import text
from pymon.sources.programs.background import Problems, Program, Run
from pymon.sources.programs.numbers import unsigned
from pymon.sources.programs.process import shown

Pools = dict[str, tuple[int | None, ...]]
"""Fields of each pool in the order of ZPOOL_FIELDS, by the pool's name."""


def parse_list(output: str, problems: Problems) -> Pools:
    """Return all pools. Lines that cannot be parsed are added to `problems`."""
    pools: Pools = {}
    *lines, rest = output.split("\n")
    if rest:
        problems.misread("last line", "a newline at its end", rest)
    for line in lines:
        pool, *words = line.split("\t")
        if len(words) != len(ZPOOL_FIELDS):
            problems.misread(shown(pool), f"{len(ZPOOL_FIELDS)} fields behind the name", str(len(words)))
            continue
        cells = tuple(_cell(field, word, pool, problems) for field, word in zip(ZPOOL_FIELDS, words, strict=True))
        pools.setdefault(pool, cells)
    return pools


def _cell(field: str, word: str, pool: str, problems: Problems) -> int | None:
    word = word.strip()  # some releases pad numbers in spite of -H
    if word == "-":
        return None
    if field == "health":
        return ZPOOL_HEALTH.index(word) if word in ZPOOL_HEALTH else -1
    value = unsigned(word.removesuffix("%") if field == "fragmentation" else word)
    if value is None:
        problems.misread(f"{pool}: {field}", "an integer", word)
    return value


class Zpool(Program[Pools]):
    """Table zpool_list {pool}: sizes in bytes, fragmentation in percent, health as an index of ZPOOL_HEALTH or -1."""

    name: ClassVar[str] = "zpool"
    ttl_seconds: ClassVar[float] = 30.0
    deadline_seconds: ClassVar[float] = 10.0

    def __init__(
        self, *, directories: Sequence[str] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._table = Table(ZPOOL_TABLE, ZPOOL_FIELDS)
        super().__init__((self._table,), directories=directories, clock=clock)

    def _query(self, run: Run, problems: Problems) -> Pools:
        return parse_list(text(run.output("zpool", "list", "-Hpo", ",".join(("name", *ZPOOL_FIELDS)))), problems)

    def _publish(self, result: Pools, rows: Mapping[str, int], *, new: bool) -> tuple[int, ...]:  # noqa: ARG002
        if new:
            self._table.clear()
            for pool, fields in result.items():
                self._table.fill(self._table.add_row((("pool", pool),)), fields)
        return ()

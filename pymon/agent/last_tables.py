"""The tables that collections of containers filled last, and the kills of earlier runs, which are added to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymon.catalogue.cadvisor import METRICS
from pymon.catalogue.stopped import LAST
from pymon.sources.last_numbers import Numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pymon._native.table import Table
    from pymon.catalogue.model import Column

_NS_DECIMALS = 9


def _columns(key: str) -> tuple[Column, ...]:
    """Return the columns that a number comes from while its container runs, and their units."""
    metric = next(last.metric for last in LAST if last.key == key)
    samples = next(one.samples for one in METRICS if one.name == metric)
    return tuple(
        column for sample in samples for column in sample.columns if not column.table.startswith(("kstat", "percpu"))
    )


_SOURCES = {key: _columns(key) for key in Numbers._fields}
_KILLS = {column.table: column.key for column in _SOURCES["oom_kills"]}


class LastTables:
    """The tables that the last two collections filled, by name, with the times when they began.

    The last one may have found a cgroup gone of which the one before has the numbers.
    """

    def __init__(self) -> None:
        self._tables: dict[str, list[tuple[Table, float, Mapping[int, int]]]] = {}

    def lend(self, tables: Iterable[Table]) -> None:
        """Forget tables, which are being filled again."""
        for table in tables:
            kept = self._tables.get(table.name, [])
            self._tables[table.name] = [one for one in kept if one[0] is not table]

    def keep(self, tables: Iterable[Table], begun: float, kills: Mapping[int, int]) -> None:
        """Take over tables of a collection that began at a time, on the clock of time.monotonic().

        kills: what `add_kills` has added to them.
        """
        for table in tables:
            self._tables[table.name] = [(table, begun, kills), *self._tables.get(table.name, [])[:1]]

    def numbers(self, row: int, since: float) -> Numbers:
        """Return what was read last of a row, as far as that collection began after a time, without earlier kills."""
        found: dict[str, int] = {}
        for name, columns in _SOURCES.items():
            for column in columns:
                value = self._last(column, row, since, less_kills=name == "oom_kills")
                if value is not None:
                    found[name] = value * (10 ** (_NS_DECIMALS - column.unit.decimals) if name.endswith("_ns") else 1)
                    break
        return Numbers(**found)

    def _last(self, column: Column, row: int, since: float, *, less_kills: bool) -> int | None:
        for table, begun, kills in self._tables.get(column.table, []):
            if begun < since or row >= len(table) or column.key not in table.columns:
                continue
            value = table.get(row, column.key)
            if value is not None:
                return value - kills.get(row, 0) if less_kills else value
        return None


def add_kills(tables: Iterable[Table], kills: Mapping[int, int]) -> None:
    """Add numbers of killed processes to the rows of tables."""
    if not kills:
        return
    for table in tables:
        key = _KILLS.get(table.name)
        if key is None or key not in table.columns:
            continue
        for row, count in kills.items():
            if row < len(table) and (value := table.get(row, key)) is not None:
                table.set(row, key, value + count)

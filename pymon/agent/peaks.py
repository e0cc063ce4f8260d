"""The highest rates of containers in the last seconds, for the collector container_peaks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pymon._native.peaks import Peaks
from pymon.agent.sampler import Sampler
from pymon.catalogue.peaks import COLUMNS, COUNTERS, TABLE, WINDOWS_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pymon._native.table import Table

_MILLIONTHS = 1e6


class PeakSampler(Sampler):
    """Samples of counters, of which the table has the highest rates."""

    def __init__(
        self,
        layout: Mapping[str, tuple[str, ...]],
        rows: Callable[[], int],
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """layout: the columns of the tables that can be read. rows: returns the number of rows of containers."""
        super().__init__(TABLE, COLUMNS, rows, clock_ns=clock_ns)
        self._sources = [
            next((column for column in counter.columns if column.key in layout.get(column.table, ())), None)
            for counter in COUNTERS
        ]
        self._peaks = Peaks(len(COUNTERS))

    @property
    def tables(self) -> frozenset[str]:
        """The tables that a sample is taken of."""
        return frozenset(column.table for column in self._sources if column is not None)

    def _note(self, tables: Mapping[str, Table], rows: int, now_ns: int) -> None:
        for number, column in enumerate(self._sources):
            if column is not None and column.table in tables:
                scale = _MILLIONTHS / 10**column.unit.decimals
                self._peaks.take(number, tables[column.table], column.key, rows, now_ns, scale)

    def _forget(self, row: int) -> None:
        self._peaks.forget(row)

    def _write(self, table: Table, rows: int, now_ns: int) -> None:
        self._peaks.write(table, rows, WINDOWS_SECONDS, now_ns)

"""Load averages of containers, for the collector container_tasks."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from pymon._native.loads import Loads
from pymon.agent.sampler import FRESH_SECONDS, Sampler
from pymon.catalogue.load import COLUMNS, SOURCE, TABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pymon._native.table import Table

_DECAY_SECONDS = 10.0
"""The time in which what an average was loses all but 1/e of its weight, as in cAdvisor."""


class LoadSampler(Sampler):
    """Samples of threads by state, of which the table has averages."""

    def __init__(self, rows: Callable[[], int], *, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        super().__init__(TABLE, COLUMNS, rows, clock_ns=clock_ns)
        self._loads = Loads(len(COLUMNS))
        self._noted_ns: int | None = None

    @property
    def tables(self) -> frozenset[str]:
        """The table that a sample is taken of."""
        return frozenset((SOURCE,))

    def _note(self, tables: Mapping[str, Table], rows: int, now_ns: int) -> None:
        table = tables.get(SOURCE)
        if table is None:  # it was late
            return
        passed = math.inf if self._noted_ns is None else (now_ns - self._noted_ns) / 1e9
        # After a longer time without samples averages begin anew.
        keep = math.exp(-passed / _DECAY_SECONDS) if passed <= FRESH_SECONDS else 0.0
        self._loads.take(table, COLUMNS, rows, keep)
        self._noted_ns = now_ns

    def _forget(self, row: int) -> None:
        self._loads.forget(row)

    def _write(self, table: Table, rows: int, now_ns: int) -> None:
        if self._noted_ns is None or now_ns - self._noted_ns > FRESH_SECONDS * 1e9:
            table.clear()
        else:
            self._loads.write(table, rows)

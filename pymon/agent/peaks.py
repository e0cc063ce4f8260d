"""Samples of containers between scrapes, for the collector container_peaks."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING

from pymon._native.peaks import Peaks
from pymon._native.table import Table
from pymon.catalogue.peaks import COLUMNS, COUNTERS, TABLE, WINDOWS_SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Read = Callable[[frozenset[str], Callable[[Mapping[str, Table]], None], float], Awaitable[None]]

_log = logging.getLogger(__name__)

INTERVAL_SECONDS = 1.0

FRESH_SECONDS = 5.0
"""The last sample is told as long as it is not older."""

_MILLIONTHS = 1e6


class PeakSampler:
    """Takes a sample every second. The table of the last one is never changed, so it can be read at any time.

    A row that has been given to another container since the last sample began has no peaks until the next one, and that
    sample is not used for it: its tables may have been read before the row was given away.
    """

    def __init__(
        self,
        layout: Mapping[str, tuple[str, ...]],
        rows: Callable[[], int],
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """layout: the columns of the tables that can be read. rows: returns the number of rows of containers."""
        self._sources = [
            next((column for column in counter.columns if column.key in layout.get(column.table, ())), None)
            for counter in COUNTERS
        ]
        self._rows = rows
        self._clock_ns = clock_ns
        self._peaks = Peaks(len(COUNTERS))
        self._lock = threading.Lock()
        self._gone: set[int] = set()
        self._leaving: frozenset[int] = frozenset()
        self._last = Table(TABLE, COLUMNS)
        self._spare = Table(TABLE, COLUMNS)
        self._taken_ns: int | None = None

    @property
    def tables(self) -> frozenset[str]:
        """The tables that a sample is taken of."""
        return frozenset(column.table for column in self._sources if column is not None)

    @property
    def table(self) -> Table | None:
        """The peaks by row as of the last sample, None if there was none lately."""
        with self._lock:
            last, gone = self._fresh(), self._gone | self._leaving
        if last is None or not gone:
            return last
        table = Table(TABLE, COLUMNS)
        table.assign(last)
        for row in gone:
            if row < len(table):
                table.unset(row)
        return table

    def copy_row(self, row: int, target: Table) -> None:
        """Make a table one row, that of a container; or none where there are no peaks of it."""
        with self._lock:
            last, is_gone = self._fresh(), row in self._gone or row in self._leaving
        if last is None or is_gone or row >= len(last):
            target.clear()
        else:
            target.assign_row(last, row)

    def _fresh(self) -> Table | None:
        if self._taken_ns is None or self._clock_ns() - self._taken_ns > FRESH_SECONDS * 1e9:
            return None
        return self._last

    def forget(self, row: int) -> None:
        """Forget what was in a row."""
        with self._lock:
            self._gone.add(row)

    def take(self, tables: Mapping[str, Table]) -> None:
        """Take a sample. Runs on a worker thread."""
        with self._lock:
            self._leaving |= self._gone
            self._gone = set()
        now_ns, rows = self._clock_ns(), self._rows()
        for number, column in enumerate(self._sources):
            if column is not None and column.table in tables:
                scale = _MILLIONTHS / 10**column.unit.decimals
                self._peaks.take(number, tables[column.table], column.key, rows, now_ns, scale)
        for row in self._leaving:
            self._peaks.forget(row)
        self._peaks.write(self._spare, rows, WINDOWS_SECONDS, now_ns)
        with self._lock:
            self._last, self._spare = self._spare, self._last
            self._taken_ns = now_ns
            self._leaving = frozenset()

    async def run(self, read: Read) -> None:
        """Take samples until cancelled. read: `AgentCollection.read`."""
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            try:
                await read(self.tables, self.take, INTERVAL_SECONDS)
            except Exception as error:  # noqa: BLE001  # the next sample may succeed
                _log.debug("no sample: %r", error)
            await asyncio.sleep(max(0.1, begun + INTERVAL_SECONDS - loop.time()))

"""Samples of containers between scrapes."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from typing import TYPE_CHECKING

from pymon._native.table import Table

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from pymon.agent.disk import Listed

    Read = Callable[[frozenset[str], Callable[[Mapping[str, Table]], None], float], Awaitable[None]]

_log = logging.getLogger(__name__)

INTERVAL_SECONDS = 1.0

FRESH_SECONDS = 5.0
"""The last sample is told as long as it is not older."""


class Sampler(ABC):
    """Takes a sample every second. The table of the last one is never changed, so it can be read at any time.

    A row that has been given to another container since the last sample began is absent until the next one, and that
    sample is not used for it: its tables may have been read before the row was given away.
    name, columns: of the table.
    """

    def __init__(
        self,
        name: str,
        columns: Sequence[str],
        rows: Callable[[], int],
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """rows: returns the number of rows of containers."""
        self.name = name
        self.columns = tuple(columns)
        self._rows = rows
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._gone: set[int] = set()
        self._leaving: frozenset[int] = frozenset()
        self._last = self.new_table()
        self._spare = self.new_table()
        self._taken_ns: int | None = None

    def new_table(self) -> Table:
        """Return an empty table."""
        return Table(self.name, self.columns)

    @property
    @abstractmethod
    def tables(self) -> frozenset[str]:
        """The tables that a sample is taken of."""

    @property
    def failures(self) -> Mapping[str, int]:
        """How often parts of the last sample could not be taken, by reason."""
        return {}

    @abstractmethod
    def _note(self, tables: Mapping[str, Table], rows: int, now_ns: int) -> None:
        """Take in what was read now."""

    @abstractmethod
    def _forget(self, row: int) -> None:
        """Forget the container of a row, after `_note`."""

    @abstractmethod
    def _write(self, table: Table, rows: int, now_ns: int) -> None:
        """Make a table anew, with a row for each container."""

    @property
    def table(self) -> Table | None:
        """The last sample by row, None if there was none lately."""
        with self._lock:
            last, gone = self._fresh(), self._gone | self._leaving
        if last is None or not gone:
            return last
        table = self.new_table()
        table.assign(last)
        for row in gone:
            if row < len(table):
                table.unset(row)
        return table

    def copy_row(self, row: int, target: Table) -> None:
        """Make a table one row, that of a container; or none where there is no sample of it."""
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
        self._note(tables, rows, now_ns)
        for row in self._leaving:
            self._forget(row)
        self._write(self._spare, rows, now_ns)
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


class ListedSampler(Sampler):
    """A sampler that reads files of the containers by itself, and nothing of the readers."""

    def __init__(
        self,
        name: str,
        columns: Sequence[str],
        containers: Callable[[], list[Listed]],
        rows: Callable[[], int],
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """containers: returns those that are there; called on the loop."""
        super().__init__(name, columns, rows, clock_ns=clock_ns)
        self._containers = containers
        self._listed: list[Listed] = []
        self._failures: Counter[str] = Counter()
        self._in_use = threading.Lock()
        self._has_ended = False

    @property
    def tables(self) -> frozenset[str]:
        """Nothing that readers read is needed for a sample."""
        return frozenset()

    @property
    def failures(self) -> Mapping[str, int]:
        """Why containers have no numbers in the last sample, counted by reason."""
        return self._failures

    def take(self, tables: Mapping[str, Table]) -> None:
        """Take a sample. Runs on a worker thread."""
        with self._in_use:
            if not self._has_ended:
                super().take(tables)
        if self._has_ended:
            self._end()

    async def run(self, read: Read) -> None:  # noqa: ARG002 - nothing is read from the readers
        """Take samples until cancelled, then close what is open."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                begun = loop.time()
                self._listed = self._containers()
                try:
                    await asyncio.to_thread(self.take, {})
                except Exception as error:  # noqa: BLE001  # the next sample may succeed
                    _log.debug("no sample: %r", error)
                await asyncio.sleep(max(0.1, begun + INTERVAL_SECONDS - loop.time()))
        finally:
            self._end()

    def _end(self) -> None:
        """Close the files: here, or on the thread after the sample that it takes. A number of a descriptor that is
        closed under it may be that of another file by then.
        """
        self._has_ended = True
        if self._in_use.acquire(blocking=False):
            try:
                self._close()
            finally:
                self._in_use.release()

    def _close(self) -> None:
        """Close what is kept open between samples. May be called again."""

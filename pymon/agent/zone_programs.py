"""Background programs that measure zones or their node: when they run, and how they appear in the status tables."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pymon.catalogue.kstat_fields import NODE_STATUS, ZONE_STATUS
from pymon.sources.programs import Filled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pymon._native.table import Table
    from pymon.sources.programs import Program

FRESH_SECONDS = 1.0
"""A scrape of one zone uses program results that were put into the tables less than this long ago."""

_CLOCK = Filled(available=True, cached=False, timer_ns=0, problems=())


class ZonePrograms:
    """Programs and their last results. `start`, `prime` and `close` are for the loop, the rest for one thread."""

    def __init__(self, programs: Sequence[Program[Any]]) -> None:
        self._programs = tuple(programs)
        self._filled: dict[str, Filled] = {}
        self._filled_at: dict[str, float] = {}
        self._problems: dict[str, dict[str, int]] = {}
        self._ended = asyncio.Event()

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables that the programs fill."""
        return tuple(table for program in self._programs for table in program.tables)

    def start(self) -> None:
        """Start the programs' threads. A program then runs when a collection asks for its results."""
        loop = asyncio.get_running_loop()
        for program in self._programs:
            program.start(lambda: _wake(loop, self._ended))

    async def prime(self, seconds: float) -> None:
        """Ask for every program's results, and wait until no program runs, for at most `seconds`."""
        now = time.monotonic()
        for program in self._programs:
            program.refresh_due(now)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while any(program.busy for program in self._programs):
                    self._ended.clear()
                    await self._ended.wait()

    def close(self) -> None:
        """Kill running programs and end their threads."""
        for program in self._programs:
            program.close()

    def fill(self, now: float, collectors: frozenset[str], rows: Mapping[str, int]) -> None:
        """Put the last results of these collectors into their tables, and ask for newer ones.

        now: seconds on the clock of time.monotonic(). rows: rows of the zones by zone name.
        """
        for program in self._programs:
            if program.name in collectors:
                program.refresh_due(now)
                filled = self._filled[program.name] = program.fill(now, rows)
                self._filled_at[program.name] = now
                for problem in filled.problems:
                    counts = self._problems.setdefault(program.name, {})
                    counts[problem.reason] = counts.get(problem.reason, 0) + 1

    def refresh(self, now: float, collectors: frozenset[str], rows: Mapping[str, int]) -> None:
        """Like `fill`, but only for collectors whose last `fill` is at least `FRESH_SECONDS` ago."""
        fresh = {name for name, filled_at in self._filled_at.items() if now - filled_at < FRESH_SECONDS}
        self.fill(now, collectors - fresh, rows)

    @property
    def silent(self) -> frozenset[str]:
        """Names of the programs that had no result at their last `fill`."""
        return frozenset(name for name, filled in self._filled.items() if not filled.available)

    def take_problems(self) -> dict[str, dict[str, int]]:
        """Return the number of problems since the last call, by collector and reason."""
        problems, self._problems = self._problems, {}
        return problems

    def tell(self, zones: Table, rows: Iterable[int], collectors: frozenset[str], *, stamp: bool) -> None:
        """Put the status of these collectors into the status table of zones.

        rows: of the zones. stamp: rows of zones already have cells, so a column can be set in all of them at once.
        """
        for name, filled in self._told(collectors):
            for column, value in _status(name, filled):
                if column not in ZONE_STATUS:
                    continue
                if stamp:
                    zones.stamp(column, value)
                else:
                    for row in rows:
                        zones.set(row, column, value)
            for row in filled.missing:
                zones.set(row, f"{name}:available", 0)

    def tell_one(self, status: Table, row: int, collectors: frozenset[str]) -> None:
        """Put the status of these collectors for one zone into a table with one row. row: the zone's own row."""
        for name, filled in self._told(collectors):
            for column, value in _status(name, filled):
                if column in ZONE_STATUS:
                    status.set(0, column, value)
            if row in filled.missing:
                status.set(0, f"{name}:available", 0)

    def tell_node(self, node: Table, collectors: frozenset[str]) -> None:
        """Put the status of these collectors for the node into its status table, which has one row."""
        for name, filled in self._told(collectors):
            for column, value in _status(name, filled):
                if column in NODE_STATUS:
                    # A collector may also read kstats, as zpool does, which have set the cell already.
                    node.set(0, column, max(value, node.get(0, column) or 0))

    def _told(self, collectors: frozenset[str]) -> Iterator[tuple[str, Filled]]:
        for name, filled in (*self._filled.items(), ("time", _CLOCK)):
            if name in collectors:
                yield name, filled


def _status(name: str, filled: Filled) -> tuple[tuple[str, int], ...]:
    return (
        (f"{name}:available", int(filled.available)),
        (f"{name}:cached", int(filled.cached)),
        (f"{name}:timer_ns", filled.timer_ns),
    )


def _wake(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    loop.call_soon_threadsafe(event.set)

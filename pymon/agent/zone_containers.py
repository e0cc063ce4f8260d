"""Zones by their kstats: one thread that owns the handle of libkstat, and what a scrape asks of it."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from pymon._native.renderer import Labels
from pymon._native.table import Table
from pymon.agent.containers import ContainerCollector, Gathered, One, Outcome
from pymon.agent.handle_thread import HandleThread
from pymon.agent.zone_programs import ZonePrograms
from pymon.catalogue.kstat_fields import ZONE_COLLECTORS
from pymon.catalogue.program_fields import ZFS_TABLE
from pymon.sources.errors import SourceError
from pymon.sources.kstat import NODE_STATUS_TABLE, STATUS_TABLE, Change, ZoneAppeared, ZoneGone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pymon.agent.zones import ZoneRegistry
    from pymon.containers.zones import ZoneDetails
    from pymon.sources.kstat import KstatReader, LinkAppeared
    from pymon.sources.programs import Program

KSTAT = "kstat"
"""The name that what goes wrong with kstats is counted under, whichever collector they are for."""

POLL_SECONDS = 1.0
"""The chain is looked at this often for zones that came or went while nobody scraped."""

STAMPS_AT_ONCE = 500
"""Zones whose configuration is looked at in one poll for changes."""

LOOK_SECONDS = 0.05
"""A poll looks no longer: scrapes wait for it."""

UNREAD_POLL_SECONDS = 0.01
"""Between polls while there are configurations that have not been read."""

PATIENCE_SECONDS = 0.5
"""An agent that serves reads configurations so long before it answers, and the others while it does."""


class _Changed(NamedTuple):
    """A zone and what is written of it; None where it has gone. read: not just the outline."""

    row: int
    zone: ZoneAppeared | None
    details: ZoneDetails | None
    read: bool


class _Wish(NamedTuple):
    """What is to be read: tables, and the collectors that they are for."""

    tables: frozenset[str]
    collectors: frozenset[str]


class _Collected(NamedTuple):
    """What a call on the thread came to.

    changed: what the loop has to tell the registry. unread: zones whose configuration has not been read yet.
    failures: of kstats, by reason. problems: of programs, by program.
    silent: programs that had nothing to say.
    """

    changed: Sequence[_Changed]
    unread: int
    seconds: float
    failures: Mapping[str, int]
    problems: Mapping[str, Mapping[str, int]]
    silent: frozenset[str]
    error: SourceError | None


class ZoneConfiguration(NamedTuple):
    """How to read what is written of zones. refresh: read what is common to them anew. outline: what that says."""

    refresh: Callable[[], None]
    outline: Callable[[str], ZoneDetails]
    describe: Callable[[str], ZoneDetails]
    stamp: Callable[[str], tuple[int, ...]]


class ZoneContainers:
    """Implements `pymon.agent.containers.Containers` over the kstats of zones and of the node."""

    def __init__(
        self,
        reader: KstatReader,
        registry: ZoneRegistry,
        configuration: ZoneConfiguration,
        programs: Sequence[Program[Any]],
        collectors: Sequence[ContainerCollector],
        *,
        patience_seconds: float,
    ) -> None:
        """patience_seconds: after which no more configurations are read here; those that are left are after `start`.

        Raises SourceError when the chain cannot be read.
        """
        self.layout: Mapping[str, tuple[str, ...]] = {
            "container": registry.table.columns,
            **reader.layout,
            **{table.name: table.columns for program in programs for table in program.tables},
        }
        self.collectors = tuple(collectors)
        self._reader = reader
        self._registry = registry
        self._configuration = configuration
        self._programs = ZonePrograms(programs)
        self._tables = {table.name: table for table in (*reader.tables, *self._programs.tables)}
        self._of_programs = tuple(name for name in (ZFS_TABLE,) if name in self.layout)
        self._rows: dict[str, int] = {}
        self._zones: dict[int, ZoneAppeared] = {}
        self._stamps: dict[int, tuple[int, ...]] = {}
        self._unread: set[int] = set()
        self._links: dict[int, dict[int, LinkAppeared]] = {}
        self._zone_of_link: dict[int, int] = {}
        self._to_look_at: Iterator[int] = iter(())
        self._noted: list[_Changed] = []
        self._busy: asyncio.Future[_Collected] | None = None
        self._polled: asyncio.Future[_Collected] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._scratches: list[list[Table]] = []
        self._outline_from = time.monotonic() + patience_seconds
        first = self._look(_NOTHING)
        if first.error is not None:
            raise first.error
        self._outline_from = math.inf
        self._apply(first)
        self._thread = HandleThread("pymon-kstat")

    def start(self) -> None:
        """Look at the chain now and then from now on."""
        self._programs.start()
        self._timer = asyncio.get_running_loop().call_later(POLL_SECONDS, self._poll)

    async def prime(self, seconds: float) -> None:
        """Run the programs and wait for them, up to the timeout."""
        await self._programs.prime(seconds)

    async def stop(self) -> None:
        """Stop looking, and close the handle."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Close the handle, on the thread that has it, and stop the programs."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._programs.close()
        self._thread.close(self._reader.close)

    def _poll(self) -> None:
        if all(future is None or future.done() for future in (self._busy, self._polled)):
            self._polled = self._follow(self._look_around)
        seconds = POLL_SECONDS if self._registry.ready() is None else UNREAD_POLL_SECONDS
        self._timer = asyncio.get_running_loop().call_later(seconds, self._poll)

    def _follow(self, look: Callable[[], _Collected]) -> asyncio.Future[_Collected]:
        """Have the thread look, and the registry told of what it finds, whoever still waits for it then."""
        future = self._thread.call(look)
        future.add_done_callback(self._looked)
        return future

    async def _look_now(self, row: int | None = None) -> None:
        """Look at the chain, and at the configuration of this zone."""
        await asyncio.shield(self._follow(lambda: self._look_at(row)))

    def _looked(self, future: asyncio.Future[_Collected]) -> None:
        if not future.cancelled() and future.exception() is None:
            self._apply(future.result())

    # On the thread of the handle.

    def _look(self, wish: _Wish) -> _Collected:
        """Bring the chain up to date and read what is wished for."""
        started = time.monotonic()
        error = None
        try:
            changes = self._reader.collect(wish.tables & self._reader.layout.keys())
        except SourceError as failure:
            changes, error = self._reader.changes(), failure
        self._note(changes)
        if wish.collectors:
            self._programs.fill(started, wish.collectors, self._rows)
            self._tell_status(wish)
        changed, self._noted = self._noted, []
        problems = self._programs.take_problems() if wish.collectors else {}
        failures, silent = dict(self._reader.failures), self._programs.silent
        seconds = time.monotonic() - started
        return _Collected(changed, len(self._unread), seconds, failures, problems, silent, error)

    def _look_around(self) -> _Collected:
        """Look for zones that came or went, and for configurations that changed."""
        until = time.monotonic() + LOOK_SECONDS
        row = None
        for row in islice(self._to_look_at, STAMPS_AT_ONCE):
            self._look_again(row)
            if time.monotonic() >= until:
                break
        if row is None:
            self._configuration.refresh()
            self._to_look_at = iter(tuple(self._unread or self._zones))
        return self._look(_NOTHING)

    def _look_at(self, row: int | None) -> _Collected:
        if row is not None:
            self._look_again(row)
        return self._look(_NOTHING)

    def _look_again(self, row: int) -> None:
        """Read the configuration of a zone, if it is another than the one that was read."""
        zone = self._zones.get(row)
        if zone is None or (row not in self._unread and self._configuration.stamp(zone.name) == self._stamps[row]):
            return
        details = self._describe(zone)
        for link in self._links.get(row, {}).values():
            if self._zone_of_link[link.table_row] == row:
                self._label_link(link, details)

    def _describe(self, zone: ZoneAppeared) -> ZoneDetails:
        if time.monotonic() < self._outline_from:
            details = self._configuration.describe(zone.name)
            self._unread.discard(zone.row)
        else:
            details = self._configuration.outline(zone.name)
            self._unread.add(zone.row)
        self._stamps[zone.row] = details.stamp
        self._noted.append(_Changed(zone.row, zone, details, zone.row not in self._unread))
        return details

    def _note(self, changes: Sequence[Change]) -> None:
        if any(isinstance(change, ZoneAppeared) for change in changes):
            self._configuration.refresh()
        details: dict[int, ZoneDetails] = {}
        for change in changes:
            if isinstance(change, ZoneAppeared):
                self._zones[change.row], self._rows[change.name] = change, change.row
                details[change.row] = self._describe(change)
            elif isinstance(change, ZoneGone):
                details.pop(change.row, None)
                self._stamps.pop(change.row, None)
                self._unread.discard(change.row)
                self._links.pop(change.row, None)
                gone = self._zones.pop(change.row, None)
                if gone is not None and self._rows.get(gone.name) == change.row:
                    del self._rows[gone.name]
                self._noted.append(_Changed(change.row, None, None, read=True))
            elif change.zone_row in self._zones:
                if change.zone_row not in details:
                    details[change.zone_row] = self._describe(self._zones[change.zone_row])
                self._links.setdefault(change.zone_row, {})[change.table_row] = change
                self._zone_of_link[change.table_row] = change.zone_row
                self._label_link(change, details[change.zone_row])

    def _label_link(self, link: LinkAppeared, details: ZoneDetails) -> None:
        """Add what the zone's configuration says of a link to its labels."""
        labels = details.nics.get(link.name.partition("_")[2] or link.name, {})
        table = self._tables["kstat.link"]
        name, interface, *more = (*table.labels(link.table_row).decode().split('"'), "", "")
        if labels or any(more):
            table.relabel(link.table_row, ((name.rstrip("="), interface), *labels.items()))

    def _tell_status(self, wish: _Wish) -> None:
        """What programs and the clock have to say of themselves."""
        if STATUS_TABLE in wish.tables:
            zones = self._tables[STATUS_TABLE]
            zones.grow(self._reader.rows)
            read = not wish.collectors.isdisjoint(ZONE_COLLECTORS)
            self._programs.tell(zones, self._rows.values(), wish.collectors, stamp=read)
        if NODE_STATUS_TABLE in wish.tables:
            node = self._tables[NODE_STATUS_TABLE]
            if not len(node):
                node.add_row()
            self._programs.tell_node(node, wish.collectors)

    def _read_one(self, row: int, wish: _Wish) -> list[Table] | None:
        """One zone, in tables of one row; None when it is not there any more."""
        tables = self._scratches.pop() if self._scratches else self._new_tables()
        if not self._reader.collect_zone(row, [table if table.name in wish.tables else None for table in tables]):
            self._scratches.append(tables)
            return None
        self._programs.refresh(time.monotonic(), wish.collectors, self._rows)
        by_name = {table.name: table for table in tables}
        for name in self._of_programs:
            whole = self._tables[name]
            if row < len(whole):
                by_name[name].assign_row(whole, row)
            else:
                by_name[name].clear()
        status = by_name[STATUS_TABLE]
        if len(status):
            self._programs.tell_one(status, row, wish.collectors)
        return tables

    # On the loop.

    def _apply(self, collected: _Collected) -> None:
        for change in collected.changed:
            if change.zone is None or change.details is None:
                self._registry.gone(change.row)
            else:
                self._registry.appeared(change.zone, change.details, read=change.read)
        self._registry.unread = collected.unread

    # All zones.

    def begin(self, chosen: Sequence[ContainerCollector], deadline_seconds: float) -> _Reading:  # noqa: ARG002
        """Have the thread fill the tables, unless it is still at what an earlier scrape gave up on.

        A read has no deadline of its own; the caller waits no longer than that.
        """
        wish = _wish(chosen)
        hold = threading.Event()
        if self._busy is not None and not self._busy.done():
            return _Reading(self, chosen, wish, None, hold)
        self._busy = self._thread.call(lambda: self._look(wish), hold)
        return _Reading(self, chosen, wish, self._busy, hold)

    def gathered(self, wish: _Wish, collected: _Collected) -> tuple[dict[str, Table], Labels]:
        """The tables that were filled, and the label blocks, of a collection that has ended."""
        self._apply(collected)
        tables = {name: table for name, table in self._tables.items() if name in wish.tables}
        if "container" in wish.tables:
            self._registry.table.stamp("last_seen", time.time_ns())
            tables["container"] = self._registry.table
        return tables, self._registry.labels()

    def given_up(self, future: asyncio.Future[_Collected], hold: threading.Event) -> None:
        """Nobody waits for it any more: let the thread go on when it has ended."""

        def ended(future: asyncio.Future[_Collected]) -> None:
            hold.set()
            self._looked(future)

        future.add_done_callback(ended)

    # One zone.

    async def one(self, uuid: str, collectors: frozenset[str] | None, seconds: float) -> One | None:
        """Read the kstats of one zone. TimeoutError when the thread is not free in time.

        SourceError when the chain cannot be updated.
        """
        if self._thread.busy_seconds > seconds:
            raise TimeoutError
        async with asyncio.timeout(seconds):
            row = self._registry.row_of(uuid)
            if row is None or row in self._unread:
                await self._look_now(row)
                row = self._registry.row_of(uuid)
                if row is None:
                    return None
            at = row
            wish = _wish([item for item in self.collectors if collectors is None or item.name in collectors])
            tables = await self._thread.call(lambda: self._read_one(at, wish))
            if tables is None or self._registry.row_of(uuid) != row:
                await self._look_now()
                return None
        container = Table("container", self._registry.table.columns)
        container.assign_row(self._registry.table, row)
        container.stamp("last_seen", time.time_ns())
        by_name = {table.name: table for table in (container, *tables) if table.name in wish.tables}
        return One(
            [by_name.get(name) for name in self.layout],
            self._registry.block(row),
            lambda: self._scratches.append(tables),
        )

    def _new_tables(self) -> list[Table]:
        return [*self._reader.new_row_tables(), *(Table(name, self.layout[name]) for name in self._of_programs)]


class _Reading:
    """A collection that the thread is at; None where it has not begun."""

    def __init__(
        self,
        zones: ZoneContainers,
        chosen: Sequence[ContainerCollector],
        wish: _Wish,
        waiting: asyncio.Future[_Collected] | None,
        hold: threading.Event,
    ) -> None:
        self.waiting: asyncio.Future[Any] | None = waiting
        self._zones = zones
        self._names = tuple(dict.fromkeys(item.name for item in chosen))
        self._wish = wish
        self._hold = hold

    def finish(self) -> Gathered:
        """The tables, when the thread has filled them."""
        future = self.waiting
        if future is None or not future.done():
            if future is not None:
                self._zones.given_up(future, self._hold)
            late = [Outcome(name, None, success=False, failures={"deadline": 1}) for name in (*self._names, KSTAT)]
            return Gathered({}, Labels(()), late, good=False, give_back=_nothing)
        try:
            collected: _Collected = future.result()
        except BaseException:
            self._hold.set()
            raise
        failures = dict(collected.failures)
        good = collected.error is None
        if collected.error is not None:
            failures[collected.error.reason] = failures.get(collected.error.reason, 0) + 1
        outcomes = [
            Outcome(name, collected.seconds, good and name not in collected.silent, collected.problems.get(name, {}))
            for name in self._names
        ]
        outcomes.append(Outcome(KSTAT, collected.seconds, good, failures))
        tables, labels = self._zones.gathered(self._wish, collected)
        return Gathered(tables if good else {}, labels, outcomes, good=good, give_back=self._hold.set)


def _wish(chosen: Sequence[ContainerCollector]) -> _Wish:
    return _Wish(frozenset(table for item in chosen for table in item.tables), frozenset(item.name for item in chosen))


_NOTHING = _Wish(frozenset(), frozenset())


def _nothing() -> None:
    pass

"""Collecting the kstats of zones: one thread owns the libkstat handle, and scrapes call functions on it."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from pymon._native.renderer import Labels
from pymon._native.table import Table
from pymon.agent.containers import CollectionResult, ContainerCollector, ContainerTables, Outcome
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

_log = logging.getLogger(__name__)

KSTAT = "kstat"
"""The collector name under which failures of kstats are counted, whichever collector needed them."""

HUNG_SECONDS = 30.0
"""A call of libkstat that takes longer is logged, once. Only a kernel that has no memory left takes so long."""

POLL_SECONDS = 1.0
"""Interval at which the kstat chain is checked for zones that appeared or disappeared, in addition to scrapes."""

STAMPS_AT_ONCE = 500
"""Most zones whose configuration is checked for changes in one poll."""

LOOK_SECONDS = 0.05
"""Longest time that one poll checks configurations, because scrapes wait for the thread."""

UNREAD_POLL_SECONDS = 0.01
"""Interval between polls while there are configurations that have not been read."""

PATIENCE_SECONDS = 0.5
"""How long an agent that serves reads configurations before it answers requests. It reads the rest afterwards."""


class _Changed(NamedTuple):
    """A zone and its configuration; both None if the zone has gone. read: the files were read, not only the index."""

    row: int
    zone: ZoneAppeared | None
    details: ZoneDetails | None
    read: bool


class _Selection(NamedTuple):
    """What a collection reads: names of tables, and of the collectors that need them."""

    tables: frozenset[str]
    collectors: frozenset[str]


class _Collected(NamedTuple):
    """The result of a call on the thread.

    changed: changes that the loop passes to the registry. unread: number of zones whose configuration has not been
    read. failures: number of kstat failures by reason. problems: number of program failures by program and reason.
    silent: programs without a result. error: why the chain could not be updated, None if it was.
    """

    changed: Sequence[_Changed]
    unread: int
    seconds: float
    failures: Mapping[str, int]
    problems: Mapping[str, Mapping[str, int]]
    silent: frozenset[str]
    error: SourceError | None


class ZoneConfiguration(NamedTuple):
    """Functions that read the configuration of zones. All but `refresh` take the zone's name.

    refresh: read the index of zones again. outline: what the index says of a zone. describe: what all files say of it.
    stamp: a value that changes when those files change.
    """

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
        """Read the chain once, and start the thread.

        patience_seconds: how long configurations are read here. The rest are read after `start`.
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
        self._is_hung = False
        self._scratches: list[list[Table]] = []
        self._outline_from = time.monotonic() + patience_seconds
        first = self._look(_NOTHING)
        if first.error is not None:
            raise first.error
        self._outline_from = math.inf
        self._apply(first)
        self._thread = HandleThread("pymon-kstat")

    @property
    def source(self) -> str:
        """Kstats: there is no other."""
        return "kstats"

    def start(self) -> None:
        """Start the programs, and poll the chain from now on. Uses the running loop."""
        self._programs.start()
        self._timer = asyncio.get_running_loop().call_later(POLL_SECONDS, self._poll)

    async def prime(self, seconds: float) -> None:
        """Run the programs and wait for them, for at most `seconds`."""
        await self._programs.prime(seconds)

    async def stop(self) -> None:
        """Call `close` without blocking the loop."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Stop polling and the programs, and close the handle on its thread."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._programs.close()
        self._thread.close(self._reader.close)

    @property
    def busy_seconds(self) -> float:
        """Seconds since the thread began its current collection, 0 when it is idle."""
        return self._thread.busy_seconds

    def _poll(self) -> None:
        is_hung = self.busy_seconds > HUNG_SECONDS
        if is_hung and not self._is_hung:
            _log.warning("libkstat has not returned for %.0f s: zones cannot be measured until it does", HUNG_SECONDS)
        self._is_hung = is_hung
        if all(future is None or future.done() for future in (self._busy, self._polled)):
            self._polled = self._follow(self._look_around)
        seconds = POLL_SECONDS if self._registry.ready() is None else UNREAD_POLL_SECONDS
        self._timer = asyncio.get_running_loop().call_later(seconds, self._poll)

    def _follow(self, look: Callable[[], _Collected]) -> asyncio.Future[_Collected]:
        """Call a function on the thread, and pass the changes that it finds to the registry when it is done."""
        future = self._thread.call(look)
        future.add_done_callback(self._looked)
        return future

    async def _look_now(self, row: int | None = None) -> None:
        """Check the chain and the configuration of the zone of this row. Cancelling the caller does not stop it."""
        await asyncio.shield(self._follow(lambda: self._look_at(row)))

    def _looked(self, future: asyncio.Future[_Collected]) -> None:
        if not future.cancelled() and future.exception() is None:
            self._apply(future.result())

    # The following methods run on the thread that owns the handle.

    def _look(self, selection: _Selection) -> _Collected:
        """Update the chain and read what is selected."""
        started = time.monotonic()
        error = None
        try:
            changes = self._reader.collect(selection.tables & self._reader.layout.keys())
        except SourceError as failure:
            changes, error = self._reader.changes(), failure
        self._note(changes)
        if selection.collectors:
            self._programs.fill(started, selection.collectors, self._rows)
            self._tell_status(selection)
        changed, self._noted = self._noted, []
        problems = self._programs.take_problems() if selection.collectors else {}
        failures, silent = dict(self._reader.failures), self._programs.silent
        seconds = time.monotonic() - started
        return _Collected(changed, len(self._unread), seconds, failures, problems, silent, error)

    def _look_around(self) -> _Collected:
        """Check for zones that appeared or disappeared, and check some configurations for changes."""
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
        """Read the configuration of a zone if it has changed or has not been read."""
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
        """Set the labels of a link's row: those of its kstat, and those that the zone's configuration gives it."""
        labels = details.nics.get(link.name.partition("_")[2] or link.name, {})
        table = self._tables["kstat.link"]
        name, interface, *more = (*table.labels(link.table_row).decode().split('"'), "", "")
        if labels or any(more):
            table.relabel(link.table_row, ((name.rstrip("="), interface), *labels.items()))

    def _tell_status(self, selection: _Selection) -> None:
        """Put the status of the programs and of the clock into the status tables."""
        if STATUS_TABLE in selection.tables:
            zones = self._tables[STATUS_TABLE]
            zones.grow(self._reader.rows)
            read = not selection.collectors.isdisjoint(ZONE_COLLECTORS)
            self._programs.tell(zones, self._rows.values(), selection.collectors, stamp=read)
        if NODE_STATUS_TABLE in selection.tables:
            node = self._tables[NODE_STATUS_TABLE]
            if not len(node):
                node.add_row()
            self._programs.tell_node(node, selection.collectors)

    def _read_one(self, row: int, selection: _Selection) -> list[Table] | None:
        """Read one zone. Return tables with one row, or None if the zone has gone."""
        tables = self._scratches.pop() if self._scratches else self._new_tables()
        if not self._reader.collect_zone(row, [table if table.name in selection.tables else None for table in tables]):
            self._scratches.append(tables)
            return None
        self._programs.refresh(time.monotonic(), selection.collectors, self._rows)
        by_name = {table.name: table for table in tables}
        for name in self._of_programs:
            whole = self._tables[name]
            if row < len(whole):
                by_name[name].assign_row(whole, row)
            else:
                by_name[name].clear()
        status = by_name[STATUS_TABLE]
        if len(status):
            self._programs.tell_one(status, row, selection.collectors)
        return tables

    # The following methods run on the loop.

    def _apply(self, collected: _Collected) -> None:
        for change in collected.changed:
            if change.zone is None or change.details is None:
                self._registry.gone(change.row)
            else:
                self._registry.appeared(change.zone, change.details, read=change.read)
        self._registry.unread = collected.unread

    # All zones.

    async def begin(self, chosen: Sequence[ContainerCollector], deadline_seconds: float) -> _Reading:  # noqa: ARG002
        """Start to fill the tables on the thread, unless it is still busy with a collection that was given up.

        The read has no deadline of its own: the caller waits for at most `deadline_seconds`.
        """
        selection = _selection(chosen)
        hold = threading.Event()
        if self._busy is not None and not self._busy.done():
            return _Reading(self, chosen, selection, None, hold)
        self._busy = self._thread.call(lambda: self._look(selection), hold)
        return _Reading(self, chosen, selection, self._busy, hold)

    def result_tables(self, selection: _Selection, collected: _Collected) -> tuple[dict[str, Table], Labels]:
        """Return the filled tables by name, and the label blocks, of a collection that has ended."""
        self._apply(collected)
        tables = {name: table for name, table in self._tables.items() if name in selection.tables}
        if "container" in selection.tables:
            self._registry.table.stamp("last_seen", time.time_ns())
            tables["container"] = self._registry.table
        return tables, self._registry.labels()

    def given_up(self, future: asyncio.Future[_Collected], hold: threading.Event) -> None:
        """Release the thread when a collection ends that nobody waits for any more."""

        def ended(future: asyncio.Future[_Collected]) -> None:
            hold.set()
            self._looked(future)

        future.add_done_callback(ended)

    # One zone.

    async def read_one(self, uuid: str, collectors: frozenset[str] | None, seconds: float) -> ContainerTables | None:
        """Read one zone. Return its tables, None if there is no such zone.

        Raises TimeoutError when the thread does not finish within `seconds`, SourceError when the chain cannot be
        updated.
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
            selection = _selection([item for item in self.collectors if collectors is None or item.name in collectors])
            tables = await self._thread.call(lambda: self._read_one(at, selection))
            if tables is None or self._registry.row_of(uuid) != row:
                await self._look_now()
                return None
        container = Table("container", self._registry.table.columns)
        container.assign_row(self._registry.table, row)
        container.stamp("last_seen", time.time_ns())
        by_name = {table.name: table for table in (container, *tables) if table.name in selection.tables}
        return ContainerTables(
            [by_name.get(name) for name in self.layout],
            self._registry.block(row),
            lambda: self._scratches.append(tables),
        )

    def _new_tables(self) -> list[Table]:
        return [*self._reader.new_row_tables(), *(Table(name, self.layout[name]) for name in self._of_programs)]


class _Reading:
    """A collection on the thread. Implements `pymon.agent.containers.Reading`.

    waiting: its result; None if the thread was still busy, so that nothing was started.
    """

    def __init__(
        self,
        zones: ZoneContainers,
        chosen: Sequence[ContainerCollector],
        selection: _Selection,
        waiting: asyncio.Future[_Collected] | None,
        hold: threading.Event,
    ) -> None:
        self.waiting: asyncio.Future[Any] | None = waiting
        self._zones = zones
        self._names = tuple(dict.fromkeys(item.name for item in chosen))
        self._selected = selection
        self._hold = hold

    def finish(self) -> CollectionResult:
        """Return the filled tables, or no tables and a failure of each collector if the thread has not finished."""
        future = self.waiting
        if future is None or not future.done():
            if future is not None:
                self._zones.given_up(future, self._hold)
            late = [Outcome(name, None, success=False, failures={"deadline": 1}) for name in (*self._names, KSTAT)]
            return CollectionResult({}, Labels(()), late, good=False, give_back=_nothing)
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
        tables, labels = self._zones.result_tables(self._selected, collected)
        return CollectionResult(tables if good else {}, labels, outcomes, good=good, give_back=self._hold.set)


def _selection(chosen: Sequence[ContainerCollector]) -> _Selection:
    return _Selection(
        frozenset(table for item in chosen for table in item.tables), frozenset(item.name for item in chosen)
    )


_NOTHING = _Selection(frozenset(), frozenset())


def _nothing() -> None:
    pass

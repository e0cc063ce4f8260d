"""Collecting cgroup files: posts the jobs of a scrape to native reader threads and returns the tables they fill."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from pymon._native.readers import Mailbox, Reader, Result, Ticket, monotonic_ns
from pymon._native.table import Table
from pymon.agent.containers import CollectionResult, ContainerCollector, ContainerTables, Outcome
from pymon.agent.last_tables import LastTables, add_kills
from pymon.catalogue import stopped as stopped_of
from pymon.catalogue.latency import COLLECTOR, COLUMNS
from pymon.sources.errors import NOT_OFFERED, SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymon._native.renderer import Labels
    from pymon.agent.bpf_checks import BpfChecks
    from pymon.agent.registry import Registry
    from pymon.agent.sampler import Sampler
    from pymon.agent.stopped import StoppedContainers
    from pymon.sources.cgroup import CgroupSource

READER_SHARE = 0.95
"""Share of a collection's deadline after which readers stop, so that what they have read can still be used."""

ROW_READER_SHARE = 0.5
"""Share of the time for one container after which the reader of all its files counts as stuck. In the rest the readers
of parts of them are asked."""


class CgroupContainers:
    """Implements `pymon.agent.containers.Containers` over the readers of a source."""

    def __init__(
        self,
        source: CgroupSource,
        registry: Registry,
        mailbox: Mailbox,
        collectors: Sequence[ContainerCollector],
        bpf: BpfChecks | None = None,
        samplers: Sequence[Sampler] = (),
        stopped: StoppedContainers | None = None,
    ) -> None:
        """bpf: decides which columns BPF fills. samplers: what is told of the seconds before a scrape.

        stopped: the containers that have ended, None where they are not kept.
        """
        self._stopped = stopped
        self._bpf = bpf
        self._samplers = tuple(samplers)
        self.layout: Mapping[str, tuple[str, ...]] = {
            "container": registry.table.columns, **source.layout, **(COLUMNS if source.latency is not None else {}),
            **{sampler.name: sampler.columns for sampler in samplers},
            **({stopped_of.TABLE: stopped_of.COLUMNS} if stopped is not None else {}),
        }  # fmt: skip
        self.collectors = tuple(collectors)
        self._readers_of = {
            item.name: [
                name
                for name, reader in source.readers.items()
                if any(table in item.tables for table, _ in reader.layout)
            ]
            for item in self.collectors
        }
        self._source = source
        self._registry = registry
        self._mailbox = mailbox
        self._tickets: dict[Ticket, asyncio.Future[None]] = {}
        self._late: dict[str, Result] = {}
        self._spare_tables: dict[str, list[list[Table]]] = {name: [] for name in source.readers}
        self._spare_containers: list[Table] = []
        self._spare_scratches: list[_Scratch] = []
        self._latency_tables = {name: Table(name, columns) for name, columns in COLUMNS.items()}
        self._stuck: Ticket | None = None
        self._waking = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self.last_tables = LastTables()

    @property
    def source(self) -> str:
        """Files, and how many columns BPF fills now."""
        filled = self._bpf.source.filled if self._bpf is not None else 0
        return f"files of control groups, and BPF for {filled} columns" if filled else "files of control groups"

    def start(self) -> None:
        """Attach to the running loop: it handles finished reads and changes of containers from now on."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._mailbox.fileno(), self._take)
        self._registry.follow()
        if self._bpf is not None:
            self._bpf.start()

    async def prime(self, seconds: float) -> None:  # noqa: ARG002 - nothing here waits for a container
        """Decide what BPF fills in a single collection; no other data is read in the background."""
        if self._bpf is not None:
            await self._bpf.prime()

    async def stop(self) -> None:
        """Detach from the loop, and call `close` without blocking it."""
        if self._bpf is not None:
            self._bpf.stop()
        if self._loop is not None:
            self._loop.remove_reader(self._mailbox.fileno())
        self._registry.close()  # on the loop, which must not tell the source of changes any more
        await asyncio.to_thread(self._close_sources)

    def close(self) -> None:
        """Stop following the trees. Stop the readers and the comparisons of BPF, and wait for those under way."""
        self._registry.close()
        self._close_sources()

    def _close_sources(self) -> None:
        self._source.close()
        if self._bpf is not None:
            self._bpf.close()

    def _take(self) -> None:
        while (ticket := self._mailbox.take()) is not None:
            future = self._tickets.pop(ticket, None)
            if future is not None and not future.done():
                future.set_result(None)

    # All containers.

    async def begin(self, chosen: Sequence[ContainerCollector], deadline_seconds: float) -> _Reading:
        """Take in which containers have come and gone, and start the readers of these collectors.

        A reader that is still busy with an earlier collection is left out.
        """
        registry = self._registry
        await registry.catch_up()
        labels = registry.labels()
        table = self._spare_containers.pop() if self._spare_containers else Table("container", registry.table.columns)
        table.assign(registry.table)
        table.stamp("last_seen", time.time_ns())
        wanted = {table for item in chosen for table in item.tables}
        posted = self._post(wanted, deadline_seconds)
        shown = [table] if "container" in wanted else []
        kills: dict[int, int] = {}
        if self._stopped is not None:
            # As of now, as the labels are: a container that ends meanwhile must not be there twice.
            kills = dict(self._stopped.ooms)
            if stopped_of.TABLE in wanted:
                shown.append(self._stopped.table())
        return _Reading(self, chosen, shown, kills, labels, posted, table, len(registry))

    def _post(
        self, wanted: set[str], deadline_seconds: float
    ) -> tuple[asyncio.Future[None] | None, dict[str, tuple[list[Table], Result]]]:
        jobs: list[tuple[Reader, list[Table | None]]] = []
        lists: list[list[Table]] = []
        for name, reader in self._source.readers.items():
            if self._hangs(name):
                continue  # still busy with a collection whose deadline has passed
            if not any(table in wanted for table, _ in reader.layout):
                continue
            spare = self._spare_tables[name]
            # The tables that were filled last stay as they are, for a container that ends during this collection.
            kept = 0 if self._stopped is None else 1
            of_reader = spare.pop(0) if len(spare) > kept else reader.new_tables()
            jobs.append((reader, [table if table.name in wanted else None for table in of_reader]))
            lists.append(of_reader)
        if not jobs:
            return None, {}
        deadline_ns = monotonic_ns() + int(deadline_seconds * READER_SHARE * 1e9)
        ticket = self._mailbox.collect(jobs, deadline_ns, self._registry.rows)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tickets[ticket] = future
        reading = {
            reader.name: (of_reader, result)
            for (reader, _), of_reader, result in zip(jobs, lists, ticket.results, strict=True)
        }
        for name, (of_reader, result) in reading.items():
            self._late[name] = result
            self.last_tables.lend(of_reader)
        return future, reading

    def samples(self, wanted: set[str]) -> dict[str, Table]:
        """Return the tables of the samplers that were taken lately, of those that are wanted."""
        tables = ((sampler.name, sampler.table) for sampler in self._samplers if sampler.name in wanted)
        return {name: table for name, table in tables if table is not None}

    def waits(self) -> tuple[dict[str, Table], Outcome]:
        """Return the tables of `container_latency`, which are in memory already, and its outcome."""
        latency = self._source.latency
        if latency is None:
            raise AssertionError(COLLECTOR)
        begin = time.monotonic()
        try:
            latency.fill(self._latency_tables, self._registry.rows)
        except SourceError as error:
            return {}, Outcome(COLLECTOR, time.monotonic() - begin, False, {error.reason: 1})
        failures = {"enospc": len(latency.left_out)} if latency.left_out else {}
        return self._latency_tables, Outcome(COLLECTOR, time.monotonic() - begin, True, failures)

    def _hangs(self, reader: str) -> bool:
        late = self._late.get(reader)
        return late is not None and not late.done

    def outcome(
        self, item: ContainerCollector, reading: Mapping[str, tuple[list[Table], Result]], sampled: Mapping[str, Table]
    ) -> Outcome:
        """Return the outcome of one collector from the results of its readers and samplers.

        Of a sampler it is a failure that there was no sample lately. sampled: tables of the others.
        """
        readers = self._readers_of[item.name]
        done = [name for name in readers if name in reading and reading[name][1].done]
        failures: dict[str, int] = {}
        for name in done:
            found = self._source.readers[name].failures_of(reading[name][1], item.tables)
            for reason, count in found.items():
                failures[reason] = failures.get(reason, 0) + count
        if len(done) < len(readers):
            failures["deadline"] = failures.get("deadline", 0) + 1
        seconds = max((reading[name][1].seconds for name in done), default=None)
        success = NOT_OFFERED.issuperset(failures)
        for sampler in self._samplers:
            if sampler.name in sampled and sampler.name in item.tables:
                seconds = seconds or 0.0
                for reason, count in sampler.failures.items():
                    failures[reason] = failures.get(reason, 0) + count
                    success = success and reason in NOT_OFFERED
            elif sampler.name in item.tables:
                failures["nodata"] = failures.get("nodata", 0) + 1
                success = False
        return Outcome(item.name, seconds, success, failures)

    def give_back(self, reading: Mapping[str, tuple[list[Table], Result]], container: Table) -> None:
        """Keep tables for the next collection, except those that a reader is still filling."""
        for name, (of_reader, result) in reading.items():
            if result.done:
                self._spare_tables[name].append(of_reader)
        self._spare_containers.append(container)

    # One container.

    async def read_one(self, uuid: str, collectors: frozenset[str] | None, seconds: float) -> ContainerTables | None:
        """Read one container. Return its tables, None if it does not exist or has gone meanwhile.

        Tables that no reader filled within `seconds` are None in the result.
        """
        registry = self._registry
        row = registry.row_of(uuid)
        if row is None:
            await registry.catch_up()
            row = registry.row_of(uuid)
            if row is None:
                return self._read_stopped(uuid, collectors)
        block = registry.block(row)
        until = time.monotonic() + seconds
        scratch = self._scratch(collectors)
        if scratch.by_row_reader:
            tables = await self._fill(scratch, row, seconds * ROW_READER_SHARE)
            if scratch.spoilt:
                scratch = self._scratch(collectors)
        if not scratch.by_row_reader:
            tables = await self._fill(scratch, row, until - time.monotonic())
        if scratch.jobs and registry.row_of(uuid) != row:
            return self._read_stopped(uuid, collectors)  # it has gone, or another container has its row

        def give_back() -> None:
            if collectors is None and not scratch.spoilt:
                self._spare_scratches.append(scratch)

        return ContainerTables(tables, block, give_back)

    def _read_stopped(self, uuid: str, collectors: frozenset[str] | None) -> ContainerTables | None:
        """Return the tables of a container that has ended, None if it is not kept."""
        found = self._stopped.one(uuid) if self._stopped is not None else None
        if found is None:
            return None
        table, block = found
        wanted = collectors is None or stopped_of.COLLECTOR in collectors
        tables = [table if wanted and name == stopped_of.TABLE else None for name in self.layout]
        return ContainerTables(tables, block, lambda: None)

    async def _fill(self, scratch: _Scratch, row: int, seconds: float) -> list[Table | None]:
        """Read a container into tables of one row. Return them, with None for those that were not filled in time."""
        scratch.container.assign_row(self._registry.table, row)
        scratch.container.stamp("last_seen", time.time_ns())
        if scratch.waits and self._source.latency is not None:
            with contextlib.suppress(SourceError):  # a scrape of all containers counts it
                self._source.latency.fill_one(scratch.waits, row)
        for sampler in self._samplers:
            if sampler.name in scratch.sampled:
                sampler.copy_row(row, scratch.sampled[sampler.name])
        if scratch.stopped is not None and self._stopped is not None:
            self._stopped.copy_row(row, scratch.stopped)
        if not scratch.jobs:
            return scratch.tables
        deadline_ns = monotonic_ns() + int(seconds * 1e9)
        ticket = self._mailbox.collect_row(scratch.jobs, deadline_ns, row, wake=not scratch.by_row_reader)
        if scratch.by_row_reader and not self._waking:
            # Wake the reader in the next iteration of the loop, so that it handles all jobs posted in this one.
            self._waking = True
            asyncio.get_running_loop().call_soon(self._wake)
        if await self._finished(ticket, seconds):
            if self._stopped is not None and row in self._stopped.ooms:
                add_kills(filter(None, scratch.tables), {0: self._stopped.ooms[row]})
            return scratch.tables
        scratch.spoilt = True  # a reader may still write into its tables
        if scratch.by_row_reader:
            self._stuck = ticket
        else:
            self._late |= scratch.late(ticket)
        return scratch.finished(ticket)

    def _wake(self) -> None:
        self._waking = False
        self._source.row_reader.wake()

    async def _finished(self, ticket: Ticket, seconds: float) -> bool:
        """Wait for a ticket. Return False if it is not done after `seconds`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._tickets[ticket] = future
        timer = loop.call_later(seconds, _give_up, future)
        try:
            await future
        finally:
            timer.cancel()
        return ticket.done

    def _scratch(self, collectors: frozenset[str] | None) -> _Scratch:
        """Return tables of one row: for the row reader, or while that is stuck for all other readers in parallel."""
        stuck = self._stuck is not None and not self._stuck.done
        if not stuck and collectors is None and self._spare_scratches:
            return self._spare_scratches.pop()
        wanted = {
            table for item in self.collectors if collectors is None or item.name in collectors for table in item.tables
        }
        readers: tuple[Reader, ...] = (self._source.row_reader,)
        if stuck:  # those that hang, too, are not waited for again
            readers = tuple(reader for name, reader in self._source.readers.items() if not self._hangs(name))
        samplers = [sampler.name for sampler in self._samplers]
        return _Scratch(readers, wanted, self.layout, samplers, by_row_reader=not stuck)


class _Reading:
    """A collection by the readers. Implements `pymon.agent.containers.Reading`."""

    def __init__(
        self,
        containers: CgroupContainers,
        chosen: Sequence[ContainerCollector],
        shown: Sequence[Table],
        kills: Mapping[int, int],
        labels: Labels,
        posted: tuple[asyncio.Future[None] | None, dict[str, tuple[list[Table], Result]]],
        container: Table,
        container_count: int,
    ) -> None:
        self._container_count = container_count
        self.waiting, self._reading = posted
        self._containers = containers
        self._chosen = chosen
        self._shown = shown
        self._kills = kills
        self._labels = labels
        self._container = container
        self._begun = time.monotonic()

    def finish(self) -> CollectionResult:
        """Return the tables of the readers that have finished, and the outcome of each collector."""
        wanted = {table for item in self._chosen for table in item.tables}
        tables = {
            table.name: table
            for of_reader, result in self._reading.values()
            if result.done
            for table in of_reader
            if table.name in wanted
        }
        # Now and not when they are given back: a response may be shared for longer than a container lives.
        self._containers.last_tables.keep(tables.values(), self._begun, self._kills)
        tables |= {table.name: table for table in self._shown}
        add_kills(tables.values(), self._kills)
        sampled = self._containers.samples(wanted)
        tables |= sampled
        outcomes = []
        for item in self._chosen:
            if item.name == COLLECTOR:
                waits, outcome = self._containers.waits()
                tables |= waits
            else:
                outcome = self._containers.outcome(item, self._reading, sampled)
            outcomes.append(outcome)
        containers = self._container_count
        return CollectionResult(
            tables,
            self._labels,
            outcomes,
            good=not any(_all_failed(outcome, containers) for outcome in outcomes),
            give_back=lambda: self._containers.give_back(self._reading, self._container),
        )


class _Scratch:
    """Tables of one row, into which one container is read.

    jobs: the readers and the tables that each fills. waits: the tables of `container_latency`. sampled: those of
    samplers. stopped: that of earlier ends. tables: in the order of the layout. spoilt: not to be used again.
    """

    def __init__(
        self,
        readers: Sequence[Reader],
        wanted: set[str],
        layout: Mapping[str, tuple[str, ...]],
        samplers: Sequence[str],
        *,
        by_row_reader: bool,
    ) -> None:
        self.container = Table("container", layout["container"])
        self.jobs: list[tuple[Reader, list[Table | None]]] = []
        for reader in readers:
            if any(table in wanted for table, _ in reader.layout):
                of_reader = [table if table.name in wanted else None for table in reader.new_tables()]
                self.jobs.append((reader, of_reader))
        by_name = {table.name: table for _, of_reader in self.jobs for table in of_reader if table is not None}
        if "container" in wanted:
            by_name["container"] = self.container
        self.waits = {name: Table(name, columns) for name, columns in COLUMNS.items() if name in wanted}
        by_name |= self.waits
        self.sampled = {name: Table(name, layout[name]) for name in samplers if name in wanted}
        by_name |= self.sampled
        self.stopped = None
        if stopped_of.TABLE in wanted and stopped_of.TABLE in layout:
            self.stopped = by_name[stopped_of.TABLE] = Table(stopped_of.TABLE, stopped_of.COLUMNS)
        self.tables = [by_name.get(name) for name in layout]
        self.by_row_reader = by_row_reader
        self.spoilt = not by_row_reader

    def late(self, ticket: Ticket) -> dict[str, Result]:
        """Return the results of the readers that have not finished, by their names."""
        pairs = zip(self.jobs, ticket.results, strict=True)
        return {reader.name: result for (reader, _), result in pairs if not result.done}

    def finished(self, ticket: Ticket) -> list[Table | None]:
        """Return `tables`, with None in place of those whose reader has not finished."""
        late = {
            id(table)
            for (_, of_reader), result in zip(self.jobs, ticket.results, strict=True)
            if not result.done
            for table in of_reader
        }
        return [None if id(table) in late else table for table in self.tables]


def _all_failed(outcome: Outcome, containers: int) -> bool:
    """Return whether a collector was late or failed as often as there are containers."""
    failed = sum(count for reason, count in outcome.failures.items() if reason not in NOT_OFFERED)
    return "deadline" in outcome.failures or (failed > 0 and failed >= containers)


def _give_up(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

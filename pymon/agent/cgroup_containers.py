"""Containers by their cgroups: readers of kernel files in threads, the registry, and what a scrape posts to them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from pymon._native.readers import Mailbox, Reader, Result, Ticket, monotonic_ns
from pymon._native.table import Table
from pymon.agent.containers import ContainerCollector, Gathered, One, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymon._native.renderer import Labels
    from pymon.agent.registry import Registry
    from pymon.sources.cgroup import CgroupSource

READER_SHARE = 0.95
"""Part of a collection's deadline after which readers stop by themselves, so that what they have read still counts."""


class CgroupContainers:
    """Implements `pymon.agent.containers.Containers` over the readers of a source."""

    def __init__(
        self,
        source: CgroupSource,
        registry: Registry,
        mailbox: Mailbox,
        collectors: Sequence[ContainerCollector],
    ) -> None:
        self.layout: Mapping[str, tuple[str, ...]] = {"container": registry.table.columns, **source.layout}
        self.collectors = tuple(collectors)
        self._source = source
        self._registry = registry
        self._mailbox = mailbox
        self._tickets: dict[Ticket, asyncio.Future[None]] = {}
        self._late: dict[str, Result] = {}
        self._spare_tables: dict[str, list[list[Table]]] = {name: [] for name in source.readers}
        self._spare_containers: list[Table] = []
        self._spare_scratches: list[_Scratch] = []
        self._stuck: Ticket | None = None
        self._waking = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Attach to the running loop: finished readings, and changes of the trees, are its events from now on."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._mailbox.fileno(), self._take)
        changes = self._registry.tree.fileno()
        if changes is not None:
            self._loop.add_reader(changes, self._registry.refresh)
        self._registry.follow_addresses()

    async def prime(self, seconds: float) -> None:
        """Nothing is read in the background."""

    async def stop(self) -> None:
        """Detach, and stop the threads."""
        if self._loop is not None:
            self._loop.remove_reader(self._mailbox.fileno())
            changes = self._registry.tree.fileno()
            if changes is not None:
                self._loop.remove_reader(changes)
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Stop the threads."""
        self._source.close()
        self._registry.close()

    def _take(self) -> None:
        while (ticket := self._mailbox.take()) is not None:
            future = self._tickets.pop(ticket, None)
            if future is not None and not future.done():
                future.set_result(None)

    # All containers.

    def begin(self, chosen: Sequence[ContainerCollector], deadline_seconds: float) -> _Reading:
        """Have the readers fill their tables."""
        registry = self._registry
        registry.refresh()
        labels = registry.labels()
        table = self._spare_containers.pop() if self._spare_containers else Table("container", registry.table.columns)
        table.assign(registry.table)
        table.stamp("last_seen", time.time_ns())
        wanted = {table for item in chosen for table in item.tables}
        posted = self._post(wanted, deadline_seconds)
        return _Reading(self, chosen, table if "container" in wanted else None, labels, posted, table)

    def _post(
        self, wanted: set[str], deadline_seconds: float
    ) -> tuple[asyncio.Future[None] | None, dict[str, tuple[list[Table], Result]]]:
        jobs: list[tuple[Reader, list[Table | None]]] = []
        lists: list[list[Table]] = []
        for name, reader in self._source.readers.items():
            late = self._late.get(name)
            if late is not None and not late.done:
                continue  # still at what an earlier scrape gave up on
            if not any(table in wanted for table, _ in reader.layout):
                continue
            of_reader = self._spare_tables[name].pop() if self._spare_tables[name] else reader.new_tables()
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
        for name, (_, result) in reading.items():
            self._late[name] = result
        return future, reading

    def outcome(self, item: ContainerCollector, reading: Mapping[str, tuple[list[Table], Result]]) -> Outcome:
        """How it went for one collector."""
        readers = self._readers(item)
        done = [reading[name][1] for name in readers if name in reading and reading[name][1].done]
        failures: dict[str, int] = {}
        for result in done:
            for reason, count in result.failures.items():
                failures[reason] = failures.get(reason, 0) + count
        in_time = len(done) == len(readers) and "deadline" not in failures
        if len(done) < len(readers):
            failures["deadline"] = failures.get("deadline", 0) + 1
        return Outcome(item.name, max((result.seconds for result in done), default=None), in_time, failures)

    def _readers(self, item: ContainerCollector) -> list[str]:
        return [
            name
            for name, reader in self._source.readers.items()
            if any(table in item.tables for table, _ in reader.layout)
        ]

    def give_back(self, reading: Mapping[str, tuple[list[Table], Result]], container: Table) -> None:
        """Take tables again, but those that a reader is still filling."""
        for name, (of_reader, result) in reading.items():
            if result.done:
                self._spare_tables[name].append(of_reader)
        self._spare_containers.append(container)

    # One container.

    async def one(self, uuid: str, collectors: frozenset[str] | None, seconds: float) -> One | None:
        """Read one row."""
        registry = self._registry
        row = registry.row_of(uuid)
        if row is None:
            registry.refresh()
            row = registry.row_of(uuid)
            if row is None:
                return None
        scratch = self._scratch(collectors)
        scratch.container.assign_row(registry.table, row)
        scratch.container.stamp("last_seen", time.time_ns())
        block = registry.block(row)
        tables = scratch.tables
        if scratch.jobs:
            deadline_ns = monotonic_ns() + int(seconds * 1e9)
            ticket = self._mailbox.collect_row(scratch.jobs, deadline_ns, row, wake=not scratch.by_row_reader)
            if scratch.by_row_reader and not self._waking:
                # What other requests post before the loop comes round is read in one go.
                self._waking = True
                asyncio.get_running_loop().call_soon(self._wake)
            if not await self._finished(ticket, seconds):
                tables = scratch.finished(ticket)
                if scratch.by_row_reader:
                    self._stuck = ticket
                scratch.spoilt = True  # a reader may still write into it
            if registry.row_of(uuid) != row:
                return None  # went, or another took its row, while it was read

        def give_back() -> None:
            if collectors is None and not scratch.spoilt:
                self._spare_scratches.append(scratch)

        return One(tables, block, give_back)

    def _wake(self) -> None:
        self._waking = False
        self._source.row_reader.wake()

    async def _finished(self, ticket: Ticket, seconds: float) -> bool:
        """Wait for a ticket; False when it took longer than that."""
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
        """Tables of one row, for the row reader or, while that is stuck, for the others side by side."""
        stuck = self._stuck is not None and not self._stuck.done
        if not stuck and collectors is None and self._spare_scratches:
            return self._spare_scratches.pop()
        wanted = {
            table for item in self.collectors if collectors is None or item.name in collectors for table in item.tables
        }
        readers = tuple(self._source.readers.values()) if stuck else (self._source.row_reader,)
        return _Scratch(readers, wanted, self.layout, by_row_reader=not stuck)


class _Reading:
    """A collection that the readers are at."""

    def __init__(
        self,
        containers: CgroupContainers,
        chosen: Sequence[ContainerCollector],
        shown: Table | None,
        labels: Labels,
        posted: tuple[asyncio.Future[None] | None, dict[str, tuple[list[Table], Result]]],
        container: Table,
    ) -> None:
        self.waiting, self._reading = posted
        self._containers = containers
        self._chosen = chosen
        self._shown = shown
        self._labels = labels
        self._container = container

    def finish(self) -> Gathered:
        """The tables of the readers that have finished."""
        wanted = {table for item in self._chosen for table in item.tables}
        tables = {
            table.name: table
            for of_reader, result in self._reading.values()
            if result.done
            for table in of_reader
            if table.name in wanted
        }
        if self._shown is not None:
            tables["container"] = self._shown
        outcomes = [self._containers.outcome(item, self._reading) for item in self._chosen]
        return Gathered(
            tables,
            self._labels,
            outcomes,
            good=all(outcome.success for outcome in outcomes),
            give_back=lambda: self._containers.give_back(self._reading, self._container),
        )


class _Scratch:
    """What one container is read into."""

    def __init__(
        self, readers: Sequence[Reader], wanted: set[str], layout: Mapping[str, tuple[str, ...]], *, by_row_reader: bool
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
        self.tables = [by_name.get(name) for name in layout]
        self.by_row_reader = by_row_reader
        self.spoilt = not by_row_reader

    def finished(self, ticket: Ticket) -> list[Table | None]:
        """The tables less those of readers that have not finished."""
        late = {
            id(table)
            for (_, of_reader), result in zip(self.jobs, ticket.results, strict=True)
            if not result.done
            for table in of_reader
        }
        return [None if id(table) in late else table for table in self.tables]


def _give_up(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

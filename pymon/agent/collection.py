"""Collecting and rendering: what a scrape sets off.

A scrape of the node is one cycle: the registry is brought up to date, readers and node collectors run side by side,
each up to its deadline, and what is there then is rendered. Scrapes that arrive while a cycle has just begun share it;
those that come later share the next.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Literal, NamedTuple

from pymon._native.readers import Mailbox, Reader, Result, Ticket, monotonic_ns
from pymon._native.renderer import Body, Labels
from pymon._native.table import Table
from pymon.agent.workers import NodeWorker
from pymon.catalogue.model import Metric
from pymon.exposition.compile import compile_catalogue
from pymon.exposition.compression import gzip as gzip_body
from pymon.exposition.negotiation import Format

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pymon.agent.registry import Registry
    from pymon.agent.self_metrics import SelfMetrics
    from pymon.sources.cgroup import CgroupSource

_log = logging.getLogger(__name__)

JOIN_SECONDS = 0.01
"""A scrape may join a cycle that began this long before it."""

DEADLINE_SECONDS = 8.0
"""For collectors, where the scrape has no timeout or a longer one: Prometheus gives up after 10 s by default."""

READER_SHARE = 0.95
"""Part of a collection's deadline after which readers stop by themselves, so that what they have read still counts."""

DEADLINE_SHARE = 0.8
"""Part of a scrape's timeout that collectors may take; the rest is for rendering and sending."""

_EOF = b"# EOF\n"
_SPARE_BODIES = 4


class ContainerCollector(NamedTuple):
    """A collector of containers and the tables it fills."""

    name: str
    tables: tuple[str, ...]


class _Wish(NamedTuple):
    """What a body depends on, beside the numbers."""

    format: Format
    gzip: bool
    names: frozenset[str] | None


class LentBody:
    """Bytes that several answers may share; the last one to release gives them back."""

    def __init__(self, data: memoryview, body: Body | None, pool: list[Body], users: int) -> None:
        self.data = data
        self._body = body
        self._pool = pool
        self._users = users

    def release(self) -> None:
        """Give the bytes back."""
        self._users -= 1
        if self._users == 0 and self._body is not None:
            self.data.release()
            if len(self._pool) < _SPARE_BODIES:
                self._pool.append(self._body)
            self._body = None


class _Cycle:
    """One collection that several scrapes may share."""

    def __init__(self) -> None:
        self.started: float | None = None
        self.open = True
        self.deadline = DEADLINE_SECONDS
        self.wishes: dict[_Wish, list[asyncio.Future[LentBody]]] = {}


class AgentCollection:
    """Implements the collection of `pymon.agent.ports` over readers, node collectors and a registry."""

    def __init__(
        self,
        metrics: Sequence[Metric],
        source: CgroupSource,
        registry: Registry,
        mailbox: Mailbox,
        container_collectors: Sequence[ContainerCollector],
        workers: Sequence[NodeWorker],
        self_metrics: SelfMetrics,
        *,
        known_collectors: Sequence[str],
    ) -> None:
        self.collectors = (*(item.name for item in container_collectors), *(worker.name for worker in workers))
        self.known_collectors = tuple(known_collectors)
        self._source = source
        self._registry = registry
        self._mailbox = mailbox
        self._container_collectors = tuple(container_collectors)
        self._workers = tuple(workers)
        self._self_metrics = self_metrics
        layout: dict[str, tuple[str, ...]] = {"container": registry.table.columns, **source.layout}
        for worker in workers:
            layout |= {table.name: table.columns for table in worker.source.tables}
        self._all = compile_catalogue(metrics, layout)
        self._one = compile_catalogue(metrics, {"container": registry.table.columns, **source.layout})
        self._lock = asyncio.Lock()
        self._cycles: dict[tuple[str, frozenset[str] | None], _Cycle] = {}
        self._tickets: dict[Ticket, asyncio.Future[None]] = {}
        self._late: dict[str, Result] = {}
        self._spare_tables: dict[str, list[list[Table]]] = {name: [] for name in source.readers}
        self._spare_containers: list[Table] = []
        self._spare_scratches: list[_Scratch] = []
        self._stuck: Ticket | None = None
        self._waking = False
        self._bodies: list[Body] = []
        self._warm = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def ready(self) -> str | None:
        """None once the first collection is done: it opens every file, and takes many times as long as the next."""
        return None if self._warm else "the first collection is under way"

    def start(self) -> None:
        """Attach to the running loop: finished readings, and changes of the trees, are its events from now on."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._mailbox.fileno(), self._take)
        changes = self._registry.tree.fileno()
        if changes is not None:
            self._loop.add_reader(changes, self._registry.refresh)
        self._registry.follow_addresses()

    def warm_up(self) -> None:
        """Collect once for nobody, so that the first scrape finds everything open."""
        task = asyncio.ensure_future(self._warm_up())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _warm_up(self) -> None:
        try:
            lent = await self.scrape(
                scope="all", collectors=None, names=None, format=Format.TEXT_0_0_4, gzip=False, timeout_seconds=None
            )
            lent.release()
        finally:
            self._warm = True

    async def stop(self) -> None:
        """Detach, and stop the threads."""
        if self._loop is not None:
            self._loop.remove_reader(self._mailbox.fileno())
            changes = self._registry.tree.fileno()
            if changes is not None:
                self._loop.remove_reader(changes)
        for task in self._tasks:
            task.cancel()
        for worker in self._workers:
            worker.close()
        await asyncio.to_thread(self._source.close)
        self._registry.close()

    # A scrape of the node.

    async def scrape(
        self,
        *,
        scope: Literal["all", "node"],
        collectors: frozenset[str] | None,
        names: frozenset[str] | None,
        format: Format,
        gzip: bool,
        timeout_seconds: float | None,
    ) -> LentBody:
        """One exposition of the node; see `pymon.agent.ports.Collection`."""
        key = (scope, collectors)
        cycle = self._cycles.get(key)
        if cycle is None or not cycle.open or not self._may_join(cycle):
            cycle = self._cycles[key] = _Cycle()
            task = asyncio.ensure_future(self._run(cycle, scope, collectors))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: self._forget(key, cycle))
        if timeout_seconds is not None:
            cycle.deadline = min(cycle.deadline, timeout_seconds * DEADLINE_SHARE)
        future: asyncio.Future[LentBody] = asyncio.get_running_loop().create_future()
        cycle.wishes.setdefault(_Wish(format, gzip, names), []).append(future)
        if timeout_seconds is None:
            return await future
        async with asyncio.timeout(timeout_seconds):
            return await future

    def _forget(self, key: tuple[str, frozenset[str] | None], cycle: _Cycle) -> None:
        if self._cycles.get(key) is cycle:
            del self._cycles[key]

    @staticmethod
    def _may_join(cycle: _Cycle) -> bool:
        return cycle.started is None or time.monotonic() - cycle.started < JOIN_SECONDS

    async def _run(self, cycle: _Cycle, scope: Literal["all", "node"], collectors: frozenset[str] | None) -> None:
        try:
            async with self._lock:
                cycle.started = time.monotonic()
                tables, labels, give_back = await self._collect(cycle, scope, collectors)
                cycle.open = False
                for wish, futures in cycle.wishes.items():
                    waiting = [future for future in futures if not future.done()]
                    if waiting:
                        lent = await asyncio.to_thread(self._render, wish, tables, labels, len(waiting))
                        for future in waiting:
                            if future.done():
                                lent.release()
                            else:
                                future.set_result(lent)
                give_back()
        except Exception as error:  # noqa: BLE001 - those who wait must hear of it, whatever it is
            for futures in cycle.wishes.values():
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
        finally:
            cycle.open = False

    async def _collect(
        self, cycle: _Cycle, scope: Literal["all", "node"], collectors: frozenset[str] | None
    ) -> tuple[dict[str, Table], Labels, Callable[[], None]]:
        self._self_metrics.collections.inc()
        tables: dict[str, Table] = {}
        chosen = [item for item in self._container_collectors if collectors is None or item.name in collectors]
        if scope == "node":
            chosen = []
        workers = [worker for worker in self._workers if collectors is None or worker.name in collectors]
        started = {worker: worker.collect() for worker in workers}
        reading: dict[str, tuple[Reader, list[Table], Result]] = {}
        ticket: asyncio.Future[None] | None = None
        spare: Table | None = None
        labels = Labels(())
        if chosen:
            self._registry.refresh()
            labels = self._registry.labels()
            spare = self._spare_containers.pop() if self._spare_containers else self._new_container_table()
            spare.assign(self._registry.table)
            spare.stamp("last_seen", time.time_ns())
            if any("container" in item.tables for item in chosen):
                tables["container"] = spare
            ticket, reading = self._post(chosen, cycle.deadline)
        waiting = [future for future in (*started.values(), ticket) if future is not None]
        if waiting:
            await asyncio.wait(waiting, timeout=cycle.deadline)
        for worker, future in started.items():
            self._worker_done(worker, future, tables)
        self._readers_done(chosen, reading, tables)

        def give_back() -> None:
            for name, (_, of_reader, result) in reading.items():
                if result.done:
                    self._spare_tables[name].append(of_reader)
            if spare is not None:
                self._spare_containers.append(spare)

        return tables, labels, give_back

    def _post(
        self, chosen: Sequence[ContainerCollector], deadline: float
    ) -> tuple[asyncio.Future[None] | None, dict[str, tuple[Reader, list[Table], Result]]]:
        wanted = {table for item in chosen for table in item.tables}
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
        deadline_ns = monotonic_ns() + int(deadline * READER_SHARE * 1e9)
        ticket = self._mailbox.collect(jobs, deadline_ns, self._registry.rows)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tickets[ticket] = future
        reading = {
            reader.name: (reader, of_reader, result)
            for (reader, _), of_reader, result in zip(jobs, lists, ticket.results, strict=True)
        }
        for name, (_, _, result) in reading.items():
            self._late[name] = result
        return future, reading

    def _worker_done(self, worker: NodeWorker, future: asyncio.Future[None] | None, tables: dict[str, Table]) -> None:
        if future is None or not future.done():
            self._self_metrics.collected(worker.name, None, success=False, failures={"deadline": 1})
            return
        failures: dict[str, int] = {}
        for problem in worker.problems or ([worker.error] if worker.error else []):
            failures[problem.reason] = failures.get(problem.reason, 0) + 1
            if problem.reason != "nodata":
                _log.debug("collector %s: %s", worker.name, problem)
        self._self_metrics.collected(worker.name, worker.seconds, success=worker.error is None, failures=failures)
        if worker.error is None:
            tables |= {table.name: table for table in worker.source.tables}

    def _readers_done(
        self,
        chosen: Sequence[ContainerCollector],
        reading: Mapping[str, tuple[Reader, list[Table], Result]],
        tables: dict[str, Table],
    ) -> None:
        all_in_time = True
        for item in chosen:
            readers = [
                name
                for name, reader in self._source.readers.items()
                if any(table in item.tables for table, _ in reader.layout)
            ]
            done = [reading[name][2] for name in readers if name in reading and reading[name][2].done]
            failures: dict[str, int] = {}
            for result in done:
                for reason, count in result.failures.items():
                    failures[reason] = failures.get(reason, 0) + count
            in_time = len(done) == len(readers) and "deadline" not in failures
            if len(done) < len(readers):
                failures["deadline"] = failures.get("deadline", 0) + 1
            all_in_time = all_in_time and in_time
            seconds = max((result.seconds for result in done), default=None)
            self._self_metrics.collected(item.name, seconds, success=in_time, failures=failures)
            tables |= {
                table.name: table
                for name in readers
                if name in reading and reading[name][2].done
                for table in reading[name][1]
                if table.name in item.tables
            }
        if chosen:
            self._self_metrics.scrape_error.set(not all_in_time)

    def _render(self, wish: _Wish, tables: Mapping[str, Table], labels: Labels, users: int) -> LentBody:
        openmetrics = wish.format.openmetrics
        body = self._bodies.pop() if self._bodies else Body()
        body.clear()
        self._all.renderer.render(
            body,
            [tables.get(name) for name in self._all.tables],
            labels,
            openmetrics=openmetrics,
            selected=None if wish.names is None else self._all.select(wish.names),
        )
        body.append(self._self_metrics.render(openmetrics=openmetrics, names=wish.names))
        if openmetrics:
            body.append(_EOF)
        if not wish.gzip:
            return LentBody(memoryview(body), body, self._bodies, users)
        packed = gzip_body(body)
        self._bodies.append(body)
        return LentBody(memoryview(packed), None, self._bodies, users)

    def _take(self) -> None:
        while (ticket := self._mailbox.take()) is not None:
            future = self._tickets.pop(ticket, None)
            if future is not None and not future.done():
                future.set_result(None)

    def _new_container_table(self) -> Table:
        return Table("container", self._registry.table.columns)

    # A scrape of one container.

    async def scrape_container(
        self,
        uuid: str,
        *,
        collectors: frozenset[str] | None,
        names: frozenset[str] | None,
        format: Format,
        gzip: bool,
        timeout_seconds: float | None,
    ) -> LentBody | None:
        """One exposition of a container; see `pymon.agent.ports.Collection`."""
        registry = self._registry
        row = registry.row_of(uuid)
        if row is None:
            registry.refresh()
            row = registry.row_of(uuid)
            if row is None:
                return None
        seconds = DEADLINE_SECONDS if timeout_seconds is None else min(timeout_seconds, DEADLINE_SECONDS)
        scratch = self._scratch(collectors)
        scratch.container.assign_row(registry.table, row)
        scratch.container.stamp("last_seen", time.time_ns())
        labels = Labels((registry.block(row),))
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
        body = self._bodies.pop() if self._bodies else Body()
        body.clear()
        self._one.renderer.render(
            body,
            tables,
            labels,
            openmetrics=format.openmetrics,
            selected=None if names is None else self._one.select(names),
        )
        if collectors is None and not scratch.spoilt:
            self._spare_scratches.append(scratch)
        if format.openmetrics:
            body.append(_EOF)
        if not gzip:
            return LentBody(memoryview(body), body, self._bodies, 1)
        packed = gzip_body(body)
        self._bodies.append(body)
        return LentBody(memoryview(packed), None, self._bodies, 1)

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
            table
            for item in self._container_collectors
            if collectors is None or item.name in collectors
            for table in item.tables
        }
        readers = tuple(self._source.readers.values()) if stuck else (self._source.row_reader,)
        return _Scratch(readers, wanted, self._one.tables, self._registry.table.columns, by_row_reader=not stuck)


class _Scratch:
    """What one container is read into."""

    def __init__(
        self,
        readers: Sequence[Reader],
        wanted: set[str],
        order: Sequence[str],
        container_columns: Sequence[str],
        *,
        by_row_reader: bool,
    ) -> None:
        self.container = Table("container", container_columns)
        self.jobs: list[tuple[Reader, list[Table | None]]] = []
        for reader in readers:
            if any(table in wanted for table, _ in reader.layout):
                of_reader = [table if table.name in wanted else None for table in reader.new_tables()]
                self.jobs.append((reader, of_reader))
        by_name = {table.name: table for _, of_reader in self.jobs for table in of_reader if table is not None}
        if "container" in wanted:
            by_name["container"] = self.container
        self.tables = [by_name.get(name) for name in order]
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

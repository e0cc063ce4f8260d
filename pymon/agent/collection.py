"""Collects and renders what a scrape asks for.

A scrape of the node runs one cycle: it refreshes the registry, runs readers and node collectors in parallel up to the
deadline, and renders what they have collected by then. Scrapes that arrive shortly after a cycle has begun share it.
Later ones share the next cycle.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from typing import TYPE_CHECKING, TypeVar

from pymon._native.renderer import Body, Labels
from pymon.agent.containers import CollectionResult
from pymon.agent.scrape import Scrape
from pymon.agent.scrape_table import ScrapeTable
from pymon.catalogue.cgroup_fields import CREATION
from pymon.exposition.compile import compile_catalogue
from pymon.exposition.compression import encode
from pymon.exposition.families import write
from pymon.exposition.negotiation import Format
from pymon.exposition.own_text import in_format
from pymon.sources.programs import ProgramSource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from pymon._native.table import Table
    from pymon.agent.containers import Containers
    from pymon.agent.extensions import Extensions
    from pymon.agent.sampler import Sampler
    from pymon.agent.scrape import Representation, Scope
    from pymon.agent.self_metrics import SelfMetrics
    from pymon.agent.workers import NodeWorker, NodeWorkers
    from pymon.catalogue.model import Metric
    from pymon.exposition.families import Family, Written

_log = logging.getLogger(__name__)

JOIN_SECONDS = 0.01
"""A scrape may share a cycle that began less than this long before it."""

DEADLINE_SECONDS = 8.0
"""Longest time that collectors may take, also for a scrape without a timeout. Prometheus' default timeout is 10 s."""

DEADLINE_SHARE = 0.8
"""Share of a scrape's timeout that collectors may take. The rest is for rendering and sending."""

HURRY_SECONDS = 0.5
"""Longest time for collectors after `AgentCollection.hurry`."""

_Used = TypeVar("_Used")

_SPARE_BODIES = 4


class LentBody:
    """A rendered exposition that several responses may share. Its buffer returns to the pool after the last release.

    Implements `pymon.agent.ports.Body`.
    """

    def __init__(self, data: memoryview, body: Body | None, pool: list[Body], users: int) -> None:
        self.data = data
        self._body = body
        self._pool = pool
        self._users = users

    def release(self) -> None:
        """End one response's use of the bytes."""
        self._users -= 1
        if self._users == 0 and self._body is not None:
            self.data.release()
            if len(self._pool) < _SPARE_BODIES:
                self._pool.append(self._body)
            self._body = None


class _Cycle:
    """One collection that several scrapes may share.

    started, deadline: on the clock of time.monotonic(); started is None before it begins. open: whether scrapes may
    still join. late: node collectors that were not done by the deadline. waiting: futures of the scrapes, by the
    representation that they asked for.
    """

    def __init__(self, scope: Scope, collectors: frozenset[str] | None) -> None:
        self.scope = scope
        self.collectors = collectors
        self.started: float | None = None
        self.open = True
        self.deadline = math.inf
        self.late: set[str] = set()
        self.waiting: dict[Representation, list[asyncio.Future[LentBody]]] = {}


class AgentCollection:
    """Implements `pymon.agent.ports.Collection` over containers, node collectors, and extensions."""

    def __init__(
        self,
        metrics: Sequence[Metric],
        containers: Containers,
        workers: NodeWorkers,
        self_metrics: SelfMetrics,
        *,
        known_collectors: Sequence[str],
        extensions: Extensions | None = None,
        container_labels: bool = True,
        operators_only: Collection[str] = (),
        samplers: Sequence[Sampler] = (),
        join_seconds: float = JOIN_SECONDS,
        deadline_share: float = DEADLINE_SHARE,
    ) -> None:
        """Compile the renderers of these metrics.

        extensions: families that are not in the catalogue. container_labels: whether the series of a scrape of one
        container have the labels that identify the container. operators_only: families that scrapes of one container
        do not have, because tenants get these. samplers: take samples beside scrapes. join_seconds, deadline_share: as
        the constants say.
        """
        self.collectors = tuple(
            dict.fromkeys(
                (
                    *(item.name for item in containers.collectors),
                    *(worker.name for worker in workers.all),
                    *(extensions.collectors if extensions else ()),
                )
            )
        )
        self.known_collectors = tuple(known_collectors)
        self._containers = containers
        self._workers = workers
        self._extensions = extensions
        self._container_labels = container_labels
        self._join_seconds = join_seconds
        self._deadline_share = deadline_share
        self._self_metrics = self_metrics
        layout = dict(containers.layout)
        for worker in workers.all:
            layout |= {table.name: table.columns for table in worker.source.tables}
        self._scrape_table = ScrapeTable()
        layout[self._scrape_table.table.name] = self._scrape_table.table.columns
        self._all = compile_catalogue(metrics, layout, CREATION)
        self._one = compile_catalogue(
            (metric for metric in metrics if metric.name not in operators_only), containers.layout, CREATION
        )
        self._lock = asyncio.Lock()
        self._cycles: dict[tuple[str, frozenset[str] | None], _Cycle] = {}
        self._bodies: list[Body] = []
        self._warm = False
        self._tasks: set[asyncio.Future[None]] = set()
        self._limits: set[asyncio.Timeout] = set()
        self._hurried = False
        self._samplers = tuple(samplers)

    def ready(self) -> str | None:
        """Return None after the first collection, else the reason why scrapes have to wait, on one line.

        The first collection opens every file and takes many times as long as later ones.
        """
        return None if self._warm else "the first collection is under way"

    def start(self) -> None:
        """Attach to the running loop."""
        self._containers.start()
        if self._extensions is not None:
            self._keep(asyncio.ensure_future(self._extensions.start()))
        for sampler in self._samplers:
            self._keep(asyncio.ensure_future(sampler.run(self.read)))

    async def prime(self, seconds: float) -> None:
        """Run every background program and plugin once, and wait for them for at most `seconds`."""
        sources = [worker.source for worker in self._workers.all if isinstance(worker.source, ProgramSource)]
        primed = asyncio.gather(
            self._containers.prime(seconds),
            *(asyncio.to_thread(source.prime, seconds) for source in sources),
            *((self._extensions.prime(seconds),) if self._extensions is not None else ()),
        )
        await self._within(None, primed)

    def hurry(self) -> None:
        """From now on wait for no more than `HURRY_SECONDS`: what has been read by then is the result."""
        self._hurried = True
        soon = asyncio.get_running_loop().time() + HURRY_SECONDS
        for limit in self._limits:
            limit.reschedule(soon)

    async def _within(self, seconds: float | None, awaitable: Awaitable[object]) -> None:
        """Wait for `awaitable`, for at most `seconds`, or until `hurry` is called."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HURRY_SECONDS if self._hurried else seconds) as limit:
                self._limits.add(limit)
                try:
                    await awaitable
                finally:
                    self._limits.discard(limit)

    def _keep(self, task: asyncio.Future[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def warm_up(self) -> None:
        """Start one collection whose result is dropped, so that files are open at the first scrape."""
        self._keep(asyncio.ensure_future(self._warm_up()))

    async def _warm_up(self) -> None:
        try:
            lent = await self.scrape(Scrape())
            if lent is not None:
                lent.release()
        finally:
            self._warm = True

    async def stop(self) -> None:
        """Detach from the loop, and stop all threads and plugins."""
        for task in self._tasks:
            task.cancel()
        self._workers.close()
        if self._extensions is not None:
            await self._extensions.stop()
        await self._containers.stop()

    async def scrape(self, scrape: Scrape) -> LentBody | None:
        """Return the exposition that a scrape asks for; see `pymon.agent.ports.Collection`."""
        if scrape.scope == "container":
            return await self._scrape_container(scrape)
        key = (scrape.scope, scrape.collectors)
        cycle = self._cycles.get(key)
        if cycle is None or not cycle.open or not self._may_join(cycle):
            cycle = self._cycles[key] = _Cycle(*key)
            task = asyncio.ensure_future(self._run(cycle))
            self._keep(task)
            task.add_done_callback(lambda _: self._forget(key, cycle))
        now = time.monotonic()
        if scrape.deadline is not None:
            cycle.deadline = min(cycle.deadline, now + (scrape.deadline - now) * self._deadline_share)
        future: asyncio.Future[LentBody] = asyncio.get_running_loop().create_future()
        cycle.waiting.setdefault(scrape.representation, []).append(future)
        if scrape.deadline is None:
            return await future
        async with asyncio.timeout(scrape.deadline - now):
            return await future

    def _forget(self, key: tuple[str, frozenset[str] | None], cycle: _Cycle) -> None:
        if self._cycles.get(key) is cycle:
            del self._cycles[key]

    def _may_join(self, cycle: _Cycle) -> bool:
        return cycle.started is None or time.monotonic() - cycle.started < self._join_seconds

    async def _run(self, cycle: _Cycle) -> None:
        try:
            async with self._lock:
                cycle.started = time.monotonic()
                result = await self._collect(cycle)
                try:
                    cycle.open = False
                    families = await self._families(cycle)
                    for representation, futures in cycle.waiting.items():
                        waiting = [future for future in futures if not future.done()]
                        await self._answer(representation, result, families, waiting)
                finally:
                    result.give_back()
        except Exception as error:  # noqa: BLE001 - every waiting scrape must get an answer, whatever failed
            for futures in cycle.waiting.values():
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
        finally:
            cycle.open = False

    async def read(self, tables: frozenset[str], use: Callable[[Mapping[str, Table]], _Used], seconds: float) -> _Used:
        """Collect the tables of containers, and return what `use` makes of them in a worker thread.

        tables: names. seconds: the longest wait for the collection; what is late is left out.
        """
        collectors = {item.name for item in self._containers.collectors if not tables.isdisjoint(item.tables)}
        cycle = _Cycle("all", frozenset(collectors))
        async with self._lock:
            cycle.deadline = time.monotonic() + seconds
            result = await self._collect(cycle)
        # Without the lock: these tables are this caller's until it gives them back, and scrapes do not wait for it.
        try:
            wanted = {name: table for name, table in result.tables.items() if name in tables}
            return await asyncio.to_thread(use, wanted)
        finally:
            result.give_back()

    async def _families(self, cycle: _Cycle) -> list[Family | Written]:
        """Return the families that are not in the catalogue."""
        families: list[Family | Written] = []
        if self._extensions is not None:
            families = await self._extensions.families(
                all_containers=cycle.scope == "all", collectors=cycle.collectors, late=cycle.late
            )
        cmon = self._self_metrics.cmon
        if cmon is not None:
            if cycle.started is not None:
                cmon.took(time.monotonic() - cycle.started)
            families += cmon.families()
        return families

    async def _answer(
        self,
        representation: Representation,
        result: CollectionResult,
        families: Sequence[Family | Written],
        waiting: list[asyncio.Future[LentBody]],
    ) -> None:
        if not waiting:
            return
        lent = await asyncio.to_thread(self._render, representation, result, families, len(waiting))
        for future in waiting:
            if future.done():
                lent.release()
            else:
                future.set_result(lent)

    async def _collect(self, cycle: _Cycle) -> CollectionResult:
        collectors, everything = cycle.collectors, cycle.scope == "all"
        seconds = max(0.0, min(DEADLINE_SECONDS, cycle.deadline - time.monotonic()))
        self._self_metrics.collections += 1
        chosen = [
            item
            for item in self._containers.collectors
            if (collectors is None or item.name in collectors) and (everything or item.node)
        ]
        workers = [worker for worker in self._workers.all if collectors is None or worker.name in collectors]
        run = self._workers.start(workers, seconds)
        reading = await self._containers.begin(chosen, seconds) if chosen else None
        waiting = [] if run.waiting.done() else [run.waiting]
        if reading is not None and reading.waiting is not None:
            waiting.append(reading.waiting)
        try:
            if waiting:
                await self._within(seconds, asyncio.wait(waiting))
        except asyncio.CancelledError:
            if reading is not None:
                reading.finish().give_back()
            raise
        self._workers.settle()
        late = set(run.late)
        cycle.late |= {worker.name for worker in late}
        tables: dict[str, Table] = {}
        for worker in workers:
            self._worker_done(worker, tables, late=worker in late)
        self._scrape_table.fill((worker, worker not in late) for worker in workers)
        tables[self._scrape_table.table.name] = self._scrape_table.table
        if reading is None:
            return CollectionResult(tables, Labels(()), (), good=True, give_back=_nothing)
        result = reading.finish()
        of_workers = {worker.name for worker in workers}
        for outcome in result.outcomes:
            # The outcome of a collector that also has a node worker, as `time` does, is already recorded.
            if outcome.collector not in of_workers or not outcome.success:
                self._self_metrics.collected(
                    outcome.collector, outcome.seconds, success=outcome.success, failures=outcome.failures
                )
        if everything:
            self._self_metrics.scrape_error = not result.good
        return result._replace(tables={**tables, **result.tables})

    def _worker_done(self, worker: NodeWorker, tables: dict[str, Table], *, late: bool) -> None:
        if late:
            self._self_metrics.collected(worker.name, None, success=False, failures={"deadline": 1})
            return
        failures: dict[str, int] = {}
        for problem in worker.problems or ([worker.error] if worker.error else []):
            failures[problem.reason] = failures.get(problem.reason, 0) + 1
            if problem.reason != "nodata":
                _log.debug("collector %s: %s", worker.name, problem)
        self._self_metrics.collected(worker.name, worker.seconds, success=worker.success, failures=failures)
        if worker.error is None:
            for table in worker.source.tables:
                tables[table.name] = table

    def _render(
        self,
        representation: Representation,
        result: CollectionResult,
        families: Sequence[Family | Written],
        users: int,
    ) -> LentBody:
        form, names = representation.format, representation.names
        body = self._empty_body()
        self._all.renderer.render(
            body,
            [result.tables.get(name) for name in self._all.tables],
            result.labels,
            openmetrics=form.openmetrics,
            protobuf=form is Format.PROTOBUF,
            openmetrics2=form is Format.OPENMETRICS_2_0_0,
            selected=None if names is None else self._all.select(names),
        )
        if families:
            body.append(in_format(write(families, openmetrics=form.openmetrics, names=names), form))
        body.append(self._self_metrics.render(form, names))
        return self._lend(body, representation, users)

    def _empty_body(self) -> Body:
        try:
            body = self._bodies.pop()
        except IndexError:  # asked for in one step: the loop and worker threads take from the list
            body = Body()
        body.clear()
        return body

    def _lend(self, body: Body, representation: Representation, users: int) -> LentBody:
        """Finish and compress a body. Return the bytes to send, shared by `users` responses."""
        body.append(representation.format.end)
        if representation.encoding == "identity":
            return LentBody(memoryview(body), body, self._bodies, users)
        packed = encode(body, representation.encoding)
        self._bodies.append(body)
        return LentBody(memoryview(packed), None, self._bodies, users)

    async def _scrape_container(self, scrape: Scrape) -> LentBody | None:
        seconds = DEADLINE_SECONDS
        if scrape.deadline is not None:
            seconds = max(0.0, min(seconds, scrape.deadline - time.monotonic()))
        found = await self._containers.read_one(scrape.uuid, scrape.collectors, seconds)
        if found is None:
            return None
        form, names = scrape.format, scrape.names
        body = self._empty_body()
        try:
            self._one.renderer.render(
                body,
                found.tables,
                Labels((found.block if self._container_labels else b"",)),
                openmetrics=form.openmetrics,
                protobuf=form is Format.PROTOBUF,
                openmetrics2=form is Format.OPENMETRICS_2_0_0,
                selected=None if names is None else self._one.select(names),
            )
        finally:
            found.give_back()
        if self._extensions is not None:
            families = self._extensions.of_container(scrape.uuid, scrape.collectors, labelled=self._container_labels)
            if families:
                body.append(in_format(write(families, openmetrics=form.openmetrics, names=names), form))
        return self._lend(body, scrape.representation, 1)


def _nothing() -> None:
    pass

"""Collecting and rendering: what a scrape sets off.

A scrape of the node is one cycle: the registry is brought up to date, readers and node collectors run side by side,
each up to its deadline, and what is there then is rendered. Scrapes that arrive while a cycle has just begun share it;
those that come later share the next.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from pymon._native.renderer import Body, Labels
from pymon.agent.containers import Gathered
from pymon.exposition.compile import compile_catalogue
from pymon.exposition.compression import gzip as gzip_body
from pymon.exposition.families import write
from pymon.exposition.negotiation import Format
from pymon.sources.programs import ProgramSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymon._native.table import Table
    from pymon.agent.containers import Containers
    from pymon.agent.guests import Guests
    from pymon.agent.ports import Scope
    from pymon.agent.self_metrics import SelfMetrics
    from pymon.agent.workers import NodeWorker
    from pymon.catalogue.model import Metric
    from pymon.exposition.families import Family, Written

_log = logging.getLogger(__name__)

JOIN_SECONDS = 0.01
"""A scrape may join a cycle that began this long before it."""

DEADLINE_SECONDS = 8.0
"""For collectors, where the scrape has no timeout or a longer one: Prometheus gives up after 10 s by default."""

DEADLINE_SHARE = 0.8
"""Part of a scrape's timeout that collectors may take; the rest is for rendering and sending."""

_EOF = b"# EOF\n"
_SPARE_BODIES = 4


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
        self.late: set[str] = set()
        self.wishes: dict[_Wish, list[asyncio.Future[LentBody]]] = {}


class AgentCollection:
    """Implements the collection of `pymon.agent.ports` over containers and node collectors."""

    def __init__(
        self,
        metrics: Sequence[Metric],
        containers: Containers,
        workers: Sequence[NodeWorker],
        self_metrics: SelfMetrics,
        *,
        known_collectors: Sequence[str],
        guests: Guests | None = None,
        container_labels: bool = True,
    ) -> None:
        """guests: families that are not in the catalogue. container_labels: whether a scrape of one container says in
        its labels which one it is.
        """
        self.collectors = tuple(
            dict.fromkeys(
                (
                    *(item.name for item in containers.collectors),
                    *(worker.name for worker in workers),
                    *(guests.collectors if guests else ()),
                )
            )
        )
        self.known_collectors = tuple(known_collectors)
        self._containers = containers
        self._workers = tuple(workers)
        self._guests = guests
        self._container_labels = container_labels
        self._self_metrics = self_metrics
        layout = dict(containers.layout)
        for worker in workers:
            layout |= {table.name: table.columns for table in worker.source.tables}
        self._all = compile_catalogue(metrics, layout)
        self._one = compile_catalogue(metrics, containers.layout)
        self._lock = asyncio.Lock()
        self._cycles: dict[tuple[str, frozenset[str] | None], _Cycle] = {}
        self._bodies: list[Body] = []
        self._warm = False
        self._tasks: set[asyncio.Future[None]] = set()

    def ready(self) -> str | None:
        """None once the first collection is done: it opens every file, and takes many times as long as the next."""
        return None if self._warm else "the first collection is under way"

    def start(self) -> None:
        """Attach to the running loop."""
        self._containers.start()
        if self._guests is not None:
            self._keep(asyncio.ensure_future(self._guests.start()))

    async def prime(self, seconds: float) -> None:
        """Run what runs in the background once, and wait for it up to the timeout."""
        sources = [worker.source for worker in self._workers if isinstance(worker.source, ProgramSource)]
        await asyncio.gather(
            self._containers.prime(seconds),
            *(asyncio.to_thread(source.prime, seconds) for source in sources),
            *((self._guests.prime(seconds),) if self._guests is not None else ()),
        )

    def _keep(self, task: asyncio.Future[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def warm_up(self) -> None:
        """Collect once for nobody, so that the first scrape finds everything open."""
        self._keep(asyncio.ensure_future(self._warm_up()))

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
        for task in self._tasks:
            task.cancel()
        for worker in self._workers:
            worker.close()
        if self._guests is not None:
            await self._guests.stop()
        await self._containers.stop()

    # A scrape of the node.

    async def scrape(
        self,
        *,
        scope: Scope,
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
            self._keep(task)
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

    async def _run(self, cycle: _Cycle, scope: Scope, collectors: frozenset[str] | None) -> None:
        try:
            async with self._lock:
                cycle.started = time.monotonic()
                gathered = await self._collect(cycle, scope, collectors)
                try:
                    cycle.open = False
                    families = await self._families(cycle, scope, collectors)
                    for wish, futures in cycle.wishes.items():
                        await self._answer(
                            wish, gathered, families, [future for future in futures if not future.done()]
                        )
                finally:
                    gathered.give_back()
        except Exception as error:  # noqa: BLE001 - those who wait must hear of it, whatever it is
            for futures in cycle.wishes.values():
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
        finally:
            cycle.open = False

    async def _families(self, cycle: _Cycle, scope: Scope, collectors: frozenset[str] | None) -> list[Family | Written]:
        """What is not in the catalogue."""
        families = await self._guests.families(scope, collectors, cycle.late) if self._guests else []
        cmon = self._self_metrics.cmon
        if cmon is not None:
            if cycle.started is not None:
                cmon.took(time.monotonic() - cycle.started)
            families += cmon.families()
        return families

    async def _answer(
        self,
        wish: _Wish,
        gathered: Gathered,
        families: Sequence[Family | Written],
        waiting: list[asyncio.Future[LentBody]],
    ) -> None:
        if not waiting:
            return
        lent = await asyncio.to_thread(self._render, wish, gathered, families, len(waiting))
        for future in waiting:
            if future.done():
                lent.release()
            else:
                future.set_result(lent)

    async def _collect(self, cycle: _Cycle, scope: Scope, collectors: frozenset[str] | None) -> Gathered:
        self._self_metrics.collections.inc()
        chosen = [
            item
            for item in self._containers.collectors
            if (collectors is None or item.name in collectors) and (scope == "all" or item.node)
        ]
        workers = [worker for worker in self._workers if collectors is None or worker.name in collectors]
        started = {worker: worker.collect() for worker in workers}
        reading = self._containers.begin(chosen, cycle.deadline) if chosen else None
        waiting = [future for future in started.values() if future is not None]
        if reading is not None and reading.waiting is not None:
            waiting.append(reading.waiting)
        try:
            if waiting:
                await asyncio.wait(waiting, timeout=cycle.deadline)
        except asyncio.CancelledError:
            if reading is not None:
                reading.finish().give_back()
            raise
        tables: dict[str, Table] = {}
        for worker, future in started.items():
            if future is None or not future.done():
                cycle.late.add(worker.name)
            self._worker_done(worker, future, tables)
        if reading is None:
            return Gathered(tables, Labels(()), (), good=True, give_back=_nothing)
        gathered = reading.finish()
        of_workers = {worker.name for worker in started}
        for outcome in gathered.outcomes:
            # A collector that is a worker's too, as the clock is, has been told of.
            if outcome.collector not in of_workers or not outcome.success:
                self._self_metrics.collected(
                    outcome.collector, outcome.seconds, success=outcome.success, failures=outcome.failures
                )
        if scope == "all":
            self._self_metrics.scrape_error.set(not gathered.good)
        return gathered._replace(tables={**tables, **gathered.tables})

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

    def _render(self, wish: _Wish, gathered: Gathered, families: Sequence[Family | Written], users: int) -> LentBody:
        openmetrics = wish.format.openmetrics
        body = self._bodies.pop() if self._bodies else Body()
        body.clear()
        self._all.renderer.render(
            body,
            [gathered.tables.get(name) for name in self._all.tables],
            gathered.labels,
            openmetrics=openmetrics,
            selected=None if wish.names is None else self._all.select(wish.names),
        )
        if families:
            body.append(write(families, openmetrics=openmetrics, names=wish.names))
        body.append(self._self_metrics.render(openmetrics=openmetrics, names=wish.names))
        if openmetrics:
            body.append(_EOF)
        if not wish.gzip:
            return LentBody(memoryview(body), body, self._bodies, users)
        packed = gzip_body(body)
        self._bodies.append(body)
        return LentBody(memoryview(packed), None, self._bodies, users)

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
        seconds = DEADLINE_SECONDS if timeout_seconds is None else min(timeout_seconds, DEADLINE_SECONDS)
        one = await self._containers.one(uuid, collectors, seconds)
        if one is None:
            return None
        body = self._bodies.pop() if self._bodies else Body()
        body.clear()
        try:
            self._one.renderer.render(
                body,
                one.tables,
                Labels((one.block if self._container_labels else b"",)),
                openmetrics=format.openmetrics,
                selected=None if names is None else self._one.select(names),
            )
        finally:
            one.give_back()
        if self._guests is not None:
            families = self._guests.of_container(uuid, collectors, labelled=self._container_labels)
            if families:
                body.append(write(families, openmetrics=format.openmetrics, names=names))
        if format.openmetrics:
            body.append(_EOF)
        if not gzip:
            return LentBody(memoryview(body), body, self._bodies, 1)
        packed = gzip_body(body)
        self._bodies.append(body)
        return LentBody(memoryview(packed), None, self._bodies, 1)


def _nothing() -> None:
    pass

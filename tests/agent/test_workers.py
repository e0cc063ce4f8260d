"""Collectors that run in turn on one thread, and the ones behind a collector that blocks."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from pymon._native.table import Table
from pymon.agent.workers import NodeWorker, NodeWorkers, Run
from pymon.sources.errors import SourceError
from pymon.sources.node import NodeSource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SECONDS = 30.0


class Source(NodeSource):
    """Waits for `go`, fills one row, and notes the thread."""

    def __init__(self, name: str, error: Exception | None = None) -> None:
        self.name = name  # type: ignore[misc]  # of an object here
        self.go, self.entered, self.closed = threading.Event(), threading.Event(), threading.Event()
        self.go.set()
        self.thread = 0
        self.count = 0
        self.error = error
        super().__init__((Table(name, ("value",)),))

    def _fill(self) -> None:
        self.entered.set()
        self.thread = threading.get_ident()
        self.count += 1
        assert self.go.wait(SECONDS)
        if self.error is not None:
            raise self.error
        self.tables[0].add_row()

    def close(self) -> None:
        self.closed.set()
        super().close()


class Rig:
    """Five collectors, of which the second can be made to block."""

    def __init__(self) -> None:
        self.sources = [Source(name) for name in "abcde"]
        self.slow = self.sources[1]
        self.workers = NodeWorkers([NodeWorker(source) for source in self.sources])

    def start(self) -> Run:
        return self.workers.start(self.workers.all)

    async def without(self, run: Run, *late: str) -> None:
        """Wait until all but these have ended."""
        async with asyncio.timeout(SECONDS):
            while {worker.name for worker in run.late} != set(late):
                await asyncio.sleep(0.001)
                self.workers.settle()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    made.slow.go.set()
    made.workers.close()


async def test_one_thread_runs_all(rig: Rig) -> None:
    for count in (1, 2, 3):
        run = rig.start()
        async with asyncio.timeout(SECONDS):
            await run.waiting
        assert run.late == set()
        assert [source.count for source in rig.sources] == [count] * 5
    assert [worker.error for worker in rig.workers.all] == [None] * 5
    assert all(worker.seconds > 0 for worker in rig.workers.all)


async def test_those_behind_one_that_blocks_go_on_on_another_thread(rig: Rig) -> None:
    rig.slow.go.clear()
    run = rig.start()
    await rig.without(run, "b")
    assert not run.waiting.done()
    assert rig.sources[2].thread != rig.slow.thread
    rig.slow.go.set()
    async with asyncio.timeout(SECONDS):
        await run.waiting
    assert run.late == set()


async def test_one_that_blocks_at_the_end_does_not_hide_those_before_it(rig: Rig) -> None:
    last = rig.sources[-1]
    last.go.clear()
    run = rig.start()
    await rig.without(run, "e")
    last.go.set()


async def test_one_that_is_busy_is_not_started_again(rig: Rig) -> None:
    rig.slow.go.clear()
    first = rig.start()
    await rig.without(first, "b")
    second = rig.start()
    assert "b" not in {worker.name for worker in second.started}
    async with asyncio.timeout(SECONDS):
        await second.waiting
    assert {worker.name for worker in second.late} == {"b"}
    assert rig.slow.count == 1
    rig.slow.go.set()
    async with asyncio.timeout(SECONDS):
        await first.waiting
    third = rig.start()
    async with asyncio.timeout(SECONDS):
        await third.waiting
    assert third.late == set()
    assert rig.slow.count == 2


async def test_nothing_to_start_is_not_waited_for(rig: Rig) -> None:
    assert rig.workers.start(()).waiting.done()


async def test_a_source_is_closed_after_its_collection(rig: Rig) -> None:
    rig.slow.go.clear()
    run = rig.start()
    await rig.without(run, "b")
    rig.workers.close()
    assert [source.closed.is_set() for source in rig.sources] == [True, False, True, True, True]
    rig.slow.go.set()
    assert await asyncio.to_thread(rig.slow.closed.wait, SECONDS)


async def test_what_waits_when_it_is_closed_is_not_collected(rig: Rig) -> None:
    rig.sources[0].go.clear()
    rig.start()
    assert await asyncio.to_thread(rig.sources[0].entered.wait, SECONDS)
    rig.workers.close()
    rig.sources[0].go.set()
    assert await asyncio.to_thread(rig.sources[0].closed.wait, SECONDS)
    assert [source.count for source in rig.sources] == [1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("error", "reason"), [(SourceError("eio", "a: Input/output error"), "eio"), (ZeroDivisionError("1"), "bug")]
)
async def test_an_error_is_that_collectors_own(error: Exception, reason: str) -> None:
    workers = NodeWorkers([NodeWorker(Source("a", error)), NodeWorker(Source("b"))])
    run = workers.start(workers.all)
    async with asyncio.timeout(SECONDS):
        await run.waiting
    bad, good = workers.all
    assert (bad.error and bad.error.reason, bad.success) == (reason, False)
    assert (good.error, good.success) == (None, True)
    workers.close()

"""Cycles of the collection: who shares one, what a stuck collector costs, and how the bytes go out."""

from __future__ import annotations

import asyncio
import gzip
import threading
import time
from collections.abc import AsyncIterator
from fractions import Fraction
from typing import ClassVar

import pytest

import pymon
from pymon._native.table import Table
from pymon.agent.build import Agent, build_agent
from pymon.agent.cgroup_containers import CgroupContainers
from pymon.agent.collection import AgentCollection, LentBody
from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import AgentOptions, load_agent_options
from pymon.agent.scrape import Scrape
from pymon.agent.self_metrics import SelfMetrics
from pymon.agent.workers import NodeWorker, NodeWorkers
from pymon.catalogue.model import Column, gauge
from pymon.exposition.compression import zstd
from pymon.exposition.negotiation import Format
from pymon.sources.node import NodeSource
from tests.agent.fixture_host import FixtureHost, copy_host
from tests.oracle import Series, parse


class Fake(NodeSource):
    """Fills one cell with the number of its collection; waits for `go` first."""

    name: ClassVar[str] = "fake"

    def __init__(self) -> None:
        self.table = Table("fake", ("value",))
        super().__init__((self.table,))
        self.go = threading.Event()
        self.go.set()
        self.entered = threading.Event()
        self.count = 0

    def _fill(self) -> None:
        self.entered.set()
        self.go.wait()
        self.count += 1
        self.table.fill(self.table.add_row(), [self.count])


class Quick(Fake):
    name: ClassVar[str] = "quick"

    def __init__(self) -> None:
        NodeSource.__init__(self, (Table("quick", ("value",)),))

    def _fill(self) -> None:
        (table,) = self.tables
        table.fill(table.add_row(), [7])


METRICS = (
    gauge("fake_value", "A number.", "fake", Column("fake", "value")),
    gauge("quick_value", "A number.", "quick", Column("quick", "value")),
)


def options(host: FixtureHost, *flags: str) -> AgentOptions:
    return load_agent_options([*host.flags(), *flags], {}, COLLECTORS, version=pymon.__version__)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> FixtureHost:
    return copy_host("v2", tmp_path_factory.mktemp("host"))


class Rig:
    """A collection over the fixture's containers and two collectors of this test."""

    def __init__(self, agent: Agent, **times: float) -> None:
        self.fake, self.quick = Fake(), Quick()
        self.self_metrics: SelfMetrics = agent.self_metrics
        self.containers = CgroupContainers(agent.containers._source, agent.registry, agent.containers._mailbox, ())
        self.collection = AgentCollection(
            METRICS,
            self.containers,
            NodeWorkers([NodeWorker(self.fake), NodeWorker(self.quick)]),
            agent.self_metrics,
            known_collectors=["fake", "quick"],
            **times,
        )

    async def scrape(self, seconds: float | None = None, *, gzipped: bool = False) -> dict[Series, Fraction]:
        lent = await self.lent(seconds, gzipped=gzipped)
        body = bytes(lent.data)
        lent.release()
        return parse(gzip.decompress(body) if gzipped else body)

    async def lent(
        self, seconds: float | None = None, *, gzipped: bool = False, form: Format = Format.TEXT_0_0_4
    ) -> LentBody:
        deadline = None if seconds is None else time.monotonic() + seconds
        encoding = "gzip" if gzipped else "identity"
        lent = await self.collection.scrape(Scrape(format=form, encoding=encoding, deadline=deadline))
        assert lent is not None
        return lent


@pytest.fixture
async def rig(host: FixtureHost, request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    """Parametrised with the times of the collection, if they are not the usual ones."""
    made = Rig(build_agent(options(host)), **getattr(request, "param", {}))
    made.collection.start()
    yield made
    made.fake.go.set()
    await made.collection.stop()


def own(series: dict[Series, Fraction], name: str, **labels: str) -> Fraction | None:
    return series.get((name, frozenset(labels.items())))


async def test_a_body_in_zstd_is_the_same(rig: Rig) -> None:
    lent = await rig.collection.scrape(Scrape(encoding="zstd"))
    assert lent is not None
    data = bytes(lent.data)
    lent.release()
    assert data.startswith(b"\x28\xb5\x2f\xfd"), "RFC 8878"
    assert own(parse(zstd.decompress(data)), "fake_value") == 1


async def test_scrapes_that_arrive_together_share_one_collection(rig: Rig) -> None:
    answers = await asyncio.gather(*(rig.scrape(gzipped=bool(i % 2)) for i in range(10)))
    assert rig.fake.count == 1
    assert {own(answer, "fake_value") for answer in answers} == {1}
    assert {own(answer, "pymon_collections_total") for answer in answers} == {1}
    assert own(await rig.scrape(), "fake_value") == 2, "the next one is another"


@pytest.mark.parametrize("rig", [{"join_seconds": 0.0}], indirect=True)
async def test_one_that_comes_late_does_not_get_old_numbers(rig: Rig) -> None:
    rig.fake.go.clear()
    first = asyncio.ensure_future(rig.scrape())
    await asyncio.to_thread(rig.fake.entered.wait)
    second = asyncio.ensure_future(rig.scrape())
    third = asyncio.ensure_future(rig.scrape())
    await asyncio.sleep(0)
    rig.fake.go.set()
    assert own(await first, "fake_value") == 1
    assert own(await second, "fake_value") == 2
    assert own(await third, "fake_value") == 2, "those that wait share the next"


async def test_a_stuck_collector_costs_its_own_metrics_and_heals(rig: Rig) -> None:
    rig.fake.go.clear()
    answer = await rig.scrape(0.5)
    assert own(answer, "fake_value") is None
    assert own(answer, "quick_value") == 7
    assert own(answer, "pymon_collector_success", collector="fake") == 0
    assert own(answer, "pymon_collector_success", collector="quick") == 1
    assert own(answer, "pymon_collector_failures_total", collector="fake", reason="deadline") == 1
    again = await rig.scrape(0.5)
    assert own(again, "pymon_collector_failures_total", collector="fake", reason="deadline") == 2
    assert own(again, "quick_value") == 7
    rig.fake.go.set()
    healed: dict[Series, Fraction] = {}
    async with asyncio.timeout(10):
        while own(healed, "fake_value") is None:
            healed = await rig.scrape(0.5)
    assert own(healed, "pymon_collector_success", collector="fake") == 1


async def test_a_stuck_collector_does_not_make_the_next_scrape_wait(rig: Rig) -> None:
    rig.fake.go.clear()
    await rig.scrape(0.3)
    loop = asyncio.get_running_loop()
    begin = loop.time()
    await rig.scrape(5.0)
    assert loop.time() - begin < 2.5, "it waited for a collection that was known to be stuck"


async def test_an_answer_comes_before_the_scrapes_timeout(rig: Rig) -> None:
    rig.fake.go.clear()
    loop = asyncio.get_running_loop()
    begin = loop.time()
    answer = await rig.scrape(1.0)
    assert loop.time() - begin < 1.0
    assert own(answer, "quick_value") == 7


@pytest.mark.parametrize("rig", [{"deadline_share": 10.0}], indirect=True)
async def test_no_answer_in_time_is_a_timeout(rig: Rig) -> None:
    rig.fake.go.clear()
    with pytest.raises(TimeoutError):
        await rig.scrape(0.1)


async def test_the_body_is_lent_and_used_again(rig: Rig) -> None:
    lent = await rig.lent()
    assert isinstance(lent.data, memoryview)
    assert lent.data.ndim == 1
    assert lent.data.contiguous
    assert lent.data.format == "B"
    body = lent._body
    lent.release()
    with pytest.raises(ValueError, match="released"):
        bytes(lent.data)
    other = await rig.lent()
    assert other._body is body
    other.release()


async def test_a_body_that_two_share_lives_until_the_second_gives_it_back(rig: Rig) -> None:
    first, second = await asyncio.gather(rig.lent(), rig.lent())
    assert first is second
    first.release()
    assert parse(bytes(second.data))
    second.release()


async def test_a_scrape_that_is_given_up_keeps_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.fake.go.clear()
    abandoned = asyncio.ensure_future(rig.lent())
    await asyncio.to_thread(rig.fake.entered.wait)
    abandoned.cancel()
    rig.fake.go.set()
    with pytest.raises(asyncio.CancelledError):
        await abandoned
    answer = await rig.scrape()
    assert own(answer, "fake_value") is not None
    assert not rig.containers._tickets


async def test_openmetrics_ends_with_its_mark(rig: Rig) -> None:
    lent = await rig.lent(form=Format.OPENMETRICS_1_0_0)
    assert bytes(lent.data).endswith(b"\n# EOF\n")
    assert bytes(lent.data).count(b"# EOF") == 1
    lent.release()


async def test_readers_that_are_late_cost_their_tables_only(host: FixtureHost) -> None:
    agent = build_agent(options(host))
    agent.collection.start()
    try:
        lent = await agent.collection.scrape(Scrape())
        before = parse(bytes(lent.data))
        lent.release()
        # A deadline that has passed already when the readers begin.
        ticket = agent.containers._mailbox.collect(
            [(reader, list(reader.new_tables())) for reader in agent.containers._source.readers.values()],
            0,
            agent.registry.rows,
        )
        async with asyncio.timeout(10):
            while not ticket.done:  # noqa: ASYNC110 - the native side has no event of asyncio's
                await asyncio.sleep(0)
        assert all(result.failures.get("deadline") for result in ticket.results)
        lent = await agent.collection.scrape(Scrape())
        after = parse(bytes(lent.data))
        lent.release()
        assert before.keys() - after.keys() == set()
    finally:
        await agent.collection.stop()


async def test_one_container(host: FixtureHost) -> None:
    agent = build_agent(options(host))
    agent.collection.start()
    try:
        for container in agent.registry.containers():
            lent = await agent.collection.scrape(
                Scrape("container", str(container.uuid), deadline=time.monotonic() + 5.0)
            )
            assert lent is not None
            series = parse(bytes(lent.data))
            lent.release()
            assert {text for _, labels in series for key, text in labels if key == "id"} == {container.id}
        nobody = "00000000-0000-0000-0000-000000000000"
        assert await agent.collection.scrape(Scrape("container", nobody)) is None
    finally:
        await agent.collection.stop()

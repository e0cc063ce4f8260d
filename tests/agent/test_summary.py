"""The summary against the exposition of the same hosts."""

import asyncio
import json
import math
import threading
from collections import defaultdict
from dataclasses import replace

import msgspec
import pytest

import pymon
from pymon.agent.build import build_agent
from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import load_agent_options
from pymon.agent.scrape import Scrape
from pymon.agent.self_metrics import SelfMetrics
from pymon.agent.summary import LiveSummary
from pymon.summary_document import COLUMNS, MAX_TEXT_CHARACTERS, NUMBER_COLUMNS
from tests.agent.fixture_host import HOSTS, copy_host
from tests.oracle import parse


async def both(argv):
    """The summary of an agent's containers, and the sums of the exposition's series by container path and name."""
    agent = build_agent(load_agent_options(argv, {}, COLLECTORS, version=pymon.__version__))
    agent.collection.start()
    live = LiveSummary(agent.collection, agent.registry, agent.containers, agent.self_metrics.health)
    try:
        lent = await agent.collection.scrape(Scrape())
        sums = defaultdict(float)
        for (name, labels), value in parse(bytes(lent.data)).items():
            if "id" in dict(labels):
                sums[dict(labels)["id"], name] += float(value)
        lent.release()
        return json.loads(await live.summary()), sums, agent.registry.containers()
    finally:
        await agent.collection.stop()


@pytest.mark.parametrize("host", HOSTS)
async def test_each_number_is_that_of_the_exposition(host, tmp_path):
    document, sums, containers = await both(copy_host(host, tmp_path).flags())
    assert tuple(document["columns"]) == COLUMNS
    (node,) = document["nodes"]
    rows = {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in node["containers"]}
    assert rows.keys() == {str(container.uuid) for container in containers}
    compared = set()
    for container in containers:
        row = rows[str(container.uuid)]
        assert (row["name"], row["image"], row["owner"]) == (
            container.name or container.id, container.image, container.owner or "",
        )  # fmt: skip
        for column, metric in NUMBER_COLUMNS.items():
            expected = sums.get((container.id, metric))
            assert (row[column] is None) == (expected is None), (column, container.id)
            if expected is not None:
                assert math.isclose(row[column], expected, rel_tol=1e-9), (column, container.id)
                compared.add(column)
    assert {"cpu_seconds", "memory_bytes", "receive_bytes", "read_bytes", "processes"} <= compared
    assert set(node["collectors"].values()) <= {True, False}
    assert node["source"].startswith("kstats" if host == "smartos" else "files of control groups")


def test_a_collector_that_has_nothing_here_is_neither_well_nor_ill():
    metrics = SelfMetrics(source="cgroupfs", dialect="cadvisor")
    metrics.collected("cpu", 0.1, success=True, failures={})
    metrics.collected("netdev", 0.1, success=False, failures={"enoent": 1, "nodata": 1})
    metrics.collected("zfs", 0.1, success=False, failures={"nodata": 1})
    assert metrics.health() == {"cpu": True, "netdev": False}
    metrics.collected("zfs", 0.1, success=True, failures={})
    assert metrics.health() == {"cpu": True, "netdev": False, "zfs": True}


async def test_one_that_ends_while_the_summary_is_made_is_there_once(tmp_path, monkeypatch):
    agent = build_agent(
        load_agent_options(copy_host("v2", tmp_path).flags(), {}, COLLECTORS, version=pymon.__version__)
    )
    agent.collection.start()
    live = LiveSummary(agent.collection, agent.registry, agent.containers, agent.self_metrics.health)
    first, *_ = agent.registry.containers()
    # It is among those that have ended although it was still there a moment ago.
    monkeypatch.setattr(agent.registry, "ended", lambda: [(replace(first, state="stopped"), {})])
    try:
        rows = json.loads(await live.summary())["nodes"][0]["containers"]
    finally:
        await agent.collection.stop()
    assert [row[COLUMNS.index("state")] for row in rows if row[0] == str(first.uuid)] == ["running"]


async def test_those_who_ask_together_share_a_collection(tmp_path):
    argv = copy_host("v2", tmp_path).flags()
    agent = build_agent(load_agent_options(argv, {}, COLLECTORS, version=pymon.__version__))
    agent.collection.start()
    live = LiveSummary(agent.collection, agent.registry, agent.containers, agent.self_metrics.health)
    try:
        assert await live.summary() is await live.summary()
        assert agent.self_metrics.collections == 1
    finally:
        await agent.collection.stop()


async def test_a_scrape_does_not_wait_for_what_is_made_of_a_reading(tmp_path):
    argv = copy_host("v2", tmp_path).flags()
    agent = build_agent(load_agent_options(argv, {}, COLLECTORS, version=pymon.__version__))
    agent.collection.start()
    begun, go_on = threading.Event(), threading.Event()

    def use(tables):
        begun.set()
        assert go_on.wait(30)
        return {name: [table.get(row, "memory.current") for row in range(len(table))] for name, table in tables.items()}

    try:
        reading = asyncio.ensure_future(agent.collection.read(frozenset({"memory.v2"}), use, 5.0))
        assert await asyncio.to_thread(begun.wait, 30)
        (await asyncio.wait_for(agent.collection.scrape(Scrape()), 30)).release()
        assert not reading.done()
        go_on.set()
        ((name, values),) = (await reading).items()
        assert (name, len(values)) == ("memory.v2", agent.registry.rows)
        assert any(values)
    finally:
        go_on.set()
        await agent.collection.stop()


async def test_a_name_that_is_long_or_not_utf_8_is_text(tmp_path):
    host = copy_host("v2", tmp_path)
    (host.cgroups / "odd").mkdir()
    deep = host.cgroups / "odd" / ("x" * 200)
    (deep / ("y" * 200)).mkdir(parents=True)
    (host.cgroups / "odd" / "b\udcff").mkdir()
    document, _, _ = await both([*host.flags(), "--container.all"])
    names = [row[1] for row in document["nodes"][0]["containers"]]
    assert "/odd/b?" in names
    assert max(map(len, names)) == MAX_TEXT_CHARACTERS
    assert msgspec.json.encode(document)

"""A chain that cannot be read as it should: what it costs, and that it is told."""

from __future__ import annotations

import asyncio
import errno
import json
import re
import threading
import time
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from pymon.agent.build import build_agent
from pymon.agent.zone_containers import ZoneContainers
from pymon.config import ConfigError
from pymon.sources.errors import SourceError
from pymon.sources.kstat import KstatReader
from pymon.sources.node.time_of_day import TimeOfDay
from tests.agent.zone_host import (
    CAPPED,
    TWIN,
    UNCAPPED,
    WAIT_SECONDS,
    ZoneHost,
    failures,
    names,
    running,
    scrape,
    series,
    until,
    value,
    zone,
    zones,
)
from tests.e2e.prometheus import check_metrics
from tests.kstat.double import CHAINS, FOREVER, SYMBOLS, build
from tests.oracle import parse

MEMCAP_1 = ("memory_cap", 1, CAPPED[:30])


def test_no_library_is_one_line(node: ZoneHost, tmp_path: Path) -> None:
    missing = tmp_path / "libnone.so"
    with pytest.raises(ConfigError, match=r"^source kstat: .*libnone\.so") as caught:
        build_agent(node.options("--dialect=cmon", library=missing))
    assert "\n" not in str(caught.value)


def test_what_is_not_a_library_is_one_line(node: ZoneHost, tmp_path: Path) -> None:
    (tmp_path / "libtext.so").write_text("no library")
    with pytest.raises(ConfigError, match=r"^source kstat: .*libtext\.so") as caught:
        build_agent(node.options("--dialect=cmon", library=tmp_path / "libtext.so"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_a_library_without_a_symbol_is_one_line_that_names_it(symbol: str, node: ZoneHost) -> None:
    library = build(without=[symbol])
    with pytest.raises(ConfigError, match=rf"^source kstat: .*{re.escape(library.name)}.*\b{symbol}\b") as caught:
        build_agent(node.options("--dialect=cmon", library=library))
    assert "\n" not in str(caught.value)


def test_a_chain_that_cannot_be_opened_is_one_line(node: ZoneHost) -> None:
    node.double.fail_open(errno.EACCES)
    with pytest.raises(ConfigError, match=r"^source kstat: .*kstat_open: Permission denied$"):
        build_agent(node.options())


async def test_a_chain_that_cannot_be_updated_costs_what_is_of_the_chain(node: ZoneHost) -> None:
    async with running(node.options()) as agent:
        good = await series(agent)
        node.double.fail_update(errno.EINVAL)
        found = await series(agent)
        assert not zones(found)
        assert "arcstats_hits_total" not in names(found)
        assert "time_of_day" in names(found)
        assert value(found, "pymon_collector_success", collector="kstat") == 0
        assert value(found, "pymon_collector_success", collector="zone_misc") == 0
        assert found["container_scrape_error", frozenset()] == 1
        assert failures(found) == {"einval": 1}
        assert len(agent.registry) == 7, "nothing says that they have gone"
        with pytest.raises(SourceError, match="kstat_chain_update"):
            await scrape(agent, CAPPED)
        node.double.fail_update(0, 0)
        healed = await series(agent)
        assert {name for name, _ in good} <= names(healed)
        assert healed["container_scrape_error", frozenset()] == 0
        assert await scrape(agent, CAPPED)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENXIO, errno.EACCES, errno.ENOMEM, errno.EINVAL, errno.EFAULT])
@pytest.mark.parametrize("direct", [True, False])
async def test_a_kstat_that_cannot_be_read_costs_its_own_cells(number: int, direct: bool, node: ZoneHost) -> None:
    node.double.direct(direct)
    async with running(node.options()) as agent:
        good = await series(agent)
        node.double.fail(MEMCAP_1, number)
        found, one = await series(agent), await series(agent, CAPPED)
    lost = {key for key in good if key not in found and not key[0].startswith(("pymon_", "process_"))}
    assert {name for name, _ in lost} == {
        "mem_agg_usage", "mem_anon_alloc_fail", "mem_limit", "mem_swap", "mem_swap_limit",
    }  # fmt: skip
    assert {dict(labels)["id"] for _, labels in lost} == {f"/{CAPPED}"}
    assert value(found, "memcap_metrics_available_boolean", id=f"/{CAPPED}") == 0
    assert failures(found) == {errno.errorcode[number].lower(): 1}
    assert value(found, "pymon_collector_success", collector="kstat") == 1
    assert "mem_agg_usage" not in names(one)
    assert value(one, "memcap_metrics_available_boolean") == 0
    assert "cpu_user_usage" in names(one)


@pytest.mark.parametrize("direct", [True, False])
async def test_kstats_whose_owners_are_busy_for_ever_do_not_hold_up_a_scrape(
    direct: bool, empty_node: ZoneHost
) -> None:
    empty_node.double.generate(50)
    empty_node.double.direct(direct)
    async with running(empty_node.options()) as agent:
        for item in agent.registry.containers():
            zone_id = int(item.runtime_id)
            empty_node.double.fail(("memory_cap", zone_id, item.id[1:31]), errno.EAGAIN, FOREVER)
        begin = time.monotonic()
        found = await series(agent, seconds=8)
        one = await series(agent, str(item.uuid), seconds=8)
        assert time.monotonic() - begin < 5
    assert failures(found) == {"eagain": 50}
    assert "mem_agg_usage" not in names(found) | names(one)
    assert sum(name == "cpu_user_usage" for name, _ in found) == 50


async def test_one_that_is_busy_for_a_moment_is_read(node: ZoneHost) -> None:
    async with running(node.options()) as agent:
        node.double.fail(MEMCAP_1, errno.EAGAIN, 2)
        found = await series(agent)
        assert value(found, "mem_agg_usage", id=f"/{CAPPED}") == 402710528
        assert failures(found) == {}


@pytest.mark.parametrize("told", [{"ndata": 2**31}, {"data_size": 2**40}, {"ndata": 0}, {"data_size": 0}])
@pytest.mark.parametrize("direct", [True, False])
async def test_sizes_that_cannot_be_cost_the_cells(told: dict[str, int], direct: bool, node: ZoneHost) -> None:
    node.double.direct(direct)
    node.double.tell(MEMCAP_1, **told)
    async with running(node.options()) as agent:
        found = await series(agent)
    assert value(found, "mem_agg_usage", id=f"/{TWIN}") == 63193088
    assert value(found, "mem_agg_usage", id=f"/{CAPPED}") is None or told == {"data_size": 0}
    assert set(failures(found)) <= {"malformed", "enomem"}


@pytest.mark.parametrize("chain", ["empty", "omnios"])
@pytest.mark.parametrize("dialect", ["cmon", "cadvisor"])
def test_other_chains_give_a_valid_exposition(chain: str, dialect: str, empty_node: ZoneHost) -> None:
    empty_node.double.load(CHAINS / f"{chain}.json")
    text = empty_node.collect(f"--dialect={dialect}")
    list(parse_text(text.decode()))
    list(parse_openmetrics(empty_node.collect(f"--dialect={dialect}", openmetrics=True).decode()))
    assert check_metrics(text).status in (0, 3)


@pytest.mark.parametrize("dialect", ["cmon", "cadvisor"])
def test_hostile_names_give_a_valid_exposition(dialect: str, empty_node: ZoneHost) -> None:
    empty_node.double.load(CHAINS / "hostile.json")
    text = empty_node.collect(f"--dialect={dialect}")
    openmetrics = empty_node.collect(f"--dialect={dialect}", openmetrics=True)
    ids = {
        sample.labels["id"]
        for family in parse_text(text.decode())
        for sample in family.samples
        if "id" in sample.labels
    }
    assert {'/say "zone"', "/back\\slash", "/zürich-日本", "/co:lon", "/tab\there", "/new\nline"} <= ids
    assert parse(text), "no series is given twice"
    assert ids == {
        sample.labels["id"]
        for family in parse_openmetrics(openmetrics.decode())
        for sample in family.samples
        if "id" in sample.labels
    }
    assert check_metrics(text).status in (0, 3), check_metrics(text).output


async def test_hostile_names_give_a_valid_inventory(empty_node: ZoneHost) -> None:
    empty_node.double.load(CHAINS / "hostile.json")
    async with running(empty_node.options()) as agent:
        document = json.loads(agent.registry.document())
        assert len({item["uuid"] for item in document["containers"]}) == len(document["containers"]) > 10
        for item in document["containers"]:
            one = await series(agent, item["uuid"])
            assert "time_of_day" in names(one), item


async def test_hostile_files_leave_the_zones_measured(node: ZoneHost) -> None:
    node.write(f"etc/zones/{CAPPED}.xml", '<!DOCTYPE z [<!ENTITY a "aa">]><zone name="&a;"')
    node.write(f"etc/zones/{TWIN}.xml", "\0\xff not xml")
    node.write(f"zones/{UNCAPPED}/config/tags.json", '{"triton.cmon.groups": ["a"], "x": {}, ')
    async with running(node.options()) as agent:
        assert len(zones(await series(agent))) == 7
        assert zone(agent, CAPPED)["name"] == CAPPED
        node.write("etc/zones/index", "global:installed:/\n:::\n\0\n" + "a" * 70000)
        await until("the index is read anew", lambda: zone(agent, UNCAPPED)["groups"] == [])
        assert len(zones(await series(agent))) == 7


async def test_a_tag_does_not_say_which_zone_it_is(node: ZoneHost) -> None:
    node.configure(TWIN, alias="web", tags={"pymon.uuid": CAPPED, "triton.cmon.groups": "x y," + "z" * 200})
    async with running(node.options()) as agent:
        assert zone(agent, TWIN)["uuid"] == TWIN
        assert zone(agent, CAPPED)["uuid"] == CAPPED
        assert zone(agent, TWIN)["groups"] == []


# --- a thread that is stuck ---


class Stuck:
    """Reads that wait until `free`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
        self.free = threading.Event()
        self.entered = threading.Event()
        self.calls = 0
        read = getattr(KstatReader, method)

        def stuck(*args: object) -> object:
            self.calls += 1
            self.entered.set()
            self.free.wait(60)
            return read(*args)

        monkeypatch.setattr(KstatReader, method, stuck)


async def test_a_read_that_hangs_costs_a_deadline_and_heals(node: ZoneHost, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(node.options()) as agent:
        await series(agent)
        stuck = Stuck(monkeypatch, "collect")
        begin = time.monotonic()
        found = await series(agent, seconds=1.0)
        assert time.monotonic() - begin < 1.0
        assert not zones(found)
        assert "time_of_day" in names(found)
        assert value(found, "pymon_collector_success", collector="zone_misc") == 0
        assert failures(found, "zone_misc") == {"deadline": 1}
        assert failures(found, "time") == {"deadline": 1}
        assert found["container_scrape_error", frozenset()] == 1
        again = await series(agent, seconds=5.0)
        assert time.monotonic() - begin < 4, "it waited for a thread that was known to be stuck"
        assert failures(again, "zone_misc") == {"deadline": 2}
        with pytest.raises(TimeoutError):
            await scrape(agent, CAPPED, seconds=0.2)
        node.double.generate(1, first=60)
        stuck.free.set()

        async with asyncio.timeout(WAIT_SECONDS):
            while len(zones(await series(agent, seconds=1.0))) < 8:
                pass
        assert await scrape(agent, CAPPED, seconds=5.0)


async def test_a_zone_that_appears_to_who_has_given_up_is_not_lost(
    node: ZoneHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(node.options()) as agent:
        node.double.generate(1, first=60)
        stuck = Stuck(monkeypatch, "collect")
        with pytest.raises(TimeoutError):
            await scrape(agent, "00000000-0000-0000-0000-000000000000", seconds=0.2)
        assert stuck.entered.is_set()
        stuck.free.set()
        await until("the zone", lambda: len(agent.registry) == 8)


async def test_a_thread_that_is_stuck_is_told_of_once_and_measured(
    node: ZoneHost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pymon.agent.zone_containers.POLL_SECONDS", 0.01)
    monkeypatch.setattr("pymon.agent.zone_containers.HUNG_SECONDS", 0.05)
    async with running(node.options()) as agent:
        stuck = Stuck(monkeypatch, "collect")
        await until("the warning", lambda: "libkstat has not returned" in caplog.text)
        assert value(await series(agent, scope="node", collect=["time"], seconds=5.0), "pymon_kstat_busy_seconds")
        await asyncio.sleep(0.1)
        assert caplog.text.count("libkstat has not returned") == 1
        stuck.free.set()
        await until("the end of it", lambda: agent.containers.busy_seconds == 0)


async def test_polls_do_not_queue_up_behind_a_thread_that_is_stuck(
    node: ZoneHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pymon.agent.zone_containers.POLL_SECONDS", 0.01)
    async with running(node.options()) as agent:
        stuck = Stuck(monkeypatch, "collect")
        await until("a poll", stuck.entered.is_set)
        assert isinstance(agent.containers, ZoneContainers)
        await asyncio.sleep(0.5)
        assert agent.containers._thread._queue.qsize() <= 1
        assert stuck.calls == 1
        stuck.free.set()


async def test_the_end_does_not_wait_for_a_thread_that_is_stuck(
    node: ZoneHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = Stuck(monkeypatch, "collect_zone")
    begin = time.monotonic()
    async with running(node.options()) as agent:
        asked = asyncio.ensure_future(scrape(agent, CAPPED, seconds=30.0))
        await until("the read", stuck.entered.is_set)
    assert time.monotonic() - begin < 10
    asked.cancel()
    stuck.free.set()


async def test_the_thread_ends_when_nobody_takes_what_it_has_read(
    node: ZoneHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()
    monkeypatch.setattr(TimeOfDay, "_fill", lambda _source: free.wait(60))
    async with running(node.options()) as agent:
        asked = asyncio.ensure_future(scrape(agent, seconds=30.0))
        containers = agent.containers
        assert isinstance(containers, ZoneContainers)
        await until("the kstats are read", lambda: containers._busy is not None and containers._busy.done())
    thread = containers._thread._thread
    await asyncio.to_thread(thread.join, WAIT_SECONDS)
    assert not thread.is_alive()
    assert not asked.done() or asked.exception()
    asked.cancel()
    free.set()

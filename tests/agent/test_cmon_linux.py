"""The dialect cmon on Linux: the fixture hosts under the names of Triton's agent.

`pytest tests/agent/test_cmon_linux.py --update-golden` writes tests/golden/*.cmon.prom anew.
"""

from __future__ import annotations

import difflib
from fractions import Fraction
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

import pymon
from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import AgentOptions, load_agent_options
from pymon.containers.runtimes.kubernetes import is_pod
from pymon.sources.programs import background, process
from tests.agent.fixture_host import HOSTS, FixtureHost, copy_host
from tests.agent.test_golden import GOLDEN
from tests.agent.test_zones import canonical
from tests.agent.zone_host import CAPTURES, failures, names, running, scrape, series, value
from tests.e2e.prometheus import check_metrics
from tests.oracle import Series, parse


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> FixtureHost:
    return copy_host(request.param, tmp_path)


@pytest.fixture
def v2(tmp_path: Path) -> FixtureHost:
    return copy_host("v2", tmp_path)


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this machine's zpool and ntpq are: nowhere, until a test puts a script there."""
    folder = tmp_path / "sbin"
    folder.mkdir()
    monkeypatch.setattr(
        background, "find_program", lambda name, _directories: process.find_program(name, [str(folder)])
    )
    return folder


def install(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def options(host: FixtureHost, *flags: str) -> AgentOptions:
    words = [*host.flags(), "--dialect=cmon", *flags]
    return load_agent_options(words, {}, COLLECTORS, version=pymon.__version__)


def of(found: dict[Series, Fraction], path: str) -> dict[str, Fraction]:
    """Series of a container whose only labels are those that say which one it is."""
    return {
        name: count
        for (name, labels), count in found.items()
        if ("id", path) in labels and dict(labels).keys() <= {"id", "image", "name"}
    }


def test_golden(host: FixtureHost, request: pytest.FixtureRequest) -> None:
    path = GOLDEN / f"{host.root.name}.cmon.prom"
    done = host.run("--dialect=cmon", "--no-collector.ntp", "--no-collector.zpool")
    assert (done.returncode, done.stderr) == (0, b"")
    got = canonical(done.stdout)
    if request.config.getoption("--update-golden"):
        path.write_text(got)
    expected = path.read_text()
    difference = difflib.unified_diff(expected.splitlines(), got.splitlines(), str(path), "now", n=0, lineterm="")
    assert got == expected, "\n".join(difference)[:5000]


def test_what_prometheus_says_of_it(host: FixtureHost) -> None:
    text, openmetrics = (host.run("--dialect=cmon", *flags).stdout for flags in ((), ("--openmetrics",)))
    assert check_metrics(text).status in (0, 3)
    assert len(list(parse_openmetrics(openmetrics.decode()))) > 20
    assert names(parse(text)) == names(parse(openmetrics))


@pytest.mark.parametrize("name", HOSTS)
def test_numbers_are_those_of_the_other_dialect(name: str, tmp_path: Path) -> None:
    """In nanoseconds and with Triton's names; cAdvisor's are in seconds."""
    host = copy_host(name, tmp_path)
    cmon, cadvisor = host.collect("--dialect=cmon"), host.collect("--no-container.root")
    compared = 0
    for (metric, labels), count in cadvisor.items():
        path = dict(labels).get("id", "")
        if is_pod(path):
            continue  # the dialect has none
        other, factor = {
            "container_cpu_user_seconds_total": ("cpu_user_usage", 10**9),
            "container_cpu_system_seconds_total": ("cpu_sys_usage", 10**9),
            "container_memory_swap": ("mem_swap", 1),
        }.get(metric, ("", 0))
        if other:
            assert of(cmon, path).get(other) == count * factor, (metric, path)
            compared += 1
        if metric == "container_spec_memory_limit_bytes":
            assert of(cmon, path).get("mem_limit") == (count or None), path
        if metric == "container_network_receive_bytes_total":
            interface = dict(labels)["interface"]
            assert value(cmon, "net_agg_bytes_in", id=path, interface=interface) == count
            compared += 1
    assert compared > 10


def test_what_has_no_counterpart_is_absent(host: FixtureHost) -> None:
    found = names(host.collect("--dialect=cmon"))
    assert not {name for name in found if name.startswith(("cpucap", "zfs_", "vfs_wait", "vfs_run", "container_m"))}
    assert {"cpu_wait_time", "mem_anon_alloc_fail"}.isdisjoint(found)
    assert {"cpu_user_usage", "mem_agg_usage", "cpu_idle_seconds_total", "time_of_day"} <= found


def test_the_node_has_the_clock_and_every_container_too(v2: FixtureHost) -> None:
    found = v2.collect("--dialect=cmon")
    times = [dict(labels).get("id") for name, labels in found if name == "time_of_day"]
    assert len(times) == 7
    assert None in times


async def test_a_container_alone_has_no_labels_that_say_who_it_is(v2: FixtureHost) -> None:
    async with running(options(v2)) as agent:
        for container in agent.registry.containers():
            one = await series(agent, str(container.uuid))
            assert {key for _, labels in one for key, _ in labels} <= {"interface", "device", "major", "minor"}
            assert "cpu_user_usage" in names(one)


async def test_collectors_have_the_names_of_the_dialect(v2: FixtureHost) -> None:
    async with running(options(v2, "--no-collector.memcap")) as agent:
        assert {"zone_misc", "zone_vfs", "link", "cpu_util", "time"} <= set(agent.collection.collectors)
        assert "memcap" not in agent.collection.collectors
        assert not any(name.startswith("container_") for name in agent.collection.collectors)
        found = await series(agent)
        assert "mem_agg_usage" not in names(found)
        assert "cpu_user_usage" in names(found)
        narrow = await series(agent, collect=["cpu_util"])
        assert "cpu_user_usage" not in names(narrow)
        assert "cpu_idle_seconds_total" in names(narrow)


def test_collecting_once_waits_for_the_nodes_programs(v2: FixtureHost, programs: Path) -> None:
    install(programs, "zpool", f"exec cat '{CAPTURES}/zpool-list.txt'")
    install(programs, "ntpq", f'case "$*" in *apeers*) exec cat "{CAPTURES}/ntpq-apeers.txt";;'
            f' *) exec cat "{CAPTURES}/ntpq-statistics.txt";; esac')  # fmt: skip
    found = v2.collect("--dialect=cmon")
    assert value(found, "zpool_size_bytes", pool="zones") == 498216206336
    assert value(found, "ntp_stratum_number") == 3
    assert value(found, "pymon_collector_success", collector="ntp") == 1
    assert value(found, "cached_items") == 2


def test_programs_that_are_not_there_are_counted(v2: FixtureHost) -> None:
    found = v2.collect("--dialect=cmon")
    for collector in ("zpool", "ntp"):
        assert failures(found, collector) == {"nodata": 1}
        assert value(found, "pymon_collector_success", collector=collector) == 0
    assert not {name for name in names(found) if name.startswith(("zpool_", "ntp_"))}
    assert value(found, "cached_items") == 0


async def test_a_program_that_hangs_delays_no_scrape(v2: FixtureHost, programs: Path) -> None:
    install(programs, "zpool", "exec sleep 300")
    async with running(options(v2)) as agent:
        body = await scrape(agent, seconds=5)
        assert body is not None
        found = parse(body)
        assert "cpu_user_usage" in names(found)
        assert "zpool_size_bytes" not in names(found)
        assert failures(found, "zpool") == {"nodata": 1}


async def test_legacy_values_are_those_of_the_clock_here(v2: FixtureHost) -> None:
    async with running(options(v2)) as now, running(options(v2, "--cmon.legacy-values")) as legacy:
        seconds = value(await series(now, scope="node", collect=["time"]), "time_of_day")
        milliseconds = value(await series(legacy, scope="node", collect=["time"]), "time_of_day")
    assert seconds is not None
    assert milliseconds is not None
    assert abs(milliseconds / 1000 - seconds) < 60

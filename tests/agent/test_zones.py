"""What the agent says of zones: golden output of each dialect, and what a scrape is narrowed to.

`pytest tests/agent/test_zones.py --update-golden` writes tests/golden anew. What zfs, zpool and ntpq print there is no
illumos system's of now: scripts print what ORIGIN.md beside their captures tells of.
"""

from __future__ import annotations

import difflib
import re
from fractions import Fraction

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from pymon.catalogue.kstat_fields import NODE_STATUS, ZONE_STATUS
from tests.agent.formats import changed_lines
from tests.agent.test_golden import GOLDEN, families
from tests.agent.zone_host import CAPPED, TWIN, UNCAPPED, ZoneHost, names, running, scrape, series, value, zones
from tests.e2e.prometheus import check_metrics
from tests.oracle import parse

VOLATILE = re.compile(
    r"pymon_|process_|node_exporter_build_info$|time_of_day$|collector_time_|http_request|container_last_seen$|node_time_seconds$"
    r"|node_time_zone_offset_seconds$|\w+_timer_seconds$"
)
"""Durations, the clock, and the agent itself."""

GOLDENS = {
    "smartos.cmon.prom": ("--dialect=cmon",),
    "smartos.cmon.om": ("--dialect=cmon",),
    "smartos.cmon.legacy.prom": ("--dialect=cmon", "--cmon.legacy-values"),
    "smartos.cadvisor.prom": ("--dialect=cadvisor",),
    "smartos.cadvisor.om": ("--dialect=cadvisor",),
}


def canonical(exposition: bytes) -> str:
    """Without the families that the fixture does not decide; zones by name, whatever their rows."""
    lines: list[str] = []
    for name, block in families(exposition.decode()):
        samples = [line for line in block if not line.startswith("#")]
        if VOLATILE.match(name) or any(VOLATILE.match(re.split(r"[{ ]", line)[0]) for line in samples):
            continue
        lines += [line for line in block if line.startswith("#")]
        lines += sorted(samples)
    return "".join(f"{line}\n" for line in lines)


@pytest.fixture
def whole(node: ZoneHost) -> ZoneHost:
    node.install_programs()
    return node


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden(golden: str, whole: ZoneHost, request: pytest.FixtureRequest) -> None:
    path, got = GOLDEN / golden, canonical(whole.collect(*GOLDENS[golden]))
    if golden.endswith(".om"):
        got = changed_lines(got, canonical(whole.collect(*GOLDENS[golden], openmetrics=True)))
    if request.config.getoption("--update-golden"):
        path.write_text(got)
    expected = path.read_text()
    difference = difflib.unified_diff(expected.splitlines(), got.splitlines(), str(path), "now", n=0, lineterm="")
    assert got == expected, "\n".join(difference)[:5000]


@pytest.mark.parametrize("dialect", ["cmon", "cadvisor"])
def test_both_formats_have_the_same_series_and_values(dialect: str, whole: ZoneHost) -> None:
    flag = f"--dialect={dialect}"
    text, openmetrics = (canonical(whole.collect(flag, openmetrics=openmetrics)) for openmetrics in (False, True))
    assert parse(text.encode()) == parse(openmetrics.encode())


def test_legacy_values_change_what_is_listed_and_nothing_else() -> None:
    now, legacy = (families((GOLDEN / f"smartos.cmon{mode}.prom").read_text()) for mode in ("", ".legacy"))
    changed = {name for (name, block), (_, other) in zip(now, legacy, strict=True) if block != other}
    assert changed == {
        "vfs_run_length_time_count",
        "arcstats_hdr_size_bytes",
        "arcstats_l2_read_bytes",
        "ntp_mru_monitor_memory_bytes",
        "ntp_mru_monitor_max_memory_bytes",
        "ntp_reftime_seconds",
        "ntp_syspeer_rec_seconds",
        "ntp_syspeer_reftime_seconds",
    }


@pytest.mark.parametrize("dialect", ["cmon", "cadvisor"])
def test_what_prometheus_says_of_it(dialect: str, whole: ZoneHost) -> None:
    text = whole.collect(f"--dialect={dialect}")
    openmetrics = whole.collect(f"--dialect={dialect}", openmetrics=True)
    for output in (text, openmetrics):
        blocks = families(output.decode())
        assert len({name for name, _ in blocks}) == len(blocks), "a family in two places"
        parse(output)  # asserts that no series is given twice
    assert len(list(parse_openmetrics(openmetrics.decode()))) > 40
    assert len(list(parse_text(text.decode()))) > 40
    check = check_metrics(text)
    assert check.status in (0, 3), check.output  # 3: names that are Triton's, cAdvisor's and node_exporter's


async def test_every_collector_of_the_dialect_says_how_it_went(whole: ZoneHost) -> None:
    async with running(whole.options()) as agent:
        await agent.collection.prime(30)
        found = await series(agent)
        again = await series(agent)
    of_zones = {column.partition(":")[0] for column in ZONE_STATUS}
    of_node = {column.partition(":")[0] for column in NODE_STATUS} - {"loadavg"}
    for collector in of_zones:
        for what in ("available_boolean", "cached_boolean", "timer_seconds"):
            name = f"{collector}_metrics_{what}"
            rows = [labels for metric, labels in found if metric == name and dict(labels).get("id")]
            assert len(rows) == 7, name
    for collector in of_node:
        assert found[f"{collector}_metrics_available_boolean", frozenset()] == 1, collector
    absent = f"/{UNCAPPED}"
    for collector in ("cpucap", "link", "zfs"):
        assert value(found, f"{collector}_metrics_available_boolean", id=absent) == 0
        assert value(found, f"{collector}_metrics_available_boolean", id=f"/{CAPPED}") == 1
    assert value(found, "zone_misc_metrics_available_boolean", id=absent) == 1
    assert value(again, "zfs_metrics_cached_boolean", id=f"/{CAPPED}") == 1
    assert again["ntp_metrics_cached_boolean", frozenset()] == 1
    assert again["zpool_metrics_cached_boolean", frozenset()] == 1
    assert again["arcstats_metrics_cached_boolean", frozenset()] == 0


async def test_a_zone_in_the_cmon_dialect_has_no_labels_that_say_who_it_is(whole: ZoneHost) -> None:
    async with running(whole.options()) as agent:
        await agent.collection.prime(30)
        one, everything = await series(agent, CAPPED), await series(agent)
    assert {key for _, labels in one for key, _ in labels} == {"interface", "nic_tag", "network_uuid"}
    assert value(one, "net_agg_bytes_in", interface="vnic0", nic_tag="external") == 2**53 + 1
    assert value(one, "zfs_compressratio") == Fraction("1.53")
    assert value(one, "time_of_day") is not None
    of_zone = {name for name, labels in everything if ("id", f"/{CAPPED}") in labels}
    assert names(one) == of_zone, "a zone alone has what it has among the others"


async def test_a_zone_in_the_cadvisor_dialect_says_who_it_is(node: ZoneHost) -> None:
    async with running(node.options("--dialect=cadvisor")) as agent:
        one, everything = await series(agent, CAPPED), await series(agent)
    assert all({"id", "image", "name"} <= dict(labels).keys() for _, labels in one)
    (labels,) = {labels for name, labels in one if name == "container_cpu_user_seconds_total"}
    assert dict(labels) == {"id": f"/{CAPPED}", "name": "web-1", "image": "c02a2044-c1bd-11e4-bd8c-dfc1db8b0182"}
    assert names(one) == {name for name, labels in everything if ("id", f"/{CAPPED}") in labels}
    same = {key for key in one if not key[0].startswith("container_last_seen")}
    assert {key: one[key] for key in same} == {key: everything[key] for key in same}


async def test_zones_whose_names_share_thirty_characters_are_kept_apart(node: ZoneHost) -> None:
    assert TWIN[:30] == UNCAPPED[:30]
    async with running(node.options()) as agent:
        everything = await series(agent)
        for zone, rss, capped in ((TWIN, 63193088, True), (UNCAPPED, 1003439, False)):
            one = await series(agent, zone)
            assert value(one, "mem_agg_usage") == value(everything, "mem_agg_usage", id=f"/{zone}") == rss
            assert (value(one, "mem_limit") is not None) is capped
            assert value(one, "cpu_user_usage") == value(everything, "cpu_user_usage", id=f"/{zone}")
            assert (value(one, "net_agg_bytes_in") is not None) is capped, "only one of them has a link"


async def test_the_node_alone_has_no_zones(whole: ZoneHost) -> None:
    async with running(whole.options()) as agent:
        await agent.collection.prime(30)
        found = await series(agent, scope="node")
        everything = await series(agent)
    assert not zones(found)
    assert {"cpu_idle_seconds_total", "arcstats_hits_total", "zpool_size_bytes", "ntp_stratum_number"} <= names(found)
    assert value(found, "time_of_day") is not None
    assert value(found, "time_metrics_available_boolean") == 1
    of_node = {key for key in everything if not dict(key[1]).get("id")}
    assert {name for name, _ in of_node} <= names(found) | {"container_scrape_error"}


async def test_collect_narrows_to_collectors(node: ZoneHost) -> None:
    async with running(node.options()) as agent:
        alone = await series(agent, CAPPED, collect=["cpucap"])
        some = await series(agent, collect=["link", "time"])
        await series(agent)
    assert {name.partition("_")[0] for name in names(alone)} == {"cpucap"}
    assert value(alone, "cpucap_limit_percentage") == 200
    told = {name for name in names(some) if not name.startswith(("pymon_", "process_", "cache", "collector_", "http_"))}
    assert told - {"container_scrape_error"} == {
        *("net_agg_bytes_in", "net_agg_bytes_out", "net_agg_packets_in", "net_agg_packets_out", "time_of_day"),
        *(f"{name}_metrics_{what}" for name in ("link", "time")
          for what in ("available_boolean", "cached_boolean", "timer_seconds")),
    }  # fmt: skip
    assert value(some, "time_metrics_available_boolean", id=f"/{UNCAPPED}") == 1
    assert value(some, "link_metrics_available_boolean", id=f"/{UNCAPPED}") == 0


async def test_the_clock_alone_says_it_of_every_zone_and_of_the_node(node: ZoneHost) -> None:
    async with running(node.options()) as agent:
        found = await series(agent, collect=["time"])
    times = {dict(labels).get("id"): value for (name, labels), value in found.items() if name == "time_of_day"}
    assert len(times) == 8
    assert None in times
    assert len([1 for name, _ in found if name == "time_metrics_available_boolean"]) == 8


async def test_name_narrows_to_families(node: ZoneHost) -> None:
    async with running(node.options()) as agent:
        assert names(await series(agent, names=["mem_limit", "cached_items"])) == {"mem_limit", "cached_items"}
        assert names(await series(agent, CAPPED, names=["mem_limit"])) == {"mem_limit"}
        assert await scrape(agent, CAPPED, names=["nothing"]) == b""


async def test_a_collector_that_is_off_is_not_there(node: ZoneHost) -> None:
    async with running(node.options("--dialect=cmon", "--no-collector.memcap", "--no-collector.arcstats")) as agent:
        found = await series(agent)
        assert "memcap" not in agent.collection.collectors
    assert not {name for name in names(found) if name.startswith(("mem", "arcstats"))}
    assert "cpu_user_usage" in names(found)

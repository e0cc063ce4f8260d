"""What the agent says of itself: by the names of Triton's agent in the dialect cmon, and how long requests take."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from pymon.agent.cmon_self_metrics import CmonSelfMetrics
from pymon.agent.http_counts import HttpCounts
from pymon.exposition.families import write
from pymon.exposition.histogram import BOUNDS_SECONDS, Histogram
from pymon.exposition.own_metrics import OwnMetrics
from tests.agent.zone_host import CAPPED, ZoneHost, names, running, scrape, series, value
from tests.live.agent import Agent
from tests.oracle import Series, parse

SERVER = "62e65cc8-153f-5d52-ba03-c7b4aa67e4de"
STATIC = {"instance": "0", "server": SERVER, "service": "cmon-agent"}


# --- histograms ---


def test_a_histogram_without_observations() -> None:
    histogram = Histogram()
    assert (histogram.count, histogram.sum_seconds) == (0, 0.0)
    assert histogram.buckets() == [*((str(bound), 0) for bound in BOUNDS_SECONDS), ("+Inf", 0)]


def test_a_bound_belongs_to_its_bucket() -> None:
    for bound in BOUNDS_SECONDS:
        histogram = Histogram()
        histogram.observe(bound)
        assert dict(histogram.buckets())[str(bound)] == 1
        histogram.observe(math.nextafter(bound, math.inf))
        assert dict(histogram.buckets())[str(bound)] == 1
        assert dict(histogram.buckets())["+Inf"] == histogram.count == 2


def test_buckets_count_all_that_is_below() -> None:
    histogram = Histogram()
    for seconds in (0.0, 0.001, 0.003, 0.02, 0.02, 3.0, 11.0, 1e9):
        histogram.observe(seconds)
    counts = [count for _, count in histogram.buckets()]
    assert all(low <= high for low, high in pairwise(counts))
    assert dict(histogram.buckets()) == {
        "0.001": 2, "0.0025": 2, "0.005": 3, "0.01": 3, "0.025": 5, "0.05": 5, "0.1": 5, "0.25": 5, "0.5": 5,
        "1.0": 5, "2.5": 5, "5.0": 6, "10.0": 6, "+Inf": 8,
    }  # fmt: skip
    assert histogram.sum_seconds == pytest.approx(1e9 + 14.044)


def test_bounds_ascend() -> None:
    assert list(BOUNDS_SECONDS) == sorted(set(BOUNDS_SECONDS))


# --- requests ---


def requests() -> tuple[CollectorRegistry, HttpCounts]:
    metrics = OwnMetrics()
    http = HttpCounts(metrics)
    for handler, status, seconds in (("metrics", 200, 0.02), ("metrics", 503, 9.0), ("container", 404, 0.0001)):
        http.add(handler, status)
        http.took(handler, seconds)
    http.add("malformed", 400)
    return metrics.registry, http


def test_requests_are_counted_and_timed_by_handler() -> None:
    registry, _ = requests()
    found = parse(generate_latest(registry))
    assert value(found, "pymon_http_requests_total", handler="metrics", code="503") == 1
    assert value(found, "pymon_http_requests_total", handler="malformed", code="400") == 1
    assert value(found, "pymon_http_request_duration_seconds_count", handler="metrics") == 2
    assert value(found, "pymon_http_request_duration_seconds_bucket", handler="metrics", le="0.025") == 1
    assert value(found, "pymon_http_request_duration_seconds_bucket", handler="metrics", le="+Inf") == 2
    assert value(found, "pymon_http_request_duration_seconds_sum", handler="metrics") == Fraction("9.02")
    (family,) = [
        family
        for family in parse_openmetrics(generate_openmetrics(registry).decode())
        if family.name == "pymon_http_request_duration_seconds"
    ]
    assert family.type == "histogram"


# --- by the names of Triton's agent ---


class Program:
    """A background program as its metrics see it: how often it was asked for, and had a result."""

    def __init__(self, gets: int, hits: int, *, at_hand: bool) -> None:
        self.gets, self.hits, self.at_hand = gets, hits, at_hand


def told(openmetrics: bool = False) -> bytes:
    _, http = requests()
    metrics = CmonSelfMetrics(SERVER, http, [Program(5, 3, at_hand=True), Program(2, 0, at_hand=False)])
    metrics.collected("zone_misc", 0.004)
    metrics.collected("zone_misc", 0.3)
    metrics.collected("ntp", 0.0)
    metrics.took(0.4)
    return write(metrics.families(), openmetrics=openmetrics)


def test_names_types_and_labels_are_those_of_tritons_agent() -> None:
    families = {family.name: family for family in parse_text(told().decode())}
    assert {name: family.type for name, family in families.items()} == {
        "cached_items": "gauge",
        "cache_gets": "counter",
        "cache_get_hits": "counter",
        "collector_time_seconds": "histogram",
        "collector_time_total_seconds": "histogram",
        "http_requests_completed": "counter",
        "http_request_duration_seconds": "histogram",
    }
    for family in families.values():
        assert all(sample.labels.items() >= STATIC.items() for sample in family.samples), family.name
    own = {
        name: {key for sample in family.samples for key in sample.labels} - STATIC.keys() - {"le"}
        for name, family in families.items()
    }
    assert own["collector_time_seconds"] == {"collector"}
    assert own["collector_time_total_seconds"] == set()
    assert own["http_requests_completed"] == {"route", "status_code"}
    assert own["http_request_duration_seconds"] == {"route"}


def test_values() -> None:
    found = parse(told())
    assert value(found, "cached_items") == 1
    assert value(found, "cache_gets_total") == 7
    assert value(found, "cache_get_hits_total") == 3
    assert value(found, "collector_time_seconds_count", collector="zone_misc") == 2
    assert value(found, "collector_time_seconds_sum", collector="zone_misc") == Fraction("0.304")
    assert value(found, "collector_time_seconds_bucket", collector="zone_misc", le="0.005") == 1
    assert value(found, "collector_time_seconds_bucket", collector="ntp", le="0.001") == 1
    assert value(found, "collector_time_total_seconds_count") == 1
    assert value(found, "http_requests_completed", route="container", status_code="404") == 1
    assert value(found, "http_request_duration_seconds_count", route="metrics") == 2


def test_openmetrics_takes_it() -> None:
    text = told(openmetrics=True).decode()
    families = {family.name: family.type for family in parse_openmetrics(f"{text}# EOF\n")}
    assert families["collector_time_seconds"] == "histogram"
    assert families["http_requests_completed"] == "unknown", "a counter's samples end in _total there"
    assert parse(text.encode()).keys() >= {key for key in parse(told()) if key[0].endswith(("_sum", "_count"))}


def collector_counts(found: dict[Series, Fraction]) -> dict[str, int]:
    return {
        dict(labels)["collector"]: int(count)
        for (name, labels), count in found.items()
        if name == "collector_time_seconds_count"
    }


async def test_each_collector_is_timed_once_in_a_collection(node: ZoneHost) -> None:
    async with running(node.options()) as agent:
        await series(agent)
        found = await series(agent)
        assert set(collector_counts(found).values()) == {2}
        assert {"time", "zone_misc", "arcstats", "zpool", "kstat"} <= collector_counts(found).keys()
        await scrape(agent, CAPPED)
        assert value(await series(agent), "collector_time_total_seconds_count") == 3, "a zone alone is no collection"


async def test_they_stand_with_the_node_and_not_with_a_zone(node: ZoneHost) -> None:
    async with running(node.options()) as agent:
        assert "cached_items" in names(await series(agent, scope="node"))
        assert "cached_items" not in names(await series(agent, CAPPED))
    async with running(node.options("--dialect=cadvisor")) as agent:
        found = await series(agent)
        assert "cached_items" not in names(found)
        assert not any(name.startswith("collector_time") for name in names(found))


async def test_results_of_programs_are_the_cache(node: ZoneHost) -> None:
    node.install_programs()
    async with running(node.options()) as agent:
        assert value(await series(agent), "cached_items") == 0
        await agent.collection.prime(30)
        found = await series(agent)
        assert value(found, "cached_items") == 3
        assert value(found, "cache_gets_total") == 6
        assert value(found, "cache_get_hits_total") == 3


def test_an_agent_that_is_a_process_times_its_requests(node: ZoneHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSTAT_ZONES", "3")
    with Agent(*node.flags("--dialect=cmon")) as agent:
        assert agent.get("/v1/00000000-0000-0000-0000-000000000000/metrics").status == 404
        assert agent.get("/v1/gz/metrics").status == 200
        assert agent.get("/nothing").status == 404
        found = agent.scrape().series
    assert value(found, "http_requests_completed", route="container", status_code="404") == 1
    assert value(found, "http_requests_completed", route="node", status_code="200") == 1
    for handler in ("container", "node", "other", "ready"):
        count = value(found, "pymon_http_request_duration_seconds_count", handler=handler)
        assert count == value(found, "http_request_duration_seconds_count", route=handler)
        assert count
        total = value(found, "pymon_http_request_duration_seconds_sum", handler=handler)
        assert total is not None
        assert 0 < total < 60

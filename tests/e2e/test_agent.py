"""Debian's Prometheus scrapes the running agent of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.prometheus import Prometheus, check_metrics, require
from tests.live.agent import Agent
from tests.live.world import Group, World, until

pytestmark = pytest.mark.root

CONFIG = """\
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
- job_name: pymon
  static_configs:
  - targets: ['{address}']
- job_name: narrowed
  params:
    collect[]: [loadavg]
  static_configs:
  - targets: ['{address}']
"""

PROMETHEUS_ACCEPT = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
"""What Prometheus 2.42 sends."""


@pytest.fixture
def group() -> Iterator[Group]:
    world = World()
    try:
        made = world.group('e2e "quoted" \\ ü')
        made.start(["sh", "-c", "while :; do :; done"])
        made.limit("memory", {"memory.limit_in_bytes": "134217728"}, {"memory.max": "134217728"})
        yield made
    finally:
        world.close()


@pytest.fixture
def agent(group: Group) -> Iterator[Agent]:
    with Agent("--container.all") as running:
        yield running


@pytest.fixture
def prometheus(agent: Agent, tmp_path: Path) -> Iterator[Prometheus]:
    with Prometheus(CONFIG.format(address=agent.address), tmp_path) as running:
        yield running


def quoted(path: str) -> str:
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'


def test_prometheus_takes_everything(prometheus: Prometheus, agent: Agent, group: Group) -> None:
    selector = f'{{job="pymon",id={quoted(group.path)}}}'
    prometheus.wait_for('up{job="pymon"} == 1')
    (limit,) = prometheus.wait_for(f"container_spec_memory_limit_bytes{selector}")
    assert limit.value == 134217728
    assert limit.labels["id"] == group.path

    # A scrape of Prometheus's that lies between two of ours.
    usage = f"sum(container_cpu_usage_seconds_total{selector})"
    before = sum(agent.scrape().values(group.path, "container_cpu_usage_seconds_total").values())
    stored = until("a newer scrape", lambda: [one for one in prometheus.query(usage) if one.value >= float(before)])
    after = sum(agent.scrape().values(group.path, "container_cpu_usage_seconds_total").values())
    # Prometheus keeps doubles, and a scrape that came together with ours has the same number.
    assert float(before) <= stored[0].value <= float(after)

    scrape = agent.scrape()
    for name in ("node_boot_time_seconds", "node_memory_MemTotal_bytes"):
        (sample,) = prometheus.query(f'{name}{{job="pymon"}}')
        assert sample.value == float(scrape.series[name, frozenset()])
    names = {sample.labels["__name__"] for sample in prometheus.query('{job="pymon"}')}
    assert {name for name, _ in scrape.series} <= names
    assert prometheus.query('up{job="narrowed"} == 1')
    narrowed = {sample.labels["__name__"] for sample in prometheus.query('{job="narrowed",__name__=~"node_.*"}')}
    of_scrape = {
        "node_exporter_build_info", "node_scrape_collector_duration_seconds", "node_scrape_collector_success",
    }  # fmt: skip
    assert narrowed - of_scrape == {"node_load1", "node_load5", "node_load15"}
    assert narrowed >= of_scrape
    assert prometheus.warnings() == []


def test_types_and_help_arrive(prometheus: Prometheus) -> None:
    prometheus.wait_for('up{job="pymon"} == 1')
    metadata = until(
        "metadata", lambda: (found := prometheus._api("metadata")) and "container_memory_rss" in found and found
    )
    kinds = {name: entries[0]["type"] for name, entries in metadata.items()}
    # Of OpenMetrics, Prometheus keeps the name of the family.
    assert kinds["container_cpu_usage_seconds"] == "counter"
    assert kinds["container_memory_rss"] == "gauge"
    assert kinds["pymon_collections"] == "counter"
    assert all(entries[0]["help"] for entries in metadata.values())


def test_a_container_that_went_is_stale_at_once(prometheus: Prometheus, group: Group) -> None:
    seen = f'container_last_seen{{job="pymon",id={quoted(group.path)}}}'
    prometheus.wait_for(seen)
    group.remove()
    until("stale", lambda: not prometheus.query(seen), seconds=10)
    assert prometheus.query('up{job="pymon"} == 1')
    assert prometheus.warnings() == []


def test_what_prometheus_asks_for_is_openmetrics_and_gzip(agent: Agent) -> None:
    answer = agent.get("/metrics", {"Accept": PROMETHEUS_ACCEPT, "Accept-Encoding": "gzip"})
    assert answer.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.body.endswith(b"# EOF\n")


def test_promtool_reads_what_this_machine_says(agent: Agent) -> None:
    require("promtool")
    check = check_metrics(agent.get().body)
    assert check.status in (0, 3), check.output  # 3: names that are not ours, see tests/agent/test_golden.py
    assert "error" not in check.output


def test_unknown_collectors_are_named(agent: Agent) -> None:
    answer = agent.get("/metrics?collect[]=nope")
    assert answer.status == 400
    text = answer.body.decode()
    assert "nope" in text
    assert "loadavg" in text
    assert "container_cpu" in text
    assert text.count("\n") == 1
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert b"disabled" in agent.get("/metrics?collect[]=container_tcp").body


def test_a_timeout_of_the_scrape_is_kept(agent: Agent) -> None:
    assert agent.get("/metrics", {"X-Prometheus-Scrape-Timeout-Seconds": "5"}).status == 200

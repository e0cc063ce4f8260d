"""Debian's Prometheus takes protocol buffers with native histograms where it is told to, and text where it is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.prometheus import Prometheus
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
"""
DELAY = "container_cpu_run_delay_seconds"


@pytest.fixture
def group() -> Iterator[Group]:
    world = World()
    try:
        made = world.group("native")
        made.start(["sh", "-c", "while :; do sleep 0.01; done"])
        yield made
    finally:
        world.close()


@pytest.fixture
def agent(group: Group) -> Iterator[Agent]:
    with Agent("--container.all", "--collector.container_latency") as running:
        if running.scrape().own("pymon_collector_success", collector="container_latency") != 1:
            pytest.skip(f"BPF cannot count here: {[line for line in running.log if 'container_latency' in line]}")
        yield running


def test_native_histograms(agent: Agent, group: Group, tmp_path: Path) -> None:
    selector = f'{DELAY}{{id="{group.path}"}}'
    with Prometheus(CONFIG.format(address=agent.address), tmp_path, features=["native-histograms"]) as prometheus:
        prometheus.wait_for(f"histogram_count({selector}) > 20")
        before = agent.scrape()
        least = float(before.value(group.path, f"{DELAY}_count") or 0)
        stored = until(
            "a newer scrape",
            lambda: [one for one in prometheus.query(f"histogram_count({selector})") if one.value >= least],
        )
        after = agent.scrape()
        assert least <= stored[0].value <= float(after.value(group.path, f"{DELAY}_count") or 0)
        (seconds,) = prometheus.query(f"histogram_sum({selector})")
        assert 0 < seconds.value <= float(after.value(group.path, f"{DELAY}_sum") or 0)
        (share,) = prometheus.query(f"histogram_fraction(-1, 64, {selector})")
        assert share.value == pytest.approx(1)
        (median,) = prometheus.query(f"histogram_quantile(0.5, {selector})")
        assert 0 < median.value < 16
        assert prometheus.query(f'{DELAY}_bucket{{id="{group.path}"}}') == [], "the classic one is in its place"

        native = f"(?:{DELAY}|container_io_latency_seconds)"
        of_others = prometheus.query(f'{{job="pymon",__name__!~"{native}"}}')
        names = {sample.labels["__name__"] for sample in of_others}
        wanted = {name for name, _ in after.series if not re.fullmatch(rf"{native}_(?:bucket|sum|count)", name)}
        assert wanted - names == set()
        (text,) = prometheus.query(f'container_creation_time_seconds{{id="{group.path}"}}')
        assert text.value == float(after.value(group.path, "container_creation_time_seconds") or 0)
        assert prometheus.warnings() == []


def test_classic_histograms_without_the_feature(agent: Agent, group: Group, tmp_path: Path) -> None:
    with Prometheus(CONFIG.format(address=agent.address), tmp_path) as prometheus:
        buckets = prometheus.wait_for(f'{DELAY}_bucket{{id="{group.path}"}}')
        assert len(buckets) == 15
        assert {"9.5367431640625e-07", "1.0", "64.0", "+Inf"} <= {sample.labels["le"] for sample in buckets}
        assert prometheus.query(f'{DELAY}{{id="{group.path}"}}') == []
        assert prometheus.warnings() == []

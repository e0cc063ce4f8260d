"""The helper itself, with an exporter made of prometheus_client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, start_http_server

from tests.e2e.prometheus import Prometheus, PrometheusError, check_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = """\
global:
  scrape_interval: 200ms
  scrape_timeout: 200ms
scrape_configs:
- job_name: helper
  static_configs:
  - targets: ['127.0.0.1:{port}']
    labels:
      colour: blue
"""


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Gauge("helper_answer", "The answer.", ["question"], registry=registry).labels("life").set(42.5)
    Counter("helper_scrapes", "Scrapes.", registry=registry).inc(3)
    return registry


@pytest.fixture
def exporter(registry: CollectorRegistry) -> Iterator[int]:
    server, thread = start_http_server(0, "127.0.0.1", registry)
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def test_scrapes_and_answers(exporter: int, tmp_path: Path) -> None:
    with Prometheus(CONFIG.format(port=exporter), tmp_path) as prometheus:
        (sample,) = prometheus.wait_for("helper_answer")
        assert sample.value == 42.5
        assert sample.labels == {
            "__name__": "helper_answer",
            "colour": "blue",
            "instance": f"127.0.0.1:{exporter}",
            "job": "helper",
            "question": "life",
        }
        assert [one.value for one in prometheus.query("helper_scrapes_total")] == [3]
        assert prometheus.query("helper_nothing") == []
        (target,) = prometheus.wait_for_targets(1)
        assert (target["health"], target["lastError"]) == ("up", "")
        assert prometheus.warnings() == []


def test_a_target_that_is_away_is_down(tmp_path: Path) -> None:
    with Prometheus(CONFIG.format(port=1), tmp_path) as prometheus:
        (target,) = prometheus.wait_for_targets(1)
        assert target["health"] == "down"
        assert "refused" in target["lastError"]


def test_a_wrong_query_is_an_error(tmp_path: Path) -> None:
    with Prometheus("", tmp_path) as prometheus, pytest.raises(PrometheusError, match="parse error"):
        prometheus.query("sum(")


def test_a_wrong_configuration_is_an_error_with_the_log(tmp_path: Path) -> None:
    with (
        pytest.raises(PrometheusError, match=r"ended before(?s:.*)scrape_config"),
        Prometheus("scrape_config: 1", tmp_path),
    ):
        pass


def test_promtool_accepts_and_complains(registry: CollectorRegistry) -> None:
    assert check_metrics(generate_latest(registry)) == (0, "")
    status, output = check_metrics(b"# TYPE helper_total gauge\nhelper_total 1\n")
    assert status == 3
    assert 'non-counter metrics should not have "_total" suffix' in output
    assert check_metrics(b"helper{ 1\n").status == 1

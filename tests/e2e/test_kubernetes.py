"""Queries of the kind that kubernetes-mixin's rules and dashboards have find what they ask for, without relabelling.

An agent reads a fixture host whose pods containerd and CRI-O describe. A text file has what kube-state-metrics says.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agent.fixture_host import copy_host
from tests.agent.test_kubernetes import containerd, crio
from tests.e2e.prometheus import Prometheus, require
from tests.e2e.test_dashboards import more
from tests.fixtures.layouts import CRI, CRIO, POD_BESTEFFORT, POD_BURSTABLE
from tests.live.agent import Agent

pytestmark = pytest.mark.root

CONFIG = """\
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
- job_name: cadvisor
  honor_labels: true
  static_configs:
  - targets: ['{address}']
    labels: {{namespace: pymon, pod: pymon-agent-x, container: agent}}
"""
INFO = """\
# TYPE kube_pod_info gauge
kube_pod_info{namespace="shop",pod="web-0",node="n1"} 1
kube_pod_info{namespace="blog",pod="api-7d9f",node="n1"} 1
"""
NODES = 'topk by (namespace, pod) (1, max by (namespace, pod, node) (kube_pod_info{node!=""}))'
ON_NODE = f"* on (namespace, pod) group_left(node) {NODES}"
PODS = {("shop", "web-0"), ("blog", "api-7d9f")}
CONTAINERS = {("shop", "web-0", "java"), ("blog", "api-7d9f", "node")}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    require("prometheus")
    folder = tmp_path_factory.mktemp("kubernetes")
    host = copy_host("v2", folder)
    containerd(host, CRI, POD_BURSTABLE, "java")
    crio(host, CRIO, POD_BESTEFFORT, "node")
    (folder / "text").mkdir()
    (folder / "text/info.prom").write_text(INFO)
    with (
        Agent(*host.flags(), f"--collector.textfile.directory={folder / 'text'}") as agent,
        Prometheus(CONFIG.format(address=agent.address), folder, timeout=60) as running,
    ):
        running.wait_for('container_last_seen{pod="web-0"}')
        more(host)
        running.wait_for('sum_over_time(up{job="cadvisor"}[5m]) > 3')
        yield running


def found(prometheus: Prometheus, expression: str, *labels: str) -> set[tuple[str, ...]]:
    return {tuple(sample.labels.get(name, "") for name in labels) for sample in prometheus.wait_for(expression)}


@pytest.mark.parametrize(
    "metric",
    ["container_memory_working_set_bytes", "container_memory_rss", "container_memory_cache", "container_memory_swap"],
)
def test_memory_of_containers_by_node(prometheus: Prometheus, metric: str) -> None:
    expression = f'{metric}{{job="cadvisor", image!=""}} {ON_NODE}'
    assert found(prometheus, expression, "namespace", "pod", "container") == CONTAINERS
    assert found(prometheus, expression, "node") == {("n1",)}


def test_cpu_of_containers_by_node(prometheus: Prometheus) -> None:
    used = 'rate(container_cpu_usage_seconds_total{job="cadvisor", image!=""}[5m])'
    expression = f"sum by (namespace, pod, container) ({used}) {ON_NODE}"
    assert found(prometheus, expression, "namespace", "pod", "container", "node") == {
        (*names, "n1") for names in CONTAINERS
    }


def test_memory_of_pods(prometheus: Prometheus) -> None:
    """A pod's own series has no container and no image, so that sums of containers leave it out."""
    of_pods = 'container_memory_working_set_bytes{job="cadvisor", container="", image="", pod!=""}'
    assert found(prometheus, of_pods, "namespace", "pod") == PODS
    of_containers = 'sum by (namespace) (container_memory_working_set_bytes{container!="", image!="", namespace!=""})'
    assert found(prometheus, of_containers, "namespace") == {("shop",), ("blog",)}


def test_network_of_pods(prometheus: Prometheus) -> None:
    """The other pod is on the network of the host."""
    for way in ("receive_bytes", "transmit_packets", "receive_packets_dropped"):
        rate = f'rate(container_network_{way}_total{{namespace=~"shop|blog", namespace!=""}}[5m])'
        assert found(prometheus, f"sum by (namespace, pod) ({rate})", "namespace", "pod") == {("shop", "web-0")}
    choices = 'group by (namespace) (container_network_receive_packets_total{namespace!=""})'
    assert found(prometheus, choices, "namespace") == {("shop",)}


def test_disks_of_containers(prometheus: Prometheus) -> None:
    chosen = 'job="cadvisor", device=~"(/dev/)?(vd.+|sd.+|nvme.+)", container!=""'
    expression = f"sum by (namespace, pod) (rate(container_fs_reads_bytes_total{{{chosen}}}[5m]))"
    assert found(prometheus, expression, "namespace", "pod") == PODS


def test_no_label_is_renamed(prometheus: Prometheus) -> None:
    assert prometheus.query('{exported_namespace!=""}') == []


def test_what_is_not_of_kubernetes_is_not_of_the_agents_pod(prometheus: Prometheus) -> None:
    """Prometheus gives a series that lacks a label that of its target."""
    others = found(prometheus, 'container_last_seen{id!~".*kubepods.*"}', "id", "namespace", "pod", "container")
    assert len(others) == 5
    assert {names for _, *names in others if any(names)} == set()
    assert found(prometheus, "node_load1", "namespace") == {("pymon",)}

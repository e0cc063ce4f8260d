"""Containers and pods of Kubernetes, with the labels that the kubelet's own /metrics/cadvisor gives them."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import pymon
from pymon.agent.build import Agent, build_agent
from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import load_agent_options
from pymon.sources.cgroup import find_hierarchies
from tests.agent.fixture_host import FixtureHost, collect_once, copy_host, stable
from tests.agent.test_golden import GOLDEN
from tests.fixtures.layouts import CRI, CRIO, DOCKER, POD_BESTEFFORT, POD_BURSTABLE
from tests.oracle import parse

BURSTABLE = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice".format(
    POD_BURSTABLE.replace("-", "_")
)
BESTEFFORT = "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{}.slice".format(
    POD_BESTEFFORT.replace("-", "_")
)
V1_POD = f"/kubepods/burstable/pod{POD_BURSTABLE}"
OF_KUBERNETES = ("container", "namespace", "pod")
TASKS = "run/containerd/io.containerd.runtime.v2.task/k8s.io"
HOSTILE = 'x"} evil 1\n\\\0\u00e9\U0001f4a5'


def containerd(host: FixtureHost, identifier: str, uid: str, name: str = "", **names: str) -> None:
    """What containerd writes of a container, or of a sandbox if it has no name."""
    names = {"namespace": "shop", "pod": "web-0"} | names
    annotations = {
        "container-type": "container" if name else "sandbox",
        "sandbox-name": names["pod"],
        "sandbox-namespace": names["namespace"],
        "sandbox-uid": uid,
    } | ({"container-name": name, "image-name": f"registry.example.com/{name}:1"} if name else {})
    folder = host.root / TASKS / identifier
    folder.mkdir(parents=True)
    document = {"annotations": {f"io.kubernetes.cri.{key}": value for key, value in annotations.items()}}
    (folder / "config.json").write_text(json.dumps(document))


def crio(host: FixtureHost, identifier: str, uid: str, name: str) -> None:
    labels = {"container.name": name, "pod.name": "api-7d9f", "pod.namespace": "blog", "pod.uid": uid}
    labels = {f"io.kubernetes.{key}": value for key, value in labels.items()}
    annotations = labels | {
        "io.kubernetes.cri-o.Labels": json.dumps(labels),
        "io.kubernetes.cri-o.ImageName": f"registry.example.com/{name}:9",
    }
    folder = host.root / "run/containers/storage/overlay-containers" / identifier / "userdata"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"annotations": annotations}))


def docker(host: FixtureHost, identifier: str, labels: Mapping[str, str]) -> None:
    folder = host.root / "var/lib/docker/containers" / identifier
    folder.mkdir(parents=True)
    document = {"Name": "/k8s_java_web-0", "Config": {"Image": "java:1", "Labels": labels}}
    (folder / "config.v2.json").write_text(json.dumps(document))


def make(host: FixtureHost, path: str, *, like: str = "") -> None:
    """Make a group in each hierarchy; like: with the files of another one."""
    for root in find_hierarchies(host.cgroups).roots:
        if like and (root / like[1:]).is_dir():
            shutil.copytree(root / like[1:], root / path[1:])
        else:
            (root / path[1:]).mkdir(parents=True, exist_ok=True)
            (root / path[1:] / "cgroup.procs").write_text("")


def remove(host: FixtureHost, path: str) -> None:
    for root in find_hierarchies(host.cgroups).roots:
        shutil.rmtree(root / path[1:], ignore_errors=True)


@pytest.fixture
def host(tmp_path: Path) -> FixtureHost:
    """A node with version 2, containerd and CRI-O."""
    found = copy_host("v2", tmp_path)
    containerd(found, CRI, POD_BURSTABLE, "java")
    crio(found, CRIO, POD_BESTEFFORT, "node")
    return found


def agent_of(host: FixtureHost, *flags: str) -> Agent:
    return build_agent(load_agent_options([*host.flags(), *flags], {}, COLLECTORS, version=pymon.__version__))


@pytest.fixture
def agent(host: FixtureHost) -> Iterator[Agent]:
    found = agent_of(host)
    yield found
    asyncio.run(found.collection.stop())


def labels_of(agent: Agent) -> dict[str, dict[str, str]]:
    """The labels of each group, by its path."""
    registry = agent.registry
    registry.refresh()  # type: ignore[attr-defined]
    rows = (dict(registry.label_pairs(row)) for row in range(registry.rows) if registry.block(row))
    return {labels["id"]: labels for labels in rows}


def kubernetes(agent: Agent, path: str) -> tuple[str, ...]:
    """The labels namespace, pod and container of a group."""
    return tuple(labels_of(agent)[path][name] for name in ("namespace", "pod", "container"))


def test_golden(host: FixtureHost, request: pytest.FixtureRequest) -> None:
    """Every series of containers and pods of Kubernetes, sorted; no exposition, which would have them by family."""
    done = host.run()
    assert (done.returncode, done.stderr) == (0, b"")
    volatile = re.compile("container_(last_seen|(start|creation)_time_seconds)")
    lines = [line for line in done.stdout.decode().splitlines() if "kubepods" in line and not volatile.match(line)]
    got = "".join(f"{line}\n" for line in sorted(lines))
    golden = GOLDEN / "kubernetes.txt"
    if request.config.getoption("--update-golden"):
        golden.write_text(got)
    assert got == golden.read_text()


def test_labels_as_the_kubelet_has_them(agent: Agent) -> None:
    found = labels_of(agent)
    container = f"{BURSTABLE}/cri-containerd-{CRI}.scope"
    assert list(found[container].items()) == [
        ("container", "java"),
        ("id", container),
        ("image", "registry.example.com/java:1"),
        ("name", "java"),
        ("namespace", "shop"),
        ("pod", "web-0"),
    ]
    assert list(found[BURSTABLE].items()) == [
        ("container", ""),
        ("id", BURSTABLE),
        ("image", ""),
        ("name", ""),
        ("namespace", "shop"),
        ("pod", "web-0"),
    ]
    assert kubernetes(agent, f"{BESTEFFORT}/crio-{CRIO}.scope") == ("blog", "api-7d9f", "node")
    assert kubernetes(agent, BESTEFFORT) == ("blog", "api-7d9f", "")


def test_labels_that_a_tenant_of_docker_chose_are_not_those_of_kubernetes(host: FixtureHost) -> None:
    chosen = {"io.kubernetes.pod.namespace": "kube-system", "io.kubernetes.pod.name": "dns"}
    docker(host, DOCKER, chosen | {"io.kubernetes.container.name": "dns", "io.kubernetes.pod.uid": POD_BURSTABLE})
    for name, labels in host.collect():
        found = dict(labels)
        named = {label for label in OF_KUBERNETES if found.get(label)}
        assert not named or "kubepods" in found["id"], name


def test_on_a_node_of_kubernetes_all_have_the_labels(agent: Agent) -> None:
    """As the kubelet has them: Prometheus would give those without the labels of the agent's own pod."""
    found = labels_of(agent)
    assert {"/", f"/system.slice/docker-{DOCKER}.scope", "/system.slice/nginx.service"} <= set(found)
    for path, labels in found.items():
        assert set(OF_KUBERNETES) <= set(labels), path
        assert "kubepods" in path or not any(labels[name] for name in OF_KUBERNETES), path


def test_elsewhere_none_has_them_until_there_is_a_pod(host: FixtureHost) -> None:
    for pod in (BURSTABLE, BESTEFFORT):
        remove(host, pod)
    agent = agent_of(host, "--container.label=tier")
    try:
        before = labels_of(agent)
        assert len(before) == 5
        assert not [path for path, labels in before.items() if set(OF_KUBERNETES) & set(labels)]
        make(host, BURSTABLE)
        after = labels_of(agent)
        assert {path: {**labels, **dict.fromkeys(OF_KUBERNETES, "")} for path, labels in before.items()} == {
            path: labels for path, labels in after.items() if path != BURSTABLE
        }
        make(host, "/system.slice/cron.service")
        assert kubernetes(agent, "/system.slice/cron.service") == ("", "", "")
        block = next(
            agent.registry.block(row) for row in range(agent.registry.rows) if b'id="/"' in agent.registry.block(row)
        )
        assert block == b'container="",container_label_tier="",id="/",image="",name="",namespace="",pod=""'
    finally:
        asyncio.run(agent.collection.stop())


def test_cri_dockerd(tmp_path: Path) -> None:
    """With version 1 and the driver cgroupfs."""
    host = copy_host("v1", tmp_path)
    names = {"container.name": "java", "pod.name": "web-0", "pod.namespace": "shop", "pod.uid": POD_BURSTABLE}
    docker(host, CRI, {f"io.kubernetes.{key}": value for key, value in names.items()})
    agent = agent_of(host)
    try:
        assert kubernetes(agent, f"{V1_POD}/{CRI}") == ("shop", "web-0", "java")
        assert kubernetes(agent, V1_POD) == ("shop", "web-0", "")
        assert kubernetes(agent, f"/docker/{DOCKER}") == ("", "", "")
    finally:
        asyncio.run(agent.collection.stop())


def test_a_pod_has_the_numbers_of_its_group(host: FixtureHost) -> None:
    said = dict(line.split() for line in (host.cgroups / BURSTABLE[1:] / "cpu.stat").read_text().splitlines())
    values = {
        name: value
        for (name, labels), value in host.collect().items()
        if ("id", BURSTABLE) in labels and name in ("container_cpu_usage_seconds_total", "container_memory_usage_bytes")
    }
    assert values["container_cpu_usage_seconds_total"] * 10**6 == int(said["usage_usec"])
    current = (host.cgroups / BURSTABLE[1:] / "memory.current").read_text()
    assert values["container_memory_usage_bytes"] == int(current)


def test_a_pod_without_known_containers_has_no_names(host: FixtureHost) -> None:
    shutil.rmtree(host.root / "run")
    agent = agent_of(host)
    try:
        assert labels_of(agent)[BURSTABLE] == dict.fromkeys((*OF_KUBERNETES, "image", "name"), "") | {"id": BURSTABLE}
        shutil.rmtree(host.root / "run", ignore_errors=True)
        containerd(host, CRI, POD_BURSTABLE, "java")
        remove(host, f"{BURSTABLE}/cri-containerd-{CRI}.scope")
        assert f"{BURSTABLE}/cri-containerd-{CRI}.scope" not in labels_of(agent)
        make(host, f"{BURSTABLE}/cri-containerd-{CRI}.scope")
        assert kubernetes(agent, BURSTABLE) == ("shop", "web-0", "")
    finally:
        asyncio.run(agent.collection.stop())


def test_the_first_container_says_whose_pod_it_is(agent: Agent, host: FixtureHost) -> None:
    other = "cd" * 32
    labels_of(agent)
    containerd(host, other, POD_BURSTABLE, "other", namespace="kube-system", pod="dns")
    make(host, f"{BURSTABLE}/cri-containerd-{other}.scope")
    assert kubernetes(agent, f"{BURSTABLE}/cri-containerd-{other}.scope") == ("kube-system", "dns", "other")
    assert kubernetes(agent, BURSTABLE) == ("shop", "web-0", "")


def test_a_pod_keeps_its_names_without_containers_and_loses_them_with_its_group(
    agent: Agent, host: FixtureHost
) -> None:
    assert kubernetes(agent, BURSTABLE) == ("shop", "web-0", "")
    remove(host, f"{BURSTABLE}/cri-containerd-{CRI}.scope")
    assert kubernetes(agent, BURSTABLE) == ("shop", "web-0", "")
    remove(host, BURSTABLE)
    assert BURSTABLE not in labels_of(agent)
    make(host, BURSTABLE)
    assert kubernetes(agent, BURSTABLE) == ("", "", "")


def test_a_container_in_the_row_of_a_pod_that_went_is_not_of_it(agent: Agent, host: FixtureHost) -> None:
    before = agent.registry.rows
    left: list[int] = []
    agent.registry.tell_of_row(left.append)
    labels_of(agent)
    remove(host, BURSTABLE)
    labels_of(agent)
    scope = f"/system.slice/docker-{'ef' * 32}.scope"
    make(host, scope)
    make(host, "/system.slice/cron.service")
    assert kubernetes(agent, scope) == kubernetes(agent, "/system.slice/cron.service") == ("", "", "")
    assert agent.registry.rows == before
    assert len(left) == 2, "what is remembered of a row is forgotten, of the pod and of its container"


def test_names_with_every_byte(tmp_path: Path) -> None:
    host = copy_host("v2", tmp_path)
    containerd(host, CRI, POD_BURSTABLE, HOSTILE, namespace=HOSTILE, pod=HOSTILE)
    agent = agent_of(host)
    found = [dict(labels) for _, labels in parse(collect_once(agent)) if ("id", BURSTABLE) in labels]
    assert found
    assert {labels["pod"] for labels in found} == {labels["namespace"] for labels in found}
    assert not [name for name, _ in parse(host.run().stdout) if "evil" in name]


def test_the_inventory_has_containers_and_no_pods(agent: Agent) -> None:
    listed = {item["id"]: item for item in json.loads(agent.registry.document())["containers"]}
    assert not {BURSTABLE, BESTEFFORT} & set(listed)
    item = listed[f"{BURSTABLE}/cri-containerd-{CRI}.scope"]
    assert (item["namespace"], item["pod"], item["pod_id"]) == ("shop", "web-0", POD_BURSTABLE)
    assert "kubernetes" not in item
    assert len(listed) == len(agent.registry) == 6


def test_a_tenant_has_them_in_the_scrape_of_its_container(host: FixtureHost) -> None:
    series = stable(host.collect())
    path = f"{BURSTABLE}/cri-containerd-{CRI}.scope"
    of_network = [dict(labels) for (name, labels) in series if name == "container_network_receive_bytes_total"]
    assert {
        (labels["namespace"], labels["pod"], labels["container"]) for labels in of_network if labels["id"] == path
    } == {("shop", "web-0", "java")}


def test_the_dialect_cmon_has_no_pods(host: FixtureHost) -> None:
    found = {dict(labels).get("id") for _, labels in host.collect("--dialect=cmon")}
    assert BURSTABLE not in found
    assert f"{BURSTABLE}/cri-containerd-{CRI}.scope" in found

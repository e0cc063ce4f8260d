"""Groups that are no containers and are measured: the root, pods, and by --container.slices all that hold others."""

from __future__ import annotations

import asyncio
import json

import pytest

import pymon
from pymon.agent.build import build_agent
from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import load_agent_options
from tests.agent.fixture_host import FIXTURES, HOSTS, FixtureHost

CONTAINERS = {"v2": 6, "v1": 4, "hybrid": 5}
PODS = {"v2": 2, "v1": 1, "hybrid": 1}


def groups(host: FixtureHost, *flags: str) -> dict[str, str]:
    """The paths of what is measured, and the names."""
    seen = [dict(labels) for name, labels in host.collect(*flags) if name == "container_last_seen"]
    return {labels["id"]: labels.get("name", "") for labels in seen}


@pytest.fixture(params=HOSTS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_root_is_measured(name: str) -> None:
    host = FixtureHost(FIXTURES / name)
    assert groups(host)["/"] == ""
    assert len(groups(host)) == CONTAINERS[name] + PODS[name] + 1


def test_without_the_root(name: str) -> None:
    assert len(groups(FixtureHost(FIXTURES / name), "--no-container.root")) == CONTAINERS[name] + PODS[name]


def test_the_root_has_numbers_that_its_files_have() -> None:
    host = FixtureHost(FIXTURES / "v2")
    said = dict(line.split() for line in (host.cgroups / "cpu.stat").read_text().splitlines())
    series = host.collect()
    of_root = {metric: value for (metric, labels), value in series.items() if ("id", "/") in labels}
    assert of_root["container_cpu_usage_seconds_total"] * 10**6 == int(said["usage_usec"])
    assert "container_memory_usage_bytes" not in of_root, "version 2 has no such file of the root"
    assert "container_processes" not in of_root, "they are all of the machine's"
    failed = {
        (dict(labels)["collector"], dict(labels)["reason"])
        for (metric, labels), value in series.items()
        if metric == "pymon_collector_failures_total" and value and "container" in dict(labels)["collector"]
    }
    without = {
        (dict(labels)["collector"], dict(labels)["reason"])
        for (metric, labels), value in host.collect("--no-container.root").items()
        if metric == "pymon_collector_failures_total" and value and "container" in dict(labels)["collector"]
    }
    assert failed == without, "files that no root has are no failures"


def test_slices() -> None:
    found = groups(FixtureHost(FIXTURES / "v2"), "--container.slices")
    assert {path for path, name in found.items() if name == ""} == {
        "/",
        "/kubepods.slice",
        "/kubepods.slice/kubepods-besteffort.slice",
        "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod5d7f9b1c_3e5a_4d7c_9b1f_2a4c6e8d0b2f.slice",
        "/kubepods.slice/kubepods-burstable.slice",
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0f2e4d6c_8b0a_4928_a746_5c3e1f0d2b4a.slice",
        "/machine.slice",
        "/system.slice",
        "/user.slice",
        "/user.slice/user-1000.slice",
    }


def test_slices_without_systemd() -> None:
    found = groups(FixtureHost(FIXTURES / "v1"), "--container.slices")
    assert {path for path, name in found.items() if name == ""} >= {
        "/docker",
        "/kubepods",
        "/kubepods/burstable",
        "/kubepods/burstable/pod0f2e4d6c-8b0a-4928-a746-5c3e1f0d2b4a",
        "/lxc",
        "/system.slice",
    }


def test_they_are_in_no_inventory() -> None:
    """A proxy would make a target and a name in DNS of each."""
    flags = [*FixtureHost(FIXTURES / "v2").flags(), "--container.slices"]
    agent = build_agent(load_agent_options(flags, {}, COLLECTORS, version=pymon.__version__))
    try:
        listed = {item["id"] for item in json.loads(agent.registry.document())["containers"]}
        assert len(listed) == len(agent.registry) == CONTAINERS["v2"]
        assert not [path for path in listed if path == "/" or path.endswith(".slice")]
        assert len(agent.registry.containers()) == CONTAINERS["v2"]
    finally:
        asyncio.run(_stop(agent.collection.stop))


async def _stop(stop: object) -> None:
    await stop()  # type: ignore[operator]

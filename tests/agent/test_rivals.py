"""Containers that claim one UUID, on the fixture hosts: leftovers, labels, and agents that start again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from uuid import UUID

import pytest

import pymon
from pymon.agent.build import Agent, build_agent
from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import load_agent_options
from pymon.config import ConfigError
from pymon.uuid_name import container_uuid
from tests.agent.fixture_host import HOSTS, FixtureHost, copy_host

ID = "0123456789abcdef" * 4
SCOPE, LEFTOVER = f"/system.slice/docker-{ID}.scope", f"/docker/{ID}"
CLAIMED = "0a1b2c3d-0000-4000-8000-00000000abcd"


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> FixtureHost:
    return copy_host(request.param, tmp_path)


class Build(Protocol):
    """Makes an agent of a host with flags."""

    def __call__(self, host: FixtureHost, *flags: str) -> Agent: ...


@pytest.fixture
def build() -> Iterator[Build]:
    with contextlib.ExitStack() as stack:

        def make(host: FixtureHost, *flags: str) -> Agent:
            options = load_agent_options([*host.flags(), *flags], {}, COLLECTORS, version=pymon.__version__)
            agent = build_agent(options)
            stack.callback(agent.containers.close)
            return agent

        yield make


def trees(host: FixtureHost) -> list[tuple[Path, bool]]:
    """The roots of the host's hierarchies, and whether they are version 2."""
    tops = [host.cgroups, *(top for top in host.cgroups.iterdir() if not top.is_symlink())]
    found = [(top, True) for top in tops if (top / "cgroup.controllers").exists()][:1]
    if found and found[0][0] == host.cgroups:
        return found
    return found + [(top, False) for top in tops if (top / "cgroup.procs").exists() and (top, True) not in found]


def fill(host: FixtureHost, path: str, pids: str, below: str = "") -> None:
    """A cgroup in every hierarchy, with these processes, which are in the cgroup `below` it."""
    for root, unified in trees(host):
        top = root / path[1:]
        (top / below).mkdir(parents=True, exist_ok=True)
        (top / "cgroup.procs").write_text("")
        (top / below / "cgroup.procs").write_text(pids)
        if unified:
            (top / "cgroup.events").write_text(f"populated {int(bool(pids))}\nfrozen 0\n")


def inventory(agent: Agent) -> dict[str, dict[str, str]]:
    agent.registry.refresh()  # type: ignore[attr-defined]
    document = json.loads(agent.registry.document())
    found = {item["id"]: item for item in document["containers"]}
    assert len({item["uuid"] for item in found.values()}) == len(found)
    for item in found.values():
        if "uuid_name" in item:
            assert container_uuid(UUID(document["node"]["uuid"]), item["uuid_name"]) == UUID(item["uuid"])
        assert agent.registry.row_of(item["uuid"]) is not None
    return found


def describe(host: FixtureHost, runtime_id: str, **labels: str) -> None:
    folder = host.root / "var/lib/docker/containers" / runtime_id
    folder.mkdir(parents=True)
    document = {
        "Name": f"/{runtime_id[:4]}",
        "Config": {"Labels": {key.replace("_", "."): labels[key] for key in labels}},
    }
    (folder / "config.v2.json").write_text(json.dumps(document))


def test_every_container_tells_what_its_uuid_is_made_of(build: Build, host: FixtureHost) -> None:
    agent = build(host, "--container.all")
    found = inventory(agent)
    assert found
    assert {"uuid_name"} <= set.intersection(*(set(item) for item in found.values()))
    assert {item["uuid_name"].partition(":")[0] for item in found.values()} >= {"docker", "cgroup"}


@pytest.mark.parametrize("nested", ["", "init.scope", "a/b/c"])
def test_the_one_with_processes_has_the_uuid(build: Build, host: FixtureHost, nested: str) -> None:
    fill(host, LEFTOVER, "")
    agent = build(host)
    assert inventory(agent)[LEFTOVER]["uuid_name"] == f"docker::{ID}"
    fill(host, SCOPE, "7\n", nested)
    for now in (agent, build(host)):
        found = inventory(now)
        assert found[SCOPE]["uuid_name"] == f"docker::{ID}"
        assert found[LEFTOVER]["uuid_name"] == f"cgroup:{LEFTOVER}"


def test_the_uuid_goes_where_the_processes_go(build: Build, host: FixtureHost) -> None:
    fill(host, SCOPE, "7\n")
    fill(host, LEFTOVER, "")
    agent = build(host)
    assert inventory(agent)[SCOPE]["uuid_name"] == f"docker::{ID}"
    version = agent.registry.version
    inventory(agent)
    assert agent.registry.version == version
    fill(host, SCOPE, "")
    fill(host, LEFTOVER, "7\n")
    for now in (agent, build(host)):
        found = inventory(now)
        assert found[LEFTOVER]["uuid_name"] == f"docker::{ID}"
        assert found[SCOPE]["uuid_name"] == f"cgroup:{SCOPE}"
    assert agent.registry.version != version
    for root, _ in trees(host):
        shutil.rmtree(root / LEFTOVER[1:])
    assert inventory(agent)[SCOPE]["uuid_name"] == f"docker::{ID}"


def test_without_a_scrape_too(build: Build, host: FixtureHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pymon.agent.registry.REVIEW_SECONDS", 0.01)
    fill(host, SCOPE, "7\n")
    fill(host, LEFTOVER, "")
    agent = build(host)

    async def follow() -> None:
        agent.containers.start()
        version = agent.registry.version
        fill(host, SCOPE, "")
        fill(host, LEFTOVER, "7\n")
        await agent.registry.wait_change(version, 20)
        await agent.containers.stop()

    asyncio.run(follow())
    found = {item["id"]: item for item in json.loads(agent.registry.document())["containers"]}
    assert found[LEFTOVER]["uuid_name"] == f"docker::{ID}"


def test_a_label_has_no_effect_and_is_counted_and_told(
    build: Build, host: FixtureHost, caplog: pytest.LogCaptureFixture
) -> None:
    fill(host, SCOPE, "7\n")
    describe(host, ID, pymon_uuid=CLAIMED)
    with caplog.at_level(logging.WARNING):
        agent = build(host)
    (record,) = [record for record in caplog.records if record.message == "container"]
    assert record.fields == {  # type: ignore[attr-defined]
        "path": SCOPE,
        "problem": "label pymon.uuid: not honoured, container.uuid-label does not name it",
    }
    assert inventory(agent)[SCOPE]["uuid_name"] == f"docker::{ID}"
    assert refused(agent) == 1
    for root, _ in trees(host):
        shutil.rmtree(root / SCOPE[1:])
    inventory(agent)
    assert refused(agent) == 0


def test_a_label_whose_key_is_named(build: Build, host: FixtureHost) -> None:
    other = "f" * 64
    fill(host, SCOPE, "7\n")
    fill(host, f"/docker/{other}", "7\n")
    describe(host, ID, example_uuid=CLAIMED)
    describe(host, other, example_uuid=CLAIMED.upper())
    agent = build(host, "--container.uuid-label=example.uuid")
    found = inventory(agent)
    assert sorted(found[path].get("uuid_name", "") for path in (SCOPE, f"/docker/{other}")) in (
        ["", f"docker::{other}"],
        ["", f"docker::{ID}"],
    )
    assert CLAIMED in {item["uuid"] for item in found.values()}
    assert refused(agent) == 1


def test_a_label_takes_no_uuid_that_is_made_of_another_container(build: Build, host: FixtureHost) -> None:
    agent = build(host, "--container.uuid-label=example.uuid")
    node = agent.registry.node.uuid
    victim = uuid.uuid5(node, f"docker::{ID}")
    other = "f" * 64
    describe(host, other, example_uuid=str(victim))
    fill(host, f"/docker/{other}", "7\n")
    assert inventory(agent)[f"/docker/{other}"]["uuid"] == str(victim)
    assert refused(agent) == 0
    fill(host, SCOPE, "")
    found = inventory(agent)
    assert (found[SCOPE]["uuid"], found[f"/docker/{other}"]["uuid_name"]) == (str(victim), f"docker::{other}")
    assert refused(agent) == 1


def refused(agent: Agent) -> float:
    value = agent.self_metrics.registry.get_sample_value("pymon_uuid_labels_refused")
    assert value is not None
    return value


def test_zones_have_uuids_of_their_own(build: Build, host: FixtureHost) -> None:
    with pytest.raises(ConfigError, match=r"container\.uuid-label: expected none with source kstat"):
        build(host, "--source=kstat", "--container.uuid-label=a")

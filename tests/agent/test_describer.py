"""Descriptions that hang: what is read on threads, and an agent over a FUSE file system that is stopped."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pymon.agent.describer import ORIGIN_THREADS, USER_THREADS, Describer, Job, Origin
from pymon.containers.model import Details
from tests.agent.fixture_host import FixtureHost, copy_host
from tests.agent.fuse_files import FuseFiles, fuse_files, why_not
from tests.live.agent import Agent
from tests.live.world import until

DOCKER = Origin("docker", None)


class Results:
    """What was handed on, by name."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.late: set[str] = set()

    def done(self, job: Job, details: Details) -> None:
        self.names.append(details.name)
        if job.late:
            self.late.add(details.name)


@pytest.fixture
def results() -> Results:
    return Results()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What reads that hang wait for."""
    made = threading.Event()
    yield made
    made.set()


@pytest.fixture
def describer() -> Iterator[Describer]:
    made = Describer(deadline_seconds=0.05)
    yield made
    made.close()


def hang(gate: threading.Event, name: str) -> Details:
    gate.wait(30)
    return Details(name=name)


def threads() -> int:
    return sum(thread.name.startswith("pymon-docker") for thread in threading.enumerate())


def test_reads_of_an_origin_are_handed_on_in_order(describer: Describer, results: Results) -> None:
    for number in range(100):
        describer.submit(DOCKER, lambda number=number: Details(name=str(number)), results.done)
    describer.wait(30)
    assert results.names == [str(number) for number in range(100)]
    assert not results.late


def test_a_read_that_hangs_holds_up_no_other(describer: Describer, results: Results, gate: threading.Event) -> None:
    describer.submit(DOCKER, lambda: hang(gate, "hung"), results.done)
    describer.submit(DOCKER, lambda: Details(name="same origin"), results.done)
    describer.submit(Origin("podman", 1000), lambda: Details(name="other origin"), results.done)
    describer.wait(30)
    assert set(results.names) == {"same origin", "other origin"}
    assert describer.overdue == 1
    gate.set()
    until("the read that hung is handed on", lambda: (describer.wait(1), results.names[-1] == "hung")[1])
    assert results.late == {"hung"}
    assert describer.overdue == 0


def test_threads_are_bounded(describer: Describer, results: Results, gate: threading.Event) -> None:
    before = threads()
    for number in range(20):
        describer.submit(DOCKER, lambda number=number: hang(gate, f"system {number}"), results.done)
    for uid in range(USER_THREADS + 20):
        describer.submit(Origin("docker", uid), lambda uid=uid: hang(gate, f"user {uid}"), results.done)
    began = time.monotonic()
    describer.wait(30)
    assert time.monotonic() - began < 10, "what hangs is not waited for"
    assert threads() - before == ORIGIN_THREADS + USER_THREADS
    assert results.names == []
    gate.set()
    until("all are handed on", lambda: (describer.wait(1), len(results.names) == 40 + USER_THREADS)[1])
    until("no thread is left", lambda: threads() == before)


def test_what_nobody_wants_any_more(describer: Describer, results: Results, gate: threading.Event) -> None:
    jobs = [describer.submit(DOCKER, lambda: hang(gate, "hung"), results.done) for _ in range(ORIGIN_THREADS + 1)]
    for job in jobs:
        describer.cancel(job)
    gate.set()
    describer.submit(DOCKER, lambda: Details(name="wanted"), results.done)
    until("the threads have ended", lambda: (describer.wait(1), threads() == 0)[1])
    assert results.names == ["wanted"]


def test_results_come_to_the_loop(describer: Describer, results: Results, gate: threading.Event) -> None:
    async def main() -> None:
        describer.submit(DOCKER, lambda: Details(name="before"), results.done)
        until("no thread is left", lambda: threads() == 0)
        describer.start(asyncio.get_running_loop())
        assert results.names == ["before"]
        describer.submit(DOCKER, lambda: hang(gate, "hung"), results.done)
        describer.submit(DOCKER, lambda: Details(name="after"), results.done)
        async with asyncio.timeout(30):
            while results.names != ["before", "after"]:
                await asyncio.sleep(0.01)
                describer.check()

    asyncio.run(main())


# An agent over a file system that is stopped.

ROOTLESS = "9d1e0f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6"
OTHER = "0123456789abcdef" * 4
SLICE = "user.slice/user-1000.slice/user@1000.service/user.slice"

needs_fuse = pytest.mark.skipif(bool(why_not()), reason=why_not() or "FUSE")


class World:
    """A fixture host whose user 1000 has his home on a FUSE file system."""

    def __init__(self, host: FixtureHost, home: Path, files: FuseFiles) -> None:
        self.host, self.home, self.files = host, home, files

    def make(self, path: str) -> None:
        tops = [self.host.cgroups, *(top for top in self.host.cgroups.iterdir() if not top.is_symlink())]
        for top in tops:
            if (top / "cgroup.procs").exists():
                (top / path).mkdir(parents=True)
                (top / path / "cgroup.procs").write_text("")

    def describe_rootless(self, identifier: str) -> None:
        storage = self.home / ".local/share/containers/storage/overlay-containers"
        storage.mkdir(parents=True, exist_ok=True)
        index = storage / "containers.json"
        entry = {"id": identifier, "names": ["db"], "metadata": json.dumps({"image-name": "postgres"})}
        index.write_text(json.dumps([entry]))
        os.chown(index, 1000, 1000)

    def describe_docker(self, identifier: str, name: str) -> None:
        folder = self.host.root / "var/lib/docker/containers" / identifier
        folder.mkdir(parents=True)
        (folder / "config.v2.json").write_text(json.dumps({"Name": f"/{name}", "Config": {"Image": "i"}}))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    host = copy_host("v2", tmp_path)
    home, source = host.root / "home/u", tmp_path / "files-of-u"
    home.mkdir(parents=True)
    source.mkdir()
    with (host.root / "etc/passwd").open("a") as file:
        file.write("u:x:1000:1000::/home/u:/bin/sh\n")
    with fuse_files(home, source) as files:
        yield World(host, source, files)


def names(agent: Agent) -> dict[str, str]:
    document = json.loads(agent.get("/v1/containers").body)
    return {item["id"]: item["name"] for item in document["containers"]}


def owners(agent: Agent) -> dict[str, str | None]:
    document = json.loads(agent.get("/v1/containers").body)
    return {item["id"]: item["owner"] for item in document["containers"]}


def rootless_path(identifier: str) -> str:
    return f"{SLICE}/libpod-{identifier}.scope"


@needs_fuse
def test_an_agent_goes_on_while_a_users_home_hangs(world: World) -> None:
    rules = world.host.root / "agent.yaml"
    rules.write_text("owners: [{label: who, rootless: true}, {account: ops}]\n")
    with Agent(*world.host.flags(), f"--config.file={rules}") as agent:
        world.files.stop()
        world.describe_rootless(ROOTLESS)
        world.make(rootless_path(ROOTLESS))
        appeared = time.monotonic()
        assert agent.get("/-/healthy").status == 200
        assert f"/{rootless_path(ROOTLESS)}" in agent.scrape().paths, "there at once, as its path says"
        assert time.monotonic() - appeared < 10
        assert "db" not in names(agent).values()
        assert owners(agent)[f"/{rootless_path(ROOTLESS)}"] is None, "its labels are not known"
        world.describe_docker(OTHER, "web")
        world.make(f"system.slice/docker-{OTHER}.scope")
        until("another is described", lambda: names(agent).get(f"/system.slice/docker-{OTHER}.scope") == "web")
        until("it is told of", lambda: agent.scrape().own("pymon_container_descriptions_overdue") == 1)
        world.files.go_on()
        until("the description is there", lambda: names(agent)[f"/{rootless_path(ROOTLESS)}"] == "db")
        assert owners(agent)[f"/{rootless_path(ROOTLESS)}"] == "ops"
        assert agent.scrape().own("pymon_container_descriptions_overdue") == 0
        image = {dict(labels).get("image") for name, labels in agent.scrape().series if name == "container_last_seen"}
        assert "postgres" in image


@needs_fuse
def test_an_agent_starts_and_ends_while_a_users_home_hangs(world: World) -> None:
    world.describe_rootless(ROOTLESS)
    for number in range(5):
        world.make(rootless_path(f"{number:x}" * 64))
    world.make(rootless_path(ROOTLESS))
    world.describe_docker(OTHER, "web")
    world.make(f"system.slice/docker-{OTHER}.scope")
    world.files.stop()
    with Agent(*world.host.flags()) as agent:
        assert names(agent)[f"/system.slice/docker-{OTHER}.scope"] == "web"
        assert f"/{rootless_path(ROOTLESS)}" in agent.scrape().paths
        ending = time.monotonic()
        agent.stop()
        assert time.monotonic() - ending < 5


@needs_fuse
def test_a_new_container_is_described_when_those_who_wait_hear_of_it(world: World) -> None:
    with Agent(*world.host.flags()) as agent:
        until("descriptions at the start", lambda: agent.get("/v1/containers").status == 200)
        etag = agent.get("/v1/containers").headers["ETag"]
        answers: list[bytes] = []
        waiting = threading.Thread(
            target=lambda: answers.append(agent.get("/v1/containers?wait=20", {"If-None-Match": etag}).body)
        )
        waiting.start()
        time.sleep(0.3)
        world.describe_docker(OTHER, "web")
        world.make(f"system.slice/docker-{OTHER}.scope")
        waiting.join(30)
        found = {item["id"]: item["name"] for item in json.loads(answers[0])["containers"]}
        assert found[f"/system.slice/docker-{OTHER}.scope"] == "web"

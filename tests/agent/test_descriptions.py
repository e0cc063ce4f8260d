"""What runtimes write about containers while an agent follows them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

import pymon
from pymon.agent import descriptions, registry
from pymon.agent.build import Agent, build_agent
from pymon.agent.collectors import COLLECTORS
from pymon.agent.descriptions import Description, Descriptions
from pymon.agent.options import load_agent_options
from pymon.catalogue.stopped import RUNNING_STATES
from pymon.containers.model import Details, Match
from pymon.containers.runtimes import Runtimes
from pymon.containers.stamps import Stamps
from pymon.sources.cgroup import find_hierarchies
from tests.agent.fixture_host import FixtureHost, copy_host

ID = "ab" * 32
SCOPE = f"/system.slice/docker-{ID}.scope"
PATIENCE_SECONDS = 20


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptions, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(descriptions, "AGAIN_SECONDS", ())


@pytest.fixture
def host(tmp_path: Path) -> FixtureHost:
    return copy_host("v2", tmp_path)


def make(host: FixtureHost, path: str) -> None:
    for root in find_hierarchies(host.cgroups).roots:
        (root / path[1:]).mkdir(parents=True)
        (root / path[1:] / "cgroup.procs").write_text("")


class Docker:
    """What dockerd writes about one container: it replaces the file."""

    def __init__(self, host: FixtureHost) -> None:
        self.folder = host.root / "var/lib/docker/containers" / ID
        self.folder.mkdir(parents=True)
        self.settings: dict[str, object] = {}

    def write(self, name: str = "/web", **state: object) -> None:
        document = {"ID": ID, "Name": name, "Config": {"Image": "i", "Labels": {"a": "b"}}, "State": state}
        document["NetworkSettings"] = self.settings
        new = self.folder / ".tmp-config.v2.json"
        new.write_text(json.dumps(document))
        new.rename(self.folder / "config.v2.json")


@asynccontextmanager
async def following(host: FixtureHost) -> AsyncIterator[Agent]:
    flags = [*host.flags(), f"--data-dir={host.root / 'data'}"]
    options = load_agent_options(flags, {}, COLLECTORS, version=pymon.__version__)
    agent = build_agent(options, serving=True)
    agent.containers.start()
    try:
        yield agent
    finally:
        await agent.containers.stop()


def told(agent: Agent) -> dict[str, object]:
    """What the inventory has of the container."""
    items = json.loads(agent.registry.document())["containers"]
    return {key: item.get(key) for item in items if item["id"] == SCOPE for key in ("name", "state", "health")}


async def until(agent: Agent, **expected: object) -> None:
    """Wait for the inventory to say this of the container."""
    end = time.monotonic() + PATIENCE_SECONDS
    while {key: told(agent).get(key) for key in expected} != expected:
        assert time.monotonic() < end, (told(agent), expected)
        await agent.registry.wait_change(agent.registry.version, end - time.monotonic())


def health(agent: Agent) -> int | None:
    rows = agent.registry
    (row,) = (row for row in range(rows.rows) if (item := rows.container(row)) and item.id == SCOPE)
    return rows.table.get(row, "health")


def test_changes_are_followed(host: FixtureHost) -> None:
    async def main() -> None:
        docker = Docker(host)
        async with following(host) as agent:
            docker.write(Running=False, StartedAt="0001-01-01T00:00:00Z")
            make(host, SCOPE)
            await until(agent, name="web", health="")
            assert health(agent) is None
            docker.write(Running=True, Health={"Status": "starting"})
            await until(agent, health="starting")
            assert health(agent) == 0
            docker.write(Running=True, Health={"Status": "healthy"})
            await until(agent, health="healthy")
            assert health(agent) == 1
            docker.write(Running=True, Health={"Status": "unhealthy"})
            await until(agent, health="unhealthy")
            docker.write("/web2", Running=True, Paused=True)
            await until(agent, name="web2", state="paused", health="")
            assert health(agent) is None
            docker.write("/web2", Running=True)
            await until(agent, state="running")

    asyncio.run(main())


def test_the_state_is_a_metric_while_the_runtime_tells_it(host: FixtureHost) -> None:
    def states(agent: Agent) -> set[str]:
        rows = agent.registry
        (row,) = (row for row in range(rows.rows) if (item := rows.container(row)) and item.id == SCOPE)
        return {state for state in RUNNING_STATES if rows.table.get(row, state) == 1}

    async def main() -> None:
        docker = Docker(host)
        async with following(host) as agent:
            docker.write(Running=False, StartedAt="0001-01-01T00:00:00Z")
            make(host, SCOPE)
            await until(agent, name="web", state="running")
            assert states(agent) == set(), "it is not told yet"
            docker.write("/web2", Running=True)
            await until(agent, name="web2")
            assert states(agent) == {"running"}
            docker.write("/web2", Running=True, Paused=True)
            await until(agent, state="paused")
            assert states(agent) == {"paused"}

    asyncio.run(main())


def test_addresses_and_ports_that_the_runtime_tells(host: FixtureHost) -> None:
    """They are in the inventory where the network namespace is not read."""

    def network(agent: Agent) -> tuple[object, object]:
        (item,) = (item for item in json.loads(agent.registry.document())["containers"] if item["id"] == SCOPE)
        return item["addresses"], item.get("ports")

    async def main() -> None:
        docker = Docker(host)
        async with following(host) as agent:
            docker.write(Running=True)
            make(host, SCOPE)
            await until(agent, name="web")
            assert network(agent) == ([], None)
            docker.settings = {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}, "Ports": {"80/tcp": None}}
            docker.write("/web2", Running=True)
            await until(agent, name="web2")
            assert network(agent) == (["172.17.0.2"], ["80/tcp"])
            (tracked,) = (one for one in agent.registry._tracked.values() if one.path == SCOPE)
            agent.registry._set_addresses([(tracked.followed, ("10.0.0.7",))])
            assert network(agent)[0] == ["10.0.0.7"], "the kernel knows better"
            docker.write("/web3", Running=True)
            await until(agent, name="web3")
            assert network(agent)[0] == ["10.0.0.7"]
            agent.registry._set_addresses([(tracked.followed, ())])
            assert network(agent)[0] == ["172.17.0.2"]

    asyncio.run(main())


def test_users_who_end_many_containers_leave_room_for_the_exit_codes_of_others(
    host: FixtureHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Match] = []
    follow = Descriptions.follow

    def counted(self: Descriptions, match: Match, told: Callable[[Details], None]) -> Description:
        asked.append(match)
        return follow(self, match, told)

    monkeypatch.setattr(registry, "MAX_USERS_ENDS_ASKED", 3)
    monkeypatch.setattr(Descriptions, "follow", counted)

    async def main() -> None:
        of_user = [f"/user.slice/user-1000.slice/libpod-{number:064x}.scope" for number in range(5)]
        async with following(host) as agent:

            async def wait(state: str, paths: set[str]) -> None:
                end = time.monotonic() + PATIENCE_SECONDS
                while True:
                    items = json.loads(agent.registry.document())["containers"]
                    if {item["id"] for item in items if item["state"] == state} >= paths:
                        return
                    assert time.monotonic() < end, items
                    await agent.registry.wait_change(agent.registry.version, end - time.monotonic())

            for path in (*of_user, SCOPE):
                make(host, path)
            await wait("running", {*of_user, SCOPE})
            asked.clear()
            for root in find_hierarchies(host.cgroups).roots:
                for path in (*of_user, SCOPE):
                    shutil.rmtree(root / path[1:])
            await wait("stopped", {*of_user, SCOPE})
            assert sum(match.uid == 1000 for match in asked) == 3
            assert [match.path for match in asked if match.uid is None] == [SCOPE]

    asyncio.run(main())


def test_a_file_that_comes_late_is_read(host: FixtureHost) -> None:
    async def main() -> None:
        async with following(host) as agent:
            make(host, SCOPE)
            await until(agent, name=ID)
            docker = Docker(host)
            docker.write(Running=True, Health={"Status": "unhealthy"})
            await until(agent, name="web", health="unhealthy")

    asyncio.run(main())


def test_one_that_was_there_before_the_agent_is_followed(host: FixtureHost) -> None:
    async def main() -> None:
        docker = Docker(host)
        docker.write(Running=True)
        make(host, SCOPE)
        async with following(host) as agent:
            assert told(agent) == {"name": "web", "state": "running", "health": ""}
            docker.write(Running=True, Health={"Status": "healthy"})
            await until(agent, health="healthy")

    asyncio.run(main())


class Files(Runtimes):
    """Runtimes whose files are a number that a test changes, and of which tens are told."""

    def __init__(self) -> None:
        super().__init__("/nowhere")
        self.number = 0
        self.broken = False
        self.hanging: set[str] = set()
        self.gate = threading.Event()
        self.reads: dict[str, int] = {}

    def stamps(self, match: Match) -> Stamps | None:
        if match.name in self.hanging:
            self.gate.wait()
        return ((self.number,),)

    def describe(self, match: Match) -> Details:
        self.reads[match.name] = self.reads.get(match.name, 0) + 1
        if self.broken:
            return Details(match.name, reason="half of a file")
        return Details(f"{match.name}-{self.number // 10}")


@pytest.fixture
def files() -> Iterator[Files]:
    files = Files()
    yield files
    files.gate.set()


async def wait(fact: Callable[[], bool], watched: Descriptions) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not fact():
        assert time.monotonic() < end
        watched.check()
        await asyncio.sleep(0.01)


def collect(watched: Descriptions, *names: str) -> tuple[dict[str, str], list[Description]]:
    """Follow containers. Return the names that are told, and the descriptions."""
    told: dict[str, str] = {}

    def tell(name: str, details: Details) -> None:
        told[name] = details.name

    followed = [watched.follow(Match(f"/{name}", "docker", name, name), partial(tell, name)) for name in names]
    watched.wait(PATIENCE_SECONDS)
    watched.start(asyncio.get_running_loop())
    return told, followed


def test_what_is_known_outlives_files_that_cannot_be_read(files: Files) -> None:
    async def main() -> None:
        watched = Descriptions(files)
        told, _ = collect(watched, "a")
        files.broken, files.number = True, 10
        await wait(lambda: files.reads["a"] == 2, watched)
        assert told == {"a": "a-0"}
        files.broken, files.number = False, 20
        await wait(lambda: told == {"a": "a-2"}, watched)
        watched.close()

    asyncio.run(main())


def test_nothing_new_is_not_told(files: Files) -> None:
    """A daemon that writes the same again, as after each health check, wakes nobody."""

    async def main() -> None:
        watched = Descriptions(files)
        told, _ = collect(watched, "a")
        told.clear()
        files.number = 1
        await wait(lambda: files.reads["a"] == 2, watched)
        assert told == {}
        files.number = 10
        await wait(lambda: told == {"a": "a-1"}, watched)
        watched.close()

    asyncio.run(main())


def test_one_whose_files_hang_holds_up_no_other(files: Files) -> None:
    async def main() -> None:
        watched = Descriptions(files)
        names, _ = collect(watched, "a", "b", "c")
        files.hanging = {"b"}
        await wait(lambda: watched.overdue == 1, watched)
        files.number = 10
        await wait(lambda: names == {"a": "a-1", "b": "b-0", "c": "c-1"}, watched)
        files.hanging = set()
        files.gate.set()
        await wait(lambda: names == {"a": "a-1", "b": "b-1", "c": "c-1"}, watched)
        watched.close()

    asyncio.run(main())


def test_one_whose_first_read_hangs_takes_one_thread(files: Files) -> None:
    async def main() -> None:
        files.hanging = {"b"}
        watched = Descriptions(files)
        names, _ = collect(watched, "a", "b", "c")
        for number in (10, 20):
            files.number = number
            await wait(lambda number=number: names == {name: f"{name}-{number // 10}" for name in "ac"}, watched)
        assert watched.overdue == 1
        files.gate.set()
        await wait(lambda: names.get("b") == "b-2", watched)
        watched.close()

    asyncio.run(main())


def test_a_user_who_rewrites_without_end_costs_a_share(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each read takes CPU time; the time to the next look is that of the share that users have."""

    def describe(match: Match) -> Details:
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            files.number += 1
        return Details(str(files.number))

    async def main() -> None:
        monkeypatch.setattr(files, "describe", describe)
        delays: list[float] = []
        loop = asyncio.get_running_loop()
        later = loop.call_later

        def call_later(delay: float, *rest: object) -> asyncio.TimerHandle:
            delays.append(delay)
            return later(min(delay, 0.02), *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(loop, "call_later", call_later)
        watched = Descriptions(files)
        watched.start(loop)
        watched.follow(Match("/a", "docker", "a", "a", uid=1000), lambda _: None)
        await wait(lambda: max(delays) >= 0.02 / descriptions.USERS_SHARE, watched)
        watched.close()

    asyncio.run(main())


def test_one_that_leaves_is_not_read(files: Files) -> None:
    async def main() -> None:
        watched = Descriptions(files)
        _, (described, other) = collect(watched, "a", "b")
        watched.leave(described)
        files.number = 1
        await wait(lambda: files.reads["b"] == 2, watched)
        assert files.reads["a"] == 1
        watched.leave(other)
        watched.close()

    asyncio.run(main())


def test_a_change_within_a_step_of_the_clock_is_seen(tmp_path: Path) -> None:
    docker = Docker(FixtureHost(tmp_path))
    docker.write(Running=True)
    runtimes = Runtimes(tmp_path)
    match = Match(SCOPE, "docker", ID, ID)
    file = docker.folder / "config.v2.json"
    fresh = runtimes.stamps(match)
    assert fresh is None or time.time_ns() - file.stat().st_ctime_ns > 0
    while (stamps := runtimes.stamps(match)) is None:
        os.sched_yield()
    assert runtimes.stamps(match) == stamps
    docker.write(Running=True)
    assert runtimes.stamps(match) != stamps

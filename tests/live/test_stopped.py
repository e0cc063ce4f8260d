"""Containers that have ended: real control groups, whose processes are gone when the agent is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import pytest

from pymon.sources.exit_status import exit_code
from tests.live.agent import Agent, Scrape
from tests.live.world import HIERARCHIES, Group, World, until

pytestmark = pytest.mark.root

SPIN = "end = __import__('time').process_time() + {}\nwhile __import__('time').process_time() < end: pass\n{}"
MANY = 40


def spin(seconds: float, then: str = "") -> list[str]:
    """A program that uses so much CPU time."""
    return [sys.executable, "-S", "-E", "-c", SPIN.format(seconds, then)]


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    with Agent("--container.all") as running:
        yield running


def stopped(agent: Agent, group: Group, seconds: float = 30.0) -> Scrape:
    """A scrape that tells the group's end."""

    def told() -> Scrape | None:
        scrape = agent.scrape()
        return scrape if scrape.of(group.path, "container_state") else None

    return until(f"{group.path} is told as ended", told, seconds)  # type: ignore[no-any-return]


def entry(agent: Agent, group: Group) -> dict[str, object] | None:
    """The group's container in the inventory."""
    containers = json.loads(agent.get("/v1/containers").body)["containers"]
    return next((one for one in containers if one["id"] == group.path), None)


def cpu_seconds(scrape: Scrape, group: Group) -> Fraction:
    """User and system time. The kernel may count most of a short run as either."""
    kinds = (scrape.value(group.path, f"container_cpu_{kind}_seconds_total") for kind in ("user", "system"))
    return sum((value for value in kinds if value is not None), Fraction(0))


def knows_exit_codes() -> bool:
    """Whether this kernel tells the exit code of a process that was waited for."""
    process = subprocess.Popen(["sh", "-c", "exit 3"])
    descriptor = os.pidfd_open(process.pid)
    try:
        process.wait()
        return exit_code(descriptor) == 3
    finally:
        os.close(descriptor)


def test_a_container_that_lived_for_200_ms_is_in_the_next_scrape(agent: Agent, world: World) -> None:
    """With all of its numbers, if the agent gets a CPU meanwhile: the machine may be busy."""
    whole = {
        "container_start_time_seconds", "container_end_time_seconds", "container_state", "container_restarts_total",
        "container_cpu_usage_seconds_total", "container_cpu_user_seconds_total", "container_cpu_system_seconds_total",
        "pymon_container_last_numbers_exact",
        *(["container_memory_max_usage_bytes", "container_oom_events_total"] if HIERARCHIES.version("memory") else []),
        *(["container_last_exit_code"] if knows_exit_codes() else []),
    }  # fmt: skip

    def attempt() -> tuple[Group, float, float, Scrape] | None:
        before = time.time()
        group = world.group("short")
        group.start(spin(0.1, "__import__('time').sleep(0.1); raise SystemExit(7)")).wait()
        group.remove()
        after = time.time()
        try:
            scrape = stopped(agent, group, seconds=5)
        except AssertionError:
            return None
        names = {name for name, _ in scrape.of(group.path)}
        return (group, before, after, scrape) if names == whole else None

    group, before, after, scrape = until("a scrape has all numbers of one", attempt, 100.0)
    assert scrape.value(group.path, "container_state", state="exited") == 1
    assert scrape.value(group.path, "container_last_exit_code") in (7, None)
    assert before - 1 <= scrape.value(group.path, "container_end_time_seconds") <= after + 60  # type: ignore[operator]
    assert not scrape.of(group.path, "container_last_seen")
    told = entry(agent, group)
    assert told is not None
    assert told["state"] == "stopped"
    answer = agent.get(f"/v1/{told['uuid']}/metrics")
    assert answer.status == 200
    assert Scrape(answer.body).series == scrape.of(group.path)
    agent.scrape(openmetrics=True)
    assert agent.get(f"/v1/{told['uuid']}/metrics?collect[]=container_cpu").body == b""


def test_the_last_numbers_are_those_of_the_kernel(agent: Agent, world: World) -> None:
    """A runtime takes some time to remove a group. One that takes too little leaves numbers that are marked."""

    def attempt() -> bool:
        group = world.group("exact")
        process = group.start(spin(0.2))
        until("it is seen", lambda: group.path in agent.scrape().paths)
        process.wait()
        time.sleep(0.3)
        version = HIERARCHIES.version("cpuacct")
        if version == 1:
            usage = Fraction(int(group.file("cpuacct", "cpuacct.usage").read_text()), 10**9)
        else:
            lines = dict(line.split() for line in group.file("", "cpu.stat").read_text().splitlines())
            usage = Fraction(int(lines["usage_usec"]), 10**6)
        group.remove()
        scrape = stopped(agent, group)
        if not scrape.value(group.path, "pymon_container_last_numbers_exact"):
            return False
        assert scrape.value(group.path, "container_cpu_usage_seconds_total", cpu="total") == usage
        return True

    until("the numbers are exact", attempt, 120.0)


def test_what_was_scraped_last_counts_where_nothing_newer_was_read(agent: Agent, world: World) -> None:
    group = world.group("scraped")
    child = world.child(group, "inner")
    process = child.start([*spin(0.3)[:-1], SPIN.format(0.3, "__import__('time').sleep(1000)")])

    def used() -> Fraction | None:
        value = cpu_seconds(agent.scrape(), group)
        return value if value >= Fraction(1, 10) else None

    seen = until("it has used its CPU time", used)
    process.kill()
    process.wait()
    child.remove()
    group.remove()
    assert cpu_seconds(stopped(agent, group), group) >= seen


def test_a_killed_container_that_runs_again_keeps_its_kills(agent: Agent, world: World) -> None:
    limit = str(32 << 20)

    def attempt() -> tuple[Group, Scrape] | None:
        group = world.group("killed")
        group.limit("memory", {"memory.limit_in_bytes": limit}, {"memory.max": limit, "memory.swap.max": "0"})
        process = group.start([sys.executable, "-S", "-E", "-c", "b'x' * (256 << 20)"])
        assert process.wait() == -9
        time.sleep(0.3)  # as a runtime needs
        group.remove()
        scrape = stopped(agent, group)
        return (group, scrape) if scrape.value(group.path, "pymon_container_last_numbers_exact") else None

    group, scrape = until("the numbers are exact", attempt, 120.0)
    assert scrape.value(group.path, "container_oom_events_total") == 1
    assert scrape.value(group.path, "container_last_exit_code") in (137, None)
    again = world.again(group)
    again.sleep()

    def running() -> Scrape | None:
        scrape = agent.scrape()
        return scrape if scrape.of(group.path, "container_last_seen") else None

    for scrape in (until("it runs again", running), agent.scrape(), agent.scrape()):
        assert scrape.value(group.path, "container_oom_events_total") == 1
        assert scrape.value(group.path, "container_restarts_total") == 1
        assert scrape.value(group.path, "container_last_exit_code") in (137, None)
        assert not scrape.of(group.path, "container_state")
    told = entry(agent, group)
    assert told is not None
    assert told["state"] == "running"
    one = Scrape(agent.get(f"/v1/{told['uuid']}/metrics").body)
    assert one.value(group.path, "container_oom_events_total") == 1
    assert one.value(group.path, "container_restarts_total") == 1
    again.kill()
    again.remove()
    scrape = stopped(agent, group)
    assert scrape.value(group.path, "container_oom_events_total") == 1
    assert scrape.value(group.path, "container_restarts_total") == 1


def test_kills_are_counted_once_where_a_scrape_read_them_last(agent: Agent, world: World) -> None:
    limit = str(32 << 20)
    group = world.group("twice")
    group.limit("memory", {"memory.limit_in_bytes": limit}, {"memory.max": limit, "memory.swap.max": "0"})
    process = group.start([sys.executable, "-S", "-E", "-c", "b'x' * (256 << 20)"])
    assert process.wait() == -9
    until("the kill is scraped", lambda: agent.scrape().value(group.path, "container_oom_events_total") == 1)
    group.remove()
    stopped(agent, group)
    again = world.again(group)
    child = world.child(world.child(again, "inner"), "innermost")  # where no process is looked for
    process = child.start(["sleep", "1000"])
    until("it runs again", lambda: agent.scrape().of(group.path, "container_last_seen"))
    assert agent.scrape().value(group.path, "container_oom_events_total") == 1
    process.kill()
    process.wait()
    again.remove()
    assert stopped(agent, group).value(group.path, "container_oom_events_total") == 1


def test_many_short_ones_are_all_seen(agent: Agent, world: World) -> None:
    groups = [world.group(f"many-{number}") for number in range(MANY)]
    for group in groups:
        group.start(spin(0.01, "__import__('time').sleep(0.05)"))
    for group in groups:
        for process in group.processes:
            process.wait()
    # A group is seen if it outlives the batch of events that tells of it, which takes longer on a busy machine.
    last = world.group("many-last")
    until("the events so far are handled", lambda: last.path in agent.scrape().paths)
    for group in groups:
        group.remove()
    for group in groups:
        stopped(agent, group)


def test_they_are_forgotten_in_time(world: World) -> None:
    with Agent("--container.all", "--container.keep-stopped=2s") as agent:
        group = world.group("brief")
        group.sleep()
        until("it is seen", lambda: group.path in agent.scrape().paths)
        group.kill()
        group.remove()
        stopped(agent, group)
        uuid = (entry(agent, group) or {"uuid": ""})["uuid"]
        until("it is forgotten", lambda: not agent.scrape().of(group.path))
        assert entry(agent, group) is None
        assert not uuid or agent.get(f"/v1/{uuid}/metrics").status == 404
        assert agent.scrape().own("pymon_containers_stopped") == 0


def test_they_are_not_kept_where_that_is_switched_off(world: World) -> None:
    with Agent("--container.all", "--container.keep-stopped=0") as agent:
        group = world.group("off")
        group.sleep()
        until("it is seen", lambda: group.path in agent.scrape().paths)
        told = entry(agent, group)
        assert told is not None
        group.kill()
        group.remove()
        until("it is gone", lambda: entry(agent, group) is None)
        assert not agent.scrape().of(group.path)
        assert agent.get(f"/v1/{told['uuid']}/metrics").status == 404


def test_docker_tells_the_exit_code_a_little_later(world: World, tmp_path: Path) -> None:
    identifier = os.urandom(32).hex()
    file = tmp_path / f"var/lib/docker/containers/{identifier}/config.v2.json"
    file.parent.mkdir(parents=True)

    def write(**state: object) -> None:
        document = {"Name": "/web", "Config": {"Image": "nginx"}, "RestartCount": 2, "State": state}
        (file.parent / "new").write_text(json.dumps(document))
        (file.parent / "new").rename(file)

    write(Running=True, StartedAt=now(), ExitCode=0)
    parent = world.group("docker")
    with Agent(f"--path.rootfs={tmp_path}") as agent:
        group = world.child(parent, f"docker-{identifier}.scope")
        group.sleep()
        until("it is described", lambda: b'name="web"' in agent.get().body)
        group.kill()
        group.remove()
        stopped(agent, group)
        write(Running=False, StartedAt=now(), ExitCode=42, FinishedAt=now())

        def told() -> bool:
            scrape = agent.scrape()
            return scrape.value(group.path, "container_last_exit_code") == 42

        until("Docker's exit code is told", told)
        scrape = agent.scrape()
        assert scrape.value(group.path, "container_restarts_total") == 2
        assert {dict(labels)["name"] for _, labels in scrape.of(group.path)} == {"web"}


def now() -> str:
    """The time as Docker writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")

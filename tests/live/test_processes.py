"""What the agent says of real processes in real groups, between two direct reads of the same files."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import pytest

from pymon.catalogue.cgroup_fields import ADVANCED_TCP_FIELDS
from tests.live.agent import Agent, Scrape
from tests.live.world import HIERARCHIES, Group, World, run, until

pytestmark = pytest.mark.root

COLLECTORS = ("container_sched", "container_file_descriptors", "container_ulimits", "container_advtcp")
SCHED = {
    "container_cpu_schedstat_run_seconds_total": Fraction(1, 10**9),
    "container_cpu_schedstat_runqueue_seconds_total": Fraction(1, 10**9),
    "container_cpu_schedstat_run_periods_total": Fraction(1),
}
"""In the order of the file, and what the file counts in."""

ADVANCED = "container_network_advance_tcp_stats_total"

OPEN = """
import os, resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), 4096))
kept = [socket.socketpair() for _ in range(int(sys.argv[2]))]
kept += [open(os.devnull) for _ in range(5)] + [os.pipe()]
print("ready", flush=True)
sys.stdin.read()
"""

BUSY = """
import sys
print("ready", flush=True)
while True:
    sum(range(1000))
"""

FORK = """
import os
for _ in range(50):
    child = os.fork()
    if child == 0:
        sum(range(200000))
        os._exit(0)
    os.waitpid(child, 0)
print("ready", flush=True)
"""

CONNECT = """
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
kept = [socket.create_connection(server.getsockname()) for _ in range(3)]
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    """An agent that looks at processes."""
    with Agent("--container.all", *(f"--collector.{name}" for name in COLLECTORS)) as running:
        yield running


def started(group: Group, program: str, *words: str, prefix: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """A Python program in the group that has said it is ready."""
    process = group.start([*prefix, sys.executable, "-c", program, *words])
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    return process


def schedstat(*pids: int) -> list[int]:
    """Sums over processes of the three numbers."""
    lines = [Path(f"/proc/{pid}/schedstat").read_text().split() for pid in pids]
    return [sum(int(line[i]) for line in lines) for i in range(len(SCHED))]


def sched(scrape: Scrape, group: Group) -> list[Fraction] | None:
    """The same of the agent, in units of the file."""
    values = [scrape.value(group.path, metric) for metric in SCHED]
    if None in values:
        return None
    return [value / unit for value, unit in zip(values, SCHED.values(), strict=True) if value is not None]


def links(*pids: int) -> list[str]:
    """What the open files of processes are."""
    return [str(path.readlink()) for pid in pids for path in Path(f"/proc/{pid}/fd").iterdir()]


def test_sched(world: World, agent: Agent) -> None:
    group = world.group()
    pids = [started(group, BUSY).pid, group.sleep().pid]
    for path in ("/metrics", f"/v1/{uuid(agent, group)}/metrics"):
        before = schedstat(*pids)
        values = sched(agent.scrape(path), group)
        after = schedstat(*pids)
        assert values
        assert all(low <= value <= high for low, value, high in zip(before, values, after, strict=True)), path
        until("the busy one has run", lambda before=before: schedstat(*pids)[0] > before[0])


def test_counters_of_processes_that_end(world: World, agent: Agent) -> None:
    group = world.group()
    stays = group.sleep().pid
    ends = started(group, BUSY)
    seen = [sched(agent.scrape(), group)]
    seen += [sched(agent.scrape(), group) for _ in range(5)]
    ends.kill()
    ends.wait()
    seen += [sched(agent.scrape(), group) for _ in range(3)]
    started(group, FORK).wait()
    seen += [sched(agent.scrape(), group) for _ in range(3)]
    for earlier, later in itertools.pairwise(seen):
        assert earlier
        assert later
        assert all(old <= new for old, new in zip(earlier, later, strict=True)), seen
    assert seen[-1]
    assert seen[-1][0] > schedstat(stays)[0]


def test_counters_of_a_process_that_moves(world: World, agent: Agent) -> None:
    group, other = world.group(), world.group()
    pid = group.sleep().pid
    other.sleep()
    until("the process seen", lambda: sched(agent.scrape(), group))
    total = sched(agent.scrape(), group)
    for _ in range(3):
        move(pid, other)
        assert sched(agent.scrape(), group) == total
        move(pid, group)
    after = sched(agent.scrape(), group)
    assert after
    assert after[2] <= schedstat(pid)[2]


def test_open_files_and_sockets(world: World, agent: Agent) -> None:
    group = world.group()
    pids = [started(group, OPEN, "1000", "7").pid, started(group, OPEN, "900", "2").pid]
    below = world.child(group, "below")
    pids.append(started(below, OPEN, "900", "1").pid)
    for path in ("/metrics", f"/v1/{uuid(agent, group)}/metrics"):
        there = links(*pids)
        scrape = agent.scrape(path)
        assert links(*pids) == there
        assert scrape.value(group.path, "container_file_descriptors") == len(there)
        sockets = [link for link in there if link.startswith("socket:")]
        assert scrape.value(group.path, "container_sockets") == len(sockets)
        assert len(sockets) >= 20


@pytest.mark.parametrize("limit", [1000, 77])
def test_limit_of_open_files(world: World, agent: Agent, limit: int) -> None:
    group = world.group()
    started(group, OPEN, str(limit), "1")
    assert agent.scrape().value(group.path, "container_ulimits_soft", ulimit="max_open_files") == limit


def test_tcp_statistics(world: World, agent: Agent) -> None:
    group, host = world.group(), world.group()
    pid = started(group, CONNECT, prefix=ALONE).pid
    host.sleep()
    for path in ("/metrics", f"/v1/{uuid(agent, group)}/metrics"):

        def scraped(path: str = path) -> Scrape | None:
            scrape = agent.scrape(path)
            return scrape if scrape.values(group.path, ADVANCED) else None

        until("the namespace noticed", scraped)
        before = tcp_statistics(pid)
        scrape = agent.scrape(path)
        assert tcp_statistics(pid) == before
        values = {dict(labels)["tcp_state"]: value for labels, value in scrape.values(group.path, ADVANCED).items()}
        assert values == before
        assert values["activeopens"] == values["passiveopens"] == 3
        assert values["maxconn"] == -1
        assert not scrape.values(host.path, ADVANCED)
    assert f"# TYPE {ADVANCED} unknown".encode() in agent.scrape(openmetrics=True).body


def test_off_by_default(world: World) -> None:
    group = world.group()
    started(group, CONNECT, prefix=ALONE)
    with Agent("--container.all") as running:
        names = {name for name, _ in running.scrape().of(group.path)}
        assert "container_processes" in names
        assert not names & {
            *SCHED,
            ADVANCED,
            "container_file_descriptors",
            "container_sockets",
            "container_ulimits_soft",
        }


def test_without_permission(world: World) -> None:
    """What cannot be read is not there, and the reason is counted."""
    group, others = world.group(), world.group()
    pid = started(group, OPEN, "1000", "1").pid
    process = others.start([*NOBODY, "sleep", "1000"])
    until("another user's", lambda: Path(f"/proc/{process.pid}/fd").stat().st_uid != 0)
    flags = [f"--collector.{name}" for name in COLLECTORS]
    with Agent("--container.all", *flags, prefix=("setpriv", "--bounding-set=-all", "--inh-caps=-all")) as running:
        scrape = running.scrape()
        counted = running.scrape().own(
            "pymon_collector_failures_total", collector="container_file_descriptors", reason="eacces"
        )
    assert scrape.value(group.path, "container_file_descriptors") == len(links(pid))
    assert scrape.value(group.path, "container_sockets") is None
    assert scrape.value(others.path, "container_file_descriptors") is None
    assert scrape.value(others.path, "container_sockets") is None
    assert sched(scrape, group)
    assert sched(scrape, others)
    assert counted


ALONE = ("unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh")
"""A network namespace with a loopback interface that is up."""

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def uuid(agent: Agent, group: Group) -> str:
    """The container's, from the inventory."""
    until("the container found", lambda: group.path in agent.scrape().paths)
    inventory = json.loads(agent.get("/v1/containers").body)
    return next(str(item["uuid"]) for item in inventory["containers"] if item["id"] == group.path)


def move(pid: int, group: Group) -> None:
    for root in HIERARCHIES.roots:
        (root / group.name / "cgroup.procs").write_text(str(pid))


def tcp_statistics(pid: int) -> dict[str, int]:
    """What the kernel says in the namespace of a process, by the name that cAdvisor gives it."""
    found = {}
    for name in ("snmp", "netstat"):
        lines = run("nsenter", "-t", str(pid), "-n", "cat", f"/proc/{pid}/net/{name}").stdout.decode().splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=True):
            protocol = names.split()[0]
            for key, value in zip(names.split()[1:], values.split()[1:], strict=True):
                if protocol + key in ADVANCED_TCP_FIELDS:
                    found[key.lower()] = int(value)
    return found

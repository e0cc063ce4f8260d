"""Network namespaces of containers: what their interfaces carried, who reports it, and that none is held."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from tests.live.agent import Agent, Scrape
from tests.live.world import Group, LinkError, World, link_counters, run, until

pytestmark = pytest.mark.root

SLEEP_ALONE = ("unshare", "--net", "sleep", "1000")
ROUNDS = 20

FIELDS = {
    "container_network_receive_bytes_total": ("rx", "bytes"),
    "container_network_receive_packets_total": ("rx", "packets"),
    "container_network_receive_packets_dropped_total": ("rx", "dropped"),
    "container_network_receive_errors_total": ("rx", "errors"),
    "container_network_transmit_bytes_total": ("tx", "bytes"),
    "container_network_transmit_packets_total": ("tx", "packets"),
    "container_network_transmit_packets_dropped_total": ("tx", "dropped"),
    "container_network_transmit_errors_total": ("tx", "errors"),
}
BYTES = "container_network_receive_bytes_total"

SOCKSTAT = {
    "container_sockstat_sockets_used": ("sockstat", "sockets", "used"),
    "container_sockstat_tcp_inuse": ("sockstat", "TCP", "inuse"),
    "container_sockstat_tcp_tw": ("sockstat", "TCP", "tw"),
    "container_sockstat_udp_inuse": ("sockstat", "UDP", "inuse"),
    "container_sockstat_raw_inuse": ("sockstat", "RAW", "inuse"),
    "container_sockstat_tcp6_inuse": ("sockstat6", "TCP6", "inuse"),
    "container_sockstat_udp6_inuse": ("sockstat6", "UDP6", "inuse"),
    "container_sockstat_raw6_inuse": ("sockstat6", "RAW6", "inuse"),
}

SOCKETS = """
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
other, _ = server.accept()
half = socket.create_connection(server.getsockname())
third, _ = server.accept()
third.shutdown(socket.SHUT_WR)
half.recv(1)
server6 = socket.create_server(("::1", 0), family=socket.AF_INET6)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", 0))
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.sendto(b"x" * 100, udp.getsockname())
udp6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp6.bind(("::1", 0))
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
print("ready", flush=True)
sys.stdin.read()
"""
"""Sockets in states that stay: listening, a connection, a half closed one; UDP bound, with a packet waiting."""


def alone(group: Group) -> subprocess.Popen[bytes]:
    """A process with a network namespace of its own."""
    process = group.start(SLEEP_ALONE)
    until("a namespace of its own", lambda: namespace(process.pid) != namespace(os.getpid()))
    return process


def namespace(pid: int) -> str:
    return Path(f"/proc/{pid}/ns/net").readlink().name


def joined(group: Group, pid: int) -> subprocess.Popen[bytes]:
    """A process in the network namespace of another."""
    process = group.start(["nsenter", "-t", str(pid), "-n", "sleep", "1000"])
    until("the namespace entered", lambda: namespace(process.pid) == namespace(pid))
    return process


def linked(world: World, pid: int, name: str, number: int) -> str:
    try:
        return world.veth(pid, name, f"198.18.{number}.2", f"198.18.{number}.1")
    except LinkError as error:
        pytest.skip(f"no veth pair on this kernel: {error}")


def send(pid: int, address: str, packets: int) -> None:
    program = (
        "import socket, sys\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        f"for i in range({packets}): s.sendto(b'x' * (100 + i), ({address!r}, 9))"
    )
    run("nsenter", "-t", str(pid), "-n", sys.executable, "-c", program)


def carried(scrape: Scrape, group: Group, metric: str = BYTES) -> dict[str, Fraction]:
    return {dict(labels)["interface"]: value for labels, value in scrape.values(group.path, metric).items()}


def test_counters_are_those_of_ip_inside_the_namespace(world: World, agent: Agent) -> None:
    group = world.group()
    process = alone(group)
    linked(world, process.pid, "eth0", 1)
    linked(world, process.pid, "we}ird,0", 2)
    send(process.pid, "198.18.1.1", 40)
    send(process.pid, "198.18.2.1", 3)
    send(os.getpid(), "198.18.1.2", 7)
    for _ in range(ROUNDS):
        before = link_counters(process.pid)
        scrape = agent.scrape()
        after = link_counters(process.pid)
        if before == after:
            break
    assert before == after, "the links never rest"
    assert set(before) == {"lo", "eth0", "we}ird,0"}
    for metric, (way, field) in FIELDS.items():
        expected = {name: counters[way][field] for name, counters in before.items() if name != "lo"}
        assert carried(scrape, group, metric) == expected, metric
    assert before["eth0"]["tx"]["packets"] >= 40
    assert before["eth0"]["rx"]["packets"] >= 7


def test_the_older_of_two_in_a_namespace_reports_it(world: World, agent: Agent) -> None:
    older, younger = world.group("older"), world.group("younger")
    first = alone(older)
    second = joined(younger, first.pid)
    linked(world, first.pid, "eth0", 3)
    send(first.pid, "198.18.3.1", 5)
    scrape = until("the namespace noticed", lambda: has_network(agent.scrape(), older))
    assert set(carried(scrape, older)) == {"eth0"}
    assert not carried(scrape, younger)
    assert scrape.value(younger.path, "container_sockstat_sockets_used") is None
    assert scrape.value(older.path, "container_sockstat_sockets_used") is not None
    # Each alone says the same as all together.
    counters = link_counters(second.pid)["eth0"]["rx"]["bytes"]
    older.remove()
    scrape = agent.scrape()
    assert carried(scrape, younger) == {"eth0": counters}


def has_network(scrape: Scrape, group: Group) -> Scrape | None:
    return scrape if scrape.value(group.path, "container_sockstat_sockets_used") is not None else None


def test_the_hosts_network_is_nobodys(world: World, agent: Agent) -> None:
    group = world.group()
    group.sleep()
    scrape = agent.scrape()
    names = {name for name, _ in scrape.of(group.path)}
    assert "container_processes" in names
    assert not {name for name in names if name.startswith(("container_network", "container_sockstat"))}


def test_a_process_that_leaves_the_hosts_network_later_is_noticed(world: World, agent: Agent) -> None:
    group = world.group()
    process = group.start(["sh", "-c", 'read -r go; exec "$@"', "sh", *SLEEP_ALONE])
    assert has_network(agent.scrape(), group) is None
    assert process.stdin
    process.stdin.write(b"go\n")
    process.stdin.flush()
    until("a namespace of its own", lambda: namespace(process.pid) != namespace(os.getpid()))
    until("noticed by the agent", lambda: has_network(agent.scrape(), group), seconds=5)


def test_a_namespace_ends_with_its_last_process(world: World, agent: Agent) -> None:
    """The agent is not asked meanwhile: what it keeps open must not keep the namespace."""
    group = world.group()
    process = alone(group)
    outer = linked(world, process.pid, "eth0", 4)
    send(process.pid, "198.18.4.1", 1)
    until("the namespace noticed", lambda: carried(agent.scrape(), group))
    agent.scrape()
    process.kill()
    process.wait()
    until("the other end of the link gone", lambda: not Path("/sys/class/net", outer).exists())
    scrape = agent.scrape()
    assert group.path in scrape.paths
    assert not carried(scrape, group)


def test_the_next_process_takes_the_firsts_place(world: World, agent: Agent) -> None:
    group = world.group()
    first = alone(group)
    linked(world, first.pid, "eth0", 5)
    joined(group, first.pid)
    until("the namespace noticed", lambda: carried(agent.scrape(), group))
    first.kill()
    first.wait()
    assert set(carried(agent.scrape(), group)) == {"eth0"}


@pytest.fixture
def sockets(world: World) -> Iterator[tuple[Group, int]]:
    group = world.group("sockets")
    script = 'ip link set lo up; exec "$0" -c "$1"'
    process = group.start(["unshare", "--net", "sh", "-c", script, sys.executable, SOCKETS])
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    yield group, process.pid
    group.kill()


def test_sockstat(sockets: tuple[Group, int], agent: Agent) -> None:
    group, pid = sockets
    scrape = until("the namespace noticed", lambda: has_network(agent.scrape(), group))
    for metric, (name, protocol, key) in SOCKSTAT.items():
        text = Path(f"/proc/{pid}/net/{name}").read_text()
        found = re.search(rf"^{protocol}:.* {key} (\d+)", text, re.MULTILINE)
        assert found, (name, protocol, key)
        assert scrape.value(group.path, metric) == int(found[1]), metric
    assert scrape.value(group.path, "container_sockstat_udp_inuse") == 2
    assert scrape.value(group.path, "container_sockstat_raw_inuse") == 1


def test_sockets_by_state(sockets: tuple[Group, int]) -> None:
    group, _ = sockets
    with Agent("--container.all", "--collector.container_tcp", "--collector.container_udp") as agent:
        scrape = until("the namespace noticed", lambda: has_network(agent.scrape(), group))
    tcp = {
        dict(labels)["tcp_state"]: value
        for labels, value in scrape.values(group.path, "container_network_tcp_usage_total").items()
    }
    assert {state: count for state, count in tcp.items() if count} == {
        "listen": 1, "established": 2, "closewait": 1, "finwait2": 1,
    }  # fmt: skip
    assert len(tcp) == 11
    tcp6 = {
        dict(labels)["tcp_state"]: value
        for labels, value in scrape.values(group.path, "container_network_tcp6_usage_total").items()
    }
    assert {state: count for state, count in tcp6.items() if count} == {"listen": 1}
    udp = {
        dict(labels)["udp_state"]: value
        for labels, value in scrape.values(group.path, "container_network_udp_usage_total").items()
    }
    assert udp["listen"] == 2
    assert udp["dropped"] == 0
    assert udp["rxqueued"] > 100
    assert udp["txqueued"] == 0
    udp6 = {
        dict(labels)["udp_state"]: value
        for labels, value in scrape.values(group.path, "container_network_udp6_usage_total").items()
    }
    assert udp6["listen"] == 1


@pytest.mark.parametrize("name", ["container_tcp", "container_udp"])
def test_sockets_alone(sockets: tuple[Group, int], name: str) -> None:
    """The collector by itself, without those of interfaces and sockets in use."""
    group, _ = sockets
    metrics = {f"container_network_{name[10:]}{version}_usage_total" for version in ("", "6")}
    with Agent("--container.all", "--collector.disable-defaults", f"--collector.{name}") as agent:

        def published() -> set[str]:
            return {metric for metric, _ in agent.scrape().of(group.path)}

        until("states of sockets", lambda: published() == metrics)

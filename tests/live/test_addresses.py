"""Addresses of containers in the inventory, as ip(8) sets them in real network namespaces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.live.agent import REPOSITORY, Agent
from tests.live.test_network import alone, joined, linked, namespace
from tests.live.world import Group, World, run, until

pytestmark = pytest.mark.root

SOON = 2.0
LATER = 12.0
"""For changes long after the start."""


def inside(pid: int, *words: str) -> None:
    """Run ip(8) in a process's network namespace."""
    run("nsenter", "-t", str(pid), "-n", "ip", *words)


def inventory(agent: Agent, condition: str = "") -> tuple[str, dict[str, dict[str, Any]]]:
    """ETag and containers by path; with a condition it waits for another."""
    if condition:
        answer = agent.get("/v1/containers?wait=50", {"If-None-Match": condition})
        assert answer.status == 200, answer
    else:
        answer = agent.get("/v1/containers")
    return answer.headers["ETag"], {item["id"]: item for item in json.loads(answer.body)["containers"]}


def addresses(agent: Agent, group: Group) -> list[str]:
    _, containers = inventory(agent)
    found: list[str] = containers[group.path]["addresses"]
    return found


def become(agent: Agent, group: Group, expected: list[str], seconds: float = SOON) -> None:
    """Wait until the addresses are these, by the inventory's own notice of changes; ETag and document go together."""
    begin = time.monotonic()
    tag, containers = inventory(agent)
    while containers[group.path]["addresses"] != expected:
        # With some room, for a machine that has other things to do.
        assert time.monotonic() < begin + seconds + 3, (containers[group.path]["addresses"], expected)
        before = tag
        tag, containers = inventory(agent, before)
        assert tag != before


def test_addresses_are_found_soon_after_they_are_set(world: World, agent: Agent) -> None:
    group = world.group()
    process = alone(group)
    assert addresses(agent, group) == []
    linked(world, process.pid, "eth0", 21)
    become(agent, group, ["198.18.21.2"])
    inside(process.pid, "address", "add", "198.18.22.9/32", "dev", "eth0")
    become(agent, group, ["198.18.21.2", "198.18.22.9"])


def test_an_address_that_is_removed_or_changed_is_told(world: World, agent: Agent) -> None:
    group = world.group()
    process = alone(group)
    linked(world, process.pid, "eth0", 23)
    become(agent, group, ["198.18.23.2"])
    inside(process.pid, "address", "delete", "198.18.23.2/30", "dev", "eth0")
    become(agent, group, [])
    inside(process.pid, "address", "add", "198.18.23.6/30", "dev", "eth0")
    become(agent, group, ["198.18.23.6"])


def test_loopback_and_link_local_addresses_are_not_told(world: World, agent: Agent) -> None:
    group = world.group()
    process = alone(group)
    linked(world, process.pid, "eth0", 24)
    inside(process.pid, "link", "set", "lo", "up")
    run("nsenter", "-t", str(process.pid), "-n", "sysctl", "-q", "net.ipv6.conf.eth0.disable_ipv6=0")
    for address in ("127.0.0.11/32", "169.254.1.1/16", "fe80::99/64", "2001:db8::24/64", "fd00::24/64"):
        inside(process.pid, "address", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []))
    become(agent, group, ["198.18.24.2", "2001:db8::24", "fd00::24"])


def test_addresses_are_those_of_ip_with_policy_routing(world: World, agent: Agent) -> None:
    group = world.group()
    process = alone(group)
    linked(world, process.pid, "eth0", 25)
    inside(process.pid, "link", "set", "lo", "up")
    inside(process.pid, "rule", "add", "from", "192.0.2.1", "table", "77")
    inside(process.pid, "route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", "77")
    inside(process.pid, "route", "add", "local", "192.0.2.7/32", "dev", "lo", "table", "77")
    inside(process.pid, "route", "add", "local", "192.0.2.128/25", "dev", "lo")
    for number in range(1, 80):
        inside(process.pid, "address", "add", f"198.19.0.{number}/24", "dev", "eth0")
    links = json.loads(run("nsenter", "-t", str(process.pid), "-n", "ip", "-4", "-j", "address").stdout)
    told = {info["local"] for link in links for info in link["addr_info"] if link["ifname"] == "eth0"}
    assert len(told) == 80
    expected = ["198.18.25.2", *(f"198.19.0.{number}" for number in range(1, 64))]
    assert told >= set(expected)
    become(agent, group, expected)


def test_the_hosts_addresses_are_nobodys(world: World, agent: Agent) -> None:
    group = world.group()
    group.sleep()
    empty = world.group()
    other = world.group()
    process = alone(other)
    linked(world, process.pid, "eth0", 26)
    become(agent, other, ["198.18.26.2"])  # by then the others were looked at too
    assert addresses(agent, group) == []
    assert addresses(agent, empty) == []


def test_containers_that_share_a_namespace_have_its_addresses(world: World, agent: Agent) -> None:
    older, younger = world.group("older"), world.group("younger")
    first = alone(older)
    linked(world, first.pid, "eth0", 27)
    second = joined(younger, first.pid)
    become(agent, older, ["198.18.27.2"])
    become(agent, younger, ["198.18.27.2"])
    older.remove()
    inside(second.pid, "address", "add", "198.18.27.6/30", "dev", "eth0")
    become(agent, younger, ["198.18.27.2", "198.18.27.6"])


def test_a_process_that_leaves_the_hosts_network_later_is_noticed(world: World, agent: Agent) -> None:
    group = world.group()
    process = group.start(["sh", "-c", 'read -r go; exec "$@"', "sh", "unshare", "--net", "sleep", "1000"])
    assert process.stdin
    process.stdin.write(b"go\n")
    process.stdin.flush()
    until("a namespace of its own", lambda: namespace(process.pid) != namespace(os.getpid()))
    linked(world, process.pid, "eth0", 28)
    become(agent, group, ["198.18.28.2"])


def test_processes_of_an_init_are_below_the_container(world: World, agent: Agent) -> None:
    group = world.group()
    process = alone(world.child(group, "init.scope"))
    linked(world, process.pid, "eth0", 29)
    become(agent, group, ["198.18.29.2"])


def test_a_namespace_is_not_held_and_its_end_is_told(world: World, agent: Agent) -> None:
    group = world.group()
    process = alone(group)
    outer = linked(world, process.pid, "eth0", 30)
    become(agent, group, ["198.18.30.2"])
    process.kill()
    process.wait()
    until("the other end of the link gone", lambda: not Path("/sys/class/net", outer).exists())
    become(agent, group, [], seconds=2 * SOON)


def test_a_path_used_again_has_the_addresses_of_the_one_that_is_there(world: World, agent: Agent) -> None:
    group = world.group("again")
    process = alone(group)
    linked(world, process.pid, "eth0", 31)
    become(agent, group, ["198.18.31.2"])
    group.remove()
    group.__init__(group.name)  # type: ignore[misc]  # made anew at the same path
    until("the new one there", lambda: inventory(agent)[1].get(group.path, {}).get("addresses") == [])
    process = alone(group)
    linked(world, process.pid, "eth0", 32)
    become(agent, group, ["198.18.32.2"])


@pytest.mark.soak
def test_an_address_set_long_after_the_start_is_found(world: World, agent: Agent) -> None:
    group = world.group()
    process = alone(group)
    linked(world, process.pid, "eth0", 33)
    become(agent, group, ["198.18.33.2"])
    time.sleep(12)
    inside(process.pid, "address", "add", "198.18.34.2/32", "dev", "eth0")
    become(agent, group, ["198.18.33.2", "198.18.34.2"], seconds=LATER)


def test_a_new_agent_knows_the_addresses_from_its_first_answer(world: World) -> None:
    group = world.group()
    process = alone(group)
    linked(world, process.pid, "eth0", 35)
    with Agent("--container.all") as agent:
        assert addresses(agent, group) == ["198.18.35.2"]


def test_the_list_of_containers_has_them(world: World) -> None:
    group = world.group()
    process = alone(group)
    linked(world, process.pid, "eth0", 36)
    said = subprocess.run(
        [sys.executable, "-m", "pymon", "containers", "--json", "--container.all"],
        cwd=REPOSITORY, check=True, capture_output=True,
    ).stdout  # fmt: skip
    containers = {item["id"]: item["addresses"] for item in json.loads(said)["containers"]}
    assert containers[group.path] == ["198.18.36.2"]

"""An agent with a memory limit keeps as many descriptors as a share of it allows, and goes on."""

from __future__ import annotations

import re
import time

import pytest

from pymon.agent.cgroup_registry import MEMORY_SHARE
from pymon.sources.cgroup import DESCRIPTOR_BYTES
from tests.live.agent import Agent
from tests.live.world import HIERARCHIES, PREFIX, World, until

pytestmark = pytest.mark.root

MIB = 1 << 20


@pytest.mark.parametrize(
    ("containers", "limit_mib"),
    [(250, 66), pytest.param(2000, 256, marks=[pytest.mark.soak, pytest.mark.timeout(600)])],
)
def test_an_agent_lives_within_its_memory(world: World, containers: int, limit_mib: int) -> None:
    own = world.group("agent")
    limit = own.file("memory", "memory.max" if HIERARCHIES.version("memory") == 2 else "memory.limit_in_bytes")
    if not limit.exists():
        pytest.skip(f"no memory limit can be set: {limit} does not exist")
    limit.write_text(str(limit_mib * MIB))
    begin = time.monotonic()
    groups = []
    while len(groups) < containers and (containers > 250 or len(groups) < 200 or time.monotonic() < begin + 10):
        groups.append(world.group("mine"))
    moved = f'echo $$ > {limit.parent}/cgroup.procs && exec "$@"'
    with Agent(f"--container.pattern=/{PREFIX}-[0-9]+-mine", prefix=("sh", "-c", moved, "sh")) as agent:
        for _ in range(3):
            body = agent.get().body.decode()
            seen = re.findall(rf'^container_last_seen{{id="/{PREFIX}-[0-9]+-mine"', body, re.MULTILINE)
            assert len(seen) == len(groups)
            assert len(re.findall(rf'^container_threads{{id="/{PREFIX}-[0-9]+-mine"', body, re.MULTILINE)) == len(
                groups
            )
        found = re.search(r"^pymon_open_descriptors (\S+)$", body, re.MULTILINE)
        assert found
        assert 0 < float(found[1]) <= limit_mib * MIB * MEMORY_SHARE / DESCRIPTOR_BYTES
    until("the agent has left its group", lambda: not (limit.parent / "cgroup.procs").read_text())

"""States of real threads in a real group."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from fractions import Fraction

import pytest

from tests.live.agent import Agent
from tests.live.world import World, until

pytestmark = pytest.mark.root

THREADS = """
import threading, sys
for _ in range(4):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""

BUSY = """
print("ready", flush=True)
while True:
    sum(range(1000))
"""


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    with Agent("--container.all", "--collector.container_tasks") as running:
        yield running


def test_states_and_load(agent: Agent, world: World) -> None:
    group = world.group("tasks")
    for program in (THREADS, BUSY, THREADS):
        process = group.start([sys.executable, "-c", program])
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
    os.kill(process.pid, signal.SIGSTOP)

    def states() -> dict[str, Fraction | None]:
        scrape = agent.scrape()
        return {
            state: scrape.value(group.path, "container_tasks_state", state=state)
            for state in ("sleeping", "running", "stopped", "uninterruptible")
        }

    expected = {"sleeping": 5, "running": 1, "stopped": 5, "uninterruptible": 0}
    try:
        until("five threads sleep, one runs and five are stopped", lambda: states() == expected)
        # Other tests run on the same CPUs, but who waits for one is running, too.
        load = until("a load average", lambda: agent.scrape().value(group.path, "container_cpu_load_average_10s"))
        assert 0 < load <= 3000, "at most three programs started at the same time"
        until(
            "the average of one busy program",
            lambda: 900 <= (agent.scrape().value(group.path, "container_cpu_load_average_10s") or 0) <= 1100,
        )
        assert agent.scrape().own("pymon_collector_success", collector="container_tasks") == 1
        inventory = json.loads(agent.get("/v1/containers").body)
        (uuid,) = [one["uuid"] for one in inventory["containers"] if one["id"] == group.path]
        of_one = agent.scrape(f"/v1/{uuid}/metrics")
        assert (of_one.value(group.path, "container_cpu_load_average_10s") or 0) > 0
        assert of_one.value(group.path, "container_tasks_state", state="stopped") == 5
    finally:
        os.kill(process.pid, signal.SIGCONT)

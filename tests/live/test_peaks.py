"""Peaks between scrapes of real control groups."""

from __future__ import annotations

import json
import sys

import pytest

from tests.live.agent import Agent
from tests.live.world import World, until

pytestmark = pytest.mark.root

PEAK = "container_cpu_usage_peak_cores"
BURST = "import time\nend = time.process_time() + 1.5\nwhile time.process_time() < end: pass\ntime.sleep(1000)"


def test_a_burst_between_scrapes_is_told_to_everybody_who_asks_later(world: World) -> None:
    group = world.group("burst")
    with Agent("--container.all", "--collector.container_peaks") as agent:
        until("sampled", lambda: agent.scrape().own("pymon_collector_success", collector="container_peaks") == 1)
        process = group.start([sys.executable, "-c", BURST])
        until("a peak", lambda: (agent.scrape().value(group.path, PEAK, window="60s") or 0) > 0)
        until("its end", lambda: agent.scrape().value(group.path, PEAK, window="15s") == 0)
        process.kill()
        scrape = agent.scrape()
        highest = scrape.value(group.path, PEAK, window="60s")
        assert highest is not None
        assert 0.1 < highest < 1.2, "one process, on a machine that does other things"
        assert scrape.own("pymon_collector_success", collector="container_peaks") == 1
        inventory = json.loads(agent.get("/v1/containers").body)
        (uuid,) = [one["uuid"] for one in inventory["containers"] if one["id"] == group.path]
        assert agent.scrape(f"/v1/{uuid}/metrics").value(group.path, PEAK, window="60s") == highest

"""SIGHUP reads the configuration again; SIGUSR1 and SIGUSR2 do nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from pymon.sources.cgroup import find_hierarchies
from tests.agent.fixture_host import FixtureHost, copy_host
from tests.live.agent import Agent
from tests.live.world import until


@pytest.fixture
def host(tmp_path: Path) -> FixtureHost:
    return copy_host("v2", tmp_path)


def owners(agent: Agent) -> set[str | None]:
    document = json.loads(agent.get("/v1/containers").body)
    return {container.get("owner") for container in document["containers"]}


def test_owners_change_while_the_agent_runs(host: FixtureHost, tmp_path: Path) -> None:
    config = tmp_path / "agent.yml"
    config.write_text("owners: [{account: alice}]\n")
    with Agent(*host.flags(), f"--config.file={config}", "--source=cgroupfs") as agent:
        assert owners(agent) == {"alice"}
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            os.kill(agent.pid, number)
        config.write_text("owners: [{account: bob}]\nweb.max-requests: 7\n")
        os.kill(agent.pid, signal.SIGHUP)
        until("bob owns the containers", lambda: owners(agent) == {"bob"})
        told = until("it says so", lambda: [line for line in agent.log if "configuration read again" in line])
        assert "needs_a_restart=max_requests" in told[0]
        for number, broken in enumerate(("owners: [{account: '?'}]\n", "nonsense: 1\n", "owners: [\n"), start=1):
            config.write_text(broken)
            os.kill(agent.pid, signal.SIGHUP)
            until(
                "the error is counted",
                lambda number=number: agent.scrape().own("pymon_reload_failures_total", use="configuration") == number,
            )
        assert agent.scrape().own("pymon_reload_last_successful", use="configuration") == 0
        assert owners(agent) == {"bob"}
        errors = [line for line in agent.log if "the last good one stays" in line]
        assert len(errors) == 3
        assert all(str(config) in line for line in errors)
        agent.log[:] = [line for line in agent.log if line not in errors]
        config.write_text("owners: [{account: carol}]\n")
        os.kill(agent.pid, signal.SIGHUP)
        until("carol owns the containers", lambda: owners(agent) == {"carol"})
        assert agent.scrape().own("pymon_reload_last_successful", use="configuration") == 1


def test_a_container_that_has_ended_is_no_more_its_owners_then(host: FixtureHost, tmp_path: Path) -> None:
    config = tmp_path / "agent.yml"
    config.write_text("owners: [{account: alice}]\n")
    with Agent(*host.flags(), f"--config.file={config}", "--source=cgroupfs") as agent:
        ended = json.loads(agent.get("/v1/containers").body)["containers"][-1]
        for root in find_hierarchies(host.cgroups).roots:
            shutil.rmtree(root / ended["id"][1:])
        until("it has ended", lambda: b"container_end_time_seconds" in agent.get(f"/v1/{ended['uuid']}/metrics").body)
        config.write_text("owners: [{account: bob}]\n")
        os.kill(agent.pid, signal.SIGHUP)
        until("bob owns the containers", lambda: owners(agent) == {"bob"})
        assert agent.get(f"/v1/{ended['uuid']}/metrics").status == 404

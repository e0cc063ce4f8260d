"""The agent as a process over the libkstat double, whose chain comes of a file that is replaced while it runs."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.zone_host import CAPPED, IMAGE, TWIN, names, value, zones
from tests.e2e.prometheus import check_metrics
from tests.e2e.proxy import run_pymon
from tests.e2e.zone_machine import SEVEN, Machine
from tests.live.agent import Agent
from tests.live.world import until
from tests.oracle import parse


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def agent(machine: Machine) -> Iterator[Agent]:
    with Agent(*machine.flags(), env=machine.environment()) as running:
        yield running


def inventory(agent: Agent) -> dict[str, dict]:
    """Containers by UUID."""
    return {item["uuid"]: item for item in json.loads(agent.get("/v1/containers").body)["containers"]}


def test_scrapes_follow_the_chain(machine: Machine, agent: Agent) -> None:
    found = agent.scrape().series
    assert zones(found) == set(SEVEN) == inventory(agent).keys()
    assert value(found, "mem_agg_usage", id=f"/{TWIN}") == 63193088
    machine.show(rss=4096)
    assert value(agent.scrape().series, "mem_agg_usage", id=f"/{TWIN}") == 4096
    assert value(parse(agent.get(f"/v1/{TWIN}/metrics").body), "mem_agg_usage") == 4096
    machine.show(without=CAPPED)
    assert agent.get(f"/v1/{CAPPED}/metrics").status == 404
    assert zones(agent.scrape().series) == set(SEVEN) - {CAPPED}
    assert agent.get(f"/v1/{CAPPED.upper()}/metrics").status == 404
    machine.show()
    assert agent.get(f"/v1/{CAPPED.upper()}/metrics").status == 200
    openmetrics = agent.scrape(openmetrics=True, compressed=True)
    assert names(openmetrics.series) == names(agent.scrape().series)
    assert not zones(agent.scrape("/v1/gz/metrics").series)


def test_a_chain_that_cannot_be_read_is_told_and_heals(machine: Machine, agent: Agent) -> None:
    machine.chain.rename(machine.chain.with_suffix(".away"))
    machine.chain.write_text("[{")
    scrape = agent.scrape()
    assert not zones(scrape.series)
    assert scrape.own("pymon_collector_success", collector="kstat") == 0
    assert scrape.own("pymon_collector_failures_total", collector="kstat", reason="einval")
    refused = agent.get(f"/v1/{CAPPED}/metrics")
    assert (refused.status, refused.body.count(b"\n")) == (503, 1)
    assert b"kstat_chain_update" in refused.body
    assert inventory(agent).keys() == set(SEVEN), "nothing says that they have gone"
    machine.show()
    assert zones(agent.scrape().series) == set(SEVEN)
    assert agent.get(f"/v1/{CAPPED}/metrics").status == 200


def test_a_long_poll_ends_when_a_zone_goes_or_its_files_change(machine: Machine, agent: Agent) -> None:
    def changed(change: object) -> dict[str, dict]:
        tag = agent.get("/v1/containers").headers["ETag"]
        timer = threading.Timer(0.2, change)  # type: ignore[arg-type]
        timer.start()
        answer = agent.get("/v1/containers?wait=30", {"If-None-Match": tag})
        timer.join()
        assert answer.status == 200
        assert answer.headers["ETag"] != tag
        return {item["uuid"]: item for item in json.loads(answer.body)["containers"]}

    assert CAPPED not in changed(lambda: machine.show(without=CAPPED))
    assert changed(machine.show)[CAPPED]["name"] == "web-1"
    assert changed(lambda: machine.host.configure(CAPPED, alias="other"))[CAPPED]["name"] == "other"
    tag = agent.get("/v1/containers").headers["ETag"]
    assert agent.get("/v1/containers?wait=1.5", {"If-None-Match": tag}).status == 304


@pytest.mark.parametrize("dialect", ["cmon", "cadvisor"])
def test_promtool_reads_it(dialect: str, machine: Machine) -> None:
    with Agent(*machine.flags(f"--dialect={dialect}"), env=machine.environment()) as agent:
        for path in ("/metrics", "/v1/gz/metrics", f"/v1/{CAPPED}/metrics"):
            check = check_metrics(agent.get(path).body)
            assert check.status in (0, 3), (path, check.output)
            assert "error" not in check.output


def test_many_scrapes_at_once_leave_nothing_open(machine: Machine, agent: Agent) -> None:
    def descriptors() -> int:
        return len(os.listdir(f"/proc/{agent.pid}/fd"))  # noqa: PTH208  # of a process that goes on

    def scrapes() -> None:
        threads = [
            threading.Thread(target=agent.get, args=(path,))
            for path in ["/metrics", "/v1/gz/metrics", *(f"/v1/{zone}/metrics" for zone in SEVEN)] * 3
        ]
        for thread in threads:
            thread.start()
        machine.show(rss=4096)
        for thread in threads:
            thread.join()

    scrapes()
    before = descriptors()
    for _ in range(5):
        scrapes()
    until("connections are closed", lambda: descriptors() <= before + 2)


def test_containers_of_this_node(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSTAT_JSON", str(machine.chain))
    done = run_pymon("containers", "--json", *machine.flags())
    assert (done.returncode, done.stderr) == (0, "")
    found = {item["uuid"]: item for item in json.loads(done.stdout)["containers"]}
    assert found.keys() == set(SEVEN)
    assert found[TWIN] | {"owner": ""} == {
        "uuid": TWIN, "id": f"/{TWIN}", "name": 'say "hé"', "runtime": "lx", "runtime_id": "28", "image": IMAGE,
        "start": 1447931873.0, "owner": "", "state": "running", "health": "", "groups": [], "services": "",
        "namespace": "", "pod": "", "pod_id": "", "addresses": [],
    }  # fmt: skip
    shown = run_pymon("containers", *machine.flags())
    assert (shown.returncode, shown.stderr) == (0, "")
    assert len(shown.stdout.splitlines()) == 8


def test_without_a_libkstat_it_is_said_which_was_looked_for(machine: Machine) -> None:
    for command in ("agent", "collect", "containers", "doctor"):
        done = run_pymon(command, "--source=kstat", "--kstat.library=/nowhere/libkstat.so.1")
        assert done.returncode == 2
        assert done.stdout == ""
        assert "/nowhere/libkstat.so.1" in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
    assert "libkstat.so.1" in run_pymon("doctor").stdout

"""What changed since a version: the journal, the differences that an agent tells, and how they are asked for."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pymon
from pymon.agent.build import Agent, build_agent
from pymon.agent.collectors import COLLECTORS
from pymon.agent.journal import JOURNAL_ENTRIES, Journal
from pymon.agent.options import load_agent_options
from tests.agent.fixture_host import FixtureHost, copy_host
from tests.agent.web_agent import run, running

CHANGES = st.lists(st.sampled_from("abcdefgh"), max_size=60)


@given(changes=CHANGES, entries=st.integers(1, 8), asked=st.integers(0, 60))
@settings(deadline=None)
def test_a_journal_tells_what_changed_or_that_it_does_not_know(changes: list[str], entries: int, asked: int) -> None:
    journal = Journal(entries=entries)
    for generation, uuid in enumerate(changes, 1):
        journal.add(uuid, generation)
    asked = min(asked, len(changes))
    found, right = journal.since(asked), set(changes[asked:])
    assert found is None or (set(found) == right and len(found) == len(right))
    if len(set(changes)) <= entries:
        assert found is not None
    if len(right) > entries:
        assert found is None
    assert journal.since(len(changes)) == []


# An agent over a fixture host.


@pytest.fixture
def host(tmp_path: Path) -> FixtureHost:
    return copy_host("v2", tmp_path)


@pytest.fixture
def agent(host: FixtureHost):
    made = build_agent(load_agent_options(host.flags(), {}, COLLECTORS, version=pymon.__version__))
    yield made
    made.containers.close()


def scope(number: int) -> str:
    return f"system.slice/docker-{number:064x}.scope"


def describe(host: FixtureHost, number: int, name: str) -> None:
    folder = host.root / f"var/lib/docker/containers/{number:064x}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.v2.json").write_text(json.dumps({"Name": f"/{name}", "Config": {}}))


def document(agent: Agent) -> dict[str, Any]:
    agent.registry.refresh()  # type: ignore[attr-defined]
    found: dict[str, Any] = json.loads(agent.registry.document())
    return found


def changes(agent: Agent, version: str) -> dict[str, Any] | None:
    agent.registry.refresh()  # type: ignore[attr-defined]
    body = agent.registry.changes(version)
    return None if body is None else json.loads(body)


def applied(before: dict[str, Any], difference: dict[str, Any]) -> dict[str, Any]:
    """The document after a difference, by what docs/inventory.md says of it."""
    assert difference["since"] == before["version"]
    items = {item["uuid"]: item for item in before["containers"]}
    for uuid in difference["removed"]:
        items.pop(uuid, None)  # it may have come and gone in between
    items |= {item["uuid"]: item for item in difference["changed"]}
    assert len(items) == difference["total"]
    containers = sorted(items.values(), key=lambda item: item["id"])
    return {"version": difference["version"], "node": difference["node"], "containers": containers}


def test_differences_make_the_document(agent: Agent, host: FixtureHost) -> None:
    states = [document(agent)]
    for number in range(3):
        describe(host, number, f"n{number}")
        (host.cgroups / scope(number)).mkdir()
        states.append(document(agent))
    shutil.rmtree(host.cgroups / scope(1))
    states.append(document(agent))
    describe(host, 1, "again")
    (host.cgroups / scope(1)).mkdir()
    shutil.rmtree(host.cgroups / scope(2))
    states.append(document(agent))
    for state in states:
        difference = changes(agent, state["version"])
        assert difference is not None
        assert applied(state, difference) == states[-1]
    assert [item["name"] for item in changes(agent, states[-2]["version"])["changed"]] == ["again"]
    nothing = changes(agent, states[-1]["version"])
    assert (nothing["changed"], nothing["removed"]) == ([], [])


def test_a_uuid_that_goes_to_another_container_is_told(agent: Agent, host: FixtureHost) -> None:
    number = 7
    leftover = host.cgroups / f"docker/{number:064x}"
    for path, pids in ((host.cgroups / scope(number), "7\n"), (leftover, "")):
        path.mkdir(parents=True)
        (path / "cgroup.events").write_text(f"populated {int(bool(pids))}\n")
    before = document(agent)
    (host.cgroups / scope(number) / "cgroup.events").write_text("populated 0\n")
    (leftover / "cgroup.events").write_text("populated 1\n")
    difference = changes(agent, before["version"])
    assert applied(before, difference) == document(agent)
    assert {item["id"] for item in difference["changed"]} == {f"/{scope(number)}", f"/docker/{number:064x}"}
    shutil.rmtree(leftover)
    difference = changes(agent, before["version"])
    assert applied(before, difference) == document(agent)


def test_a_version_that_is_not_known(agent: Agent) -> None:
    version = document(agent)["version"]
    epoch, _, generation = version.rpartition("-")
    for unknown in (
        "", "-", version + "0", f"{epoch}-", f"{epoch}-{int(generation, 16) + 1:x}", f"{epoch}--1", f"{epoch}-+1",
        f"{epoch}-{'f' * 1000}", f"0{epoch}-{generation}", f"{epoch}-\u0661", "v 1", epoch,
    ):  # fmt: skip
        assert changes(agent, unknown) is None, unknown


def test_the_journal_is_bounded(agent: Agent, host: FixtureHost) -> None:
    before = document(agent)
    for number in range(JOURNAL_ENTRIES + 1):
        (host.cgroups / scope(number)).mkdir()
    between = document(agent)
    assert changes(agent, before["version"]) is None
    assert applied(between, changes(agent, between["version"])) == document(agent)


def test_too_much_that_changed_is_told_as_the_whole(
    agent: Agent, host: FixtureHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = document(agent)
    describe(host, 1, "x" * 1000)
    (host.cgroups / scope(1)).mkdir()
    assert changes(agent, before["version"])["changed"][0]["name"] == "x" * 1000
    monkeypatch.setattr("pymon.agent.rows.MAX_CHANGES_BYTES", 1000)
    assert changes(agent, before["version"]) is None


# How it is asked for.

PLAIN = {"Accept-Encoding": "identity"}


def test_asking_for_changes() -> None:
    async def main() -> None:
        async with running() as agent:
            status, headers, whole = await agent.get("/v1/containers?since=v%200&wait=100", headers=PLAIN)
            assert (status, json.loads(whole)) == (200, {"version": "v 1"}), "not known, so the whole at once"
            assert headers["Inventory-Version"] == "v%201"
            path = f"/v1/containers?since={headers['Inventory-Version']}"
            status, headers, body = await agent.get(path, headers=PLAIN)
            assert (status, json.loads(body)) == (200, {"since": "v 1", "version": "v 1"})
            assert headers["ETag"] == '"v%201"'
            tag = {**PLAIN, "If-None-Match": headers["ETag"]}
            assert (await agent.get(path + "&wait=0.05", headers=tag))[0] == 304
            assert (await agent.get(path + "&wait=0.05", headers=PLAIN))[0] == 200
            agent.stub.entered.clear()
            poll = asyncio.create_task(agent.get(path + "&wait=100", headers={**tag, "Accept-Encoding": "gzip"}))
            await agent.stub.entered.wait()
            agent.stub.change()
            status, headers, body = await poll
            assert (status, json.loads(gzip.decompress(body))) == (200, {"since": "v 1", "version": "v 2"})
            assert headers["ETag"] == '"v%202-gzip"'
            assert headers["Inventory-Version"] == "v%202"

    run(main())


def test_who_does_not_ask_for_changes_gets_what_he_always_got() -> None:
    """A proxy of an earlier version: If-None-Match and wait alone."""

    async def main() -> None:
        async with running() as agent:
            status, headers, whole = await agent.get("/v1/containers?wait=0", headers=PLAIN)
            assert (status, json.loads(whole)) == (200, {"version": "v 1"})
            tag = {**PLAIN, "If-None-Match": headers["ETag"]}
            assert (await agent.get("/v1/containers?wait=0.05", headers=tag))[0] == 304
            poll = asyncio.create_task(agent.get("/v1/containers?wait=100", headers=tag))
            await agent.stub.entered.wait()
            agent.stub.change()
            status, headers, whole = await poll
            assert (status, json.loads(whole)) == (200, {"version": "v 2"})

    run(main())

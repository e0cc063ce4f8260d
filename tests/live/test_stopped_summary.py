"""Containers that have ended, in the summary of a real agent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.live.agent import Agent
from tests.live.world import World, until

pytestmark = pytest.mark.root


@pytest.fixture
def agent() -> Iterator[Agent]:
    """Without the CPU times by CPU, instead of which it reads the sum, which is one of the last numbers."""
    with Agent("--container.all", "--no-collector.container_percpu") as running:
        yield running


def test_a_container_that_has_ended_has_a_row_with_its_last_numbers(agent: Agent, world: World) -> None:
    group = world.group("ended")

    def row(ended: bool) -> dict[str, Any] | None:
        document = json.loads(agent.get("/v1/summary").body)
        rows = [dict(zip(document["columns"], items, strict=True)) for items in document["nodes"][0]["containers"]]
        return next(
            (one for one in rows if one["name"] == group.path and (one["end_seconds"] is not None) == ended), None
        )

    process = group.start(["sh", "-c", "while ! read -r line; do :; done; exit 0"])
    running = until("it is there", lambda: (found := row(False)) and found["cpu_seconds"] is not None and found)
    assert running["exit_code"] is None
    process.stdin.write(b"end\n")
    process.stdin.flush()
    process.wait()
    group.remove()
    ended = until("it has ended", lambda: row(True))
    assert row(False) is None
    assert (ended["uuid"], ended["state"]) == (running["uuid"], "stopped")
    assert ended["end_seconds"] >= ended["start_seconds"] == running["start_seconds"]
    assert ended["cpu_seconds"] >= running["cpu_seconds"]
    assert ended["memory_bytes"] is None
    assert ended["exit_code"] in (0, None)  # not every kernel tells

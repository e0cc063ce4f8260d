"""Two control groups with one runtime id: the one with processes has the UUID."""

from __future__ import annotations

import json
import uuid

import pytest

from tests.live.agent import Agent
from tests.live.world import HIERARCHIES, World, until

pytestmark = pytest.mark.root


def holder(agent: Agent, name: str) -> str | None:
    """The path of the container whose UUID is made of this."""
    document = json.loads(agent.get("/v1/containers").body)
    (path,) = [item["id"] for item in document["containers"] if item.get("uuid_name") == name] or [None]
    return path


@pytest.mark.parametrize("nested", [False, True], ids=["itself", "below"])
def test_the_one_with_processes_has_the_uuid(world: World, nested: bool) -> None:
    runtime_id = uuid.uuid4().hex * 2
    name = f"docker::{runtime_id}"
    top = world.group("rivals")
    leftover = world.child(world.child(top, "docker"), runtime_id)
    with Agent() as agent:
        assert holder(agent, name) == leftover.path
        scope = world.child(top, f"docker-{runtime_id}.scope")
        inside = world.child(scope, "init.scope") if nested else scope
        assert holder(agent, name) == leftover.path, "neither has processes"
        process = inside.sleep()
        until("the one with processes has it", lambda: holder(agent, name) == scope.path)
    with Agent() as agent:
        assert holder(agent, name) == scope.path, "after a restart"
        for root in HIERARCHIES.roots:
            (root / leftover.name / "cgroup.procs").write_text(str(process.pid))
        until("it follows the processes", lambda: holder(agent, name) == leftover.path)
        process.kill()
        process.wait()
        for _ in range(3):
            agent.scrape()
        assert holder(agent, name) == leftover.path, "none has processes: the one that had it before"
        leftover.remove()
        until("the other one is alone", lambda: holder(agent, name) == scope.path)

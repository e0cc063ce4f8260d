"""What kernels count of real control groups and cAdvisor has not, where it takes an action of the group to see it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.agent import Agent
from tests.live.world import HIERARCHIES, World, until

pytestmark = pytest.mark.root

COLLECTORS = ("container_pids_events", "container_freezer", "container_cgroups")


@pytest.fixture(scope="module")
def counting() -> Iterator[Agent]:
    with Agent("--container.all", *(f"--collector.{name}" for name in COLLECTORS)) as running:
        yield running


def test_threads_that_were_refused_are_counted(world: World, counting: Agent) -> None:
    if not HIERARCHIES.version("pids"):
        pytest.skip("no pids controller")
    group = world.group()
    if group.read("pids", "pids.peak") is None:
        pytest.skip("this kernel has no pids.peak")
    group.limit("pids", {"pids.max": "3"}, {"pids.max": "3"})
    shell = group.start(["sh", "-c", "sleep 1000 & sleep 1000 & sleep 1000 & sleep 1000; read -r forever"])
    until("a thread was refused", lambda: group.read("pids", "pids.events") not in ("max 0\n", None))
    shell.kill()
    shell.wait()
    scrape = counting.scrape()
    refused = dict(line.split() for line in (group.read("pids", "pids.events") or "").splitlines())["max"]
    assert scrape.value(group.path, "container_threads_peak") == 3
    assert scrape.value(group.path, "container_threads_max_events_total") == int(refused)


def test_a_frozen_container(world: World, counting: Agent) -> None:
    if HIERARCHIES.v2 is None:
        pytest.skip("no version 2 tree")
    group = world.group()
    group.sleep()
    assert counting.scrape().value(group.path, "container_frozen") == 0
    group.file("", "cgroup.freeze").write_text("1")
    until("frozen", lambda: "frozen 1" in (group.read("", "cgroup.events") or ""))
    scrape = counting.scrape()
    assert scrape.value(group.path, "container_frozen") == 1
    if group.read("", "cgroup.stat.local") is not None:
        assert (scrape.value(group.path, "container_frozen_seconds_total") or 0) > 0
    group.file("", "cgroup.freeze").write_text("0")
    until("thawed", lambda: "frozen 0" in (group.read("", "cgroup.events") or ""))
    assert counting.scrape().value(group.path, "container_frozen") == 0


def test_groups_inside_a_container_are_counted(world: World, counting: Agent) -> None:
    if HIERARCHIES.v2 is None:
        pytest.skip("no version 2 tree")
    group = world.group()
    group.sleep()
    assert counting.scrape().value(group.path, "container_cgroups") == 0
    inner = group.file("", "inner")
    inner.mkdir()
    assert counting.scrape().value(group.path, "container_cgroups") == 1
    inner.rmdir()
    assert counting.scrape().value(group.path, "container_cgroups") == 0


def test_a_limit_of_the_group_above_is_the_tightest(world: World, counting: Agent) -> None:
    """In the first seconds of a container what its runtime still sets above it is seen soon, too."""
    if HIERARCHIES.version("memory") == 0:
        pytest.skip("no memory controller")
    above = world.group()
    if HIERARCHIES.version("memory") == 2:
        above.file("", "cgroup.subtree_control").write_text("+memory")
    group = world.child(above, "inside")
    group.sleep()
    name = "pymon_container_effective_memory_limit_bytes"
    group.limit("memory", {"memory.limit_in_bytes": "134217728"}, {"memory.max": "134217728"})
    until("its own limit", lambda: counting.scrape().value(group.path, name) == 134217728)
    above.limit("memory", {"memory.limit_in_bytes": "67108864"}, {"memory.max": "67108864"})
    until("the limit above", lambda: counting.scrape().value(group.path, name) == 67108864)
    assert counting.scrape().value(group.path, "container_spec_memory_limit_bytes") == 134217728

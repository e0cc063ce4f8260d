"""Containers come, go, and come again under old names; a scrape tells what is there then, and nothing piles up."""

from __future__ import annotations

import contextlib
import errno
import json
import re
import time
from collections.abc import Iterator

import pytest

from tests.live.agent import Agent
from tests.live.world import HIERARCHIES, PREFIX, Group, World, until

pytestmark = pytest.mark.root

MIB = 1024
ENOUGH = 200
"""Groups that have to come and go before what is left of them would show."""


@pytest.fixture(scope="module")
def patterned() -> Iterator[Agent]:
    """An agent to which only the groups of this test are containers, besides those of the runtimes."""
    with Agent(f"--container.pattern=/{PREFIX}-(?P<name>[^/]+)") as running:
        yield running


def inventory(agent: Agent) -> dict[str, dict[str, object]]:
    document = json.loads(agent.get("/v1/containers").body)
    return {item["id"]: item for item in document["containers"]}


def test_a_container_is_in_the_scrape_after_it_was_made_and_not_in_the_one_after_its_end(
    world: World, patterned: Agent
) -> None:
    for _ in range(20):
        group = world.group()
        assert group.path in patterned.scrape().paths
        group.remove()
        assert group.path not in patterned.scrape().paths


def test_one_in_a_single_hierarchy_is_a_container_until_it_has_left_that(world: World, patterned: Agent) -> None:
    group = world.group()
    *others, last = HIERARCHIES.roots
    for root in others:
        (root / group.name).rmdir()
        assert group.path in patterned.scrape().paths
    (last / group.name).rmdir()
    assert group.path not in patterned.scrape().paths


def test_times(world: World, patterned: Agent) -> None:
    before = time.time()
    group = world.group()
    after = time.time()
    seen_from = time.time()
    scrape = patterned.scrape()
    seen_to = time.time()
    for name in ("container_start_time_seconds", "container_creation_time_seconds"):
        value = scrape.value(group.path, name)
        assert value is not None
        assert int(before) - 1 <= value <= after
    seen = scrape.value(group.path, "container_last_seen")
    assert seen is not None
    assert seen_from <= seen <= seen_to


def test_a_path_used_again_is_the_same_name_and_another_container(world: World, patterned: Agent) -> None:
    group = world.group("again")
    patterned.scrape()
    first = inventory(patterned)[group.path]
    group.remove()
    time_of_removal = time.time()
    group.__init__(group.name)  # type: ignore[misc]  # made anew at the same path
    patterned.scrape()
    second = inventory(patterned)[group.path]
    assert first["uuid"] == second["uuid"], "a pattern's container is its path"
    assert first["start"] != second["start"]
    assert float(str(second["start"])) >= time_of_removal - 0.1


def test_a_path_used_again_between_two_scrapes_starts_from_its_own_numbers(world: World, patterned: Agent) -> None:
    group = world.group("reset")
    group.start(["sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"]).wait()

    def used() -> object:
        return sum(patterned.scrape().values(group.path, "container_cpu_usage_seconds_total").values())

    before = used()
    assert before
    group.remove()
    group.__init__(group.name)  # type: ignore[misc]  # made anew at the same path
    assert not used()


def test_a_runtimes_container_is_its_id_wherever_it_is(world: World) -> None:
    parents = [world.group("parent"), world.group("other")]
    ids = ["ab" * 32, "cd" * 32]
    uuids = {}
    for parent, identifier in ((parents[0], ids[0]), (parents[1], ids[0]), (parents[0], ids[1])):
        nested = world.child(parent, f"docker-{identifier}.scope")
        with Agent() as agent:
            uuids[parent.path, identifier] = inventory(agent)[nested.path]["uuid"]
        nested.remove()
    same, moved, other = uuids.values()
    assert same == moved
    assert same != other


@pytest.mark.parametrize(
    "name",
    [
        b'"} evil 1',
        b'\\"} 1\\n# HELP evil',
        "übergroß 容器".encode(),
        b"\xff\xfe not utf-8 \xc3",
        b"x" * 200,
        b'a="b",c="d"',
        b"\x1b[31m\x7f\t",
    ],
    ids=["quote", "backslash", "utf8", "invalid", "long", "labels", "control"],
)
def test_a_hostile_name_stays_one_label(world: World, agent: Agent, name: bytes) -> None:
    group = world.group(name)
    group.sleep()
    unique = "-".join(group.path.split("-")[:4]) + "-"
    for openmetrics in (False, True):
        scrape = agent.scrape(openmetrics=openmetrics, compressed=openmetrics)
        samples = [
            sample
            for family in scrape.families.values()
            for sample in family.samples
            if sample.labels.get("id", "").startswith(unique)
        ]
        assert samples
        (identifier,) = {sample.labels["id"] for sample in samples}
        shown = (b"/" + group.name.encode("utf-8", "surrogateescape")).decode("utf-8", "backslashreplace")
        assert identifier == shown
        seen = [sample for sample in samples if sample.name == "container_last_seen"]
        assert len(seen) == 1
        assert set(seen[0].labels) == {"id", "image", "name"}
        assert not any("evil" in family for family in scrape.families)


def test_the_kernel_refuses_a_newline_in_a_name(world: World) -> None:
    with pytest.raises(OSError, match="Invalid argument") as refused:
        world.group("two\nlines")
    assert refused.value.errno == errno.EINVAL


def churn(agent: Agent, seconds: float, rate: int) -> int:
    """Make and remove groups at a rate, scraping all the while; how many came and went."""
    made = 0
    begin = time.monotonic()
    scraped = begin
    live: list[list[object]] = []
    while (now := time.monotonic()) < begin + seconds:
        directories = [root / f"{PREFIX}-churn-{made}" for root in HIERARCHIES.roots]
        for directory in directories:
            directory.mkdir()
        live.append(directories)  # type: ignore[arg-type]
        made += 1
        if len(live) > rate // 10:
            for directory in live.pop(0):
                directory.rmdir()  # type: ignore[attr-defined]
        if now - scraped > 0.2:
            agent.scrape()
            scraped = now
        time.sleep(max(0.0, begin + made / rate - time.monotonic()))
    for directories in live:
        for directory in directories:
            directory.rmdir()
    return made


def check_churn(agent: Agent, seconds: float, rate: int) -> None:
    def own() -> set[str]:
        """The paths of this process's groups: others run tests as well."""
        return {path for path in agent.scrape().paths if PREFIX in path}

    def settle() -> None:
        """Wait until the agent has neither files of groups that went nor connections of this test."""
        until("the groups that went are gone", lambda: own() == paths)
        until("connections are closed", lambda: agent.connections() == 0)

    paths = own()
    churn(agent, min(seconds, 3), rate)  # what is made once is made now
    settle()
    descriptors, rss = agent.descriptors(), agent.rss_kib()
    made = churn(agent, seconds, rate)
    if made < ENOUGH:
        pytest.skip(f"only {made} groups came and went in {seconds:g} s: too slow a machine to say anything")
    settle()
    scrape = agent.scrape()
    for sample in ("pymon_open_descriptors", "pymon_cgroup_watches"):
        assert scrape.own(sample) is not None
    with contextlib.suppress(AssertionError):  # of which the one below says more
        until("descriptors and threads as before", lambda: agent.descriptors() == descriptors, seconds=10)
    assert agent.descriptors() == descriptors
    assert agent.rss_kib() < rss + 8 * MIB


def test_churn_leaves_nothing_behind() -> None:
    with Agent("--container.all") as agent:
        check_churn(agent, 10, 100)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_minute_of_churn_leaves_nothing_behind() -> None:
    with Agent("--container.all") as agent:
        check_churn(agent, 60, 100)


def test_more_containers_than_descriptors(world: World) -> None:
    """1,500 of them; a machine too slow for that makes as many as it can in 20 s, and the limit is still far away."""
    groups: list[Group] = []
    begin = time.monotonic()
    while len(groups) < 1500 and (len(groups) < 300 or time.monotonic() < begin + 20):
        groups.append(world.group())
    groups[0].sleep()
    with Agent(f"--container.pattern=/{PREFIX}-.*", prefix=("prlimit", "--nofile=512:512")) as agent:
        agent.get()  # kept descriptors are used from the second scrape on
        # Prometheus's own parsers take minutes for this on a slow machine.
        body = agent.get().body.decode()
        by_path: dict[str, set[str]] = {group.path: set() for group in groups}
        for name, path in re.findall(rf'^(\w+){{.*?id="(/{PREFIX}-[^"]+)"', body, re.MULTILINE):
            if path in by_path:  # other fixtures of this run have groups of their own
                by_path[path].add(name)
        expected = by_path[groups[1].path]
        assert {"container_threads", "container_spec_cpu_shares"} <= expected
        different = {path for path in by_path if by_path[path] != expected} - {groups[0].path}
        assert not different
        for group, count in ((groups[0], 1), (groups[-1], 0)):
            assert re.search(rf'^container_threads{{id="{group.path}",.*}} {count}$', body, re.MULTILINE)
        assert 'reason="emfile"' not in body
        scrape = agent.scrape("/metrics?collect[]=loadavg")
        kept = scrape.own("pymon_open_descriptors")
        assert kept is not None
        assert 0 < kept <= 8 * 512
        assert all(count <= 512 for count in agent.descriptors().values())


def test_the_agent_says_what_it_follows(world: World, agent: Agent) -> None:
    before = agent.scrape()
    group = world.group()
    after = agent.scrape()
    assert (after.own("pymon_containers") or 0) - (before.own("pymon_containers") or 0) == 1
    assert after.own("pymon_cgroup_unwatched") == 0
    assert re.fullmatch(r"/pymon-test-\d+-\d+", group.path)


def test_slices_come_and_go(world: World) -> None:
    """A slice is measured and is no container; its row is free for the next one when it has gone."""
    with Agent("--container.slices", "--container.pattern=/pymon-test-[0-9-]*box") as agent:
        first = world.group("one.slice")
        until("the slice is measured", lambda: first.path in agent.scrape().paths)
        inside = world.child(first, "x")
        world_box = world.group("box")
        world_box.sleep()
        until("the container is there", lambda: world_box.path in agent.scrape().paths)
        listed = {item["id"] for item in json.loads(agent.get("/v1/containers").body)["containers"]}
        assert world_box.path in listed
        assert not listed & {"/", first.path, inside.path}
        inside.remove()
        first.remove()
        until("the slice has gone", lambda: first.path not in agent.scrape().paths)
        second = world.group("two.slice")
        until("the next one is measured", lambda: second.path in agent.scrape().paths)
        assert agent.scrape().value(second.path, "container_memory_usage_bytes") is not None

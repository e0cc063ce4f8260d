"""What following the cgroup trees takes of the kernel, and what an agent sees with few inotify watches or none."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.live.agent import Agent
from tests.live.world import HIERARCHIES, PREFIX, World, until

pytestmark = pytest.mark.root

FOREIGN = 40
LIMIT = 5
ONLY = f"--container.pattern=/{PREFIX}-(?P<name>[0-9]+-mine)"


def kernel_watches(agent: Agent) -> list[tuple[int, int]]:
    """The file system and inode of each inotify watch of an agent's process, as the kernel tells them."""
    found: list[tuple[int, int]] = []
    for descriptor in Path(f"/proc/{agent.pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            watches = re.findall(r"^inotify .*ino:(\w+) sdev:(\w+)", descriptor.read_text(), re.MULTILINE)
            found += ((int(device, 16), int(inode, 16)) for inode, device in watches)
    return found


def told_watches(agent: Agent) -> int:
    """The same number, as the agent tells it."""
    told = agent.scrape("/metrics?collect[]=loadavg&collect[]=container").own("pymon_cgroup_watches")
    assert told is not None
    return int(told)


def test_a_group_takes_one_watch_or_two_however_many_hierarchies_have_it(world: World) -> None:
    """Other groups of the machine may come and go meanwhile."""
    with Agent(ONLY) as agent:
        groups = [world.group() for _ in range(FOREIGN)]
        status = [(root / group.name).stat() for group in groups for root in HIERARCHIES.roots]
        places = {(os.major(one.st_dev) << 20 | os.minor(one.st_dev), one.st_ino) for one in status}
        assert len(places) == FOREIGN * len(HIERARCHIES.roots)
        until("the groups are watched", lambda: len(places & set(kernel_watches(agent))) >= FOREIGN)
        assert len(places & set(kernel_watches(agent))) <= 2 * FOREIGN
        until("the agent tells as many as the kernel", lambda: told_watches(agent) == len(kernel_watches(agent)))
        for group in groups:
            group.remove()
        until("no watch of them is left", lambda: not places & set(kernel_watches(agent)))


def test_one_that_a_single_hierarchy_has_at_the_start_is_there(world: World) -> None:
    alone = [world.group("mine") for _ in HIERARCHIES.roots]
    for group, only in zip(alone, HIERARCHIES.roots, strict=True):
        for root in HIERARCHIES.roots:
            if root != only:
                (root / group.name).rmdir()
    with Agent(ONLY) as agent:
        assert {group.path for group in alone} <= agent.scrape().paths
        for group, only in zip(alone, HIERARCHIES.roots, strict=True):
            (only / group.name).rmdir()
            assert group.path not in agent.scrape().paths


def limited_watches() -> tuple[str, ...]:
    """A program that runs another where a user has few inotify watches."""
    limit = f"echo {LIMIT} > /proc/sys/user/max_inotify_watches"
    return ("unshare", "--user", "--map-root-user", "sh", "-c", f'{limit} && exec "$@"', "sh")


def test_without_watches_containers_are_listed(world: World) -> None:
    prefix = limited_watches()
    tried = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"watches cannot be limited: {tried.stderr.strip()}")
    foreign = [world.group() for _ in range(FOREIGN)]
    first = world.group("mine")
    with Agent(ONLY, prefix=prefix) as agent:
        scrape = agent.scrape()
        assert first.path in scrape.paths
        assert scrape.own("pymon_cgroup_watches") == LIMIT == len(kernel_watches(agent))
        unwatched = scrape.own("pymon_cgroup_unwatched")
        assert unwatched is not None
        assert unwatched >= FOREIGN - LIMIT
        second = world.group("mine")
        until("a new container", lambda: second.path in agent.scrape().paths)
        for group in (first, second):
            group.remove()
        until("they are gone", lambda: not {first.path, second.path} & agent.scrape().paths)
        for group in foreign:
            group.remove()
        left = max(0, unwatched - FOREIGN // 2)
        until("fewer are listed", lambda: (agent.scrape().own("pymon_cgroup_unwatched") or 0) <= left)

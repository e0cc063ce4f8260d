"""An agent whose thread that follows the cgroups has an internal error."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

import pymon
from pymon.agent import tree_thread
from pymon.agent.build import Agent, build_agent
from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import load_agent_options
from pymon.agent.scrape import Scrape
from pymon.containers.recognise import Recogniser
from tests.agent.fixture_host import copy_host
from tests.oracle import Series, parse

_LATE = "9d1e0f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6"


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  # what it waits for is another thread's
            await asyncio.sleep(0.01)


async def scrape(agent: Agent) -> dict[Series, Fraction]:
    lent = await agent.collection.scrape(Scrape())
    assert lent is not None
    found = parse(bytes(lent.data))
    lent.release()
    return dict(found)


async def test_it_is_not_ready_until_the_trees_were_walked_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_thread, "RETRY_SECONDS", (0.05, 0.1))
    host = copy_host("v2", tmp_path)
    agent = build_agent(load_agent_options(host.flags(), {}, COLLECTORS, version=pymon.__version__))
    registry = agent.registry
    before = len(registry)
    group = next(host.cgroups.glob("system.slice/docker-*.scope"))
    agent.collection.start()
    try:
        assert registry.ready() is None
        assert (await scrape(agent))["pymon_cgroup_following_errors_total", frozenset()] == 0
        with monkeypatch.context() as broken:
            broken.setattr(Recogniser, "recognise", lambda self, path: [][len(path)])
            shutil.copytree(group, group.with_name(f"docker-{_LATE}.scope"))
            await until(registry.ready)
            assert registry.ready() == "the control groups are not followed: IndexError('list index out of range')"
            assert len(registry) == before, "those that are known stay"
            shutil.rmtree(group)
        await until(lambda: registry.ready() is None)
        await until(lambda: any(_LATE in item.id for item in registry.containers()))
        assert not any(group.name in item.id for item in registry.containers())
        assert (await scrape(agent))["pymon_cgroup_following_errors_total", frozenset()] >= 1
    finally:
        await agent.collection.stop()

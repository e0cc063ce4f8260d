"""Which agents are reached, by the outcomes of requests and of probes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pymon.proxy import reach as module
from pymon.proxy.reach import Reach
from pymon.proxy.upstream import UpstreamError


class Agent:
    """What a probe of it comes to."""

    def __init__(self, outcome: str = "connect") -> None:
        self.outcome = outcome
        self.probes = 0

    async def get(self, path: str, **_: Any) -> None:
        assert path == "/-/healthy"
        self.probes += 1
        await asyncio.sleep(0)
        if self.outcome != "ok":
            raise UpstreamError(502, self.outcome, "no")


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", (0.01, 0.02))


async def until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("outcome", ["connect", "connect_timeout", "timeout"])
async def test_one_that_is_lost_is_probed_until_it_answers(outcome: str) -> None:
    agent, told = Agent(), []
    reach = Reach({"n": agent}.__getitem__)
    reach.changed = lambda: told.append(set(reach.lost))
    reach.tell("n", "ok")
    assert (reach.reached, reach.lost) == ({"n"}, set())
    for _ in range(3):
        reach.tell("n", outcome)
    assert (reach.reached, reach.lost, told) == (set(), {"n"}, [{"n"}])
    await until(lambda: agent.probes > 2)
    agent.outcome = "ok"
    await until(lambda: reach.reached == {"n"})
    assert reach.lost == set()
    probes = agent.probes
    await asyncio.sleep(0.1)
    assert agent.probes == probes


async def test_one_that_was_only_slow_is_reached_at_once() -> None:
    agent = Agent("ok")
    reach = Reach({"n": agent}.__getitem__)
    reach.tell("n", "timeout")
    await until(lambda: reach.reached == {"n"})
    assert agent.probes == 1


async def test_one_that_is_lost_as_its_probe_ends_is_probed_again() -> None:
    agent = Agent("ok")
    reach = Reach({"n": agent}.__getitem__)
    for number in range(1, 10):
        reach.tell("n", "timeout")
        async with asyncio.timeout(20):
            while not reach.reached:  # noqa: ASYNC110  # at the very next step of the loop
                await asyncio.sleep(0)
        assert agent.probes == number


@pytest.mark.parametrize("outcome", ["tls", "closed"])
async def test_one_that_refuses_this_proxy_is_not_reached_and_not_lost(outcome: str) -> None:
    """Otherwise a proxy that agents no longer admit would go through another."""
    agent = Agent(outcome)
    reach = Reach({"n": agent}.__getitem__)
    reach.tell("n", "ok")
    reach.tell("n", outcome)
    assert (reach.reached, reach.lost) == (set(), set())
    reach.tell("n", "timeout")
    await until(lambda: not reach.lost)
    assert (reach.reached, agent.probes) == (set(), 1)


async def test_a_failure_that_says_nothing_of_the_way_changes_nothing() -> None:
    reach = Reach({}.__getitem__)
    for outcome in ("cancelled", "", "queue", "overloaded", "too_large", "internal"):
        reach.tell("n", outcome)
    assert (reach.reached, reach.lost) == (set(), set())
    reach.tell("n", "malformed")
    assert reach.reached == {"n"}


async def test_one_that_leaves_the_directory_is_forgotten_and_all_probes_end() -> None:
    agent = Agent()
    reach = Reach({"n": agent, "m": agent}.__getitem__)
    for name in ("n", "m", "gone"):
        reach.tell(name, "connect")
    reach.keep_only({"m"})
    assert reach.lost == {"m"}
    await reach.stop()
    probes = agent.probes
    await asyncio.sleep(0.05)
    assert agent.probes == probes

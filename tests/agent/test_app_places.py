"""Places for fetches from applications: who gets one, and who cannot take those of others."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pymon.agent.app_places import MOST, OF_ACCOUNT, OF_CONTAINER, WAITING, WAITING_OF_ACCOUNT, AppPlaces, BusyError


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), 60))

    run.__name__ = test.__name__
    return run


class World:
    """Fetches that go on until they are told to end."""

    def __init__(self) -> None:
        self.places = AppPlaces()
        self.running: Counter[str] = Counter()
        self.tasks: list[asyncio.Task[None]] = []
        self.go_on = asyncio.Event()

    async def _fetch(self, container: str, account: str, seconds: float) -> None:
        async with self.places.place(container, account, asyncio.get_running_loop().time() + seconds):
            self.running[account] += 1
            try:
                await self.go_on.wait()
            finally:
                self.running[account] -= 1

    async def fetch(self, container: str, account: str, seconds: float = 50.0) -> asyncio.Task[None]:
        """Begin one, and let it run as far as it can."""
        task = asyncio.create_task(self._fetch(container, account, seconds))
        self.tasks.append(task)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return task

    async def end(self) -> None:
        self.go_on.set()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        assert (self.places.running, self.places.waiting) == (0, 0)
        assert not self.places._containers
        assert not self.places._accounts
        assert not self.places._waiting_of


@on_a_loop
async def test_a_container_has_few_places_and_others_their_own() -> None:
    world = World()
    for _ in range(OF_CONTAINER):
        await world.fetch("greedy", "alice")
    for _ in range(10):
        refused = await world.fetch("greedy", "alice")
        with pytest.raises(BusyError):
            await refused
    await world.fetch("other", "alice")
    assert world.running["alice"] == OF_CONTAINER + 1
    await world.end()


@on_a_loop
async def test_an_account_has_a_share_and_others_do_not_wait_for_it() -> None:
    world = World()
    for number in range(OF_ACCOUNT + 20):
        await world.fetch(f"a{number}", "alice")
    assert (world.running["alice"], world.places.waiting) == (OF_ACCOUNT, 20)
    await world.fetch("b", "bob")
    assert world.running["bob"] == 1
    world.tasks[0].cancel()
    await asyncio.wait(world.tasks[:1])
    await asyncio.sleep(0)
    assert (world.running["alice"], world.places.waiting) == (OF_ACCOUNT, 19)
    await world.end()


@on_a_loop
async def test_in_all_there_are_so_many_and_the_first_that_waits_is_next() -> None:
    world = World()
    for number in range(MOST):
        await world.fetch(f"c{number}", f"account{number}")
    late = [await world.fetch(f"d{number}", f"late{number}") for number in range(3)]
    assert (world.places.running, world.places.waiting) == (MOST, 3)
    world.tasks[5].cancel()
    await asyncio.wait([world.tasks[5]])
    await asyncio.sleep(0)
    assert [world.running[f"late{number}"] for number in range(3)] == [1, 0, 0]
    assert not any(task.done() for task in late)
    await world.end()


@on_a_loop
async def test_who_waits_too_long_is_told_and_leaves_nothing() -> None:
    world = World()
    for number in range(OF_ACCOUNT):
        await world.fetch(f"a{number}", "alice")
    late = await world.fetch("late", "alice", seconds=0.05)
    with pytest.raises(TimeoutError):
        await late
    assert world.places.waiting == 0
    await world.end()


@on_a_loop
async def test_those_that_wait_are_bounded() -> None:
    world = World()
    for number in range(OF_ACCOUNT + WAITING_OF_ACCOUNT):
        await world.fetch(f"a{number}", "alice")
    refused = await world.fetch("one too many", "alice")
    with pytest.raises(BusyError):
        await refused
    number = 0
    while world.places.waiting < WAITING:
        number += 1
        await world.fetch(f"b{number}", f"bob{number // 50}")
    refused = await world.fetch("b", "somebody else")
    with pytest.raises(BusyError):
        await refused
    await world.end()


@on_a_loop
async def test_whoever_comes_and_goes_in_any_order_no_place_is_lost() -> None:
    chance = random.Random(1)  # noqa: S311
    world = World()
    for _ in range(3000):
        if chance.random() < 0.5:
            await world.fetch(f"c{chance.randrange(40)}", f"a{chance.randrange(6)}", chance.choice((0.0001, 50)))
        elif world.tasks:
            world.tasks.pop(chance.randrange(len(world.tasks))).cancel()
            await asyncio.sleep(0)
        assert world.places.running <= MOST
        assert max(world.places._accounts.values(), default=0) <= OF_ACCOUNT
        assert max(world.places._containers.values(), default=0) <= OF_CONTAINER
    for task in world.tasks:
        task.cancel()
    await world.end()

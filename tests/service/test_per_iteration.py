"""So many in one iteration of the event loop, in order, whatever is cancelled."""

from __future__ import annotations

import asyncio

from pymon.service.per_iteration import PerIteration
from tests.proxy.agents import on_each_loop, until


@on_each_loop
async def test_so_many_go_on_in_an_iteration_in_order():
    turns, gone, most = PerIteration(3), [], 0

    async def one(number: int) -> None:
        await turns.turn()
        gone.append(number)

    tasks = [asyncio.ensure_future(one(number)) for number in range(20)]
    while len(gone) < len(tasks):
        before = len(gone)
        await asyncio.sleep(0)
        most = max(most, len(gone) - before)
    assert gone == list(range(20))
    assert 1 <= most <= 3
    await asyncio.gather(*tasks)


@on_each_loop
async def test_a_caller_that_is_cancelled_takes_no_turn():
    turns, gone = PerIteration(1), []

    async def one(number: int) -> None:
        await turns.turn()
        gone.append(number)

    tasks = [asyncio.ensure_future(one(number)) for number in range(5)]
    await asyncio.sleep(0)
    for task in tasks[1:4]:
        task.cancel()
    await until(lambda: len(gone) == 2)
    assert gone == [0, 4]
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.wait_for(turns.turn(), 10)


@on_each_loop
async def test_without_others_nobody_waits():
    turns = PerIteration(1)
    for _ in range(3):
        turn = turns.turn()
        try:
            turn.send(None)
        except StopIteration:
            pass
        else:
            raise AssertionError("it waits")
        await asyncio.sleep(0)
        await asyncio.sleep(0)

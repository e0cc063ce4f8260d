import asyncio
import threading
import time
from uuid import UUID

import pytest

from pymon.proxy.turns import SLICE_SECONDS, NodeTime, Turns
from pymon.service.answer import Refusal
from tests.proxy.agents import on_each_loop, until

ALICE, BOB = UUID(int=1), UUID(int=2)


def soon(seconds=20.0):
    return asyncio.get_running_loop().time() + seconds


def busy(seconds=SLICE_SECONDS / 4):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def steps(count, node="n", told=None, closed=None):
    try:
        for _ in range(count):
            busy()
            if told is not None:
                told.append(node)
            yield node
        return count
    finally:
        if closed is not None:
            closed.append(threading.get_ident())


def nothing():
    pass


@on_each_loop
async def test_steps_give_their_result_and_what_they_raise():
    turns = Turns()
    assert await turns.run_steps(ALICE, soon(), steps(30), nothing) == 30

    def bad():
        yield "n"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await turns.run_steps(ALICE, soon(), bad(), nothing)
    assert turns.gate.in_use == 0


@on_each_loop
async def test_work_of_hours_has_no_more_of_the_thread_than_work_of_another_account():
    turns, told = Turns(), []
    long = asyncio.create_task(turns.run_steps(ALICE, soon(), steps(10**9, "a", told), nothing))
    await until(lambda: told)
    told.clear()
    await turns.run_steps(BOB, soon(), steps(60, "b", told), nothing)
    mine = told.count("b") / len(told)
    assert mine > 0.3, mine
    long.cancel()
    await asyncio.gather(long, return_exceptions=True)
    await until(lambda: turns.gate.in_use == 0)


@on_each_loop
async def test_work_ends_at_its_deadline_and_when_nobody_waits_for_it():
    turns, closed = Turns(), []
    with pytest.raises(Refusal) as refused:
        await turns.run_steps(ALICE, soon(0.2), steps(10**9), nothing)
    assert refused.value.reply.status == 503
    task = asyncio.create_task(turns.run_steps(ALICE, soon(), steps(10**9, closed=closed), nothing))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: closed and turns.gate.in_use == 0)


@on_each_loop
async def test_the_watch_ends_the_work():
    def watch():
        raise KeyError

    turns, closed = Turns(), []
    with pytest.raises(KeyError):
        await turns.run_steps(ALICE, soon(), steps(10**9, closed=closed), watch)
    await until(lambda: closed and turns.gate.in_use == 0)


@on_each_loop
async def test_a_node_that_had_its_part_lets_work_on_others_go_first():
    turns, told = Turns(), []
    accounts = [UUID(int=number) for number in range(10, 14)]
    hostile = [
        asyncio.create_task(turns.run_steps(account, soon(), steps(10**9, "hostile", told), nothing))
        for account in accounts
    ]
    await asyncio.sleep(0.3)
    told.clear()
    await turns.run_steps(BOB, soon(), steps(80, "good", told), nothing)
    good = told.count("good") / len(told)
    assert good > 0.35, good  # with turns by account alone it is a fifth
    for task in hostile:
        task.cancel()
    await asyncio.gather(*hostile, return_exceptions=True)
    await until(lambda: turns.gate.in_use == 0)


def test_time_of_a_node_fades():
    spent = NodeTime()
    assert not spent.over("n")
    spent.spend({"n": 1.0, "m": 0.1}, 100.0)
    assert spent.over("n")
    assert not spent.over("m")
    spent.spend({"m": 0.1}, 140.0)
    assert not spent.over("n")
    assert list(spent._spent) == ["m"]

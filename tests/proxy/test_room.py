import asyncio
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pymon.proxy import room as room_module
from pymon.proxy.fair import Overloaded
from pymon.proxy.room import Room
from tests.proxy.agents import on_each_loop, until

ALICE, BOB, CAROL = (UUID(int=number) for number in (1, 2, 3))


def soon(seconds=10.0):
    return asyncio.get_running_loop().time() + seconds


@on_each_loop
async def test_what_is_taken_is_counted_until_it_is_given_back():
    room = Room(100, 60)
    hold = await room.take(ALICE, 10, soon())
    assert room.in_use == 10
    assert hold.resize(60)
    assert not hold.resize(61)
    assert (hold.size, room.in_use) == (60, 60)
    other = await room.take(BOB, 30, soon())
    assert not other.resize(41)
    assert room.take_now(BOB, 11) is None
    assert room.take_now(CAROL, 10).size == 10
    hold.release()
    hold.release()
    assert room.in_use == 40


@on_each_loop
async def test_who_waits_gets_room_when_it_is_there_or_is_told_in_time():
    room = Room(100, 80)
    hold = await room.take(ALICE, 80, soon())
    with pytest.raises(TimeoutError):
        await room.take(BOB, 30, soon(0.05))
    waiting = asyncio.create_task(room.take(BOB, 30, soon()))
    await asyncio.sleep(0)
    assert not waiting.done()
    hold.release()
    (await waiting).release()
    assert (room.in_use, room._queues) == (0, {})


@on_each_loop
async def test_an_account_that_has_its_part_holds_up_nobody_else():
    room = Room(100, 50)
    hold = await room.take(ALICE, 50, soon())
    more = asyncio.create_task(room.take(ALICE, 50, soon()))
    await asyncio.sleep(0)
    (await room.take(BOB, 50, soon(0.5))).release()
    assert not more.done()
    hold.release()
    (await more).release()
    assert room.in_use == 0


@on_each_loop
async def test_who_holds_less_goes_first_and_a_large_one_is_not_passed():
    room = Room(100, 100)
    held = [await room.take(ALICE, 60, soon()), await room.take(CAROL, 40, soon())]
    order = []

    async def ask(account, size):
        hold = await room.take(account, size, soon())
        order.append((account, size))
        hold.release()

    asks = ((ALICE, 5), (BOB, 70), (BOB, 6))
    tasks = [asyncio.create_task(ask(*one)) for one in asks]
    await until(lambda: len(room._queues) == 2)
    held[1].release()
    await asyncio.sleep(0.02)
    assert order == []
    held[0].release()
    await asyncio.gather(*tasks)
    assert order.index((BOB, 70)) < order.index((BOB, 6))
    assert sorted(order) == sorted(asks)


@on_each_loop
async def test_too_many_of_an_account_may_not_wait(monkeypatch):
    monkeypatch.setattr(room_module, "MAX_WAITING", 3)
    room = Room(10, 10)
    hold = await room.take(ALICE, 10, soon())
    tasks = [asyncio.create_task(room.take(BOB, 1, soon())) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await room.take(BOB, 1, soon())
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    hold.release()
    assert (room.in_use, room._queues) == (0, {})


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from((ALICE, BOB, CAROL)), st.integers(0, 60), st.booleans()), max_size=30))
def test_there_is_never_more_taken_than_there_is_and_nothing_is_lost(steps):
    async def play():
        room = Room(100, 60)
        tasks = []
        for account, size, cancel in steps:
            tasks.append(asyncio.create_task(room.take(account, size, soon())))
            await asyncio.sleep(0)
            if cancel:
                tasks[len(tasks) // 2].cancel()
            assert 0 <= room.in_use <= 100
            assert all(held <= 60 for held in room._held.values())
        while tasks:
            done = [task for task in tasks if task.done()]
            assert done
            for task in done:
                tasks.remove(task)
                if not task.cancelled():
                    task.result().release()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert (room.in_use, room._free, room._queues) == (0, 100, {})

    asyncio.run(play())

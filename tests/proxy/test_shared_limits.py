"""Limits of several workers are those of one process: the same requests are admitted, whichever workers they reach."""

from __future__ import annotations

import asyncio
import math
import os
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pymon.directory.model import Quota
from pymon.proxy.cells import Cells, Numbers
from pymon.proxy.limits import AccountLimits, PassLimits
from pymon.proxy.shared_limits import SharedAccountLimits, SharedBucket, SharedGate, SharedPassLimits, moved
from pymon.token_bucket import TokenBucket
from tests.proxy.agents import on_each_loop, until

ALICE, BOB = UUID(int=1), UUID(int=2)
WORKERS = 3
limits = st.tuples(st.floats(0.1, 100), st.integers(1, 50))

# Rates and times whose arithmetic is exact in binary, so that one process and several can be compared.
rates = st.sampled_from([0.0, 0.5, 1.0, 4.0, 16.0])
pauses = st.integers(0, 64).map(lambda number: number / 16)
requests = st.lists(
    st.tuples(st.integers(0, WORKERS - 1), st.sampled_from([ALICE, BOB]), st.booleans(), pauses), max_size=60
)


@pytest.fixture
def cells():
    made = Cells(WORKERS)
    yield made
    made.close()


@settings(deadline=None)
@given(requests, rates, st.integers(1, 8), st.integers(1, 4))
def test_workers_admit_what_one_process_admits(requests, rate, burst, concurrency):
    quota, numbers = Quota(requests_per_second=rate, burst=burst, concurrency=concurrency), {ALICE.int: 0, BOB.int: 5}
    cells = Cells(WORKERS)
    try:
        alone = AccountLimits()
        workers = [SharedAccountLimits(cells, number, numbers) for number in range(WORKERS)]
        under_way: list[tuple[int, UUID]] = []
        now = 1024.0
        for worker, account, ends, pause in requests:
            now += pause
            if ends and under_way:
                its, whose = under_way.pop(0)
                workers[its].leave(whose)
                alone.leave(whose)
            expected, found = alone.admit(account, quota, now), workers[worker].admit(account, quota, now)
            if expected is None:
                assert found is None
                under_way.append((worker, account))
            else:
                assert found is not None
                assert found.reason == expected.reason
                assert found.retry_after_seconds == pytest.approx(expected.retry_after_seconds)
    finally:
        cells.close()


@settings(deadline=None)
@given(requests, st.integers(1, 50), st.integers(1, 50))
def test_workers_let_read_what_one_process_lets_read(requests, containers, whole):
    quota, cells = Quota(requests_per_second=1.0), Cells(WORKERS)
    try:
        alone = PassLimits()
        workers = [SharedPassLimits(cells, {ALICE.int: 3}) for _ in range(WORKERS)]
        now = 1024.0
        for worker, _, _, pause in requests:
            now += pause
            expected = alone.admit(ALICE, quota, containers, whole, now)
            assert workers[worker].admit(ALICE, quota, containers, whole, now) == pytest.approx(expected)
    finally:
        cells.close()


def test_an_account_without_a_number_has_a_part_at_each_worker(cells):
    limits, quota = SharedAccountLimits(cells, 0, {}), Quota(requests_per_second=1, burst=9, concurrency=9)
    assert [limits.admit(ALICE, quota, 0.0) for _ in range(4)].count(None) == 3


def test_a_share_holds_for_all_workers_together(cells):
    quota = Quota(requests_per_second=1, burst=12, concurrency=512)
    limits = [SharedAccountLimits(cells, number, {ALICE.int: 7}) for number in range(WORKERS)]
    for one in limits:
        one.divide({ALICE.int: 0.5}, 0.25)
    assert [limits[number % WORKERS].admit(ALICE, quota, 100.0) for number in range(9)].count(None) == 6
    for one in limits:  # a share that grows gives no tokens, whichever worker hears of it first
        one.divide({}, 1.0)
        assert one.admit(ALICE, quota, 100.0) is not None
    assert [limits[number % WORKERS].admit(ALICE, quota, 103.0) for number in range(9)].count(None) == 3


def test_what_a_worker_held_is_free_when_it_ended(cells):
    quota = Quota(requests_per_second=0, burst=1, concurrency=2)
    dead, other = (SharedAccountLimits(cells, number, {ALICE.int: 7}) for number in range(2))
    assert [dead.admit(ALICE, quota, 0.0) for _ in range(2)] == [None, None]
    assert other.admit(ALICE, quota, 0.0) is not None
    cells.clear_worker(0)
    assert other.admit(ALICE, quota, 0.0) is None


def test_a_worker_that_is_started_again_has_no_new_burst(cells):
    quota = Quota(requests_per_second=1, burst=3, concurrency=9)
    dead = SharedAccountLimits(cells, 0, {ALICE.int: 7})
    assert [dead.admit(ALICE, quota, 100.0) for _ in range(4)].count(None) == 3
    cells.clear_worker(0)
    assert SharedAccountLimits(cells, 0, {ALICE.int: 7}).admit(ALICE, quota, 100.0) is not None


def test_another_process_sees_the_same(cells):
    cells.full_at[9], cells.requests[2][5] = 12.5, 7
    if not (child := os.fork()):
        same = Cells(WORKERS, cells.descriptor)
        right = (same.full_at[9], same.requests[2][5]) == (12.5, 7)
        same.scrapes[1][3] = 4
        os._exit(not right)
    assert os.waitpid(child, 0)[1] == 0
    assert cells.scrapes[1][3] == 4
    cells.clear_account(9)
    assert cells.full_at[9] == 0.0


@given(st.floats(0, 100), limits, limits)
def test_a_time_moves_as_a_bucket_is_resized(missing, before, after):
    """The tokens of a bucket after another rate and burst, by the time and by the bucket itself."""
    taken = math.floor(min(missing, before[1]))
    bucket, full_at = TokenBucket(*before), 1000.0
    for _ in range(taken):
        assert bucket.take(1000.0) == 0.0
        full_at += 1 / before[0]
    bucket.resize(*after, 1000.0)
    tokens = after[1] - (moved(full_at, 1000.0, before, after) - 1000.0) * after[0]
    assert tokens == pytest.approx(min(before[1] - taken, after[1]), abs=1e-6)
    count = 0
    while bucket.take(1000.0) == 0.0:
        count += 1
    assert count == pytest.approx(tokens, abs=1e-6)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.5, 4.0, 64.0]), st.integers(1, 20), pauses), min_size=1, max_size=20),
    st.randoms(use_true_random=False),
)
def test_workers_that_hear_of_a_limit_one_after_the_other_change_it_once(changes, chance):
    cells, now = Cells(WORKERS), 1024.0
    try:
        alone = TokenBucket(4.0, 4)
        buckets = [SharedBucket(cells, 2, 4.0, 4, now) for _ in range(WORKERS)]
        for rate, burst, pause in changes:
            now += pause
            alone.resize(rate, burst, now)
            order = chance.sample(buckets, len(buckets))
            order[0].change(rate, burst, now)
            for bucket in order:
                expected = alone.take(now)
                assert bucket.take(now) == pytest.approx(expected), "also of one that has not heard yet"
            for bucket in order[1:]:
                bucket.resize(rate, burst, now)
    finally:
        cells.close()


def test_a_quota_that_was_small_holds_nobody_up_later(cells):
    limits = [SharedAccountLimits(cells, number, {ALICE.int: 1}) for number in range(2)]
    small, large = Quota(requests_per_second=0.05, burst=2), Quota(requests_per_second=100, burst=1000)
    assert [limits[number % 2].admit(ALICE, small, 100.0) is None for number in range(4)] == [True, True, False, False]
    assert limits[0].admit(ALICE, large, 100.0) is not None
    assert [limits[number % 2].admit(ALICE, large, 100.02) is None for number in range(3)] == [True, True, False]


def test_numbers_are_used_again_late():
    numbers = Numbers(3)
    assert numbers.keep("ab") == [0, 1]
    assert numbers.keep("b") == []
    assert numbers.keep("bc") == [2], "a number that was never used comes first"
    assert numbers.keep("bcd") == [0]
    assert numbers.keep("bcde") == []
    assert numbers.by_key == {"b": 1, "c": 2, "d": 0}


# --- slots of an agent ----------------------------------------------------------------------------


async def scrape(gate: SharedGate, account: UUID, used: list[int], busy: asyncio.Event, turns: int) -> None:
    for _ in range(turns):
        await gate.acquire(account, asyncio.get_running_loop().time() + 30)
        used[0] += 1
        used[1] = max(used)
        await (busy.wait() if not busy.is_set() else asyncio.sleep(0.001))
        used[0] -= 1
        gate.release(account)


@on_each_loop
async def test_all_workers_together_take_no_more_than_the_slots():
    cells = Cells(WORKERS)
    gates = [SharedGate(4, cells, number, 11) for number in range(WORKERS)]
    used, busy = [0, 0], asyncio.Event()
    tasks = [asyncio.create_task(scrape(gate, ALICE, used, busy, 5)) for gate in gates for _ in range(4)]
    await until(lambda: used[0] == 4)
    await until(lambda: sum(gate.waiting for gate in gates) == 8)
    busy.set()
    await asyncio.gather(*tasks)
    assert used == [0, 4]
    assert [counts[11] for counts in (*cells.scrapes, *cells.waiting)] == [0] * 6
    cells.close()


@on_each_loop
async def test_a_worker_that_is_busy_leaves_slots_to_another():
    cells = Cells(2)
    greedy, other = (SharedGate(2, cells, number, 0) for number in range(2))
    used, busy = [0, 0], asyncio.Event()
    busy.set()
    flood = [asyncio.create_task(scrape(greedy, ALICE, used, busy, 100_000)) for _ in range(20)]
    await until(lambda: greedy.waiting == 18)
    await scrape(other, BOB, used, busy, 20)  # ends although the first worker's queue never does
    assert greedy.waiting
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
    cells.close()


@on_each_loop
async def test_slots_of_a_worker_that_died_are_given_out_again():
    cells = Cells(2)
    dead, other = (SharedGate(1, cells, number, 0) for number in range(2))
    await dead.acquire(ALICE)
    waiting = asyncio.create_task(other.acquire(BOB))
    await until(lambda: other.waiting == 1)
    cells.clear_worker(0)
    await waiting
    other.release(BOB)
    cells.close()

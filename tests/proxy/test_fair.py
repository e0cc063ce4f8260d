import asyncio
from collections import Counter
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pymon.proxy import fair
from pymon.proxy.fair import FairGate, Overloaded

ALICE, BOB, CAROL = (UUID(int=number) for number in (1, 2, 3))


async def settle(turns=4):
    for _ in range(turns):
        await asyncio.sleep(0)


class Watched:
    """A gate and what has happened at it. `asked` holds (account, task) in the order of asking."""

    def __init__(self, slots):
        self.slots = slots
        self.gate = FairGate(slots)
        self.asked = []
        self.granted = []
        self.held = Counter()

    async def _acquire(self, account):
        await self.gate.acquire(account)
        self.held[account] += 1
        self.granted.append(account)

    async def ask(self, account):
        task = asyncio.create_task(self._acquire(account))
        self.asked.append((account, task))
        await settle(1)
        return task

    def release(self, account):
        self.held[account] -= 1
        self.gate.release(account)

    def waiting(self):
        return Counter(account for account, task in self.asked if not task.done())

    async def finish(self):
        for _, task in self.asked:
            task.cancel()
        await asyncio.gather(*(task for _, task in self.asked), return_exceptions=True)
        for account in list(self.held.elements()):
            self.release(account)

    def assert_empty(self):
        gate = self.gate
        assert (gate._free, gate.in_use, gate.waiting) == (self.slots, 0, 0)
        assert not any((gate._held, gate._queues, gate._levels))


async def test_a_free_slot_is_taken_without_waiting():
    gate = FairGate(2)
    for account in (ALICE, ALICE):
        with pytest.raises(StopIteration):
            gate.acquire(account).send(None)
    assert (gate.in_use, gate.waiting) == (2, 0)


async def test_slots_that_are_taken_are_waited_for_in_order():
    watched = Watched(1)
    first, second, third = [await watched.ask(ALICE) for _ in range(3)]
    assert (first.done(), second.done(), third.done(), watched.gate.waiting) == (True, False, False, 2)
    watched.release(ALICE)
    await settle()
    assert (second.done(), third.done()) == (True, False)
    watched.release(ALICE)
    await settle()
    assert third.done()
    await watched.finish()
    watched.assert_empty()


async def test_accounts_take_turns_however_many_requests_they_have():
    watched = Watched(1)
    for account in [ALICE] * 5 + [BOB] * 2 + [CAROL]:
        await watched.ask(account)
    for _ in range(7):
        watched.release(watched.granted[-1])
        await settle()
    assert watched.granted == [ALICE, BOB, CAROL, ALICE, BOB, ALICE, ALICE, ALICE]
    await watched.finish()
    watched.assert_empty()


async def test_an_account_that_has_all_slots_gives_every_slot_that_comes_free_to_others_until_they_have_as_many():
    watched = Watched(4)
    for account in [ALICE] * 10 + [BOB] * 10:
        await watched.ask(account)
    assert watched.held == {ALICE: 4}
    for _ in range(2):
        watched.release(ALICE)
        await settle()
    assert watched.held == {ALICE: 2, BOB: 2}
    for account in (ALICE, BOB, ALICE, BOB, BOB, ALICE):
        watched.release(account)
        await settle()
        assert watched.held == {ALICE: 2, BOB: 2}
    await watched.finish()
    watched.assert_empty()


async def test_slow_requests_do_not_crowd_out_quick_ones():
    """Alice never gives back what she gets; with turns by request alone she would soon have every slot."""
    watched = Watched(8)
    for _ in range(4):
        await watched.ask(ALICE)
        await watched.ask(BOB)
    for account in [ALICE] * 50 + [BOB] * 50:
        await watched.ask(account)
    for _ in range(40):
        watched.release(BOB)
        await settle()
        assert watched.held == {ALICE: 4, BOB: 4}
    await watched.finish()
    watched.assert_empty()


async def test_too_many_waiting_requests_of_one_account_are_refused_and_others_are_not(monkeypatch):
    monkeypatch.setattr(fair, "MAX_WAITING", 3)
    watched = Watched(1)
    for _ in range(4):
        await watched.ask(ALICE)
    with pytest.raises(Overloaded):
        await watched.gate.acquire(ALICE)
    other = await watched.ask(BOB)
    watched.release(ALICE)
    await settle()
    assert other.done()
    await watched.finish()
    watched.assert_empty()


async def test_who_gets_no_slot_by_its_deadline_is_told_and_leaves_no_trace():
    watched = Watched(1)
    await watched.ask(ALICE)
    now = asyncio.get_running_loop().time()
    for deadline in (now - 1, now + 0.01):
        with pytest.raises(TimeoutError):
            await watched.gate.acquire(BOB, deadline)
    assert watched.gate.waiting == 0
    await watched.finish()
    watched.assert_empty()


async def test_a_deadline_does_not_matter_to_who_gets_a_slot():
    gate = FairGate(1)
    await gate.acquire(ALICE, asyncio.get_running_loop().time() - 1)
    task = asyncio.create_task(gate.acquire(BOB, asyncio.get_running_loop().time() + 60))
    await settle()
    gate.release(ALICE)
    await task
    assert gate.in_use == 1


@pytest.mark.parametrize("turns", range(3))
@pytest.mark.parametrize("order", ["release, cancel", "cancel, release"])
async def test_a_cancellation_beside_a_grant_loses_no_slot(turns, order):
    watched = Watched(1)
    await watched.ask(ALICE)
    task, other = await watched.ask(BOB), await watched.ask(CAROL)
    steps = {"release": lambda: watched.release(ALICE), "cancel": task.cancel}
    first, second = order.split(", ")
    steps[first]()
    await settle(turns)
    steps[second]()
    await settle()
    if task.cancelled():
        assert other.done()
    else:
        watched.release(BOB)
        await settle()
        assert other.done()
    await watched.finish()
    watched.assert_empty()


async def test_a_request_that_is_cancelled_before_it_began_takes_nothing():
    gate = FairGate(1)
    task = asyncio.create_task(gate.acquire(ALICE))
    task.cancel()
    await settle()
    assert (gate.in_use, gate.waiting) == (0, 0)


async def test_a_slot_that_was_not_taken_cannot_be_given_back():
    gate = FairGate(1)
    with pytest.raises(KeyError):
        gate.release(ALICE)
    assert gate.in_use == 0


def test_a_gate_without_slots_is_refused():
    with pytest.raises(ValueError, match="got 0"):
        FairGate(0)


accounts = st.integers(1, 4).map(lambda number: UUID(int=number))
steps = st.one_of(
    st.tuples(st.just("ask"), accounts),
    st.tuples(st.just("release"), st.integers(0, 10_000)),
    st.tuples(st.just("cancel"), st.integers(0, 10_000)),
    st.tuples(st.just("turn"), st.integers(1, 3)),
)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 5), st.lists(steps, max_size=50))
def test_no_slot_is_lost_or_idle_while_somebody_waits_whatever_happens(slots, steps):
    async def run():
        watched = Watched(slots)
        for what, value in steps:
            if what == "ask":
                watched.asked.append((value, asyncio.create_task(watched._acquire(value))))
            elif what == "turn":
                await settle(value)
            elif what == "release" and watched.held.total():
                watched.release(sorted(watched.held.elements())[value % watched.held.total()])
            elif what == "cancel" and watched.asked:
                watched.asked[value % len(watched.asked)][1].cancel()
            assert watched.held.total() <= watched.gate.in_use <= slots
            assert watched.gate.in_use == slots or not watched.gate.waiting
        await settle()
        assert watched.gate.in_use == watched.held.total()
        assert watched.gate.waiting == watched.waiting().total()
        await watched.finish()
        watched.assert_empty()

    asyncio.run(run())


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 5), st.lists(steps.filter(lambda step: step[0] != "turn"), max_size=50))
def test_no_account_gets_a_slot_while_one_that_has_fewer_waits(slots, steps):
    async def run():
        watched = Watched(slots)
        for what, value in steps:
            before, waiting = Counter(watched.held), watched.waiting()
            if what == "ask":
                await watched.ask(value)
                if before.total() == slots:
                    assert watched.held == before
                continue
            if what == "cancel":
                if watched.asked:
                    watched.asked[value % len(watched.asked)][1].cancel()
                    await settle()
                continue
            if not before.total():
                continue
            gives = sorted(before.elements())[value % before.total()]
            before[gives] -= 1
            count = len(watched.granted)
            watched.release(gives)
            await settle()
            granted = watched.granted[count:]
            assert len(granted) == bool(waiting)
            for account in granted:
                assert waiting[account]
                assert before[account] == min(before[other] for other in waiting)
        await watched.finish()
        watched.assert_empty()

    asyncio.run(run())


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 4), st.lists(accounts, min_size=2, max_size=30), st.lists(st.integers(0, 1000), max_size=60))
def test_an_account_that_has_nothing_waits_for_no_more_than_one_grant_to_each_of_the_others(slots, asks, ends):
    """Requests end in any order, and everybody asks again at once."""

    async def run():
        watched = Watched(slots)
        for account in asks:
            await watched.ask(account)
        passed = Counter()
        for end in ends:
            if not watched.waiting():
                break
            has_nothing = {account for account in watched.waiting() if not watched.held[account]}
            gives = sorted(watched.held.elements())[end % slots]
            watched.release(gives)
            await watched.ask(gives)
            await settle()
            passed = Counter({account: passed[account] + 1 for account in has_nothing - {watched.granted[-1]}})
            assert all(count < len(set(asks)) for count in passed.values())
        await watched.finish()
        watched.assert_empty()

    asyncio.run(run())


async def test_waiting_accounts_cost_nothing_when_they_are_gone():
    watched = Watched(1)
    await watched.ask(ALICE)
    tasks = [await watched.ask(UUID(int=number)) for number in range(10, 510)]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await watched.finish()
    watched.assert_empty()

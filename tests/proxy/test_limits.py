import math
from fractions import Fraction
from uuid import UUID

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pymon.directory.model import Quota
from pymon.proxy.limits import PASS_SECONDS, AccountLimits, AddressLimits, PassLimits, Reason
from pymon.token_bucket import TokenBucket

ALICE, BOB = UUID(int=1), UUID(int=2)

pauses = st.lists(st.floats(0, 20, allow_nan=False), max_size=60)
rates = st.floats(0.01, 10_000)
bursts = st.integers(1, 50)
starts = st.floats(0, 1e7)


def quota(rate=100.0, burst=1000, concurrency=64):
    return Quota(requests_per_second=rate, burst=burst, concurrency=concurrency)


def times(start, pauses):
    now = start
    for pause in pauses:
        now += pause
        yield now


@settings(deadline=None)
@given(rates, bursts, starts, pauses)
def test_in_any_window_a_bucket_gives_at_most_its_burst_and_its_rate(rate, burst, start, pauses):
    bucket = TokenBucket(rate, burst)
    granted = [now for now in times(start, pauses) if bucket.take(now) == 0.0]
    for first, begin in enumerate(granted):
        for last in range(first, len(granted)):
            window = Fraction(granted[last]) - Fraction(begin)
            assert last - first + 1 <= burst + window * Fraction(rate) + Fraction(1, 1000)


@settings(deadline=None)
@given(rates, bursts, starts, pauses)
def test_a_bucket_agrees_with_exact_arithmetic(rate, burst, start, pauses):
    bucket, tokens, before = TokenBucket(rate, burst), Fraction(burst), Fraction(start)
    for now in times(start, pauses):
        tokens = min(Fraction(burst), tokens + (Fraction(now) - before) * Fraction(rate))
        before = Fraction(now)
        assume(abs(tokens - 1) > Fraction(1, 1000))
        wait = bucket.take(now)
        assert (wait == 0.0) is (tokens >= 1)
        if tokens >= 1:
            tokens -= 1
        else:
            assert wait == pytest.approx(float((1 - tokens) / Fraction(rate)), rel=1e-2)


@settings(deadline=None)
@example(rate=4426.5, burst=1, start=4194284.0, pauses=[20.0, 0.0])
@given(rates, bursts, starts, pauses)
def test_who_waits_as_long_as_it_was_told_gets_a_token(rate, burst, start, pauses):
    bucket, now = TokenBucket(rate, burst), start
    for pause in pauses:
        now += pause
        wait = bucket.take(now)
        assert wait >= 0.0
        if wait:
            assert bucket.wait(now) == wait
            now += wait
            assert bucket.wait(now) == 0.0
            assert bucket.take(now) == 0.0


@pytest.mark.parametrize("rate", [3, 100, 1000])
@pytest.mark.parametrize("start", [10.0, 1e5, 1e7])
def test_the_last_bit_of_a_float_costs_nobody_its_token(rate, start):
    for number in range(200):
        bucket, now = TokenBucket(rate, 1), start + number / 7
        assert bucket.take(now) == 0.0
        now += 0.1 / rate
        now += bucket.take(now)
        assert bucket.take(now) == 0.0


def test_a_full_bucket_gives_its_burst_at_once_and_then_its_rate():
    bucket = TokenBucket(2, 3)
    assert [bucket.take(100.0) for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 0.5]
    assert [bucket.take(100.5), bucket.take(100.5)] == [0.0, 0.5]
    assert [bucket.take(1e6) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_a_bucket_says_how_long_to_wait():
    bucket = TokenBucket(1 / 10.0, 2)
    assert [bucket.take(0.0), bucket.take(0.0), bucket.take(0.0)] == [0.0, 0.0, 10.0]
    assert bucket.take(4.0) == pytest.approx(6.0)
    assert [bucket.take(10.0), bucket.take(10.0)] == [0.0, pytest.approx(10.0)]
    assert [bucket.take(1000.0) for _ in range(3)] == [0.0, 0.0, 10.0]


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing():
    bucket = TokenBucket(1, 2)
    assert bucket.take(100.0) == bucket.take(50.0) == 0.0
    assert bucket.take(50.0) == 1.0
    assert bucket.take(101.0) == 0.0


def test_a_rate_of_nothing_is_unlimited():
    bucket = TokenBucket(0, 1)
    assert {bucket.take(5.0) for _ in range(5000)} == {0.0}
    assert bucket.wait(5.0) == 0.0


def test_an_account_over_its_rate_is_told_when_to_come_again():
    limits, mine = AccountLimits(), quota(rate=4, burst=2)
    for _ in range(2):
        assert limits.admit(ALICE, mine, 10.0) is None
    refused = limits.admit(ALICE, mine, 10.0)
    assert (refused.reason, refused.retry_after_seconds) == (Reason.RATE, 0.25)
    assert limits.admit(ALICE, mine, 10.25) is None


def test_accounts_have_limits_of_their_own():
    limits, mine = AccountLimits(), quota(rate=1, burst=1)
    assert limits.admit(ALICE, mine, 10.0) is None
    assert limits.admit(ALICE, mine, 10.0).reason is Reason.RATE
    assert limits.admit(BOB, mine, 10.0) is None


def test_an_account_has_so_many_requests_under_way_and_no_more():
    limits, mine = AccountLimits(), quota(rate=0, concurrency=2)
    assert [limits.admit(ALICE, mine, 1.0) for _ in range(2)] == [None, None]
    refused = limits.admit(ALICE, mine, 1.0)
    assert refused.reason is Reason.CONCURRENCY
    assert refused.retry_after_seconds > 0
    limits.leave(ALICE)
    assert limits.admit(ALICE, mine, 1.0) is None
    assert limits.admit(ALICE, mine, 1.0).reason is Reason.CONCURRENCY


def test_what_is_refused_for_concurrency_takes_no_token():
    limits, mine = AccountLimits(), quota(rate=1, burst=2, concurrency=1)
    assert limits.admit(ALICE, mine, 1.0) is None
    for _ in range(10):
        assert limits.admit(ALICE, mine, 1.0).reason is Reason.CONCURRENCY
    limits.leave(ALICE)
    assert limits.admit(ALICE, mine, 1.0) is None


def test_another_quota_is_in_force_at_once():
    limits, narrow, wide = (
        AccountLimits(),
        quota(rate=1, burst=1, concurrency=9),
        quota(rate=10, burst=4, concurrency=9),
    )
    assert limits.admit(ALICE, narrow, 1.0) is None
    assert limits.admit(ALICE, narrow, 1.0).retry_after_seconds == 1.0
    assert [limits.admit(ALICE, wide, 1.0) for _ in range(3)] == [None] * 3
    assert limits.admit(ALICE, wide, 1.0).retry_after_seconds == pytest.approx(0.1)
    assert limits.admit(ALICE, quota(rate=0, burst=1, concurrency=9), 1.0) is None
    assert limits.admit(ALICE, narrow, 1.0) is None
    assert limits.admit(ALICE, narrow, 1.0).reason is Reason.RATE
    assert limits.admit(ALICE, quota(rate=1, burst=1, concurrency=1), 99.0).reason is Reason.CONCURRENCY


def test_a_smaller_burst_never_costs_more_than_itself():
    limits = AccountLimits()
    for _ in range(900):
        assert limits.admit(ALICE, quota(rate=1, burst=1000, concurrency=9999), 1.0) is None
    assert limits.admit(ALICE, quota(rate=1, burst=10, concurrency=9999), 1.0).retry_after_seconds == 1.0


def test_a_pass_over_all_containers_may_come_at_once_and_one_more_on_credit():
    limits, mine = PassLimits(), quota(rate=100)
    assert [limits.admit(ALICE, mine, 20_000, 20_000, 7.0) for _ in range(3)] == [0.0, 0.0, pytest.approx(5.0)]
    assert limits.admit(ALICE, mine, 20_000, 20_000, 11.9) == pytest.approx(0.1)
    assert limits.admit(BOB, mine, 20_000, 20_000, 11.9) == 0.0
    assert limits.admit(ALICE, mine, 20_000, 20_000, 12.0) == 0.0
    assert limits.admit(ALICE, mine, 20_000, 20_000, 12.0) == pytest.approx(5.0)


def test_who_comes_every_five_seconds_is_never_refused():
    limits = PassLimits()
    assert [limits.admit(ALICE, quota(), 10**6, 10**6, 3.0 + 5.0 * n) for n in range(1000)] == [0.0] * 1000


def test_a_shard_costs_its_part():
    limits, now = PassLimits(), 50.0
    granted = [limits.admit(ALICE, quota(), 500, 20_000, now) for _ in range(100)].count(0.0)
    assert granted == 80  # two passes of 40
    assert limits.admit(ALICE, quota(), 500, 20_000, now) == pytest.approx(0.125)
    assert limits.admit(ALICE, quota(), 500, 20_000, now + 0.125) == 0.0


def test_few_containers_may_be_read_as_often_as_the_quota_allows():
    limits, mine = PassLimits(), quota(rate=100)
    granted = [limits.admit(ALICE, mine, 1, 1, 1.0) for _ in range(2000)].count(0.0)
    assert granted == 1000
    assert limits.admit(ALICE, mine, 1, 1, 1.02) == 0.0
    assert {limits.admit(BOB, quota(rate=0), 10**6, 10**6, 1.0) for _ in range(100)} == {0.0}


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 8), st.integers(1, 3000), st.integers(1, 3000)), max_size=80))
def test_no_account_owes_more_than_a_pass_however_its_containers_change(steps):
    limits, now, passes = PassLimits(), 1.0, 0.0
    for pause, part, whole in steps:
        now += pause
        read = min(part, whole)
        wait = limits.admit(ALICE, quota(rate=1e-6), read, whole, now)
        assert 0.0 <= wait <= PASS_SECONDS * 1.001
        if not wait:
            passes += read / whole
    assert passes <= 2.001 + (now - 1.0) / PASS_SECONDS


def test_of_too_many_accounts_those_that_asked_longest_ago_are_forgotten():
    limits = PassLimits(2)
    for account in (ALICE, BOB, UUID(int=3)):
        assert limits.admit(account, quota(), 10**6, 10**6, 1.0) == 0.0
    assert len(limits) == 2


def test_the_same_quota_from_another_snapshot_changes_nothing():
    limits = AccountLimits()
    assert limits.admit(ALICE, quota(rate=1, burst=1), 1.0) is None
    assert limits.admit(ALICE, quota(rate=1, burst=1), 1.0).reason is Reason.RATE


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=200), st.integers(1, 4))
def test_idle_accounts_are_bounded_and_requests_under_way_are_never_forgotten(steps, bound):
    limits, mine, under_way = AccountLimits(bound), quota(rate=0, concurrency=3), dict.fromkeys(range(10), 0)
    for number, enters in steps:
        account = UUID(int=number)
        if enters:
            admitted = limits.admit(account, mine, 1.0) is None
            assert admitted is (under_way[number] < 3)
            under_way[number] += admitted
        elif under_way[number]:
            limits.leave(account)
            under_way[number] -= 1
        assert len(limits) <= max(bound, sum(1 for count in under_way.values() if count) + 1)


def test_the_account_that_asked_longest_ago_is_forgotten_first():
    limits, mine = AccountLimits(2), quota(rate=1, burst=1)
    for account in (ALICE, BOB):
        assert limits.admit(account, mine, 1.0) is None
        limits.leave(account)
    assert limits.admit(ALICE, mine, 1.0).reason is Reason.RATE
    assert limits.admit(UUID(int=3), mine, 1.0) is None
    assert limits.admit(ALICE, mine, 1.0).reason is Reason.RATE
    assert limits.admit(BOB, mine, 1.0) is None


def test_an_address_that_fails_too_often_is_blocked_until_its_rate_lets_it():
    limits = AddressLimits(rate=0.5, burst=3, bound=10)
    assert limits.blocked("192.0.2.1", 1.0) == 0.0
    for _ in range(3):
        assert limits.blocked("192.0.2.1", 1.0) == 0.0
        limits.failed("192.0.2.1", 1.0)
    assert limits.blocked("192.0.2.1", 1.0) == 2.0
    assert limits.blocked("192.0.2.1", 2.0) == 1.0
    assert limits.blocked("192.0.2.2", 1.0) == 0.0
    assert limits.blocked("192.0.2.1", 3.0) == 0.0


def test_failures_while_blocked_do_not_block_for_longer():
    limits = AddressLimits(rate=1, burst=1, bound=10)
    for _ in range(1000):
        limits.failed("192.0.2.1", 1.0)
    assert limits.blocked("192.0.2.1", 1.0) == 1.0


def test_the_networks_that_failed_longest_ago_are_forgotten():
    limits = AddressLimits(rate=0.001, burst=1, bound=3)
    for last in (1, 2, 3, 1, 4):
        limits.failed(f"192.0.2.{last}", 1.0)
    assert len(limits) == 3
    assert [bool(limits.blocked(f"192.0.2.{last}", 1.0)) for last in (1, 2, 3, 4)] == [True, False, True, True]


def test_ipv6_addresses_of_one_64_are_one():
    limits = AddressLimits(rate=0.001, burst=1, bound=3)
    limits.failed("2001:db8:1:2::1", 1.0)
    assert limits.blocked("2001:0DB8:1:2:ffff::2", 1.0)
    assert not limits.blocked("2001:db8:1:3::1", 1.0)


@settings(deadline=None)
@given(st.text())
def test_any_text_is_an_address(text):
    limits = AddressLimits(1, 1, 1)
    limits.failed(text, 1.0)
    assert limits.blocked(text, 1.0) == 1.0
    assert math.isfinite(limits.blocked(text, 0.0))

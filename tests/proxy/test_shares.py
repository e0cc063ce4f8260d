"""How quotas are divided among proxies: the arithmetic, the limits that apply it, and proxies that do it together."""

from __future__ import annotations

import asyncio
import contextlib
import time
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymon.directory import demand
from pymon.directory.model import Quota
from pymon.proxy import quota_shares
from pymon.proxy.limits import AccountLimits, Reason
from pymon.proxy.shares import MAX_ACCOUNTS, MIN_DEMAND, averaged, reported, share, shares
from tests.proxy.agents import until
from tests.proxy.running import Site, Tenant, on_uvloop, running

ALICE = UUID(int=1)

demands = st.lists(st.one_of(st.just(0.0), st.floats(MIN_DEMAND, 1)), min_size=1, max_size=50)


@given(demands)
def test_all_shares_are_a_quota_and_less_than_half_of_one_more(demands: list[float]) -> None:
    count = len(demands)
    found = [share(demands, own) for own in range(count)]
    assert 1 - 1e-9 <= sum(found) <= 1 + (count - 1) / (2 * count) + 1e-9
    assert all(1 / (2 * count) <= one <= 1 for one in found)


@given(demands)
def test_what_is_given_where_demand_is_steady_is_at_most_a_sixth_above_the_quota(demands: list[float]) -> None:
    """A proxy gives no more than it is asked for. Who asks for little leaves it to the others, but for the minimum."""
    given_out = sum(min(demand, share(demands, own)) for own, demand in enumerate(demands))
    assert given_out <= 7 / 6 + 1e-9


@given(demands, st.floats(MIN_DEMAND, 1))
def test_who_uses_one_proxy_alone_has_all_there(demands: list[float], own: float) -> None:
    assert share([own, *[0.0 for _ in demands]], 0) == 1


def test_every_proxy_computes_the_same() -> None:
    here, there = {1: 0.9, 2: 0.2}, {1: 0.1, 3: 1.0}
    assert shares(here, [there]) == {1: 0.9, 2: 1.0, 3: 0.25}
    assert shares(there, [here]) == {1: 0.25, 2: 0.25, 3: 1.0}
    assert shares({}, [{}]) == {}


def test_what_is_reported_is_bounded() -> None:
    many = {number: number / 10_000 for number in range(10_000)}
    found = reported(many)
    assert len(found) == MAX_ACCOUNTS
    assert min(found.values()) == 0.9
    assert reported({1: MIN_DEMAND, 2: MIN_DEMAND / 2}) == {1: MIN_DEMAND}


def test_an_average_follows_within_seconds_and_ends() -> None:
    average: dict[int, float] = {}
    for _ in range(4):
        average = averaged(average, {1: 5.0})
    assert average[1] > 0.9
    for _ in range(8):
        average = averaged(average, {})
    assert average == {}


# --- limits ---------------------------------------------------------------------------------------


def admitted(limits: AccountLimits, quota: Quota, now: float) -> int:
    count = 0
    while limits.admit(ALICE, quota, now) is None:
        limits.leave(ALICE)
        count += 1
    return count


def test_a_share_of_rate_burst_and_concurrency() -> None:
    limits, quota = AccountLimits(), Quota(requests_per_second=100, burst=40, concurrency=3)
    limits.divide({ALICE.int: 0.5}, 0.25)
    assert admitted(limits, quota, 0.0) == 20
    assert admitted(limits, quota, 0.1) == 5
    limits.divide({}, 0.25)
    assert admitted(limits, quota, 100.0) == 10
    limits.divide({ALICE.int: 0.5}, 0.25)
    held = [limits.admit(ALICE, quota, 200.0) for _ in range(3)]
    assert held[:2] == [None, None]
    assert held[2] is not None
    assert held[2].reason is Reason.CONCURRENCY


def test_shares_that_go_and_come_give_no_tokens() -> None:
    limits, quota = AccountLimits(), Quota(requests_per_second=1, burst=100)
    assert admitted(limits, quota, 0.0) == 100
    for _ in range(10):
        limits.divide({}, 0.25)
        assert admitted(limits, quota, 0.0) == 0
        limits.divide({}, 1.0)
        assert admitted(limits, quota, 0.0) == 0


def test_a_quota_that_is_changed_gives_what_it_adds() -> None:
    limits = AccountLimits()
    limits.divide({}, 0.5)
    assert admitted(limits, Quota(requests_per_second=1, burst=100), 0.0) == 50
    assert admitted(limits, Quota(requests_per_second=1, burst=140), 0.0) == 20


def test_demand_is_what_was_asked_for_refused_or_not() -> None:
    limits, quota = AccountLimits(), Quota(requests_per_second=10, burst=1, concurrency=4)
    for _ in range(30):
        limits.admit(ALICE, quota, 0.0)
    assert limits.demands(2.0) == {ALICE.int: 1.5}
    assert limits.demands(1.0) == {}
    unlimited = Quota(requests_per_second=0, burst=1, concurrency=4)
    limits.admit(ALICE, unlimited, 0.0)
    assert limits.demands(1.0) == {ALICE.int: 0.5}, "two under way of four"


# --- proxies --------------------------------------------------------------------------------------


@pytest.fixture
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demand, "TELL_SECONDS", 0.1)
    monkeypatch.setattr(quota_shares, "MEASURE_SECONDS", 0.1)


def site_and_tenant(folder) -> tuple[Site, Tenant]:
    site = Site(folder)
    alice = site.account("alice")
    site.directory.set_quota("alice", requests_per_second=1000.0, burst=1, concurrency=512)
    return site, alice


def at(proxy: object, tenant: Tenant) -> float:
    """The share of a tenant at a proxy."""
    limits = proxy.proxy.quotas.limits
    return limits._shares.get(tenant.uuid.int, limits._share)


@pytest.mark.usefixtures("_often")
@on_uvloop
async def test_quotas_follow_the_use_and_stay_while_the_directory_is_away(tmp_path) -> None:
    site, alice = site_and_tenant(tmp_path)
    second = tmp_path / "second"
    second.mkdir()
    async with running(site) as one, running(site, data_dir=second) as two:
        await until(lambda: (at(one, alice), at(two, alice)) == (0.5, 0.5))
        busy = one

        async def use() -> None:
            while True:
                asked, end = busy, time.monotonic() + 0.2
                async with asked.client(alice) as client:
                    while busy is asked and time.monotonic() < end:
                        await client.ask("/v1/discover")

        using = asyncio.create_task(use())
        await until(lambda: (at(one, alice), at(two, alice)) == (1.0, 0.25))
        busy = two
        await until(lambda: (at(one, alice), at(two, alice)) == (0.25, 1.0))
        assert await one.metric("pymon_proxy_quota_proxies") == 2
        database = site.data_dir / "directory.db"
        database.rename(site.data_dir / "away.db")
        await until(lambda: one.proxy.quotas.error and two.proxy.quotas.error)
        assert await two.metric("pymon_proxy_quota_exchange_up") == 0
        busy = one
        await asyncio.sleep(1.0)  # ten times as long as an exchange takes: nothing may change
        assert (at(one, alice), at(two, alice)) == (0.25, 1.0)
        (site.data_dir / "away.db").rename(database)
        await until(lambda: (at(one, alice), at(two, alice)) == (1.0, 0.25))
        using.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await using

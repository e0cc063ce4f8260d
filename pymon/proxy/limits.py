"""How much one may ask: by account, requests and requests at a time; by source address, failed authentications.

Pure: the time is an argument, in seconds of any clock that does not go back. Not thread-safe.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from pymon.peer import source_of
from pymon.token_bucket import TokenBucket

if TYPE_CHECKING:
    from uuid import UUID

    from pymon.directory.model import Quota

MAX_IDLE_ACCOUNTS = 10_000
"""More accounts than these are remembered only while they have requests under way."""

BUSY_RETRY_SECONDS = 1.0
"""When to come again is not known to who has too many requests under way; this is what it is told."""

_LOOKS = 16
"""Accounts looked at in one go when there are too many; more than one goes for each that comes."""


class Reason(StrEnum):
    """Which limit an account is over."""

    RATE = "rate"
    CONCURRENCY = "concurrency"


class Throttled(NamedTuple):
    """A request that may not go on, and the seconds after which another may."""

    reason: Reason
    retry_after_seconds: float


class _Usage:
    """What one account has taken."""

    __slots__ = ("bucket", "quota", "under_way")

    def __init__(self, quota: Quota) -> None:
        self.bucket = TokenBucket(quota.requests_per_second, quota.burst)
        self.quota = quota
        self.under_way = 0


class AccountLimits:
    """The requests of each account, at most so many a second and so many at a time."""

    def __init__(self, max_idle: int = MAX_IDLE_ACCOUNTS) -> None:
        self._max_idle = max_idle
        # A UUID is hashed and compared in Python, its number in C.
        self._accounts: OrderedDict[int, _Usage] = OrderedDict()

    def __len__(self) -> int:
        return len(self._accounts)

    def admit(self, account: UUID, quota: Quota, now: float) -> Throttled | None:
        """Let a request in: None, and `leave` has to be called when it ends. A refused one takes no token.

        quota: the account's, as it is now.
        """
        key = account.int
        usage = self._accounts.get(key)
        if usage is None:
            self._forget_idle(self._max_idle - 1)
            usage = self._accounts[key] = _Usage(quota)
        else:
            self._accounts.move_to_end(key)
            if usage.quota is not quota:
                if usage.quota != quota:
                    usage.bucket.change(quota.requests_per_second, quota.burst, now)
                usage.quota = quota
        if usage.under_way >= quota.concurrency:
            return Throttled(Reason.CONCURRENCY, BUSY_RETRY_SECONDS)
        wait = usage.bucket.take(now)
        if wait:
            return Throttled(Reason.RATE, wait)
        usage.under_way += 1
        return None

    def charge(self, account: UUID, requests: int) -> None:
        """A request that was let in stands for so many more: they count against the rate, and it goes on."""
        self._accounts[account.int].bucket.owe(requests)

    def leave(self, account: UUID) -> None:
        """A request that was let in has ended."""
        usage = self._accounts[account.int]
        usage.under_way -= 1
        if not usage.under_way:
            self._forget_idle(self._max_idle)

    def _forget_idle(self, keep: int) -> None:
        """Forget accounts that asked longest ago and have nothing under way, until there are no more than `keep`."""
        if len(self._accounts) <= keep:
            return
        for _ in range(_LOOKS):
            key, usage = self._accounts.popitem(last=False)
            if usage.under_way:
                self._accounts[key] = usage
            elif len(self._accounts) <= keep:
                return


class AddressLimits:
    """Failed authentications from each source address, `burst` at once and then `rate` a second; IPv6 by /64.

    Of more than `bound` addresses those that failed longest ago are forgotten.
    """

    def __init__(self, rate: float, burst: float, bound: int) -> None:
        self._rate = rate
        self._burst = burst
        self._bound = bound
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def failed(self, address: str, now: float) -> None:
        """Count a failed authentication."""
        key = source_of(address)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self._rate, self._burst)
            if len(self._buckets) > self._bound:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        bucket.take(now)

    def blocked(self, address: str, now: float) -> float:
        """Seconds for which nothing from there is to be authenticated: 0.0 when it may be."""
        if not self._buckets:
            return 0.0
        bucket = self._buckets.get(source_of(address))
        return 0.0 if bucket is None else bucket.wait(now)

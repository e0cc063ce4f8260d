"""How much one may ask: by account, requests and requests at a time; by source address, failed authentications.

Pure: the time is an argument, in seconds of any clock that does not go back. Not thread-safe.
"""

from __future__ import annotations

import socket
from collections import OrderedDict
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from uuid import UUID

    from pymon.directory.model import Quota

MAX_IDLE_ACCOUNTS = 10_000
"""More accounts than these are remembered only while they have requests under way."""

BUSY_RETRY_SECONDS = 1.0
"""When to come again is not known to who has too many requests under way; this is what it is told."""

_LOOKS = 16
"""Accounts looked at in one go when there are too many; more than one goes for each that comes."""

_ROUNDING = 1e-6
"""Tokens. Who waited for as long as it was told must not miss its token by the last bit of a float."""

_IPV6_PREFIX_BYTES = 8
_MAPPED_IPV4 = bytes(10) + b"\xff\xff"


class TokenBucket:
    """`rate` tokens a second up to `burst`, full at first. A rate of 0 is unlimited."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = self._tokens = float(burst)
        self._at = float("-inf")

    def _refill(self, now: float) -> None:
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now

    def take(self, now: float) -> float:
        """Take a token: 0.0, or when there is none the seconds until there is."""
        if not self._rate:
            return 0.0
        if now > self._at:
            tokens = self._tokens + (now - self._at) * self._rate
            self._tokens = tokens = min(tokens, self._burst)
            self._at = now
        else:
            tokens = self._tokens
        if tokens >= 1.0 - _ROUNDING:
            self._tokens = tokens - 1.0
            return 0.0
        return (1.0 - tokens) / self._rate

    def owe(self, tokens: int) -> None:
        """Take tokens that may not be there yet; `take` waits until they are made up for."""
        self._tokens -= tokens

    def wait(self, now: float) -> float:
        """Seconds until `take` would give a token: 0.0 when it would now."""
        if not self._rate:
            return 0.0
        self._refill(now)
        return 0.0 if self._tokens >= 1.0 - _ROUNDING else (1.0 - self._tokens) / self._rate

    def change(self, rate: float, burst: float, now: float) -> None:
        """Another limit from now on. What was taken stays taken, but never more than the new burst."""
        if self._rate:
            self._refill(now)
            taken = self._burst - self._tokens
        else:
            taken = 0.0
        self._rate, self._burst, self._at = rate, float(burst), now
        self._tokens = max(0.0, self._burst - taken)


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
        self._buckets: OrderedDict[str | bytes, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def failed(self, address: str, now: float) -> None:
        """Count a failed authentication."""
        key = network(address)
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
        bucket = self._buckets.get(network(address))
        return 0.0 if bucket is None else bucket.wait(now)


def network(address: str) -> str | bytes:
    """What is limited together: an IPv4 address however it is written, the /64 of an IPv6 address, or else the text."""
    if ":" not in address:
        return address
    try:
        packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except (OSError, ValueError):  # ValueError: a NUL in it
        return address
    if packed.startswith(_MAPPED_IPV4):
        return socket.inet_ntop(socket.AF_INET, packed[len(_MAPPED_IPV4) :])
    return packed[:_IPV6_PREFIX_BYTES]

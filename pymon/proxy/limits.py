"""Rate and concurrency limits: requests by account, and failed authentications by source address.

Pure: the time is an argument, in seconds of a monotonic clock. Not thread-safe.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pymon.peer import source_of
from pymon.token_bucket import BucketsByKey, TokenBucket

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from pymon.directory.model import Quota

MAX_IDLE_ACCOUNTS = 10_000
"""Limit of remembered accounts. Above it, only accounts with requests in progress are remembered."""

BUSY_RETRY_SECONDS = 1.0
"""The Retry-After for an account with too many concurrent requests, for which the true wait is unknown."""

PASS_SECONDS = 5.0
"""Requests that read many containers may read each container of an account once in this time."""

_ROUNDING = 1e-9
_LOOKS = 16
"""Accounts checked for removal in one call. More than one is removed for each that is added."""


class Reason(StrEnum):
    """The limit that an account exceeds."""

    RATE = "rate"
    CONCURRENCY = "concurrency"


class Throttled(NamedTuple):
    """A refused request, and the seconds after which it may be repeated."""

    reason: Reason
    retry_after_seconds: float


class Bucket(Protocol):
    """A token bucket of one account; in one process, or shared by workers."""

    def take(self, now: float) -> float:
        """Take a token. Returns 0.0, or if there is none, the seconds until there will be one."""

    def change(self, rate: float, burst: float, now: float) -> None:
        """Change the limit. Tokens that are missing stay missing."""

    def resize(self, rate: float, burst: float, now: float) -> None:
        """Change the limit. Tokens that are there stay, up to the new burst."""


class Usage:
    """The current usage of one account.

    under_way: number of requests in progress. concurrency: their limit. share: the part of the quota that applies.
    division: of `AccountLimits` when that was looked up. cell: the account's number in shared memory, if it has one.
    """

    __slots__ = ("bucket", "cell", "concurrency", "division", "quota", "share", "under_way")

    def __init__(self, quota: Quota, share: float, division: int) -> None:
        self.bucket: Bucket = TokenBucket(*rate_and_burst(quota, share))
        self.cell: int | None = None
        self.concurrency = _concurrency(quota, share)
        self.quota = quota
        self.share = share
        self.division = division
        self.under_way = 0

    @property
    def rate_and_burst(self) -> tuple[float, float]:
        """Tokens a second, and the most that the bucket holds, of this proxy's share of the quota."""
        return rate_and_burst(self.quota, self.share)

    def renew(self, quota: Quota, share: float, now: float) -> None:
        """Apply another quota or another share."""
        if quota != self.quota:
            self.bucket.change(*rate_and_burst(quota, self.share), now)
        if share != self.share:
            self.bucket.resize(*rate_and_burst(quota, share), now)
        self.concurrency = _concurrency(quota, share)
        self.quota = quota
        self.share = share


def rate_and_burst(quota: Quota, share: float) -> tuple[float, float]:
    """Return the rate and the burst of a share of a quota."""
    return quota.requests_per_second * share, max(1.0, quota.burst * share)


def _concurrency(quota: Quota, share: float) -> int:
    return math.ceil(quota.concurrency * share)


class AccountLimits:
    """Limits the requests of each account by rate and by concurrency, as its quota says, or as a share of it says."""

    def __init__(self, max_idle: int = MAX_IDLE_ACCOUNTS) -> None:
        self._max_idle = max_idle
        # Keys are integers of UUIDs: a UUID is hashed and compared in Python, an integer in C.
        self._accounts: OrderedDict[int, Usage] = OrderedDict()
        self._asked: dict[int, int] = {}
        self._shares: Mapping[int, float] = {}
        self._share = 1.0
        self._division = 0

    def __len__(self) -> int:
        return len(self._accounts)

    def divide(self, shares: Mapping[int, float], share: float) -> None:
        """Apply shares of quotas from now on, by the integer of the account's UUID. share: of all other accounts."""
        if (shares, share) != (self._shares, self._share):
            self._shares, self._share = shares, share
            self._division += 1

    def demands(self, seconds: float) -> dict[int, float]:
        """Return what part of its quota each account asked for since the last call, which was `seconds` ago.

        It is the larger one of rate and concurrency, and above 1 when more was asked for than the quota has. Accounts
        that asked for nothing are left out.
        """
        asked, self._asked = self._asked, {}
        found = {}
        for key, count in asked.items():
            usage = self._accounts.get(key)
            if usage is not None:
                rate = usage.quota.requests_per_second
                found[key] = max(count / (rate * seconds) if rate else 0.0, usage.under_way / usage.quota.concurrency)
        return found

    def admit(self, account: UUID, quota: Quota, now: float) -> Throttled | None:
        """Admit a request and return None, or return why it is refused. A refused request takes no token.

        quota: the current quota of the account. The caller must call `leave` when an admitted request ends.
        """
        return self._admitted(self._current(account.int, quota, now), now)

    @staticmethod
    def _admitted(usage: Usage, now: float) -> Throttled | None:
        if usage.under_way >= usage.concurrency:
            return Throttled(Reason.CONCURRENCY, BUSY_RETRY_SECONDS)
        wait = usage.bucket.take(now)
        if wait:
            return Throttled(Reason.RATE, wait)
        usage.under_way += 1
        return None

    def _current(self, key: int, quota: Quota, now: float) -> Usage:
        """Return the usage of an account with its current limits, and count that it asks."""
        self._asked[key] = self._asked.get(key, 0) + 1
        usage = self._accounts.get(key)
        if usage is None:
            self._forget_idle(self._max_idle - 1)
            usage = self._accounts[key] = self._usage(key, quota, now)
        else:
            self._accounts.move_to_end(key)
            if usage.quota is not quota or usage.division != self._division:
                usage.renew(quota, self.share(key), now)
                usage.division = self._division
        return usage

    def _usage(self, key: int, quota: Quota, now: float) -> Usage:  # noqa: ARG002  # a bucket in shared memory needs it
        return Usage(quota, self.share(key), self._division)

    def share(self, key: int) -> float:
        """Return the share of an account, by the integer of its UUID."""
        return self._shares.get(key, self._share)

    def leave(self, account: UUID) -> None:
        """Record the end of an admitted request."""
        usage = self._accounts[account.int]
        usage.under_way -= 1
        if not usage.under_way:
            self._forget_idle(self._max_idle)

    def _forget_idle(self, keep: int) -> None:
        """Remove the least recently active accounts without requests in progress, until at most `keep` are left.

        Checks at most `_LOOKS` accounts in one call.
        """
        if len(self._accounts) <= keep:
            return
        for _ in range(_LOOKS):
            key, usage = self._accounts.popitem(last=False)
            if usage.under_way:
                self._accounts[key] = usage
            elif len(self._accounts) <= keep:
                return


class PassLimits:
    """Limits requests that read many containers of an account: each container once in `PASS_SECONDS`.

    Reading all containers once is a pass. A full pass may be read at once, and one more on credit. The account's quota
    of requests a second is a lower bound of the containers that it may read a second. An account without that quota is
    not limited here.
    """

    def __init__(self, max_accounts: int = MAX_IDLE_ACCOUNTS) -> None:
        self._max_accounts = max_accounts
        self._accounts: OrderedDict[int, float] = OrderedDict()  # when a full pass may be read again, by account

    def __len__(self) -> int:
        return len(self._accounts)

    def admit(self, account: UUID, quota: Quota, containers: int, whole: int, now: float) -> float:
        """Admit a request that reads `containers` of the account's `whole`.

        Return 0.0 when admitted, else the seconds to wait.
        """
        rate = quota.requests_per_second
        if not rate:
            return 0.0
        key = account.int
        left = 1.0 - max(0.0, self._full_at(key) - now) / PASS_SECONDS  # of a pass; negative for credit used
        left -= containers / max(whole, rate * PASS_SECONDS, 1.0)
        if left < -1.0 - _ROUNDING:
            return (-1.0 - left) * PASS_SECONDS
        self._set_full_at(key, now + (1.0 - left) * PASS_SECONDS)
        return 0.0

    def _full_at(self, key: int) -> float:
        return self._accounts.get(key, 0.0)

    def _set_full_at(self, key: int, full_at: float) -> None:
        self._accounts[key] = full_at
        self._accounts.move_to_end(key)
        if len(self._accounts) > self._max_accounts:
            self._accounts.popitem(last=False)


class AddressLimits:
    """Limits failed authentications of each source address: `burst` at once, then `rate` a second.

    IPv6 addresses count by /64. Above `bound` addresses, those that failed longest ago are forgotten.
    """

    def __init__(self, rate: float, burst: float, bound: int) -> None:
        self._buckets = BucketsByKey(rate, burst, bound)

    def __len__(self) -> int:
        return len(self._buckets)

    def failed(self, address: str, now: float) -> None:
        """Count a failed authentication."""
        self._buckets.take(source_of(address), now)

    def forgive(self, address: str) -> None:
        """Take a failure back: the credential is good after all."""
        self._buckets.give_back(source_of(address))

    def blocked(self, address: str, now: float) -> float:
        """Return the seconds for which an address is blocked, 0.0 when it is not."""
        return self._buckets.wait(source_of(address), now) if len(self._buckets) else 0.0

"""The limits of a worker process, which hold for all workers together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pymon.proxy.fair import FairGate
from pymon.proxy.limits import BUSY_RETRY_SECONDS, AccountLimits, PassLimits, Reason, Throttled, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from pymon.directory.model import Quota
    from pymon.proxy.cells import Cells

RETRY_SECONDS = 0.005
"""How often a worker whose scrapes wait looks whether another worker has freed a slot."""

_ROUNDING_SECONDS = 1e-8


class SharedBucket:
    """A token bucket in shared memory. Its interface is that of `TokenBucket`.

    The limit is there too, so that all workers use the same one while they hear of another one after the other. The
    first of them that changes it keeps the tokens that are in the bucket, up to the new burst. It starts full.
    """

    __slots__ = ("_bursts", "_cell", "_rates", "_times")

    def __init__(self, cells: Cells, cell: int, rate: float, burst: float, now: float) -> None:
        self._times, self._rates, self._bursts = cells.full_at, cells.rates, cells.bursts
        self._cell = cell
        self.change(rate, burst, now)

    def take(self, now: float) -> float:
        """Take a token. Returns 0.0, or if there is none, the seconds until there will be one."""
        cell = self._cell
        rate = self._rates[cell]
        if not rate:
            return 0.0
        full_at = self._times[cell]
        full_at = (max(now, full_at)) + 1 / rate
        wait = full_at - now - self._bursts[cell] / rate
        if wait > _ROUNDING_SECONDS:
            return wait
        self._times[cell] = full_at
        return 0.0

    def change(self, rate: float, burst: float, now: float) -> None:
        """Change the limit, unless another worker has done it."""
        cell = self._cell
        before, after = (self._rates[cell], self._bursts[cell]), (rate, burst)
        if before != after:
            self._times[cell] = moved(self._times[cell], now, before, after)
            self._rates[cell], self._bursts[cell] = after

    resize = change


def moved(full_at: float, now: float, before: tuple[float, float], after: tuple[float, float]) -> float:
    """Return when a bucket is full after its rate and burst changed. The tokens in it stay, up to the new burst.

    before, after: rate and burst. With a rate of 0, which is no limit, a bucket is full, and so is one that was never
    used, whose burst before is 0.
    """
    if not (before[0] and after[0]):
        return now
    tokens = before[1] - max(0.0, full_at - now) * before[0]
    return now + (after[1] - min(tokens, after[1])) / after[0]


class SharedAccountLimits(AccountLimits):
    """`AccountLimits` of one of several workers.

    numbers: the number of each account, by the integer of its UUID. An account without a number has an equal part of
    its quota at each worker.
    """

    def __init__(self, cells: Cells, worker: int, numbers: Mapping[int, int]) -> None:
        super().__init__()
        self._cells = cells
        self._numbers = numbers
        self._own = cells.requests[worker]
        self._others = [counts for number, counts in enumerate(cells.requests) if number != worker]

    def admit(self, account: UUID, quota: Quota, now: float) -> Throttled | None:
        """Admit a request and return None, or return why it is refused."""
        usage = self._current(account.int, quota, now)
        cell = usage.cell
        if cell is None:
            return self._admitted(usage, now)
        under_way = usage.under_way + 1
        self._own[cell] = under_way
        if under_way + sum([counts[cell] for counts in self._others]) > usage.concurrency:
            self._own[cell] = under_way - 1
            return Throttled(Reason.CONCURRENCY, BUSY_RETRY_SECONDS)
        wait = usage.bucket.take(now)
        if wait:
            self._own[cell] = under_way - 1
            return Throttled(Reason.RATE, wait)
        usage.under_way = under_way
        return None

    def leave(self, account: UUID) -> None:
        """Record the end of an admitted request."""
        usage = self._accounts[account.int]
        if usage.cell is not None:
            self._own[usage.cell] = usage.under_way - 1
        super().leave(account)

    def _usage(self, key: int, quota: Quota, now: float) -> Usage:
        number = self._numbers.get(key)
        if number is None:
            return super()._usage(key, quota, now)
        usage = Usage(quota, self.share(key), self._division)
        usage.cell = number
        usage.bucket = SharedBucket(self._cells, number, *usage.rate_and_burst, now)
        return usage

    def share(self, key: int) -> float:
        """Return the share of an account at this worker."""
        share = super().share(key)
        return share if key in self._numbers else share / self._cells.workers


class SharedPassLimits(PassLimits):
    """`PassLimits` of one of several workers. numbers: as in `SharedAccountLimits`."""

    def __init__(self, cells: Cells, numbers: Mapping[int, int]) -> None:
        super().__init__()
        self._times = cells.passed_at
        self._numbers = numbers

    def _full_at(self, key: int) -> float:
        number = self._numbers.get(key)
        return super()._full_at(key) if number is None else self._times[number]

    def _set_full_at(self, key: int, full_at: float) -> None:
        number = self._numbers.get(key)
        if number is None:
            super()._set_full_at(key, full_at)
        else:
            self._times[number] = full_at


class SharedGate(FairGate):
    """A gate whose slots are those of all workers. A worker with more than its part yields to those that wait.

    slots: of all workers together. number: of the node.
    """

    def __init__(self, slots: int, cells: Cells, worker: int, number: int) -> None:
        super().__init__(slots)
        self._slots = slots
        self._number = number
        self._taken = cells.scrapes
        self._own_taken = cells.scrapes[worker]
        self._own_waiting = cells.waiting[worker]
        self._others = [
            (cells.scrapes[other], cells.waiting[other]) for other in range(cells.workers) if other != worker
        ]
        self._timer: asyncio.TimerHandle | None = None

    def _take(self) -> bool:
        number = self._number
        self._own_taken[number] += 1
        if sum([counts[number] for counts in self._taken]) > self._slots:
            self._own_taken[number] -= 1
            return False
        return True

    def _give(self) -> None:
        self._own_taken[self._number] -= 1

    def _passes_on(self) -> bool:
        """Return whether a freed slot goes to a request that waits here."""
        number = self._number
        others = sum(1 for taken, waiting in self._others if taken[number] or waiting[number])
        waited_for = any(waiting[number] for _, waiting in self._others)
        return not (waited_for and self._own_taken[number] * (others + 1) > self._slots)

    def _waits(self) -> None:
        """Called when the number of waiting requests has changed."""
        self._own_waiting[self._number] = self.waiting
        if self.waiting and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._retry)

    def _retry(self) -> None:
        self._timer = None
        while self.waiting and self._take():
            self._grant()
        self._waits()

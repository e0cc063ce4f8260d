"""A semaphore that is fair between accounts: a free slot goes to the waiting account that holds the fewest slots.

On a tie, the account that reached this number of slots first is served first. Within an account, requests are served
in order of arrival. An account with more slots therefore never overtakes a waiting account with fewer, however many
requests it sends, and a slot stays free only when no request waits. There is no preemption: an account above its
share shrinks as its requests end. Use one object for one event loop.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

MAX_WAITING = 1000
"""Maximum number of waiting requests of one account."""


class Overloaded(Exception):  # noqa: N818  # a state of the gate, not a caller's error
    """`MAX_WAITING` requests of the account already wait."""


_Queue = OrderedDict[asyncio.Future[None], None]


class FairGate:
    """A gate of `slots` slots. ValueError when `slots` is less than one."""

    def __init__(self, slots: int) -> None:
        if slots < 1:
            raise ValueError(f"a gate needs a slot, got {slots}")
        self._free = slots
        # Keys are the integers of account UUIDs, which are hashed in C. There are no empty entries.
        self._held: dict[int, int] = {}
        self._queues: dict[int, _Queue] = {}
        # Waiting accounts by the number of slots they hold. At most about sqrt(2 * slots) such numbers can coexist.
        self._levels: dict[int, OrderedDict[int, None]] = {}
        self.waiting = 0
        """Number of waiting requests."""

    @property
    def in_use(self) -> int:
        """Number of slots in use."""
        return sum(self._held.values())

    def enter(self, account: UUID) -> bool:
        """Take a slot if one is free and no request waits. Return False otherwise. `release` returns it."""
        if self.waiting or not self._take():
            return False
        self._held[account.int] = self._held.get(account.int, 0) + 1
        return True

    async def acquire(self, account: UUID, deadline: float | None = None) -> None:
        """Wait for a slot and take it. The caller must call `release` afterwards.

        deadline: in the loop's time; None waits without limit. Raises TimeoutError when no slot is free by then, and
        Overloaded when `MAX_WAITING` requests of the account already wait.
        """
        key = account.int
        if self.enter(account):
            return
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = OrderedDict()
            self._rank(key)
        elif len(queue) >= MAX_WAITING:
            raise Overloaded
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue[granted] = None
        self.waiting += 1
        self._waits()
        try:
            async with asyncio.timeout_at(deadline):
                await granted
        except BaseException:
            if granted in queue:
                self._drop(key, queue, granted)
            elif not granted.cancelled():
                self.release(account)
            raise

    def release(self, account: UUID) -> None:
        """Return a slot that this account holds. Raises KeyError when it holds none."""
        key = account.int
        held = self._held[key] - 1
        if held:
            self._held[key] = held
        else:
            del self._held[key]
        if key in self._queues:
            self._unrank(key, held + 1)
            self._rank(key)
        if self.waiting and self._passes_on():
            self._grant()
        else:
            self._give()

    def _grant(self) -> None:
        """Give a freed slot to the next waiting request, or mark it free when none waits."""
        while self._levels:
            held = min(self._levels)
            key = next(iter(self._levels[held]))
            queue = self._queues[key]
            granted = next(iter(queue))
            self._drop(key, queue, granted)
            if granted.done():  # cancelled, but its `acquire` has not run yet
                continue
            self._held[key] = held + 1
            if queue:
                self._unrank(key, held)
                self._rank(key)
            granted.set_result(None)
            return
        self._give()

    # Overridden by a gate whose slots several processes share.

    def _take(self) -> bool:
        """Take a slot. Return False when none is free."""
        if not self._free:
            return False
        self._free -= 1
        return True

    def _give(self) -> None:
        """Put a slot back, so that the next request may have it."""
        self._free += 1

    def _passes_on(self) -> bool:
        """Return whether a freed slot goes to a request that waits here."""
        return True

    def _waits(self) -> None:
        """Do what is necessary after the number of waiting requests has changed."""

    def _drop(self, key: int, queue: _Queue, granted: asyncio.Future[None]) -> None:
        """Remove a request from its account's queue."""
        del queue[granted]
        self.waiting -= 1
        self._waits()
        if not queue:
            del self._queues[key]
            self._unrank(key, self._held.get(key, 0))

    def _rank(self, key: int) -> None:
        """Queue a waiting account behind the accounts that hold the same number of slots."""
        self._levels.setdefault(self._held.get(key, 0), OrderedDict())[key] = None

    def _unrank(self, key: int, held: int) -> None:
        level = self._levels[held]
        del level[key]
        if not level:
            del self._levels[held]

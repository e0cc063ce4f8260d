"""Slots that accounts share: a slot that comes free goes to the waiting account that has the fewest.

Among accounts that have equally few, the one that came to have so few first goes first, and within an account who
asked first. So an account that waits is never passed over for one that has more, however much that one asks for, and
a slot stays empty only when nobody waits. Nobody is interrupted: who has more than its share gives it back request by
request. For one event loop.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

MAX_WAITING = 1000
"""Requests of one account that may wait."""


class Overloaded(Exception):  # noqa: N818  # the state of a gate, not an error of who asks
    """More requests of the account wait than may."""


_Queue = OrderedDict[asyncio.Future[None], None]


class FairGate:
    """`slots` slots, at least one."""

    def __init__(self, slots: int) -> None:
        if slots < 1:
            raise ValueError(f"a gate needs a slot, got {slots}")
        self._free = slots
        # Accounts by the number of their UUID, which is hashed in C. One that has nothing is in neither.
        self._held: dict[int, int] = {}
        self._queues: dict[int, _Queue] = {}
        # The waiting accounts by how many slots they have. At most sqrt(2 * slots) different numbers can be there.
        self._levels: dict[int, OrderedDict[int, None]] = {}
        self.waiting = 0
        """Requests that wait."""

    @property
    def in_use(self) -> int:
        """Slots that are taken."""
        return sum(self._held.values())

    async def acquire(self, account: UUID, deadline: float | None = None) -> None:
        """Take a slot, to be given back with `release`.

        deadline: the loop's time; TimeoutError when there is no slot by then. Overloaded when too many wait already.
        """
        key = account.int
        if self._free:
            self._free -= 1
            self._held[key] = self._held.get(key, 0) + 1
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
        """Give a slot back that this account took. KeyError when it has none."""
        key = account.int
        held = self._held[key] - 1
        if held:
            self._held[key] = held
        else:
            del self._held[key]
        if not self.waiting:
            self._free += 1
            return
        if key in self._queues:
            self._unrank(key, held + 1)
            self._rank(key)
        self._grant()

    def _grant(self) -> None:
        """Give the slot that came free to the request whose turn it is."""
        while self._levels:
            held = min(self._levels)
            key = next(iter(self._levels[held]))
            queue = self._queues[key]
            granted = next(iter(queue))
            self._drop(key, queue, granted)
            if granted.done():  # cancelled, which its acquire has not heard yet
                continue
            self._held[key] = held + 1
            if queue:
                self._unrank(key, held)
                self._rank(key)
            granted.set_result(None)
            return
        self._free += 1

    def _drop(self, key: int, queue: _Queue, granted: asyncio.Future[None]) -> None:
        """A request does not wait any more."""
        del queue[granted]
        self.waiting -= 1
        if not queue:
            del self._queues[key]
            self._unrank(key, self._held.get(key, 0))

    def _rank(self, key: int) -> None:
        """Put a waiting account behind those that have as many slots."""
        self._levels.setdefault(self._held.get(key, 0), OrderedDict())[key] = None

    def _unrank(self, key: int, held: int) -> None:
        level = self._levels[held]
        del level[key]
        if not level:
            del self._levels[held]

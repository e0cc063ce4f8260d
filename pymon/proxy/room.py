"""A memory budget shared by requests: a limit in total, a limit for each account, and fair queueing between accounts.

Of the waiting accounts, the one that holds the fewest bytes is served first. If its request is larger than what is
free, all others wait behind it, so large requests are not starved. Use one object for one event loop.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, NamedTuple

from pymon.proxy.fair import MAX_WAITING, Overloaded

if TYPE_CHECKING:
    from uuid import UUID


class _Waiting(NamedTuple):
    size: int
    granted: asyncio.Future[None]


class Hold:
    """A reservation of `size` bytes. `release` returns them and may be called more than once."""

    __slots__ = ("_key", "_room", "size")

    def __init__(self, room: Room, key: int, size: int) -> None:
        self._room = room
        self._key = key
        self.size = size

    def resize(self, size: int) -> bool:
        """Change the reservation to `size` bytes. Return False, and change nothing, when the budget is exhausted."""
        if self._room.change(self._key, size - self.size):
            self.size = size
            return True
        return False

    def release(self) -> None:
        """Return all reserved bytes."""
        self.resize(0)


class Room:
    """A budget of `total` bytes, of which one account holds at most `most`."""

    def __init__(self, total: int, most: int) -> None:
        self._free = total
        self._most = most
        self._held: dict[int, int] = {}  # bytes by the account UUID's integer; no zero entries
        self._queues: OrderedDict[int, deque[_Waiting]] = OrderedDict()

    @property
    def in_use(self) -> int:
        """Bytes that all accounts have reserved now."""
        return sum(self._held.values())

    async def take(self, account: UUID, size: int, deadline: float) -> Hold:
        """Wait for `size` bytes and return the reservation.

        Raises ValueError when `size` exceeds the limit of an account, TimeoutError when the bytes are not free by
        `deadline` (the loop's time), and Overloaded when `MAX_WAITING` requests of the account already wait.
        """
        if size > self._most:
            raise ValueError(f"{size} bytes are more than the {self._most} of an account")
        key = account.int
        queue = self._queues.setdefault(key, deque())
        if len(queue) >= MAX_WAITING:
            raise Overloaded
        waiting = _Waiting(size, asyncio.get_running_loop().create_future())
        queue.append(waiting)
        self._grant()
        try:
            async with asyncio.timeout_at(deadline):
                await waiting.granted
        except BaseException:
            if waiting.granted.done() and not waiting.granted.cancelled():
                self.change(key, -size)
            elif waiting in queue:
                queue.remove(waiting)
                if not queue:
                    del self._queues[key]
                self._grant()
            raise
        return Hold(self, key, size)

    def take_now(self, account: UUID, size: int) -> Hold | None:
        """Return a reservation of `size` bytes, or None when they are not free now."""
        return Hold(self, account.int, size) if self.change(account.int, size) else None

    def change(self, key: int, by: int) -> bool:
        """Reserve `by` bytes for an account, or return them when `by` is negative. Used by `Hold`.

        key: the integer of the account's UUID. Return False, and change nothing, when the budget is exhausted.
        """
        held = self._held.get(key, 0) + by
        if by > 0 and (by > self._free or held > self._most):
            return False
        self._free -= by
        if held:
            self._held[key] = held
        else:
            self._held.pop(key, None)
        if by < 0:
            self._grant()
        return True

    def _grant(self) -> None:
        """Grant waiting requests in order for as long as the next one fits."""
        while True:
            able = [key for key, queue in self._queues.items() if self._held.get(key, 0) + queue[0].size <= self._most]
            if not able:
                return
            key = min(able, key=lambda key: self._held.get(key, 0))  # on a tie, the one first in the queue
            queue = self._queues[key]
            size, granted = queue[0]
            if size > self._free:
                return
            queue.popleft()
            if queue:
                self._queues.move_to_end(key)
            else:
                del self._queues[key]
            if granted.done():  # cancelled, but its `take` has not run yet
                continue
            self.change(key, size)
            granted.set_result(None)

"""Runs CPU-bound work in one worker thread and shares that thread fairly between accounts.

Work given as a generator of steps releases the thread after `SLICE_SECONDS`. An account with long work therefore gets
no more thread time than another account that has work. Each step names the node whose data the next step reads. Work
on the data of a node that used more than an equal share of the recent thread time yields to waiting work first.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from pymon.proxy.fair import FairGate, Overloaded
from pymon.service.answer import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from uuid import UUID

_Result = TypeVar("_Result")

SLICE_SECONDS = 0.005

PASSES = 3
"""A slice for a node above its share lets this many waiting slices go first, one after the other."""

HALF_LIFE_SECONDS = 2.0
"""Half-life of the recorded thread time."""

_FORGOTTEN_SECONDS = 1e-5


class NodeTime:
    """Recent thread time of each node, with exponential decay. Pure: the clock is an argument, in seconds."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}
        self._at = 0.0

    def spend(self, seconds: Mapping[str, float], now: float) -> None:
        """Add thread time, in seconds by node name, to the decayed totals at time `now`."""
        faded = 0.5 ** (max(0.0, now - self._at) / HALF_LIFE_SECONDS)
        self._at = now
        self._spent = {
            node: left for node, spent in self._spent.items() if (left := spent * faded) > _FORGOTTEN_SECONDS
        }
        for node, more in seconds.items():
            self._spent[node] = self._spent.get(node, 0.0) + more

    def over(self, node: str) -> bool:
        """Return whether a node used more than an equal share of the recorded time.

        False while its own total is at most two slices.
        """
        spent = self._spent.get(node, 0.0)
        return spent > 2 * SLICE_SECONDS and spent * len(self._spent) > sum(self._spent.values())


class Turns:
    """Schedules work on the worker thread. Use one object for one event loop.

    There is one thread because more threads would keep the GIL from the event loop for longer.
    """

    def __init__(self) -> None:
        self.gate = FairGate(1)
        self._nodes = NodeTime()

    async def run(self, account: UUID, deadline: float, work: Callable[[], _Result]) -> _Result:
        """Run `work` in the thread and return its result.

        deadline: the latest start, in the loop's time. Raises Refusal 503 when the work cannot start by then.
        """
        await self._acquire(account, deadline)
        # A thread cannot be cancelled. The slot is released when the work ends, even if the caller was cancelled.
        working = asyncio.ensure_future(asyncio.to_thread(work))
        working.add_done_callback(lambda _: self.gate.release(account))
        try:
            return await asyncio.shield(working)
        finally:
            del working  # an error in it refers to this frame

    async def run_steps(
        self,
        account: UUID,
        deadline: float,
        steps: Generator[str, None, _Result],
        watch: Callable[[], None],
    ) -> _Result:
        """Run `steps` in slices and return the generator's result.

        deadline: in the loop's time. Raises Refusal 503 when a slice cannot start by then.
        steps: yields the name of the node whose data the next step reads, "" for none.
        watch: called between slices. An exception from it ends the work and is passed on.
        On cancellation, `steps` is closed after the current slice.
        """
        loop = asyncio.get_running_loop()
        node = ""
        while True:
            if loop.time() >= deadline:
                raise _too_busy()
            for _ in range(PASSES):
                await self._acquire(account, deadline)
                if not (self.gate.waiting and self._nodes.over(node)):
                    break
                self.gate.release(account)
            else:
                await self._acquire(account, deadline)
            working = asyncio.ensure_future(asyncio.to_thread(_slice, steps, node))
            working.add_done_callback(lambda _: self.gate.release(account))
            try:
                node, spent, done, result = await asyncio.shield(working)
            except asyncio.CancelledError:
                working.add_done_callback(partial(_closed, steps))
                raise
            finally:
                del working  # an error in it refers to this frame
            self._nodes.spend(spent, loop.time())
            if done:
                return result  # type: ignore[return-value]
            watch()

    async def _acquire(self, account: UUID, deadline: float) -> None:
        try:
            await self.gate.acquire(account, deadline)
        except (Overloaded, TimeoutError):
            raise _too_busy() from None


def _closed(steps: Generator[str, None, object], working: asyncio.Future[object]) -> None:
    """Close the generator of a cancelled caller. Reading the exception keeps asyncio from logging it."""
    if not working.cancelled():
        working.exception()
        steps.close()


def _too_busy() -> Refusal:
    return Refusal(503, "too busy to put the answer together in time", b"Retry-After: 1\r\n")


def _slice(steps: Generator[str, None, _Result], node: str) -> tuple[str, dict[str, float], bool, _Result | None]:
    """Run steps for one slice, in the worker thread.

    Return the node of the next step, the seconds used by node, whether the generator ended, and its result.
    """
    spent: dict[str, float] = {}
    begin = at = time.monotonic()
    while True:
        try:
            following = next(steps)
        except StopIteration as end:
            spent[node] = spent.get(node, 0.0) + time.monotonic() - at
            return "", spent, True, end.value
        now = time.monotonic()
        spent[node] = spent.get(node, 0.0) + now - at
        node, at = following, now
        if now - begin >= SLICE_SECONDS:
            return node, spent, False, None

"""Processing of documents on the event loop, a little at a time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator

SLICE_SECONDS = 0.001
GIVE_WAY_TURNS = 20
IDLE_TURN_SECONDS = 0.0001
"""The processing of a document blocks the event loop for about `SLICE_SECONDS` at a time. The next slice begins when an
iteration of the loop took less than `IDLE_TURN_SECONDS`, because nothing else was to be done, or after `GIVE_WAY_TURNS`
iterations. A request needs several iterations, and so would wait for a slice several times.
"""

_Result = TypeVar("_Result")


class Spender(Protocol):
    """Whoever a document is processed for. spent: CPU seconds of the loop, which are added to."""

    spent: float


class Slices:
    """Runs generators, whose steps are short, in slices. Only one of them runs at a time."""

    def __init__(self) -> None:
        self._one = asyncio.Lock()

    async def run(self, spender: Spender, steps: Generator[None, None, _Result]) -> _Result:
        """Run `steps` and return the generator's result."""
        while True:
            async with self._one:
                # CPU time: what other processes take is not the node's doing.
                begun = time.thread_time()
                until = time.perf_counter() + SLICE_SECONDS
                try:
                    while time.perf_counter() < until:
                        next(steps)
                except StopIteration as end:
                    result: _Result = end.value
                    return result
                finally:
                    spender.spent += time.thread_time() - begun
                await _give_way()


async def _give_way() -> None:
    """Let other tasks run until they have nothing more to do, within the limits of `SLICE_SECONDS`."""
    for _ in range(GIVE_WAY_TURNS):
        begun = time.perf_counter()
        await asyncio.sleep(0)
        if time.perf_counter() - begun < IDLE_TURN_SECONDS:
            return

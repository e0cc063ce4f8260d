"""A limit on how much of one kind of work is done in one iteration of the event loop."""

from __future__ import annotations

import asyncio
from collections import deque


class PerIteration:
    """Lets `most` callers go on in each iteration of the event loop, in the order in which they came.

    What else arrives meanwhile is read and answered between them. Use one object for one event loop.
    """

    __slots__ = ("_gone", "_most", "_waiting")

    def __init__(self, most: int) -> None:
        self._most = most
        self._gone = 0  # callers that went on in this iteration
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def turn(self) -> None:
        """Return when the caller may go on."""
        loop = asyncio.get_running_loop()
        if self._gone < self._most:
            if not self._gone:
                loop.call_soon(self._next)
            self._gone += 1
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _next(self) -> None:
        """Called in the next iteration, as long as there are callers."""
        self._gone = 0
        while self._waiting and self._gone < self._most:
            turn = self._waiting.popleft()
            if not turn.done():  # not cancelled
                turn.set_result(None)
                self._gone += 1
        if self._gone:
            asyncio.get_running_loop().call_soon(self._next)

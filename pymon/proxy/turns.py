"""Work of the processor that would hold everybody up: in a thread, one piece at a time, and accounts take turns."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from pymon.proxy.fair import FairGate, Overloaded
from pymon.service.answer import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

_Result = TypeVar("_Result")


class Turns:
    """Belongs to one loop. More than one thread would take the interpreter from the loop for longer."""

    def __init__(self) -> None:
        self.gate = FairGate(1)

    async def run(self, account: UUID, deadline: float, work: Callable[[], _Result]) -> _Result:
        """What `work` returns, which begins before `deadline` (the loop's time). Refusal 503 when it cannot."""
        try:
            await self.gate.acquire(account, deadline)
        except (Overloaded, TimeoutError):
            raise Refusal(503, "too busy to put the answer together in time", b"Retry-After: 1\r\n") from None
        # A thread cannot be cancelled: the turn ends with it, whether somebody still waits for it or not.
        working = asyncio.ensure_future(asyncio.to_thread(work))
        working.add_done_callback(lambda _: self.gate.release(account))
        return await asyncio.shield(working)

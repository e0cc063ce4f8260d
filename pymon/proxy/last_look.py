"""When the directory was last looked at, for requests whose credential it did not know then.

A credential that was made a moment ago is in the directory, but not yet in this process. Its request waits for the next
look. All requests share each look, and there is a limit of how many they cause.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_SECONDS = 2.0
"""The longest wait for a look. Nobody waits for a directory that was not seen for this long: it is away."""

HASTY_PER_SECOND, HASTY_BURST = 10.0, 20
"""Limits of the looks that requests cause, beside the regular ones. Strangers can cause them."""

MAX_WAITING = 256
"""Requests that wait at the same time. Others are refused at once."""


class LastLook:
    """The last look at the directory. hasten: called to ask for a look before the next regular one."""

    def __init__(self, hasten: Callable[[], None]) -> None:
        self._hasten = hasten
        self._hastened = False
        self._at = -math.inf
        self._next = asyncio.Event()
        self._waiting = 0

    def seen(self, at: float) -> None:
        """Record a look, after what it found was taken over. at: when it began, in seconds of the monotonic clock."""
        self._at = at
        self._hastened = False
        woken, self._next = self._next, asyncio.Event()
        woken.set()

    async def again(self) -> None:
        """Wait for a look that begins after this call. Return at once if too many wait, or the directory is away."""
        now = time.monotonic()
        if self._waiting >= MAX_WAITING or now - self._at > WAIT_SECONDS:
            return
        self._waiting += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WAIT_SECONDS):
                    while self._at < now:
                        if not self._hastened:
                            self._hastened = True
                            self._hasten()
                        await self._next.wait()
        finally:
            self._waiting -= 1

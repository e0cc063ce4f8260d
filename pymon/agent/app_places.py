"""Limits of the fetches from applications that run at the same time: for a container, for an account, and in all."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MOST = 32
OF_ACCOUNT = 8
OF_CONTAINER = 2
"""Fetches at a time. For a container, those that wait count too."""

WAITING_OF_ACCOUNT = 64
WAITING = 512


class BusyError(Exception):
    """A limit is reached, and no place will be waited for. The text is one line."""


class AppPlaces:
    """Gives places to fetches, in the order in which they came, but for those of an account that has all of its own."""

    def __init__(self) -> None:
        self.running = 0
        self._containers: Counter[str] = Counter()
        self._accounts: Counter[str] = Counter()
        self._waiting: dict[asyncio.Future[None], str] = {}
        self._waiting_of: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """Number of fetches that wait."""
        return len(self._waiting)

    @asynccontextmanager
    async def place(self, container: str, account: str, until: float) -> AsyncIterator[None]:
        """Hold a place. until: on the loop's clock. Raises BusyError, and TimeoutError if there is none by then."""
        if self._containers[container] >= OF_CONTAINER:
            raise BusyError(f"more than {OF_CONTAINER} requests at a time for its application")
        if self._waiting_of[account] >= WAITING_OF_ACCOUNT or len(self._waiting) >= WAITING:
            raise BusyError("too many requests for applications wait")
        self._containers[container] += 1
        try:
            await self._take(account, until)
            try:
                yield
            finally:
                self._give(account)
        finally:
            _less(self._containers, container)

    async def _take(self, account: str, until: float) -> None:
        if self._is_free(account):
            self._begin(account)
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[granted] = account
        self._waiting_of[account] += 1
        try:
            async with asyncio.timeout_at(until):
                await granted
        except BaseException:
            if granted.done() and not granted.cancelled():
                self._give(account)
            raise
        finally:
            self._leave(granted)

    def _is_free(self, account: str) -> bool:
        return self.running < MOST and self._accounts[account] < OF_ACCOUNT

    def _begin(self, account: str) -> None:
        self.running += 1
        self._accounts[account] += 1

    def _give(self, account: str) -> None:
        """Take a place back, and give it to the first that may have it."""
        self.running -= 1
        _less(self._accounts, account)
        for granted, other in self._waiting.items():
            if not granted.done() and self._is_free(other):
                self._begin(other)
                self._leave(granted)
                granted.set_result(None)
                return

    def _leave(self, granted: asyncio.Future[None]) -> None:
        account = self._waiting.pop(granted, None)
        if account is not None:
            _less(self._waiting_of, account)


def _less(counts: Counter[str], key: str) -> None:
    """Count one less, and keep no zero."""
    counts[key] -= 1
    if not counts[key]:
        del counts[key]

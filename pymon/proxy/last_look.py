"""When the directory was last looked at, for requests whose credential it did not know then.

A credential that was made a moment ago is in the directory, but not yet in this process. Its request waits for the next
look. All requests share each look, and there is a limit of how many they cause.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pymon.peer import source_of

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_SECONDS = 2.0
"""The longest wait for a look. Nobody waits for a directory that was not seen for this long: it is away."""

HASTY_PER_SECOND, HASTY_BURST = 10.0, 20
"""Limits of the looks that requests cause, beside the regular ones. Strangers can cause them."""

MAX_WAITING = 256
"""Requests that wait at the same time. Source addresses share the places, and the credentials of a source its part."""


_Key = TypeVar("_Key")


class _Waiting(NamedTuple):
    """A request that waits.

    since: when it came, in seconds of the monotonic clock. source: its address, as limits count. credential: a digest
    of what it sent.
    """

    since: float
    source: str
    credential: bytes


class LastLook:
    """The last look at the directory. hasten: called to ask for a look before the next regular one."""

    def __init__(self, hasten: Callable[[], None]) -> None:
        self._hasten = hasten
        self._hastened = False
        self._at = -math.inf
        self._waiting: dict[asyncio.Future[None], _Waiting] = {}  # in the order of arrival
        self._of_source: Counter[str] = Counter()
        self._of_credential: Counter[tuple[str, bytes]] = Counter()

    def seen(self, at: float) -> None:
        """Record a look, after what it found was taken over. at: when it began, in seconds of the monotonic clock."""
        self._at = at
        self._hastened = False
        for future, waiting in tuple(self._waiting.items()):
            if waiting.since <= at:
                self._let_go(future)
        if self._waiting:
            self._ask()

    async def again(self, remote: str, credential: bytes) -> None:
        """Wait for a look that begins after this call. Return at once if the directory is away.

        remote: the address of the client. credential: a digest of what it sent. When all places are taken, the source
        with the most places gives one up, of its credential with the most, if this call's source and credential have
        fewer. Otherwise this call returns at once.
        """
        now = time.monotonic()
        if now - self._at > WAIT_SECONDS:
            return
        waiting = _Waiting(now, source_of(remote), credential)
        if len(self._waiting) >= MAX_WAITING and not self._make_way(waiting):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = waiting
        self._of_source[waiting.source] += 1
        self._of_credential[waiting.source, credential] += 1
        self._ask()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WAIT_SECONDS):
                    await future
        finally:
            self._let_go(future)

    def _ask(self) -> None:
        if not self._hastened:
            self._hastened = True
            self._hasten()

    def _make_way(self, newcomer: _Waiting) -> bool:
        """End the wait that came first of those with the most places. Return False if the newcomer would have more.

        A source that has one place gives it up to another source, so that a newcomer always finds a place however many
        sources there are.
        """
        future, most = max(self._waiting.items(), key=lambda item: self._places(item[1]))
        if newcomer[1:] == most[1:]:
            return False
        of_source, of_credential = self._places(newcomer)
        if (of_source + (newcomer.source != most.source), of_credential + 1) > self._places(most):
            return False
        self._let_go(future)
        return True

    def _places(self, waiting: _Waiting) -> tuple[int, int]:
        """Return how many places the source of a request has, and how many of them its credential."""
        return self._of_source[waiting.source], self._of_credential[waiting.source, waiting.credential]

    def _let_go(self, future: asyncio.Future[None]) -> None:
        """End a wait, unless it has ended."""
        waiting = self._waiting.pop(future, None)
        if waiting is None:
            return
        _uncount(self._of_source, waiting.source)
        _uncount(self._of_credential, (waiting.source, waiting.credential))
        if not future.done():
            future.set_result(None)


def _uncount(counts: Counter[_Key], key: _Key) -> None:
    """Subtract one, and drop the key at zero."""
    counts[key] -= 1
    if not counts[key]:
        del counts[key]

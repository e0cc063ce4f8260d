"""Paces the reading of large responses of one agent: one connection reads at a time, and all together are given a share
of the loop's time.

Many connections that read as soon as there is data would block the event loop together, for as long as the data of all
of them takes. What has to wait stays in the kernel. No I/O; the timer is an argument.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

READING_PART = 0.1
"""The share of the loop's time that large responses of one agent may take."""

TURN_SECONDS = 0.005
"""A connection whose data has not come within this time gives its turn to the next one, if one waits."""


class Reader(Protocol):
    """A connection in the middle of a large response."""

    def pause(self) -> None:
        """Stop reading."""
        ...

    def resume(self) -> None:
        """Start reading again."""
        ...


class Pacing:
    """The connections of one agent that read large responses.

    time, call_at: of the event loop.
    """

    def __init__(
        self, time: Callable[[], float], call_at: Callable[[float, Callable[[], None]], asyncio.TimerHandle]
    ) -> None:
        self._time = time
        self._call_at = call_at
        self._waiting: dict[Reader, None] = {}  # paused, in the order of their turns
        self._reading: Reader | None = None
        self._free_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def charge(self, seconds: float) -> None:
        """Charge a read of `seconds`."""
        self._free_at = max(self._free_at, self._time()) + seconds / READING_PART

    def wait(self, reader: Reader) -> None:
        """Pause a connection that has read, until its next turn."""
        if self._reading is reader:
            self._reading = None
        reader.pause()
        self._waiting[reader] = None
        self._arm(self._free_at)

    def leave(self, reader: Reader) -> None:
        """Forget a connection whose response is complete or given up. It reads again."""
        if self._reading is reader:
            self._reading = None
            if self._waiting:
                self._arm(self._free_at)
        elif reader in self._waiting:
            del self._waiting[reader]
            reader.resume()

    def close(self) -> None:
        """Forget all connections."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting.clear()
        self._reading = None

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._call_at(at, self._next)

    def _next(self) -> None:
        """Give the turn to the connection that has waited longest."""
        self._timer = None
        now = self._time()
        if now < self._free_at:
            self._arm(self._free_at)
            return
        if self._reading is not None and self._waiting:
            self._reading.pause()
            self._waiting[self._reading] = None
        if self._waiting:
            self._reading = next(iter(self._waiting))
            del self._waiting[self._reading]
            self._reading.resume()
        if self._waiting:
            self._arm(now + TURN_SECONDS)

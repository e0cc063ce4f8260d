"""The gate before every handshake: who is let in, and who gives way.

A connection is pending from the moment it is accepted until its first request has come whole. Whoever opens connections
and sends nothing, or sends slowly, fills the table of the pending ones and nothing else: when it is full the oldest
gives way, so a newcomer who means it is through long before its turn to go comes.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

Handshake = Literal["done", "failed", "timeout"]
Refused = Literal["rate", "crowded", "source_crowded", "silent", "slow_head", "large_head"]
"""Why a connection was ended: too many handshakes of its source; it gave way to newcomers, of anybody or of its own
source; it brought nothing, or no whole request, in time; its request head was too large."""


@dataclass(frozen=True, slots=True)
class GateLimits:
    """How many may be pending, and how often a source may begin a handshake. `sources` are remembered at most."""

    pending: int = 1024
    pending_of_source: int = 512
    handshakes_per_second: float = 100.0
    handshakes_burst: int = 1000
    sources: int = 16384


class Pending(Protocol):
    """A connection without a request yet."""

    source: str

    def give_way(self) -> None:
        """End at once."""


class Gate:
    """Bounds what strangers cost. Counts in `handshakes` and `refused`. Not thread-safe."""

    def __init__(self, limits: GateLimits | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits or GateLimits()
        self.handshakes: dict[Handshake, int] = {"done": 0, "failed": 0, "timeout": 0}
        self.refused: dict[Refused, int] = {
            "rate": 0, "crowded": 0, "source_crowded": 0, "silent": 0, "slow_head": 0, "large_head": 0,
        }  # fmt: skip
        self._clock = clock
        self._pending: OrderedDict[Pending, None] = OrderedDict()
        self._pending_of: dict[str, OrderedDict[Pending, None]] = {}
        self._tokens_back_at: OrderedDict[str, float] = OrderedDict()

    @property
    def pending(self) -> int:
        """How many are pending."""
        return len(self._pending)

    def admit(self, source: str) -> bool:
        """Take a token of the source for a handshake. False when it has none."""
        now = self._clock()
        # The bucket as one number: when it will be full again (the generic cell rate algorithm).
        back_at = max(self._tokens_back_at.pop(source, now), now) + 1 / self.limits.handshakes_per_second
        granted = back_at - now <= self.limits.handshakes_burst / self.limits.handshakes_per_second + 1e-9
        if not granted:
            back_at -= 1 / self.limits.handshakes_per_second
            self.refused["rate"] += 1
        self._tokens_back_at[source] = back_at
        if len(self._tokens_back_at) > self.limits.sources:
            self._tokens_back_at.popitem(last=False)
        return granted

    def enter(self, connection: Pending) -> None:
        """A connection begins to be pending; others give way if there are too many. An empty source has no bound."""
        source = connection.source
        if source:
            of_source = self._pending_of.setdefault(source, OrderedDict())
            if len(of_source) >= self.limits.pending_of_source:
                self._drop(next(iter(of_source)), "source_crowded")
                of_source = self._pending_of.setdefault(source, of_source)
            of_source[connection] = None
        if len(self._pending) >= self.limits.pending:
            self.drop_oldest()
        self._pending[connection] = None

    def leave(self, connection: Pending) -> None:
        """A connection has brought its first request, or is gone. Once is enough, and again does nothing."""
        if connection not in self._pending:
            return
        del self._pending[connection]
        of_source = self._pending_of.get(connection.source)
        if of_source is not None:
            of_source.pop(connection, None)
            if not of_source:
                del self._pending_of[connection.source]

    def drop_oldest(self) -> bool:
        """Make the oldest pending connection give way. False when there is none."""
        if not self._pending:
            return False
        self._drop(next(iter(self._pending)), "crowded")
        return True

    def drop_all(self) -> None:
        """End every pending connection."""
        for connection in tuple(self._pending):
            self.leave(connection)
            connection.give_way()

    def _drop(self, connection: Pending, reason: Refused) -> None:
        self.refused[reason] += 1
        self.leave(connection)
        connection.give_way()

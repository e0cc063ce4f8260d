"""Limits on connections before their first request.

A connection is pending from accept() until its first request is complete. A client that opens connections and sends
nothing, or sends slowly, can only fill the table of pending connections. When the table is full, the oldest pending
connection is closed for each new one. An honest client completes its first request long before its connection is the
oldest.
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
"""Why a connection was closed before its first request.

rate: its source started too many handshakes. crowded: the table of pending connections was full. source_crowded: its
source had too many pending connections. silent: it sent nothing in time. slow_head: it sent no complete request head in
time. large_head: its request head was too large.
"""


@dataclass(frozen=True, slots=True)
class GateLimits:
    """Limits of a gate.

    pending, pending_of_source: the most pending connections, in total and of one source. handshakes_per_second,
    handshakes_burst: the rate of TLS handshakes of one source. sources: the most sources for which a rate is kept.
    """

    pending: int = 1024
    pending_of_source: int = 512
    handshakes_per_second: float = 100.0
    handshakes_burst: int = 1000
    sources: int = 16384


class Pending(Protocol):
    """A connection that has not yet sent a complete request. source: its address, as limits count."""

    source: str

    def give_way(self) -> None:
        """Close the connection at once."""


class Gate:
    """Enforces `GateLimits`. Not thread-safe.

    handshakes: TLS handshakes by outcome. refused: closed connections by reason.
    """

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
        """The number of pending connections."""
        return len(self._pending)

    def admit(self, source: str) -> bool:
        """Take a token for a handshake of the source. Returns False if it has none, which is counted as refused."""
        now = self._clock()
        # Generic cell rate algorithm: the bucket is stored as the time at which it is full again.
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
        """Add a pending connection. If there are too many, the oldest one is closed.

        Connections with the source "" are limited only in total.
        """
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
        """Remove a connection: it has sent its first request, or is closed. Further calls do nothing."""
        if connection not in self._pending:
            return
        del self._pending[connection]
        of_source = self._pending_of.get(connection.source)
        if of_source is not None:
            of_source.pop(connection, None)
            if not of_source:
                del self._pending_of[connection.source]

    def drop_oldest(self) -> bool:
        """Close the oldest pending connection. Returns False if there is none."""
        if not self._pending:
            return False
        self._drop(next(iter(self._pending)), "crowded")
        return True

    def drop_all(self) -> None:
        """Close all pending connections."""
        for connection in tuple(self._pending):
            self.leave(connection)
            connection.give_way()

    def _drop(self, connection: Pending, reason: Refused) -> None:
        self.refused[reason] += 1
        self.leave(connection)
        connection.give_way()

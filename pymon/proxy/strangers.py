"""Kept connections whose clients have shown no valid credential. Without a limit, one client could keep all descriptors
by asking for `/_ping` on each connection now and then.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

MAX_KEPT = 256
"""Connections that are kept. Beyond that, the one whose last answer is the oldest gives way."""


class Kept(Protocol):
    """A connection, as `pymon.service.server.Connection`."""

    def close_when_idle(self) -> None:
        """Close now, or not if a request is being handled."""


class Strangers:
    """Bounds the connections that are kept without a credential to `most`. Not thread-safe."""

    def __init__(self, most: int = MAX_KEPT) -> None:
        self._most = most
        self._kept: OrderedDict[Kept, None] = OrderedDict()

    def answered(self, connection: Kept) -> None:
        """Record an answer after which a connection is kept. Another one may be closed."""
        self._kept[connection] = None
        self._kept.move_to_end(connection)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)[0].close_when_idle()

    def known(self, connection: Kept) -> None:
        """Record that the client of a connection has shown a valid credential."""
        self._kept.pop(connection, None)

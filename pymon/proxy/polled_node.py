"""The state of one node whose inventory is polled."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from pymon.directory.model import Node

NOT_ASKED = "not asked yet"
"""`PolledNode.problem` before the first poll is over."""


class PollError(Exception):
    """A failed poll. reason: the value of a metric's label. The text is one line."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class PolledNode:
    """The state of one polled node.

    etag: of the last document, "" without one. known: whether the fleet has the document of this ETag.
    version: inventory version for the parameter ``since``; "" when the agent sends none or the whole is requested.
    seen_at: monotonic time of the last good answer or of the loaded copy. failures: consecutive failed polls.
    problem: text of the last failure, None after a good poll. spent: CPU seconds of the loop that the last answer took.
    paced_until: loop time until which polls have been made in advance, see `PACE_SECONDS` of `pymon.proxy.inventory`.
    refused, left_out: numbers of containers left out, as in `Inventory`. doubt_until: monotonic time until which whole
    inventories are requested. changes_bytes: size of the changes since the last whole inventory. own: whether this
    proxy has heard the node itself. peer_etag: of the last copy of another proxy, "" without one. others_at: monotonic
    time before which other proxies are not asked again, see `OTHERS_SECONDS` there. others_pause: the last such pause.
    """

    __slots__ = (
        "changes_bytes", "doubt_until", "etag", "failures", "known", "left_out", "node", "others_at", "others_pause",
        "own", "paced_until", "peer_etag", "problem", "refused", "seen_at", "spent", "task", "version",
    )  # fmt: skip

    def __init__(self, node: Node) -> None:
        self.node = node
        self.task: asyncio.Task[None] | None = None
        self.etag = ""
        self.known = False
        self.seen_at = -math.inf
        self.failures = 0
        self.problem: str | None = NOT_ASKED
        self.refused = 0
        self.left_out = 0
        self.spent = 0.0
        self.paced_until = -math.inf
        self.version = ""
        self.doubt_until = -math.inf
        self.changes_bytes = 0
        self.own = False
        self.peer_etag = ""
        self.others_at = -math.inf
        self.others_pause = 0.0

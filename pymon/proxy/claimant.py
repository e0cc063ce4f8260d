"""What the decision about claims knows of one node: its containers, when it answered, and what it was refused. No I/O.

UUIDs of containers and nodes are text in lower case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymon.token_bucket import TokenBucket

if TYPE_CHECKING:
    from pymon.inventory_document import Container

FRESH_SECONDS = 60.0
"""A node may take a container from another node only if it answered within this time."""

SILENT_SECONDS = 600.0
"""A node that has not answered for this time is silent: its containers may pass to other nodes."""

NEW_PER_SECOND = 5.0
"""Rate at which the claims of one node may write rows. The burst is the node's limit of containers."""


class Claimant:
    """The state of one node.

    answered: whether it answered this process and its answer was processed. answering: whether an answer is being
    processed. fresh, silent: see `FRESH_SECONDS` and `SILENT_SECONDS`. heard_at: monotonic time of the last answer,
    None until the next `tick`. unconfirmed: UUIDs whose rows were assigned to this node since its last answer; its
    inventory may not list them yet. refused: reasons, by UUID, of claims that are not granted; "" means that the claim
    waits for its row. alone: the claimants of a UUID that only this node claims.
    """

    __slots__ = (
        "alone", "answered", "answering", "bucket", "containers", "fresh", "heard_at", "name", "refused", "silent",
        "unconfirmed", "uuid",
    )  # fmt: skip

    def __init__(self, name: str, burst: int) -> None:
        self.name = name
        self.alone = (name,)
        self.uuid = ""
        self.containers: dict[str, Container] = {}
        self.answered = False
        self.answering = False
        self.fresh = False
        self.silent = False
        self.heard_at: float | None = None
        self.unconfirmed: set[str] = set()
        self.refused: dict[str, str] = {}
        self.bucket = TokenBucket(NEW_PER_SECOND, burst)

    def answers(self) -> None:
        """Record that the node answered and that processing of its answer begins."""
        self.answering = self.fresh = True
        self.silent = False
        self.heard_at = None

    def heard(self) -> set[str]:
        """Record that the answer was processed. Return the UUIDs that are no longer unconfirmed."""
        self.answered, self.answering = True, False
        confirmed, self.unconfirmed = self.unconfirmed, set()
        return confirmed

    def tick(self, at: float, *, absent: bool) -> None:
        """Update `fresh` and `silent`. at: seconds of a monotonic clock. absent: whether nobody could be heard."""
        if absent or self.heard_at is None:
            self.heard_at = at
        silence = at - self.heard_at
        self.fresh = self.fresh and silence <= FRESH_SECONDS
        self.silent = silence >= SILENT_SECONDS

"""When a proxy is in DNS, by the number of nodes that it reaches compared with other proxies. Pure."""

from __future__ import annotations

LEAVE_SECONDS = 10.0
LEAVE_PART = 0.5
"""A proxy that reaches less than this part of the nodes of its best peer for `LEAVE_SECONDS` leaves."""

RETURN_SECONDS = 30.0
RETURN_PART = 0.9
"""One that reaches at least this part for `RETURN_SECONDS` returns."""


class Membership:
    """Decides whether a proxy has to leave. leaves: the current decision."""

    def __init__(self) -> None:
        self.leaves = False
        self._since: float | None = None

    def step(self, now: float, own: int, best: int, nodes: int) -> bool:
        """Return the decision.

        now: seconds of a monotonic clock. own: number of nodes that this proxy reaches. best: the largest number that
        another proxy says it reaches. It is not believed beyond `nodes`, the number of nodes in the directory: so a
        proxy that reaches half of all nodes stays whatever others say.
        """
        best = min(best, nodes)
        turns = own >= RETURN_PART * best if self.leaves else own < LEAVE_PART * best
        if not turns:
            self._since = None
        elif self._since is None:
            self._since = now
        elif now - self._since >= (RETURN_SECONDS if self.leaves else LEAVE_SECONDS):
            self.leaves = not self.leaves
            self._since = None
        return self.leaves

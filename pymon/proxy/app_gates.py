"""Gates for requests of the metrics of applications: an account has slots of its own at each node.

An application may take its time on purpose. Requests for it must hold no slot of scrapes, and none of other accounts.
The agent bounds what all accounts have together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymon.proxy.fair import FairGate

if TYPE_CHECKING:
    from uuid import UUID

SLOTS = 8
"""Slots of an account at a node: as many as its agent gives an account places."""


class AppGates:
    """A `FairGate` for each account that has requests at a node."""

    def __init__(self) -> None:
        self._gates: dict[UUID, FairGate] = {}

    def enter(self, account: UUID) -> bool:
        """Take a slot if there is one at once, as `FairGate.enter` does."""
        return self._gates.setdefault(account, FairGate(SLOTS)).enter(account)

    async def acquire(self, account: UUID, deadline: float) -> None:
        """Wait for a slot and take it, as `FairGate.acquire` does."""
        gate = self._gates.setdefault(account, FairGate(SLOTS))
        try:
            await gate.acquire(account, deadline)
        except BaseException:
            self._forget(account, gate)
            raise

    def release(self, account: UUID) -> None:
        """Return a slot that this account holds."""
        gate = self._gates[account]
        gate.release(account)
        self._forget(account, gate)

    def _forget(self, account: UUID, gate: FairGate) -> None:
        if not gate.in_use and not gate.waiting:
            self._gates.pop(account, None)

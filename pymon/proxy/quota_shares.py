"""Divides the quotas of accounts among the living proxies, by what was asked of each in the last seconds."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Protocol

from pymon.directory.demand import DemandExchange
from pymon.proxy.shares import averaged, reported, shares

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MEASURE_SECONDS = 1.0


class Limits(Protocol):
    """What measures the demand of accounts and applies shares: see `AccountLimits`."""

    def demands(self, seconds: float) -> dict[int, float]:
        """Return what part of its quota each account asked for since the last call, `seconds` ago."""

    def divide(self, shares: Mapping[int, float], share: float) -> None:
        """Apply shares of quotas. share: of all other accounts."""


class QuotaShares:
    """Keeps the shares of `limits` up to date. Call `start` and `stop` on one event loop.

    Until the other proxies are known, quotas apply in full. While the directory is unavailable, the last shares stay.
    url: of the directory.
    """

    def __init__(self, url: str, limits: Limits) -> None:
        self.limits = limits
        self._exchange = DemandExchange(url, secrets.token_hex(8), self._learn)
        self._measured: dict[int, float] = {}
        self._own: dict[int, float] = {}
        self._others: Sequence[Mapping[int, float]] = ()
        self._measuring: asyncio.Task[None] | None = None

    @property
    def proxies(self) -> int:
        """Number of proxies among which quotas are divided, this one included."""
        return len(self._others) + 1

    @property
    def error(self) -> str:
        """The reason why the last exchange with the other proxies failed, one line, "" if it succeeded."""
        return self._exchange.error

    def start(self) -> None:
        """Start measuring and exchanging."""
        self._exchange.start()
        self._measuring = asyncio.create_task(self._measure())

    async def stop(self) -> None:
        """Stop, and tell the other proxies that this one is gone."""
        if self._measuring is not None:
            self._measuring.cancel()
        await self._exchange.stop()

    async def _measure(self) -> None:
        loop = asyncio.get_running_loop()
        before = loop.time()
        while True:
            await asyncio.sleep(MEASURE_SECONDS)
            now = loop.time()
            self._measured = averaged(self._measured, self.limits.demands(now - before))
            before = now
            self._own = reported(self._measured)
            self._exchange.tell(self._own)
            if not self.error:
                self._divide()

    def _learn(self, others: Sequence[Mapping[int, float]]) -> None:
        self._others = others
        self._divide()

    def _divide(self) -> None:
        if self._others:
            self.limits.divide(shares(self._own, self._others), 1 / self.proxies)
        else:
            self.limits.divide({}, 1.0)

"""A limit of how often something may be done. The time is an argument, in seconds of any clock. Not thread-safe."""

from __future__ import annotations

_ROUNDING = 1e-8
"""Seconds, above the last bit of a clock that has run for months: who waited as long as it was told gets its token."""


class TokenBucket:
    """`rate` tokens a second up to `burst`, full at first. A rate of 0 is unlimited."""

    __slots__ = ("_at", "_burst", "_enough", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float) -> None:
        self._tokens = float(burst)
        self._at = float("-inf")
        self._limit(rate, burst)

    def _limit(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, float(burst)
        self._enough = 1.0 - rate * _ROUNDING - 1e-9

    def _refill(self, now: float) -> None:
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now

    def take(self, now: float) -> float:
        """Take a token: 0.0, or when there is none the seconds until there is."""
        if not self._rate:
            return 0.0
        self._refill(now)
        if self._tokens >= self._enough:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate

    def owe(self, tokens: int) -> None:
        """Take tokens that may not be there yet; `take` waits until they are made up for."""
        self._tokens -= tokens

    def wait(self, now: float) -> float:
        """Seconds until `take` would give a token: 0.0 when it would now."""
        if not self._rate:
            return 0.0
        self._refill(now)
        return 0.0 if self._tokens >= self._enough else (1.0 - self._tokens) / self._rate

    def change(self, rate: float, burst: float, now: float) -> None:
        """Another limit from now on. What was taken stays taken, but never more than the new burst."""
        if self._rate:
            self._refill(now)
            taken = self._burst - self._tokens
        else:
            taken = 0.0
        self._limit(rate, burst)
        self._at = now
        self._tokens = max(0.0, self._burst - taken)

"""Token buckets for rate limits. Times are arguments, in seconds of any monotonic clock. Not thread-safe."""

from __future__ import annotations

from collections import OrderedDict

_ROUNDING = 1e-8
"""In seconds. More than the rounding error of a clock that has run for months, so that a caller who has waited for the
returned time gets a token.
"""


class TokenBucket:
    """A bucket that gets `rate` tokens a second up to `burst`. It starts full. A rate of 0 means no limit."""

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
        """Take a token. Returns 0.0, or if there is none, the seconds until there will be one."""
        if not self._rate:
            return 0.0
        self._refill(now)
        if self._tokens >= self._enough:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate

    def give_back(self) -> None:
        """Return a token that was taken and not used."""
        self._tokens = min(self._burst, self._tokens + 1.0)

    def wait(self, now: float) -> float:
        """Return the seconds until a token is available, 0.0 if one is available now. Takes no token."""
        if not self._rate:
            return 0.0
        self._refill(now)
        return 0.0 if self._tokens >= self._enough else (1.0 - self._tokens) / self._rate

    def change(self, rate: float, burst: float, now: float) -> None:
        """Change the limit. Tokens that are missing from the bucket stay missing, up to the new burst."""
        if self._rate:
            self._refill(now)
            taken = self._burst - self._tokens
        else:
            taken = 0.0
        self._limit(rate, burst)
        self._at = now
        self._tokens = max(0.0, self._burst - taken)

    def resize(self, rate: float, burst: float, now: float) -> None:
        """Change the limit. The tokens in the bucket stay, up to the new burst, so that none are gained."""
        if self._rate:
            self._refill(now)
        self._limit(rate, burst)
        self._at = now
        self._tokens = min(self._tokens, self._burst)


class BucketsByKey:
    """A bucket for each key. Above `bound` keys, the least recently used bucket is dropped, and starts full again."""

    def __init__(self, rate: float, burst: float, bound: int) -> None:
        self._rate = rate
        self._burst = burst
        self._bound = bound
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str, now: float) -> float:
        """Take a token of a key. Returns 0.0, or if there is none, the seconds until there will be one."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self._rate, self._burst)
            if len(self._buckets) > self._bound:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket.take(now)

    def give_back(self, key: str) -> None:
        """Return a token of a key that was taken and not used."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.give_back()

    def wait(self, key: str, now: float) -> float:
        """Return the seconds until the key has a token, 0.0 if it has one now. Takes no token."""
        bucket = self._buckets.get(key)
        return 0.0 if bucket is None else bucket.wait(now)

"""Durations counted into buckets, cheaply enough for every request."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

BOUNDS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Histogram:
    """Counts by bucket, and their sum in seconds. Not thread-safe."""

    __slots__ = ("_bounds", "_counts", "count", "sum_seconds")

    def __init__(self, bounds_seconds: Sequence[float] = BOUNDS_SECONDS) -> None:
        self._bounds = bounds_seconds
        self._counts = [0] * (len(bounds_seconds) + 1)
        self.count = 0
        self.sum_seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Add a duration to its bucket, the number and the sum."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.count += 1
        self.sum_seconds += seconds

    def buckets(self) -> list[tuple[str, int]]:
        """Upper bounds, as they are written, and how many were not above them."""
        found, so_far = [], 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            so_far += count
            found.append((bound, so_far))
        return found

"""Counts and durations of HTTP requests."""

from __future__ import annotations

from collections.abc import Mapping

from pymon.exposition.histogram import Histogram
from pymon.exposition.own_metrics import OwnMetrics


class HttpCounts:
    """The metrics pymon_http_requests_total and pymon_http_request_duration_seconds."""

    def __init__(self, metrics: OwnMetrics) -> None:
        self._counts: dict[tuple[str, int], int] = {}
        self._durations: dict[tuple[str, ...], Histogram] = {}
        metrics.counters(
            "pymon_http_requests", "Requests answered, by status and handler.", ("code", "handler"),
            lambda: {(status, handler): count for (handler, status), count in self._counts.copy().items()},
        )  # fmt: skip
        metrics.histograms(
            "pymon_http_request_duration_seconds", "Time to answer, by handler.", ("handler",), self._durations
        )

    @property
    def answered(self) -> Mapping[tuple[str, int], int]:
        """Number of responses by handler and status."""
        return self._counts

    @property
    def durations(self) -> Mapping[str, Histogram]:
        """Histograms of the seconds that responses took, by handler."""
        return {handler: histogram for (handler,), histogram in self._durations.items()}

    def add(self, handler: str, status: int) -> None:
        """Count a response of a handler with this HTTP status."""
        key = (handler, status)
        self._counts[key] = self._counts.get(key, 0) + 1

    def took(self, handler: str, seconds: float) -> None:
        """Record how long a handler took to make a response."""
        histogram = self._durations.get((handler,))
        if histogram is None:
            histogram = self._durations[handler,] = Histogram()
        histogram.observe(seconds)

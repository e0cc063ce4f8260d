"""Requests that were answered, and how long they took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from pymon.agent.histogram import Histogram


class HttpCounts(Collector):
    """pymon_http_requests_total and pymon_http_request_duration_seconds.

    Dictionaries, as prometheus_client's own counter costs 4 µs for each request.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counts: dict[tuple[str, int], int] = {}
        self._durations: dict[str, Histogram] = {}
        registry.register(self)

    @property
    def answered(self) -> Mapping[tuple[str, int], int]:
        """Answers by handler and status."""
        return self._counts

    @property
    def durations(self) -> Mapping[str, Histogram]:
        """Durations by handler."""
        return self._durations

    def add(self, handler: str, status: int) -> None:
        """Count an answer."""
        key = (handler, status)
        self._counts[key] = self._counts.get(key, 0) + 1

    def took(self, handler: str, seconds: float) -> None:
        """Count how long it took, from the request's head to the answer's last byte that was handed on."""
        histogram = self._durations.get(handler)
        if histogram is None:
            histogram = self._durations[handler] = Histogram()
        histogram.observe(seconds)

    def collect(self) -> Iterable[Metric]:
        """As prometheus_client asks for it."""
        family = CounterMetricFamily(
            "pymon_http_requests", "Requests answered, by status and handler.", labels=["code", "handler"]
        )
        for (handler, status), count in sorted(self._counts.copy().items()):
            family.add_metric([str(status), handler], count)
        durations = HistogramMetricFamily(
            "pymon_http_request_duration_seconds", "Time to answer, by handler.", labels=["handler"]
        )
        for handler, histogram in sorted(self._durations.copy().items()):
            durations.add_metric([handler], histogram.buckets(), histogram.sum_seconds)
        return (family, durations)

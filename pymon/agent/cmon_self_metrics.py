"""The agent's metrics about itself in the cmon dialect, under the names that Triton's cmon-agent uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pymon.exposition.families import Family, Labels, Sample
from pymon.exposition.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pymon.agent.http_counts import HttpCounts
    from pymon.sources.programs import Program


class CmonSelfMetrics:
    """The metrics cached_items, cache_*, collector_time_* and http_*.

    The cache of cmon-agent corresponds to the last results of background programs: an item is a program that has a
    result, a get is a collection that asks for a result, and a hit is a get that found one.
    """

    def __init__(self, server: str, http: HttpCounts, programs: Sequence[Program[Any]], datacenter: str = "") -> None:
        """server: the node's UUID. datacenter: the node's, "" if unknown."""
        self._programs = tuple(programs)
        known: Labels = (("datacenter", datacenter),) if datacenter else ()
        self._static: Labels = (*known, ("instance", "0"), ("server", server), ("service", "cmon-agent"))
        self._http = http
        self._collectors: dict[str, Histogram] = {}
        self._total = Histogram()

    def collected(self, collector: str, seconds: float) -> None:
        """Record how long a collector took."""
        self._collectors.setdefault(collector, Histogram()).observe(seconds)

    def took(self, seconds: float) -> None:
        """Record how long a whole collection took."""
        self._total.observe(seconds)

    def families(self) -> Iterator[Family]:
        """Yield all families with their current values."""
        at_hand = sum(program.at_hand for program in self._programs)
        gets, hits = sum(program.gets for program in self._programs), sum(program.hits for program in self._programs)
        yield self._one("cached_items", "gauge", "Results of programs that are at hand.", at_hand)
        yield self._one("cache_gets_total", "counter", "Times that results were asked for.", gets)
        yield self._one("cache_get_hits_total", "counter", "Times that they were at hand.", hits)
        yield Family(
            "collector_time_seconds",
            "histogram",
            "Time that a collector took.",
            [
                sample
                for collector, histogram in sorted(self._collectors.items())
                for sample in self._samples(histogram, (("collector", collector),))
            ],
        )
        yield Family(
            "collector_time_total_seconds", "histogram", "Time that a collection took.", self._samples(self._total)
        )
        yield Family(
            "http_requests_completed",
            "counter",
            "Requests answered.",
            [
                Sample("", (("route", handler), ("status_code", str(status)), *self._static), str(count))
                for (handler, status), count in sorted(self._http.answered.items())
            ],
        )
        yield Family(
            "http_request_duration_seconds",
            "histogram",
            "Time to answer a request.",
            [
                sample
                for handler, histogram in sorted(self._http.durations.items())
                for sample in self._samples(histogram, (("route", handler),))
            ],
        )

    def _one(self, name: str, kind: str, help: str, value: int) -> Family:
        return Family(name, kind, help, (Sample("", self._static, str(value)),))

    def _samples(self, histogram: Histogram, labels: Labels = ()) -> list[Sample]:
        every = (*labels, *self._static)
        return [
            *(Sample("_bucket", (*every, ("le", bound)), str(count)) for bound, count in histogram.buckets()),
            Sample("_sum", every, f"{histogram.sum_seconds:.9f}"),
            Sample("_count", every, str(histogram.count)),
        ]

"""What Triton's agent says of itself, by its names, for the cmon dialect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pymon.agent.histogram import Histogram
from pymon.exposition.families import Family, Labels, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pymon.agent.http_counts import HttpCounts
    from pymon.sources.programs import Program


class CmonSelfMetrics:
    """cached_items, cache_*, collector_time_*, http_*.

    What cmon-agent calls its cache is here what programs said last: an item is a program's numbers, a get a collection
    that wants them, a hit one that had them.
    """

    def __init__(self, server: str, http: HttpCounts, programs: Sequence[Program[Any]]) -> None:
        """server: the node's UUID."""
        self._programs = tuple(programs)
        self._static: Labels = (("instance", "0"), ("server", server), ("service", "cmon-agent"))
        self._http = http
        self._collectors: dict[str, Histogram] = {}
        self._total = Histogram()

    def collected(self, collector: str, seconds: float) -> None:
        """A collector has taken so long."""
        self._collectors.setdefault(collector, Histogram()).observe(seconds)

    def took(self, seconds: float) -> None:
        """A whole collection has taken so long."""
        self._total.observe(seconds)

    def families(self) -> Iterator[Family]:
        """All of them as they are now."""
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

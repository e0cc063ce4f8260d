"""What the proxy says of itself. Counters of the hot path are dictionaries: prometheus_client's cost 4 µs each."""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from pymon import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prometheus_client import Metric

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Durations:
    """A histogram of seconds, by outcome."""

    def __init__(self) -> None:
        self.buckets: dict[str, list[int]] = {}
        self.sums: dict[str, float] = {}

    def observe(self, seconds: float, outcome: str) -> None:
        """Count one."""
        buckets = self.buckets.get(outcome)
        if buckets is None:
            buckets = self.buckets[outcome] = [0] * (len(_BOUNDS) + 1)
            self.sums[outcome] = 0.0
        buckets[bisect_left(_BOUNDS, seconds)] += 1
        self.sums[outcome] += seconds


class SelfMetrics(Collector):
    """The proxy's own registry.

    requests: by (account, route, code); the account is "" before it is known. throttled: by (account, reason).
    """

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.throttled: Counter[tuple[str, str]] = Counter()
        self.authentication_failures: Counter[str] = Counter()
        self.upstream = Durations()
        self._read: list[tuple[str, str, str, Callable[[], Mapping[tuple[str, ...], float]], tuple[str, ...]]] = []
        ProcessCollector(registry=self.registry)
        Gauge(
            "pymon_build_info", "Constant 1, labelled with what is running.", ["version", "python"],
            registry=self.registry,
        ).labels(__version__, platform.python_version()).set(1)  # fmt: skip
        self.registry.register(self)

    def gauge(self, name: str, help: str, value: Callable[[], float]) -> None:
        """A gauge that is read when it is written."""
        Gauge(name, help, registry=self.registry).set_function(value)

    def gauges(
        self, name: str, help: str, labels: tuple[str, ...], values: Callable[[], Mapping[tuple[str, ...], float]]
    ) -> None:
        """A gauge with labels, all its values read when it is written."""
        self._read.append(("gauge", name, help, values, labels))

    def counters(
        self, name: str, help: str, labels: tuple[str, ...], values: Callable[[], Mapping[tuple[str, ...], float]]
    ) -> None:
        """As `gauges`, for values that only grow; the name is without ``_total``."""
        self._read.append(("counter", name, help, values, labels))

    def collect(self) -> Iterable[Metric]:
        """The families."""
        requests = CounterMetricFamily(
            "pymon_proxy_requests", "Requests answered, by account, route and status.",
            labels=["account", "route", "code"],
        )  # fmt: skip
        for (account, route, code), count in sorted(self.requests.items()):
            requests.add_metric([account, route, str(code)], count)
        throttled = CounterMetricFamily(
            "pymon_proxy_throttled", "Requests refused by a limit, by account and limit.", labels=["account", "limit"]
        )
        for (account, limit), count in sorted(self.throttled.items()):
            throttled.add_metric([account, limit], count)
        failures = CounterMetricFamily(
            "pymon_proxy_authentication_failures", "Requests with no valid credential, by reason.", labels=["reason"]
        )
        for reason, count in sorted(self.authentication_failures.items()):
            failures.add_metric([reason], count)
        durations = HistogramMetricFamily(
            "pymon_proxy_upstream_request_duration_seconds",
            "Time of requests to agents with their wait for a turn, by outcome.",
            labels=["outcome"],
        )
        for outcome, counts in sorted(self.upstream.buckets.items()):
            total, buckets = 0, []
            for bound, count in zip((*map(str, _BOUNDS), "+Inf"), counts, strict=True):
                total += count
                buckets.append((bound, total))
            durations.add_metric([outcome], buckets, self.upstream.sums[outcome])
        yield from (requests, throttled, failures, durations)
        for kind, name, help_, values, labels in self._read:
            make = GaugeMetricFamily if kind == "gauge" else CounterMetricFamily
            family = make(name, help_, labels=list(labels))
            for key, value in sorted(values().items()):
                family.add_metric(list(key), value)
            yield family

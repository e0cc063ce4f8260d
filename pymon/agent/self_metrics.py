"""What the agent says of itself, through prometheus_client."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import generate_latest as text_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_latest

from pymon import __version__
from pymon.agent.cmon_self_metrics import CmonSelfMetrics
from pymon.agent.http_counts import HttpCounts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pymon.sources.programs import Program

_EOF = b"# EOF\n"


class SelfMetrics:
    """The agent's own registry. Values that are read from elsewhere are set just before they are written.

    http: requests. cmon: the same by the names of Triton's agent, in its dialect; None in the other.
    """

    def __init__(self, *, source: str, dialect: str, server: str = "", programs: Sequence[Program[Any]] = ()) -> None:
        """server: the node's UUID. programs: whose results the cmon dialect counts as its cache."""
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.http = HttpCounts(self.registry)
        self.cmon = CmonSelfMetrics(server, self.http, programs) if dialect == "cmon" else None
        Gauge(
            "pymon_build_info",
            "Constant 1, labelled with what is running.",
            ["version", "python", "source", "dialect"],
            registry=self.registry,
        ).labels(__version__, platform.python_version(), source, dialect).set(1)
        self._duration = Gauge(
            "pymon_collector_duration_seconds",
            "Time the collector's last collection took. Collectors that are read together share it.",
            ["collector"],
            registry=self.registry,
        )
        self._success = Gauge(
            "pymon_collector_success",
            "Whether the collector's last collection gave what there is, in time.",
            ["collector"],
            registry=self.registry,
        )
        self._failures = Counter(
            "pymon_collector_failures",
            "Things that could not be read, by reason. Each costs the cells it would have filled, nothing else.",
            ["collector", "reason"],
            registry=self.registry,
        )
        self.scrape_error = Gauge(
            "container_scrape_error",
            "1 if containers could not be collected in time, as in cAdvisor.",
            registry=self.registry,
        )
        self.collections = Counter(
            "pymon_collections", "Collections made. Scrapes that arrive together share one.", registry=self.registry
        )

    def gauge(self, name: str, help: str, value: Callable[[], float]) -> None:
        """A gauge that is read when it is written."""
        Gauge(name, help, registry=self.registry).set_function(value)

    def collected(self, collector: str, seconds: float | None, *, success: bool, failures: Mapping[str, int]) -> None:
        """One collection of a collector ended; seconds is None when it has not."""
        if seconds is not None:
            self._duration.labels(collector).set(seconds)
            if self.cmon is not None:
                self.cmon.collected(collector, seconds)
        self._success.labels(collector).set(success)
        for reason, count in failures.items():
            self.failed(collector, reason, count)

    def failed(self, collector: str, reason: str, count: int = 1) -> None:
        """Something of a collector could not be read."""
        self._failures.labels(collector, reason).inc(count)

    def render(self, *, openmetrics: bool, names: frozenset[str] | None) -> bytes:
        """The exposition, in OpenMetrics without the end mark."""
        registry = self.registry if names is None else self.registry.restricted_registry(names)
        if openmetrics:
            whole: bytes = openmetrics_latest(registry)  # type: ignore[no-untyped-call]
            return whole.removesuffix(_EOF)
        return text_latest(registry)

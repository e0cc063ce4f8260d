"""The agent's metrics about itself."""

from __future__ import annotations

import platform
from collections import Counter
from threading import Lock
from typing import TYPE_CHECKING, Any

from pymon import __version__
from pymon.agent.cmon_self_metrics import CmonSelfMetrics
from pymon.agent.http_counts import HttpCounts
from pymon.exposition.own_metrics import OwnMetrics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymon.sources.programs import Program


class SelfMetrics(OwnMetrics):
    """The agent's metrics about itself.

    http: counts of requests. cmon: metrics under the names of Triton's agent, None unless the dialect is cmon.
    scrape_error: whether the last collection of all containers was incomplete. collections: how many there were.
    """

    def __init__(
        self,
        *,
        source: str,
        dialect: str,
        server: str = "",
        datacenter: str = "",
        programs: Sequence[Program[Any]] = (),
    ) -> None:
        """Register the metrics.

        server: the node's UUID. datacenter: its name, "" if unknown. programs: background programs whose results the
        cmon dialect counts as its cache.
        """
        super().__init__()
        self.http = HttpCounts(self)
        self.cmon = CmonSelfMetrics(server, self.http, programs, datacenter) if dialect == "cmon" else None
        self.scrape_error = False
        self.collections = 0
        self._duration: dict[tuple[object, ...], float] = {}
        self._success: dict[tuple[object, ...], float] = {}
        self._without_data: set[str] = set()
        self._failures: Counter[tuple[object, ...]] = Counter()
        self._failed = Lock()
        self.build_info(version=__version__, python=platform.python_version(), source=source, dialect=dialect)
        if dialect != "cmon":
            # Dashboards of node_exporter offer the nodes that have it.
            theirs = {(__version__, "", "pymon", ""): 1.0}
            self.gauges(
                "node_exporter_build_info",
                "A metric with a constant '1' value labeled by version, revision, branch, goversion: those of pymon.",
                ("version", "revision", "branch", "goversion"),
                lambda: theirs,
            )
        self.gauges(
            "pymon_collector_duration_seconds",
            "Time the collector's last collection took. Collectors that are read together share it.",
            ("collector",),
            lambda: self._duration,
        )
        self.gauges(
            "pymon_collector_success",
            "Whether the collector's last collection gave what there is, in time.",
            ("collector",),
            lambda: self._success,
        )
        self.counters(
            "pymon_collector_failures",
            "Things that could not be read, by reason. Each costs the cells it would have filled, nothing else.",
            ("collector", "reason"),
            lambda: self._failures,
        )
        self.gauge(
            "container_scrape_error",
            "1 if containers could not be collected in time, as in cAdvisor.",
            lambda: self.scrape_error,
        )
        self.counters(
            "pymon_collections",
            "Collections made. Scrapes that arrive together share one.",
            (),
            lambda: {(): self.collections},
        )

    def health(self) -> dict[str, bool]:
        """Return whether the last collection of each collector went well, by its name.

        Collectors that found nothing to collect on this node are left out.
        """
        return {
            str(collector): bool(good)
            for (collector,), good in self._success.items()
            if collector not in self._without_data
        }

    def collected(self, collector: str, seconds: float | None, *, success: bool, failures: Mapping[str, int]) -> None:
        """Record one collection of a collector.

        seconds: how long it took, None if it has not ended. failures: number of failures by reason.
        """
        if seconds is not None:
            self._duration[collector,] = seconds
            if self.cmon is not None:
                self.cmon.collected(collector, seconds)
        self._success[collector,] = success
        if failures.keys() == {"nodata"}:
            self._without_data.add(collector)
        else:
            self._without_data.discard(collector)
        for reason, count in failures.items():
            self.failed(collector, reason, count)

    def failed(self, collector: str, reason: str, count: int = 1) -> None:
        """Count failures of a collector. Thread-safe."""
        with self._failed:
            self._failures[collector, reason] += count

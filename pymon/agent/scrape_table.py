"""How the node's collectors did, with the names of node_exporter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymon._native.table import Table
from pymon.catalogue.model import NSEC, Column, gauge

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pymon.agent.workers import NodeWorker

_TABLE = "node_scrape_collector"
_NANOSECONDS = 10**9

METRICS = (
    gauge(
        "node_scrape_collector_duration_seconds",
        "node_exporter: Duration of a collector scrape.",
        "",
        Column(_TABLE, "duration", NSEC),
    ),
    gauge(
        "node_scrape_collector_success",
        "node_exporter: Whether a collector succeeded.",
        "",
        Column(_TABLE, "success"),
    ),
)
"""Families that belong to no collector and have no switch, as there."""


class ScrapeTable:
    """Table node_scrape_collector {collector}, in nanoseconds and 0 or 1."""

    def __init__(self) -> None:
        self.table = Table(_TABLE, ("duration", "success"))

    def fill(self, workers: Iterable[tuple[NodeWorker, bool]]) -> None:
        """Write the rows anew. workers: each with whether it has ended. One that has not has no duration."""
        self.table.clear()
        for worker, ended in workers:
            row = self.table.add_row((("collector", worker.name),))
            duration = int(worker.seconds * _NANOSECONDS) if ended else None
            self.table.fill(row, (duration, int(ended and worker.error is None)))

"""The node's clock, for the metric of Triton's cmon-agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.program_fields import TIME_FIELDS, TIME_TABLE
from pymon.sources.node.source import Collector, NodeSource


class TimeOfDay(NodeSource):
    """Table time: one row, in nanoseconds since 1970."""

    name: ClassVar[str] = "time"

    def __init__(self, clock_ns: Callable[[], int]) -> None:
        self._clock_ns = clock_ns
        self._table = Table(TIME_TABLE, TIME_FIELDS)
        super().__init__((self._table,))

    def _fill(self) -> None:
        self._table.fill(self._table.add_row(), (self._clock_ns(),))


COLLECTOR = Collector(TimeOfDay.name, lambda node: TimeOfDay(node.clock), dialect="cmon")

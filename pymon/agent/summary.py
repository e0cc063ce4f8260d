"""The summary of this node's containers for people: what ``/v1/summary`` answers."""

from __future__ import annotations

import asyncio
import math
import os
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pymon.catalogue import cadvisor, stopped
from pymon.catalogue.model import ONE
from pymon.exposition.compile import choose
from pymon.summary_document import COLUMNS, MAX_TEXT_CHARACTERS, NUMBER_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pymon._native.table import Table
    from pymon.agent.collection import AgentCollection
    from pymon.agent.containers import Containers
    from pymon.agent.rows import ContainerRows
    from pymon.catalogue.model import Unit
    from pymon.containers.identity import Container
    from pymon.exposition.compile import Chosen

SHARE_SECONDS = 0.5
"""A summary is given to all who ask within this time after its collection began."""

COLLECT_SECONDS = 5.0
"""The longest time that a collection for a summary may take."""

_SIGN_BIT = 1 << 63

_LAST = {last.metric: (last.key, last.unit) for last in stopped.LAST} | {
    metric.name: (column.key, column.unit) for metric in stopped.METRICS for column in metric.samples[0].columns
}
"""Metric -> the number that is kept of it when a container has ended, and its unit."""


class _Field(NamedTuple):
    """A number of the summary: its position among `NUMBER_COLUMNS`, and its columns."""

    position: int
    chosen: Chosen


class Summary:
    """Makes the rows of the summary from the tables of a collection. tables: the names of those that it needs."""

    def __init__(self, layout: Mapping[str, Sequence[str]]) -> None:
        """layout: the columns of each table, by table name."""
        by_name = {metric.name: metric for metric in (*cadvisor.METRICS, *stopped.METRICS)}
        self._fields: list[_Field] = []
        for position, name in enumerate(NUMBER_COLUMNS.values()):
            metric = by_name[name]
            chosen = next(filter(None, (choose(sample, layout) for sample in metric.samples)), None)
            if chosen is not None:
                self._fields.append(_Field(position, chosen))
        self.tables = frozenset(field.chosen.column.table for field in self._fields)

    def rows(self, tables: Mapping[str, Table], containers: Sequence[Container | None]) -> list[list[object]]:
        """Return a row for each container, items in the order of `COLUMNS`. containers: by row of the tables."""
        values: list[list[float | None]] = [[None] * len(containers) for _ in NUMBER_COLUMNS]
        for field in self._fields:
            table = tables.get(field.chosen.column.table)
            if table is not None:
                _add(values[field.position], table, field.chosen)
        return [
            [*_texts(container), *(column[row] for column in values)]
            for row, container in enumerate(containers)
            if container is not None
        ]


class LiveSummary:
    """The summary of now. Requests that come together, or soon after one another, share a collection.

    health: returns whether the last collection of each collector went well.
    """

    def __init__(
        self,
        collection: AgentCollection,
        rows: ContainerRows,
        containers: Containers,
        health: Callable[[], Mapping[str, bool]],
    ) -> None:
        self._collection = collection
        self._rows = rows
        self._measured = containers
        self._summary = Summary(containers.layout)
        self._health = health
        self._made: asyncio.Task[bytes] | None = None
        self._made_at = -math.inf

    async def summary(self) -> bytes:
        """Return the summary as JSON; see `pymon.summary_document`."""
        now = time.monotonic()
        if self._made is None or (now - self._made_at >= SHARE_SECONDS and self._made.done()):
            self._made, self._made_at = asyncio.create_task(self._make()), now
        return await asyncio.shield(self._made)

    async def _make(self) -> bytes:
        before = self._containers()

        def use(tables: Mapping[str, Table]) -> list[list[object]]:
            # The tables' rows are those of the moment when the collection began: a row whose container was another one
            # before or after it is left out.
            same = [one if one is other else None for one, other in zip(before, self._containers(), strict=False)]
            rows = self._summary.rows(tables, same)
            there = {row[0] for row in rows}
            # One that has ended in between is told as it was when it was read.
            return rows + [row for one in self._rows.ended() if (row := _ended_row(*one))[0] not in there]

        at = time.time()
        rows = await self._collection.read(self._summary.tables, use, COLLECT_SECONDS)
        source, uuid = self._measured.source, str(self._rows.node.uuid)
        return await asyncio.to_thread(document, rows, uuid=uuid, at=at, source=source, health=self._health())

    def _containers(self) -> list[Container | None]:
        return [self._rows.container(row) for row in range(self._rows.rows)]


def document(rows: list[list[object]], *, uuid: str, at: float, source: str, health: Mapping[str, bool]) -> bytes:
    """Return the summary of a node as JSON. at: time of the reading, in seconds since the epoch."""
    machine = {
        "cpus": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "load": os.getloadavg(),
    }
    node = {
        "uuid": uuid,
        "hostname": os.uname().nodename,
        "time": at,
        "machine": machine,
        "source": source,
        "collectors": health,
        "containers": rows,
    }
    return msgspec.json.encode({"columns": COLUMNS, "nodes": [node]})


def _ended_row(container: Container, numbers: Mapping[str, int]) -> list[object]:
    """Return the row of a container that has ended. numbers: by key, as `pymon.catalogue.stopped` has them."""
    found: list[float | None] = []
    for metric in NUMBER_COLUMNS.values():
        key, unit = _LAST.get(metric, ("", ONE))
        found.append(_number(numbers[key], unit) if key in numbers else None)
    return [*_texts(container), *found]


def _texts(container: Container) -> tuple[str, ...]:
    texts = (
        container.name or container.id,
        container.image,
        container.runtime,
        container.state,
        container.health,
        container.owner or "",
    )
    # A name may hold bytes that are no UTF-8, as surrogates: JSON cannot.
    return (
        str(container.uuid),
        *(text[:MAX_TEXT_CHARACTERS].encode("utf-8", "replace").decode() for text in texts),
    )


def _add(values: list[float | None], table: Table, chosen: Chosen) -> None:
    """Add the numbers of a table's rows to the values of their containers."""
    key, unit = chosen.column.key, chosen.column.unit
    for row in range(len(table)):
        parent = table.parent(row)
        value = table.get(row, key)
        if value is None or parent is None or parent >= len(values):
            continue
        if chosen.when is not None and table.get(row, chosen.when.key) is None:
            continue
        if chosen.minus is not None:
            value = max(0, value - (table.get(row, chosen.minus.key) or 0))
        if chosen.plus is not None:
            value += table.get(row, chosen.plus.key) or 0
        values[parent] = (values[parent] or 0) + _number(value, unit)


def _number(value: int, unit: Unit) -> float:
    """Return a cell in base units; see `Unit`."""
    if unit.signed and value >= _SIGN_BIT:
        value -= _SIGN_BIT << 1
    value = max(0, value - unit.subtract) if unit.subtract else value
    value = value * unit.multiply // unit.divide + unit.add
    return value / 10**unit.decimals if unit.decimals else value

"""What the summaries told: the last one, rates between two, and the last minutes of each container."""

from __future__ import annotations

import math
from array import array
from itertools import repeat
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymon.top.document import Machine, Row, Summary

POINTS = 120
"""Readings that are kept of a container."""

GAP_SECONDS = 120.0
"""There is no rate over a longer time."""

RATES = {
    "cpu": "cpu_seconds",
    "throttled": "throttled_seconds",
    "receive": "receive_bytes",
    "transmit": "transmit_bytes",
    "read": "read_bytes",
    "write": "write_bytes",
    "cpu_waiting": "cpu_waiting_seconds",
    "memory_waiting": "memory_waiting_seconds",
    "io_waiting": "io_waiting_seconds",
}
"""Rate -> the counter that it is of."""

SERIES = (*RATES, "memory")
"""What is kept of each reading."""

_counters = attrgetter(*RATES.values())
_NOTHING: tuple[float | None, ...] = (None,) * len(RATES)
_NAN = math.nan


class Host:
    """A node. error: why it has no new numbers, "" if it has."""

    def __init__(self, uuid: str) -> None:
        self.uuid = uuid
        self.hostname = ""
        self.error = ""
        self.machine: Machine | None = None
        self.failing: list[str] = []


class Container:
    """A container. row: what was told last. rates: by second, in the order of `RATES`. time: of the node's reading."""

    __slots__ = ("_history", "_points", "host", "rates", "row", "time")

    def __init__(self, row: Row, host: Host, time: float) -> None:
        self.row = row
        self.host = host
        self.time = time
        self.rates = _NOTHING
        self._points = 0
        self._history = array("f", repeat(_NAN, POINTS * len(SERIES)))
        self._keep()

    def update(self, row: Row, host: Host, time: float) -> None:
        """Take in another reading. A reading that is not newer changes no rate. What has ended has none."""
        before, self.row, self.host = self.row, row, host
        passed = time - self.time
        if passed == 0:
            return
        self.time = time
        running = row.end_seconds is None
        if running and before.start_seconds == row.start_seconds and 0 < passed < GAP_SECONDS:
            # A counter that fell was reset: there is no rate.
            self.rates = tuple(
                None if now is None or then is None or now < then else (now - then) / passed
                for now, then in zip(_counters(row), _counters(before), strict=True)
            )
        else:
            self.rates = _NOTHING
        self._keep()

    def _keep(self) -> None:
        at = self._points % POINTS * len(SERIES)
        values = [_NAN if value is None else value for value in (*self.rates, self.row.memory_bytes)]
        self._history[at : at + len(SERIES)] = array("f", values)
        self._points += 1

    def series(self, name: str, points: int = POINTS) -> list[float]:
        """Return the last values of a series, oldest first, NaN where there was none."""
        kept = self._history[SERIES.index(name) :: len(SERIES)]
        at = self._points % POINTS
        length = min(points, self._points, POINTS)
        return [*kept[at:], *kept[:at]][POINTS - length :]

    @property
    def of_limit(self) -> float | None:
        """The memory in use, as a part of its limit."""
        used, limit = self.row.memory_bytes, self.row.memory_limit_bytes
        return used / limit if used is not None and limit else None

    @property
    def waits(self) -> bool:
        """Whether its numbers are of an earlier time, as its node does not answer."""
        return self.host.error != ""


class Model:
    """The containers, by UUID, and their nodes."""

    def __init__(self) -> None:
        self.containers: dict[str, Container] = {}
        self.hosts: dict[str, Host] = {}
        self.account: str | None = None
        self.left_out = 0

    def update(self, summary: Summary) -> None:
        """Take in an answer. What a node had that does not answer stays."""
        self.account, self.left_out = summary.account, summary.left_out
        before, self.containers = self.containers, {}
        known, self.hosts = self.hosts, {}
        for node in summary.nodes:
            host = self.hosts[node.uuid] = known.get(node.uuid) or Host(node.uuid)
            host.hostname, host.error = node.hostname, node.error
            if node.error:
                continue
            host.machine, host.failing = node.machine, node.failing
            for row in node.rows:
                one = before.get(row.uuid)
                if one is None:
                    one = Container(row, host, node.time)
                else:
                    one.update(row, host, node.time)
                self.containers[row.uuid] = one
        for uuid, one in before.items():
            there = self.hosts.get(one.host.uuid)
            if there is not None and there.error and uuid not in self.containers:
                one.rates = _NOTHING
                self.containers[uuid] = one

    def away(self) -> Iterator[Host]:
        """Yield the nodes that do not answer."""
        return (host for host in self.hosts.values() if host.error)

    def total(self, name: str) -> float | None:
        """Return the sum of a rate over all containers, None if none has it."""
        at = tuple(RATES).index(name)
        values = [one.rates[at] for one in self.containers.values()]
        known = [value for value in values if value is not None]
        return math.fsum(known) if known else None

    def memory(self) -> float | None:
        """Return the memory of all containers in bytes, None if none tells it."""
        known = [one.row.memory_bytes for one in self.containers.values() if one.row.memory_bytes is not None]
        return math.fsum(known) if known else None

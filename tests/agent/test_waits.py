"""The outcome of container_latency."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

from pymon._native.table import Table
from pymon.agent.cgroup_containers import CgroupContainers


class Latency:
    left_out: frozenset[int] = frozenset()

    def fill(self, tables: Mapping[str, Table], rows: int) -> None:
        """Fill nothing."""


def test_containers_for_which_there_is_no_room_are_failures() -> None:
    latency = Latency()
    source = SimpleNamespace(layout={}, readers={}, latency=latency)
    registry = SimpleNamespace(table=Table("container", ("start",)), rows=1)
    containers = CgroupContainers(cast("Any", source), cast("Any", registry), cast("Any", None), ())
    _, outcome = containers.waits()
    assert (outcome.success, outcome.failures) == (True, {})
    latency.left_out = frozenset((16384, 16385))
    _, outcome = containers.waits()
    assert (outcome.success, outcome.failures) == (True, {"enospc": 2})

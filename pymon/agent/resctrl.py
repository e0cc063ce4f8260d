"""Cache and memory bandwidth of containers, for the collector container_resctrl."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from pymon.agent.sampler import ListedSampler
from pymon.catalogue.resctrl import COLUMNS, FIELDS, NODES, TABLE
from pymon.sources.errors import SourceError
from pymon.sources.resctrl import find_groups, group_of, read_group

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pymon._native.table import Table
    from pymon.agent.disk import Listed


class ResctrlSampler(ListedSampler):
    """Reads the groups that containers have in resctrl every second."""

    def __init__(
        self,
        root: Path,
        containers: Callable[[], list[Listed]],
        rows: Callable[[], int],
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """root: where resctrl is mounted."""
        super().__init__(TABLE, COLUMNS, containers, rows, clock_ns=clock_ns)
        self._root = root
        self._found: dict[int, dict[tuple[str, int], int]] = {}

    def _note(self, tables: Mapping[str, Table], rows: int, now_ns: int) -> None:  # noqa: ARG002
        found: dict[int, dict[tuple[str, int], int]] = {}
        failures: Counter[str] = Counter()
        try:
            groups = find_groups(self._root)
        except SourceError as error:
            groups = {}
            failures[error.reason] += 1
        for row, cgroup, _ in self._listed if groups else ():
            path = group_of(groups, cgroup)
            if path is None:
                continue
            try:
                found[row] = read_group(path, tuple(FIELDS))
            except SourceError as error:
                failures[error.reason] += 1
        self._found, self._failures = found, failures

    def _forget(self, row: int) -> None:
        self._found.pop(row, None)

    def _write(self, table: Table, rows: int, now_ns: int) -> None:  # noqa: ARG002 - it was read now
        table.clear()
        table.grow(rows)
        for row, counters in self._found.items():
            for (field, cache), value in counters.items():
                if row < rows and cache < NODES:
                    table.set(row, f"{field}:{cache}", value)

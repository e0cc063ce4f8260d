"""Cache and memory bandwidth of containers, for the collector container_resctrl."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING

from pymon.agent.sampler import INTERVAL_SECONDS, Sampler
from pymon.catalogue.resctrl import COLUMNS, FIELDS, NODES, TABLE
from pymon.sources.errors import SourceError
from pymon.sources.resctrl import find_groups, group_of, read_group

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pymon._native.table import Table
    from pymon.agent.disk import Listed
    from pymon.agent.sampler import Read


class ResctrlSampler(Sampler):
    """Reads the groups that containers have in resctrl every second."""

    def __init__(
        self,
        root: Path,
        containers: Callable[[], list[Listed]],
        rows: Callable[[], int],
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """root: where resctrl is mounted. containers: returns those that are there; called on the loop."""
        super().__init__(TABLE, COLUMNS, rows, clock_ns=clock_ns)
        self._root = root
        self._containers = containers
        self._listed: list[Listed] = []
        self._found: dict[int, dict[tuple[str, int], int]] = {}
        self._failures: Counter[str] = Counter()

    @property
    def tables(self) -> frozenset[str]:
        """Nothing that readers read is needed for a sample."""
        return frozenset()

    @property
    def failures(self) -> Mapping[str, int]:
        """Why there were no numbers in the last sample."""
        return self._failures

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

    async def run(self, read: Read) -> None:  # noqa: ARG002 - nothing is read from the readers
        """Take samples until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            self._listed = self._containers()
            await asyncio.to_thread(self.take, {})
            await asyncio.sleep(max(0.1, begun + INTERVAL_SECONDS - loop.time()))

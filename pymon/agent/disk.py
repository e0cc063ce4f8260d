"""Use of the writable layers of containers, for the collector container_disk."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from pymon.agent.sampler import Sampler
from pymon.catalogue.disk import COLUMNS, LABELS, TABLE
from pymon.sources.errors import SourceError
from pymon.sources.writable_layers import BATCH, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pymon._native.table import Table
    from pymon.agent.sampler import Read
    from pymon.sources.writable_layers import WritableLayers

_log = logging.getLogger(__name__)

Listed = tuple[int, str, float]
"""A container: its row, its group, and its start."""

LISTING_SECONDS = 1.0

ROUND_SECONDS = 60.0
"""The time between two measurements of a container, at least."""

REST = 4.0
"""How many times as long as it took to measure some containers nothing is measured then."""


class DiskSampler(Sampler):
    """Tells what a thread has measured last. A container that could not be measured has no numbers."""

    def __init__(
        self,
        layers: WritableLayers,
        containers: Callable[[], list[Listed]],
        rows: Callable[[], int],
        *,
        round_seconds: float = ROUND_SECONDS,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """containers: returns those that are there; called on the loop."""
        super().__init__(TABLE, COLUMNS, rows, clock_ns=clock_ns)
        self._layers = layers
        self._containers = containers
        self._round_seconds = round_seconds
        self._listed: list[Listed] = []
        self._measured: dict[tuple[str, float], Usage] = {}
        self._failures: Counter[str] = Counter()
        self._end = threading.Event()

    @property
    def tables(self) -> frozenset[str]:
        """Nothing is read for a sample."""
        return frozenset()

    @property
    def failures(self) -> Mapping[str, int]:
        """Why containers could not be measured in the last round that has ended."""
        return self._failures

    def _note(self, tables: Mapping[str, Table], rows: int, now_ns: int) -> None:
        pass

    def _forget(self, row: int) -> None:
        self._listed = [item for item in self._listed if item[0] != row]

    def _write(self, table: Table, rows: int, now_ns: int) -> None:  # noqa: ARG002 - a measurement has no age
        table.clear()
        table.grow(rows)
        for row, group, start in self._listed:
            usage = self._measured.get((group, start))
            if usage is not None and row < rows:
                table.relabel(row, ((LABELS[0], usage.device),))
                table.fill(row, (usage.used, usage.limit, usage.inodes, usage.inodes_free))

    async def run(self, read: Read) -> None:  # noqa: ARG002 - nothing is read from the readers
        """Measure on a thread until cancelled, and list containers for it."""
        thread = threading.Thread(target=self._work, name="pymon-disk", daemon=True)
        self._listed = self._containers()
        thread.start()
        try:
            while True:
                self._listed = self._containers()
                await asyncio.to_thread(self.take, {})
                await asyncio.sleep(LISTING_SECONDS)
        finally:
            self._layers.cancel()  # first: the thread closes them at the end
            self._end.set()

    def _work(self) -> None:
        while not self._end.is_set():
            begun = time.monotonic()
            try:
                self._measure_all()
            except SourceError as error:
                _log.debug("no writable layers: %s", error)
                self._failures = Counter((error.reason,))
            self._end.wait(max(1.0, begun + self._round_seconds - time.monotonic()))
        self._layers.close()

    def _measure_all(self) -> None:
        """Measure every container that is there now. Raises SourceError when the mounts cannot be read."""
        mounts = self._layers.mounts()
        listed = [(group, start) for _, group, start in self._listed]
        found = [(key, path) for key in listed if (path := self._layers.directory(key[0], mounts)) is not None]
        there = {key for key, _ in found}
        self._measured = {key: usage for key, usage in self._measured.items() if key in there}
        failures: Counter[str] = Counter()
        for first in range(0, len(found), BATCH):
            if self._end.is_set():
                return
            batch = found[first : first + BATCH]
            begun = time.monotonic()
            results: Sequence[Usage | SourceError]
            try:
                results = self._layers.measure([path for _, path in batch], mounts)
            except SourceError as error:
                results = [error] * len(batch)
            for (key, path), result in zip(batch, results, strict=True):
                if isinstance(result, Usage):
                    self._measured[key] = result
                else:
                    _log.debug("%s: %s", path, result)
                    self._measured.pop(key, None)
                    failures[result.reason] += 1
            self._end.wait((time.monotonic() - begun) * REST)
        self._failures = failures

"""The highest memory use of containers in the last seconds, for the collector container_peaks."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, NamedTuple

from pymon.agent.sampler import ListedSampler
from pymon.catalogue.peaks import MEMORY_COLUMNS, MEMORY_TABLE, WINDOWS_SECONDS
from pymon.sources.errors import NOT_OFFERED, SourceError
from pymon.sources.memory_peaks import FILES, MemoryPeaks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pymon._native.table import Table
    from pymon.agent.disk import Listed

_log = logging.getLogger(__name__)

_SECOND_NS = 10**9
_TRY_AGAIN_SECONDS = 60.0


class _Watched(NamedTuple):
    """A container whose files are open. taken: times and the peaks since the time before, of the longest window."""

    key: tuple[str, float]
    peaks: MemoryPeaks
    taken: deque[tuple[int, list[int | None]]]


class MemoryPeakSampler(ListedSampler):
    """Reads and resets the watermarks of each container every second. Containers beyond `most` have no numbers."""

    def __init__(
        self,
        root: Path,
        containers: Callable[[], list[Listed]],
        rows: Callable[[], int],
        most: int,
        *,
        watch: Callable[[Path], MemoryPeaks] = MemoryPeaks,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """root: of the version 2 hierarchy. most: how many containers are watched, with two descriptors each."""
        super().__init__(MEMORY_TABLE, MEMORY_COLUMNS, containers, rows, clock_ns=clock_ns)
        self._root = root
        self._most = most
        self._watch = watch
        self._watched: dict[int, _Watched] = {}
        self._refused: dict[tuple[str, float], tuple[int, str]] = {}

    def _note(self, tables: Mapping[str, Table], rows: int, now_ns: int) -> None:  # noqa: ARG002
        failures: Counter[str] = Counter()
        there = {row: (group, start) for row, group, start in self._listed}
        for row in [row for row, watched in self._watched.items() if there.get(row) != watched.key]:
            self._forget(row)
        refused = {key: self._refused[key] for key in there.values() if key in self._refused}
        for row, key in there.items():
            watched = self._watched.get(row)
            if watched is None and (key not in refused or refused[key][0] <= now_ns):
                refused.pop(key, None)
                try:
                    watched = self._begin(row, key)
                except SourceError as error:
                    _log.debug("%s", error)
                    refused[key] = (now_ns + int(_TRY_AGAIN_SECONDS * _SECOND_NS), error.reason)
            elif watched is not None:
                try:
                    watched.taken.append((now_ns, watched.peaks.take()))
                except SourceError:  # it has gone, as the listing will say
                    self._forget(row)
        failures.update(reason for _, reason in refused.values() if reason not in NOT_OFFERED)
        self._refused, self._failures = refused, failures

    def _begin(self, row: int, key: tuple[str, float]) -> _Watched:
        if len(self._watched) >= self._most:
            raise SourceError("enospc", f"{key[0]}: {self._most} containers have their memory files open")
        peaks = self._watch(self._root / key[0].lstrip("/"))
        self._watched[row] = watched = _Watched(key, peaks, deque(maxlen=max(WINDOWS_SECONDS)))
        return watched

    def _forget(self, row: int) -> None:
        watched = self._watched.pop(row, None)
        if watched is not None:
            watched.peaks.close()

    def _write(self, table: Table, rows: int, now_ns: int) -> None:
        table.clear()
        table.grow(rows)
        for row, watched in self._watched.items():
            if row < rows:
                table.fill(row, _highest(watched.taken, now_ns))

    def _close(self) -> None:
        for row in list(self._watched):
            self._forget(row)


def _highest(taken: deque[tuple[int, list[int | None]]], now_ns: int) -> list[int | None]:
    """Return the highest of each file in each window, in the order of MEMORY_COLUMNS."""
    found: list[int | None] = []
    for at in range(len(FILES)):
        for seconds in WINDOWS_SECONDS:
            since = now_ns - seconds * _SECOND_NS
            found.append(
                max((use for when, uses in taken if when > since and (use := uses[at]) is not None), default=None)
            )
    return found

"""Waiting times of containers, counted by BPF programs on the scheduler's and the block layer's trace points."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pymon._native.bpf import ffi, lib
from pymon._native.table import Table
from pymon.catalogue.latency import REQUESTS, TASKS
from pymon.sources.bpf import OBJECTS, probe, refusal_text
from pymon.sources.cgroup import Hierarchies
from pymon.sources.errors import SourceError

OBJECT = "latency.bpf.o"

LOOK_ROWS = 512
"""Containers whose cgroups are looked for again at a time, 2 µs each."""

_LOG_BYTES = 2048
_KEY = secrets.token_bytes(16)


class LatencySource:
    """Counts containers, each from `add` on, from 0.

    error: why the programs do not run, None if they do. left_out: rows of containers that cannot be counted, because
    there are too many or the kernel refused.
    """

    def __init__(self, hierarchies: Hierarchies, *, procfs: Path, sysfs: Path, objects: Path = OBJECTS) -> None:
        """Load the programs and start them."""
        self.error: SourceError | None = None
        self.left_out: set[int] = set()
        self._next_row = 0
        self._latency: Any = None
        try:
            self._open(hierarchies, procfs, sysfs, objects)
        except SourceError as error:
            self.error = error

    def _open(self, hierarchies: Hierarchies, procfs: Path, sysfs: Path, objects: Path) -> None:
        facts, library = probe(hierarchies, procfs, sysfs, objects)
        if facts.obstacle:
            raise SourceError("unavailable", facts.obstacle)
        try:
            content = ffi.from_buffer((objects / OBJECT).read_bytes())
        except OSError as error:
            raise SourceError.from_os_error(objects / OBJECT, error) from error
        tasks, requests = (hierarchies.v1.get(name) or hierarchies.v2 for name in ("cpu", "blkio"))
        if tasks is None:
            raise SourceError("unavailable", "no hierarchy with the controller cpu is mounted")
        place = ffi.new("pm_latency_place *")
        kept = [ffi.new("char[]", os.fsencode(path)) if path else ffi.NULL for path in (tasks, requests, sysfs)]
        place.tasks, place.requests, place.sysfs = kept
        place.by_cpu = "cpu" in hierarchies.v1
        place.by_blkio = "blkio" in hierarchies.v1
        log = ffi.new("char[]", _LOG_BYTES)
        native_object = ffi.new("pm_bpf_object *", (content, len(content)))
        latency = lib.pm_latency_open(library.functions, native_object, place, log, _LOG_BYTES)
        if not latency:
            raise SourceError("unavailable", refusal_text(ffi.errno, bytes(ffi.string(log)).decode(errors="replace")))
        # A call that is under way keeps it alive.
        self._latency = ffi.gc(latency, lib.pm_latency_close)

    def add(self, row: int, path: str) -> None:
        """Count a container: its row, and its cgroup path without the leading slash."""
        if self._latency and lib.pm_latency_add(self._latency, row, os.fsencode(path)) < 0:
            self.left_out.add(row)

    def look(self, row: int) -> None:
        """Look again for the cgroups of a container, because it appeared in another hierarchy."""
        if self._latency:
            lib.pm_latency_look(self._latency, row, 1)

    def look_further(self, rows: int) -> None:
        """Look again for the cgroups of the next `LOOK_ROWS` of this many rows: not every hierarchy is watched."""
        if self._latency:
            if self._next_row >= rows:
                self._next_row = 0
            lib.pm_latency_look(self._latency, self._next_row, LOOK_ROWS)
            self._next_row += LOOK_ROWS

    def own(self, row: int, account: str | None) -> None:
        """Say whose a container is, None for nobody's."""
        if self._latency:
            lib.pm_latency_own(self._latency, row, account_number(account))

    def remove(self, row: int) -> None:
        """Stop counting the container of a row."""
        if self._latency:
            lib.pm_latency_remove(self._latency, row)
            self.left_out.discard(row)

    def fill(self, tables: Mapping[str, Table], rows: int) -> None:
        """Fill the tables of all containers, with this many rows. Raises SourceError. The GIL is released."""
        self._check(lib.pm_latency_fill(self._running, *_pointers(tables), rows))

    def fill_one(self, tables: Mapping[str, Table], row: int) -> None:
        """Fill the tables of one container, which is parent 0. Raises SourceError."""
        self._check(lib.pm_latency_fill_one(self._running, *_pointers(tables), row))

    @property
    def _running(self) -> Any:
        if not self._latency:
            raise self.error or SourceError("unavailable", "closed")
        return self._latency

    @staticmethod
    def _check(result: int) -> None:
        if result < 0:
            raise SourceError(errno.errorcode.get(-result, "error").lower(), f"BPF: {os.strerror(-result)}")

    def close(self) -> None:
        """Stop the programs, when the calls that are under way have ended."""
        self._latency = None


def account_number(account: str | None) -> int:
    """Return the number of an account. Two have the same one so seldom that a table of them is not worth its memory.

    The key keeps whoever chooses a name from choosing one with the number of a neighbour.
    """
    if account is None:
        return int(lib.PM_LATENCY_NOBODY)
    return int.from_bytes(hashlib.blake2b(account.encode(), digest_size=4, key=_KEY).digest()) or 1


def _pointers(tables: Mapping[str, Table]) -> tuple[Any, Any]:
    return tuple(
        ffi.cast("pm_table *", tables[name].address) if name in tables else ffi.NULL for name in (TASKS, REQUESTS)
    )

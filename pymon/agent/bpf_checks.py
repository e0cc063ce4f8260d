"""Compares what BPF fills with the files, at start and every few minutes."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymon.sources.bpf import BpfSource
    from pymon.sources.bpf_check import BpfCheck

_log = logging.getLogger(__name__)

CHECK_SECONDS = 300.0
"""Interval between two comparisons."""

UNDECIDED_SECONDS = 30.0
"""The same while there are columns that could not be compared, for want of a cgroup that has them."""


class BpfChecks:
    """Runs a check again and again, in a thread.

    source: the decisions. Columns are filled as soon as a check has found that they agree.
    """

    def __init__(self, source: BpfSource, check: BpfCheck, *, repeat: bool, first: bool) -> None:
        """repeat: check from `start` on. first: `prime` checks, so that a single collection is filled by BPF, too."""
        self.source = source
        self._repeat = repeat
        self._first = first
        self._check = check
        self._task: asyncio.Task[None] | None = None
        self._running = threading.Lock()
        self._closed = False
        self._said = -1

    def start(self) -> None:
        """Check at intervals from now on, on the running loop, if `repeat` was given."""
        if self._repeat:
            self._task = asyncio.ensure_future(self._run())

    async def prime(self) -> None:
        """Compare once, in a thread, and return when that is done: for a command that collects once."""
        if self._first:
            await asyncio.to_thread(self.run)

    async def _run(self) -> None:
        while not self.source.facts.obstacle:
            await asyncio.to_thread(self.run)
            undecided = any(finding.agrees is None for finding in self.source.findings.values())
            await asyncio.sleep(UNDECIDED_SECONDS if undecided else CHECK_SECONDS)

    def run(self) -> None:
        """Check once, and log what has changed. Blocks."""
        with self._running:
            if self._closed:
                return
            try:
                lost = self._check.run()
            except OSError as error:
                _log.warning("what BPF fills could not be compared with the files: %s", error)
                return
            for column, reason in lost:
                _log.warning("%s is read from files again: %s", column, reason)
            if self.source.filled != self._said:
                self._said = self.source.filled
                _log.info("%d columns of containers are filled by BPF", self._said)

    def stop(self) -> None:
        """Begin no further check. One that runs goes on; `close` waits for it."""
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        """Unload the programs of the check."""
        with self._running:
            self._closed = True
            self._check.close()

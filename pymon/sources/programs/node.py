"""Adapts a Program to the interface of the node's collectors."""

from __future__ import annotations

import threading
import time
from typing import Any

from pymon.sources.errors import SourceError
from pymon.sources.node.source import NodeSource
from pymon.sources.programs.background import Program


class ProgramSource(NodeSource):
    """Collector that shows the last result of a program, in the program's tables."""

    def __init__(self, program: Program[Any]) -> None:
        super().__init__(program.tables)
        self.name = program.name  # type: ignore[misc]  # a class for all programs
        self.program = program
        self._started = False
        self._ended = threading.Event()

    def prime(self, seconds: float) -> None:
        """Run the program and wait until the run has ended, for at most `seconds`."""
        self._start()
        until = time.monotonic() + seconds
        self.program.refresh_due(time.monotonic())
        while self.program.busy and self._ended.wait(until - time.monotonic()):
            self._ended.clear()

    def _start(self) -> None:
        if not self._started:
            self.program.start(self._ended.set)
            self._started = True

    def collect(self) -> None:
        """Request a run and fill the tables with the last result.

        Raises SourceError when no result is recent enough.
        """
        self._start()
        now = time.monotonic()
        self.program.refresh_due(now)
        filled = self.program.fill(now)
        self.problems = list(filled.problems)
        if not filled.available:
            raise self.problems[-1] if self.problems else SourceError("nodata", f"{self.name}: nothing said yet")

    def is_whole(self) -> bool:
        """Return True: the program's result is available, and its metrics say how old it is."""
        return True

    def _fill(self) -> None:
        """Do nothing. The program fills its tables itself."""

    def close(self) -> None:
        """Kill the running program and stop its thread."""
        self.program.close()

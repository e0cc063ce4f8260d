"""A program about the node as a collector of the node."""

from __future__ import annotations

import threading
import time
from typing import Any

from pymon.sources.errors import SourceError
from pymon.sources.node.source import NodeSource
from pymon.sources.programs.background import Program


class ProgramSource(NodeSource):
    """Shows what a program last said. The tables are the program's."""

    def __init__(self, program: Program[Any]) -> None:
        super().__init__(program.tables)
        self.name = program.name  # type: ignore[misc]  # a class for all programs
        self.program = program
        self._started = False
        self._ended = threading.Event()

    def prime(self, seconds: float) -> None:
        """Run the program and wait for it, up to the timeout."""
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
        """Ask for the next run, and show the last one. SourceError when there is none that is recent enough."""
        self._start()
        now = time.monotonic()
        self.program.refresh_due(now)
        filled = self.program.fill(now)
        self.problems = list(filled.problems)
        if not filled.available:
            raise self.problems[-1] if self.problems else SourceError("nodata", f"{self.name}: nothing said yet")

    def _fill(self) -> None:
        """The program fills its tables."""

    def close(self) -> None:
        """Stop the program."""
        self.program.close()

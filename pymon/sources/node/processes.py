"""Processes and threads by state, from the stat files of /proc. Off by default: it reads a file of each thread."""

from __future__ import annotations

import os
import re
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import Column, gauge
from pymon.sources.errors import SourceError
from pymon.sources.node.attributes import AttributeSource
from pymon.sources.node.source import Collector

PROCESSES_FIELDS = ("pids", "threads", "max_processes", "max_threads")
"""Numbers of processes and of threads, and the limits /proc/sys/kernel/pid_max and threads-max."""

_TASKS_MAX = 200_000
_STATE = re.compile(rb"\) (\S) ")
_GONE = frozenset(("enoent", "esrch"))


class Processes(AttributeSource):
    """Tables node_processes of one row, node_processes_state {state} and node_threads_state {thread_state}.

    A node with more than 200,000 threads has only the limits: to read the others would take too long.
    """

    name: ClassVar[str] = "processes"

    def __init__(self, procfs: Path) -> None:
        self._procfs = procfs
        self._table = Table("node_processes", PROCESSES_FIELDS)
        self._processes = Table("node_processes_state", ("processes",))
        self._threads = Table("node_threads_state", ("threads",))
        super().__init__((self._table, self._processes, self._threads))

    def _fill(self) -> None:
        limits = [self._integer(self._procfs / "sys" / "kernel" / name) for name in ("pid_max", "threads-max")]
        processes: Counter[str] = Counter()
        threads: Counter[str] = Counter()
        try:
            self._count(processes, threads)
        except SourceError as error:
            self.problems.append(error)
            processes.clear()
            threads.clear()
        counts = (processes.total() or None, threads.total() or None)
        if (*counts, *limits) != (None,) * len(PROCESSES_FIELDS):
            self._table.fill(self._table.add_row(), (*counts, *limits))
        for state, count in sorted(processes.items()):
            self._processes.fill(self._processes.add_row((("state", state),)), (count,))
        for state, count in sorted(threads.items()):
            self._threads.fill(self._threads.add_row((("thread_state", state),)), (count,))

    def _count(self, processes: Counter[str], threads: Counter[str]) -> None:
        """Count by state. Raises SourceError when there are too many, or a file cannot be read."""
        for pid in self._numbers(self._procfs):
            state = self._state(f"{self._procfs}/{pid}/stat")
            if state is None:
                continue
            processes[state] += 1
            for thread in self._numbers(f"{self._procfs}/{pid}/task"):
                of_thread = state if thread == pid else self._state(f"{self._procfs}/{pid}/task/{thread}/stat")
                if of_thread is not None:
                    threads[of_thread] += 1
            if threads.total() > _TASKS_MAX:
                raise SourceError("toomany", f"{self._procfs}: more than {_TASKS_MAX} threads")

    @staticmethod
    def _numbers(path: Path | str) -> list[str]:
        """Return the numbers in a directory, [] when it has gone. Raises SourceError."""
        try:
            with os.scandir(path) as found:
                return [entry.name for entry in islice(found, _TASKS_MAX + 1) if entry.name.isdecimal()]
        except OSError as error:
            problem = SourceError.from_os_error(path, error)
            if problem.reason in _GONE:
                return []
            raise problem from None

    @staticmethod
    def _state(path: str) -> str | None:
        """Return the state in a stat file, or None when the task has gone. Raises SourceError."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                data = os.read(descriptor, 512)
            finally:
                os.close(descriptor)
        except OSError as error:
            problem = SourceError.from_os_error(path, error)
            if problem.reason in _GONE:
                return None
            raise problem from None
        # The name in parentheses can contain anything, so the last parenthesis counts.
        states = _STATE.match(data, max(0, data.rfind(b") ")))
        return states[1].decode("ascii", "replace") if states else None


METRICS = (
    gauge(
        "node_processes_max_processes",
        "Number of max PIDs limit",
        "processes",
        Column("node_processes", "max_processes"),
    ),
    gauge(
        "node_processes_max_threads",
        "Limit of threads in the system",
        "processes",
        Column("node_processes", "max_threads"),
    ),
    gauge("node_processes_pids", "Number of PIDs", "processes", Column("node_processes", "pids")),
    gauge(
        "node_processes_state",
        "Number of processes in each state.",
        "processes",
        Column("node_processes_state", "processes"),
    ),
    gauge(
        "node_processes_threads",
        "Allocated threads in system",
        "processes",
        Column("node_processes", "threads"),
    ),
    gauge(
        "node_processes_threads_state",
        "Number of threads in each state.",
        "processes",
        Column("node_threads_state", "threads"),
    ),
)

COLLECTOR = Collector(
    Processes.name,
    lambda node: Processes(node.procfs),
    METRICS,
    default=False,
    row_labels={
        "node_processes_state": ("state",),
        "node_threads_state": ("thread_state",),
    },
)

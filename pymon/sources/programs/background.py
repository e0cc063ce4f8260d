"""Programs that run in the background. The result of a run is cached for a time to live.

A scrape never waits for a program. It requests the numbers with `refresh_due` and takes the result of the last
successful run with `fill`. A thread runs the program again when the result has reached its time to live, as long as
scrapes request it.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar, Generic, NamedTuple, TypeVar

from pymon._native.table import Table
from pymon.sources.errors import SourceError
from pymon.sources.programs.process import Output, Runner, find_program, shown

LIMIT_BYTES = 1 << 20
"""Default limit of the standard output of one call."""

RETRY_SECONDS = 30.0
"""A failed run is repeated after this time, or after the time to live when that is shorter."""

IDLE_SECONDS = 900.0
"""A program is not run again when no scrape has requested it for this time."""

PROBLEMS_LIMIT = 100
"""Most problems that are kept for a run, and between two calls of `fill`."""

_LINE_CHARACTERS = 300
_JOIN_SECONDS = 5.0


class Filled(NamedTuple):
    """Result of `Program.fill`.

    available: whether the tables have numbers. cached: whether the previous fill showed the result of the same run.
    timer_ns: duration of the last run, 0 before the first has ended.
    problems: those of runs that ended since the previous fill. missing: rows of zones that are not in the output.
    """

    available: bool
    cached: bool
    timer_ns: int
    problems: tuple[SourceError, ...]
    missing: tuple[int, ...] = ()


class Problems:
    """Collects the problems of a run that did not make the whole run fail, at most `PROBLEMS_LIMIT`."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.found: list[SourceError] = []

    def add(self, reason: str, text: str) -> None:
        """Add a problem. reason: as in SourceError. text: one line, without the program's name."""
        if len(self.found) < PROBLEMS_LIMIT:
            line = text[:_LINE_CHARACTERS]
            self.found.append(
                SourceError(reason, f"{self.program}: {line if line.isprintable() else ascii(line)[1:-1]}")
            )

    def misread(self, what: str, expected: str, got: str) -> None:
        """Add a problem with the reason "parse": `got` is not what was expected at `what`."""
        self.add("parse", f"{what}: expected {expected}, got {shown(got)}")


class Run:
    """One run of a program. It can consist of several calls, which share one deadline."""

    def __init__(self, runner: Runner, directories: Sequence[str] | None, deadline_seconds: float) -> None:
        self._runner = runner
        self._directories = directories
        self._until = time.monotonic() + deadline_seconds

    def call(self, *argv: str, limit_bytes: int = LIMIT_BYTES) -> Output:
        """Call a program by its name. Returns its output, whatever its exit status.

        Raises SourceError as `Runner.run` and `find_program` do.
        """
        return self._runner.run((find_program(argv[0], self._directories), *argv[1:]), self._until, limit_bytes)

    def output(self, *argv: str, limit_bytes: int = LIMIT_BYTES) -> bytes:
        """Call a program and return its standard output.

        Raises SourceError as `call` does, and with the reason "exit" when the exit status is not 0.
        """
        output = self.call(*argv, limit_bytes=limit_bytes)
        if output.status:
            said = output.stderr.strip().split("\n")[0]
            ended = f"exit status {output.status}" if output.status > 0 else f"ended by signal {-output.status}"
            raise SourceError("exit", f"{argv[0]}: {ended}" + (f", {shown(said)}" if said else ""))
        return output.stdout


Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Good(Generic[Result]):
    """Result of a successful run. started: its start, in seconds of the Program's clock."""

    result: Result
    started: float


class Program(ABC, Generic[Result]):
    """A program and the tables that its output fills.

    `fill` and the tables may be used by one thread only, the other methods by any.

    name: of the collector. ttl_seconds: age of the result at which the program is run again. deadline_seconds: time
    after which a run is killed. No result older than ttl_seconds + deadline_seconds is shown.
    tables: the objects never change. gets: number of calls of `fill`. hits: number of these that had numbers.
    """

    name: ClassVar[str]
    ttl_seconds: ClassVar[float]
    deadline_seconds: ClassVar[float]

    def __init__(
        self,
        tables: Iterable[Table],
        *,
        directories: Sequence[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """directories: as in `find_program`. clock: returns seconds; `now_seconds` of the methods is on this clock."""
        self.tables = tuple(tables)
        self.gets = self.hits = 0
        self._directories = directories
        self._clock = clock
        self._thread: threading.Thread | None = None
        self._runner: Runner | None = None
        self._changed = threading.Condition()
        self._closing = False
        self._running = False
        self._demanded: float | None = None
        self._due: float | None = None
        self._good: _Good[Result] | None = None
        self._problems: list[SourceError] = []
        self._timer_ns = 0
        self._shown: _Good[Result] | None = None

    @abstractmethod
    def _query(self, run: Run, problems: Problems) -> Result:
        """Call the program and return its parsed output. Runs in the thread.

        Add what could not be parsed to `problems`. Raise SourceError when there is no result at all.
        """

    @abstractmethod
    def _publish(self, result: Result, rows: Mapping[str, int], *, new: bool) -> tuple[int, ...]:
        """Write a result to the tables. Return the rows of the zones that are not in it.

        rows: row of each zone by name. new: the tables do not show this result yet.
        """

    def start(self, wake: Callable[[], None]) -> None:
        """Start the thread. It may be called once. The thread calls `wake` after each run."""
        runner = self._runner = Runner()
        # A daemon thread: when a child hangs in the kernel, this process can still exit.
        self._thread = threading.Thread(target=self._work, args=(runner, wake), name=f"pymon-{self.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Kill the running program and stop the thread."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
        if self._runner is not None and self._thread is not None:
            self._runner.cancel()
            self._thread.join(_JOIN_SECONDS)
            if not self._thread.is_alive():
                self._runner.close()

    def refresh_due(self, now_seconds: float) -> bool:
        """Request the numbers. Returns whether a run is under way or due."""
        with self._changed:
            self._demanded = now_seconds
            self._changed.notify_all()
            return self._running or self._is_due(now_seconds)

    @property
    def at_hand(self) -> bool:
        """Whether the last `fill` had numbers."""
        return self._shown is not None

    @property
    def busy(self) -> bool:
        """Whether a run is under way or about to start."""
        now = self._clock()
        with self._changed:
            return self._running or (self._wanted(now) and self._is_due(now))

    def fill(self, now_seconds: float, rows: Mapping[str, int] | None = None) -> Filled:
        """Fill the tables with the result of the last successful run, or clear them when it is too old.

        rows: row of each zone by name.
        """
        with self._changed:
            good, timer_ns = self._good, self._timer_ns
            problems, self._problems = tuple(self._problems), []
        if good is not None and now_seconds - good.started > self.ttl_seconds + self.deadline_seconds:
            good = None
        self.gets += 1
        self.hits += good is not None
        cached = good is not None and good is self._shown
        if good is None:
            self._shown = None
            for table in self.tables:
                table.clear()
            return Filled(available=False, cached=False, timer_ns=timer_ns, problems=problems)
        missing = self._publish(good.result, rows or {}, new=not cached)
        self._shown = good
        return Filled(available=True, cached=cached, timer_ns=timer_ns, problems=problems, missing=missing)

    def _is_due(self, now: float) -> bool:
        return self._due is None or now >= self._due

    def _wanted(self, now: float) -> bool:
        return self._demanded is not None and now - self._demanded <= IDLE_SECONDS

    def _next(self) -> bool:
        """Wait until a run is due and return True, or return False when the program is closed."""
        with self._changed:
            while not self._closing:
                now = self._clock()
                wanted = self._wanted(now)
                if wanted and self._is_due(now):
                    self._running = True
                    return True
                self._changed.wait(self._due - now if wanted and self._due is not None else None)
        return False

    def _work(self, runner: Runner, wake: Callable[[], None]) -> None:
        while self._next():
            started = self._clock()
            began_ns = time.monotonic_ns()
            problems = Problems(self.name)
            good: _Good[Result] | None = None
            try:
                good = _Good(self._query(Run(runner, self._directories, self.deadline_seconds), problems), started)
            except SourceError as failure:
                problems.found.append(failure)
            except Exception as failure:  # noqa: BLE001 - a bug in one program's parser is that program's failure
                problems.found.append(SourceError("bug", f"{self.name}: {failure!r}"))
            pause = self.ttl_seconds if good is not None else min(self.ttl_seconds, RETRY_SECONDS)
            with self._changed:
                self._good = good or self._good
                self._timer_ns = time.monotonic_ns() - began_ns
                self._problems = (self._problems + problems.found)[-PROBLEMS_LIMIT:]
                self._due = started + pause
                self._running = False
            with suppress(RuntimeError):  # the event loop may be closed
                wake()

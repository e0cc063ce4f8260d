"""Programs in the background: what one said is shown until a newer run has ended, for a time to live.

Nobody who scrapes waits for a program. A scrape says that it wants the numbers (`refresh_due`) and takes the last good
ones (`fill`); a thread runs the program again whenever the numbers are as old as their time to live, for as long as
scrapes come.
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
"""Most output that a run may have, where a program sets no other."""

RETRY_SECONDS = 30.0
"""A run that failed is repeated after this, or after the time to live where that is shorter."""

IDLE_SECONDS = 900.0
"""A program that no scrape has asked for so long is not run any more."""

PROBLEMS_LIMIT = 100
"""Most problems that are kept of a run."""

_LINE_CHARACTERS = 300
_JOIN_SECONDS = 5.0


class Filled(NamedTuple):
    """What `Program.fill` did.

    available: whether the tables have numbers. cached: whether an earlier fill has shown the same run.
    timer_ns: how long the last run took, 0 before any has ended.
    problems: of runs that ended since the last fill; each is told once.
    missing: rows of zones that the program said nothing of.
    """

    available: bool
    cached: bool
    timer_ns: int
    problems: tuple[SourceError, ...]
    missing: tuple[int, ...] = ()


class Problems:
    """What went wrong in a run while the rest could be had; at most `PROBLEMS_LIMIT`."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.found: list[SourceError] = []

    def add(self, reason: str, text: str) -> None:
        """Note a problem by a short word to count by and a line without the program's name."""
        if len(self.found) < PROBLEMS_LIMIT:
            line = text[:_LINE_CHARACTERS]
            self.found.append(
                SourceError(reason, f"{self.program}: {line if line.isprintable() else ascii(line)[1:-1]}")
            )

    def misread(self, what: str, expected: str, got: str) -> None:
        """Note a text that is not what was expected."""
        self.add("parse", f"{what}: expected {expected}, got {shown(got)}")


class Run:
    """One run, which may take several calls of the program: they share its deadline."""

    def __init__(self, runner: Runner, directories: Sequence[str] | None, deadline_seconds: float) -> None:
        self._runner = runner
        self._directories = directories
        self._until = time.monotonic() + deadline_seconds

    def call(self, *argv: str, limit_bytes: int = LIMIT_BYTES) -> Output:
        """Call a program by its name, whatever its exit status. SourceError as `Runner.run` and `find_program`."""
        return self._runner.run((find_program(argv[0], self._directories), *argv[1:]), self._until, limit_bytes)

    def output(self, *argv: str, limit_bytes: int = LIMIT_BYTES) -> bytes:
        """The standard output of a call; SourceError "exit" when its status is not 0."""
        output = self.call(*argv, limit_bytes=limit_bytes)
        if output.status:
            said = output.stderr.strip().split("\n")[0]
            ended = f"exit status {output.status}" if output.status > 0 else f"ended by signal {-output.status}"
            raise SourceError("exit", f"{argv[0]}: {ended}" + (f", {shown(said)}" if said else ""))
        return output.stdout


Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Good(Generic[Result]):
    """A run that gave numbers. started: by the clock of the program."""

    result: Result
    started: float


class Program(ABC, Generic[Result]):
    """A program, and the tables that it fills. `fill` and the tables are for one thread, the other methods for any.

    name: the collector's. ttl_seconds: age at which the program is run again.
    deadline_seconds: after this a run is killed; so numbers are never older than both together.
    tables: the same objects for its whole life. gets: calls of `fill`. hits: those that had numbers.
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
        """directories: as of `find_program`. clock: seconds; that of the `now_seconds` of the methods."""
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
        """Call the program and parse what it says, in the thread. SourceError when nothing could be had."""

    @abstractmethod
    def _publish(self, result: Result, rows: Mapping[str, int], *, new: bool) -> tuple[int, ...]:
        """Put a result into the tables; the rows that it has nothing of.

        rows: of the zones by name. new: the result is another one than the tables show.
        """

    def start(self, wake: Callable[[], None]) -> None:
        """Start the thread, once; `wake` is called in it whenever a run has ended."""
        runner = self._runner = Runner()
        # A daemon: one that waits for a process that hangs in the kernel must not hold up the end of this one.
        self._thread = threading.Thread(target=self._work, args=(runner, wake), name=f"pymon-{self.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Kill what is running and end the thread."""
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
        """Say that the numbers are wanted; whether newer ones are on their way."""
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
        """Whether a run is under way, or about to begin."""
        now = self._clock()
        with self._changed:
            return self._running or (self._wanted(now) and self._is_due(now))

    def fill(self, now_seconds: float, rows: Mapping[str, int] | None = None) -> Filled:
        """Have the tables show the last good run, or nothing when that is too old. rows: of the zones by name."""
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
        """Wait until it is time for a run; False when there is none any more."""
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
            with suppress(RuntimeError):  # the loop that it wakes may have closed
                wake()

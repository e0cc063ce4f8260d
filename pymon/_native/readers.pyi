"""Threads that read kernel files for every container in bulk."""

from collections.abc import Mapping, Sequence

from pymon._native.table import Table

def monotonic_ns() -> int:
    """The clock of deadlines: CLOCK_MONOTONIC in nanoseconds."""

class Result:
    """What came of one collection of one reader."""

    done: bool
    """Whether the reader has finished; until then its tables are being written."""
    seconds: float
    failures: dict[str, int]
    """Failures by reason: a kernel error name in lower case, empty, truncated, malformed or deadline."""

class Ticket:
    """Jobs posted together. Done when all of them are; then the mailbox hands it out."""

    results: list[Result]
    """One for each job, in order."""
    done: bool

class Mailbox:
    """Where finished tickets wait. Readable at `fileno()` while there are any."""

    def fileno(self) -> int: ...
    def take(self) -> Ticket | None:
        """One finished ticket, or None."""
    def collect(self, jobs: Sequence[tuple[Reader, Sequence[Table | None]]], deadline_ns: int, rows: int) -> Ticket:
        """Have readers fill tables (one for each of the reader's layout; None is not wanted) for rows 0 .. rows-1."""
    def collect_row(
        self, jobs: Sequence[tuple[Reader, Sequence[Table | None]]], deadline_ns: int, row: int, *, wake: bool = True
    ) -> Ticket:
        """The same for one row, which becomes row 0 of the tables.

        Without `wake` the readers begin when `Reader.wake` is called, with all that was posted until then.
        """

class Reader:
    """One thread with its own descriptor table that reads a plan's files for every container."""

    name: str
    layout: tuple[tuple[str, tuple[str, ...]], ...]
    open_descriptors: int
    shares_descriptors: bool
    def __init__(
        self,
        name: str,
        mailbox: Mailbox,
        *,
        roots: Sequence[str],
        procfs: str,
        sysfs: str,
        files: Sequence[tuple[str, int, str, bool, int, int, Sequence[tuple[str, int]]]],
        layout: Sequence[tuple[str, Sequence[str]]],
        io_numbered: int | None = None,
        net: Mapping[str, object] | None = None,
        processes: Mapping[str, int] | None = None,
        budget: int,
        sharers: int = 1,
        slow_seconds: float,
    ) -> None: ...
    def new_tables(self) -> list[Table]: ...
    def wake(self) -> None: ...
    def add(self, row: int, path: str, start_ns: int) -> None: ...
    def remove(self, row: int) -> None: ...
    def refresh(self, row: int) -> None: ...
    def close(self) -> None: ...

"""Threads that read kernel files for every container in bulk."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pymon._native.table import Table

@dataclass(frozen=True)
class PlanTarget:
    """A table that a file fills.

    table: index of the table in the layout. labels: (name, source) of each label, at most three; the sources are listed
    at catalogue.cgroup_fields.File. With labels, the reader adds one row for each combination of label values.
    """

    table: int
    labels: Sequence[tuple[str, str]] = ()

@dataclass(frozen=True)
class PlanFile:
    """A kernel file of a plan.

    kind: a file kind of native/linux/kinds.c. targets: one table, or two for a nested keyed file. root: index of the
    hierarchy in the reader's `roots`. slow: the file is a setting, which is read again only after `slow_seconds`.
    column: index of the first column to fill, for a file without keys. keys: (key, index of its column) pairs.
    rest: of a nested keyed file: it fills only what the file before it left, and nothing where that cannot be read.
    second: of a kind `least`: a file that is read after it, as one text; "" for none.
    negative: those of the keys whose number may be negative; of others such a number is malformed.
    """

    name: str
    kind: str
    targets: Sequence[PlanTarget]
    root: int = 0
    slow: bool = False
    column: int = 0
    keys: Sequence[tuple[str, int]] = ()
    second: str = ""
    rest: bool = False
    negative: Collection[str] = ...

class Filler(Protocol):
    """A source that fills columns in bulk, in native code."""

    @property
    def address(self) -> int:
        """Address of the pm_filler (native/linux/filler.h). It is valid for the lifetime of this object."""

def is_keyed(kind: str) -> bool:
    """Report whether files of this kind fill one column per key. Raises KeyError for an unknown kind."""

def monotonic_ns() -> int:
    """Return CLOCK_MONOTONIC in nanoseconds, the clock that deadlines refer to."""

class Result:
    """Outcome of one collection by one reader."""

    done: bool
    """Whether the reader has finished. Until then it still writes to its tables."""
    seconds: float
    """Duration of the collection."""
    failures: dict[str, int]
    """Number of failures by reason. A failure leaves values absent. A reason is a kernel error name in lower case
    (`enomem`: out of memory), `empty`, `truncated`, `malformed` or `deadline`."""

class Ticket:
    """A batch of jobs posted together. When all jobs are done, `Mailbox.take` returns the ticket."""

    results: list[Result]
    """One result per job, in the order of the jobs."""
    done: bool

class Mailbox:
    """Queue of finished tickets. The descriptor `fileno()` is readable while the queue is not empty."""

    def fileno(self) -> int: ...
    def take(self) -> Ticket | None:
        """Remove and return one finished ticket, or return None when there is none."""
    def collect(self, jobs: Sequence[tuple[Reader, Sequence[Table | None]]], deadline_ns: int, rows: int) -> Ticket:
        """Post one job per reader that fills its tables for rows 0 .. rows-1. Returns the ticket of all jobs.

        jobs: each a reader and its tables, one per table of the reader's layout; None skips a table.
        deadline_ns: on the clock of `monotonic_ns`.
        """
    def collect_row(
        self, jobs: Sequence[tuple[Reader, Sequence[Table | None]]], deadline_ns: int, row: int, *, wake: bool = True
    ) -> Ticket:
        """Post jobs as `collect` does, but for one container row, which becomes row 0 of the tables.

        wake=False does not wake readers that wait for jobs. `Reader.wake` does so after the last job is posted.
        """

class Reader:
    """A thread with its own descriptor table. It reads the files of a plan for every container.

    layout: name and columns of each table. open_descriptors: descriptors kept open on files of containers.
    shares_descriptors: the kernel refused the thread a descriptor table of its own. own_descriptors: those that are
    open in that table, 0 without one.
    """

    name: str
    layout: tuple[tuple[str, tuple[str, ...]], ...]
    open_descriptors: int
    shares_descriptors: bool
    own_descriptors: int
    def __init__(
        self,
        name: str,
        mailbox: Mailbox,
        *,
        roots: Sequence[str],
        procfs: str,
        sysfs: str,
        files: Sequence[PlanFile],
        layout: Sequence[tuple[str, Sequence[str]]],
        net_files: Sequence[PlanFile] = (),
        processes: Mapping[str, int] | None = None,
        filler: Filler | None = None,
        budget: int,
        sharers: int = 1,
        slow_seconds: float,
        excluded: Sequence[str] = (),
    ) -> None:
        """Start the thread.

        files: cgroup files, in order of priority for descriptors that stay open. net_files: files of the container's
        network namespace, below /proc/PID. processes: index in the layout of each of the tables `sched`, `descriptors`
        and `ulimits` that is wanted. budget: number of descriptors that may stay open. It is divided by `sharers` where
        the kernel refuses the thread a descriptor table of its own. slow_seconds: interval between reads of settings.
        excluded: patterns of fnmatch(3) of interfaces that are left out.

        Raises OSError with the path of a root that cannot be opened, and IndexError or ValueError for a plan that does
        not fit the layout.
        """
    def failures_of(self, result: Result, names: Collection[str]) -> dict[str, int]:
        """Return the failures of a collection of this reader that concern these tables, by reason."""
    def new_tables(self) -> list[Table]:
        """Return new empty tables for one collection, in the order of the layout."""
    def wake(self) -> None:
        """Wake the thread after jobs were posted with wake=False."""
    def add(self, row: int, path: str, start_ns: int) -> None:
        """Add a container.

        path: of its cgroup, relative to the roots. start_ns: its start time, nanoseconds on CLOCK_REALTIME.
        """
    def remove(self, row: int) -> None:
        """Remove the container of a row."""
    def refresh(self, row: int) -> None:
        """Look for the container's directory again, because it appeared in another hierarchy."""
    def close(self) -> None:
        """Finish the posted jobs, then stop the thread and close its descriptors."""

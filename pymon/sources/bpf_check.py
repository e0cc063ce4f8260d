"""Compares what BPF programs say of live cgroups with the files: the files are read, the programs run, the files are
read again.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from pymon._native.readers import Mailbox, Reader, monotonic_ns
from pymon._native.table import Table
from pymon.catalogue.model import Column
from pymon.sources.bpf import BpfFiller, BpfSource, ColumnName, Finding, Nature, all_columns
from pymon.sources.cgroup import CgroupSource, Hierarchies
from pymon.sources.kernel_file import read_small

ROUNDS = 5
"""A column disagrees when it does so for the same cgroup in each round: numbers may change while they are compared."""

GROUPS = 8
"""Cgroups of each hierarchy that are compared."""

LISTED = 128
"""Cgroups of each hierarchy among which these are chosen."""

ANCHORS = 3
"""Numbers of memory.stat that must have been compared at another value than 0. Their places in the kernel's arrays
follow from one list, which a few confirm; some, as those of swap, may be 0 on the whole machine."""

SECONDS = 5.0

Value: TypeAlias = int | None


class Row(NamedTuple):
    """The values of one column and cgroup: of the files, of the program, and of the files again."""

    before: Value
    value: Value
    after: Value


def compare(nature: Nature, row: Row) -> bool | None:
    """Return whether the value of a program agrees with the files around it; None: they changed, and do not tell."""
    before, value, after = row
    if before is None or after is None:
        return value is None if before == after else None
    if value is None:
        return False
    if nature == "counter":
        return before <= value <= after
    if before == after:
        return value == before
    return True if nature == "gauge" and min(before, after) <= value <= max(before, after) else None


def judge(nature: Nature, rounds: Sequence[Mapping[str, Row]]) -> Finding:
    """Return what the rounds of a comparison, values by cgroup, show of a column."""
    agreed = [row for of_round in rounds for row in of_round.values() if compare(nature, row)]
    for group in set.intersection(*(set(of_round) for of_round in rounds)) if len(rounds) == ROUNDS else ():
        rows = [of_round[group] for of_round in rounds]
        if all(compare(nature, row) is False for row in rows):
            before, value, after = rows[-1]
            return Finding(False, f"disagrees with the files: {value} between {before} and {after} in {group}")
    if not agreed:
        return Finding(None, "nothing to compare: no cgroup has it")
    if not any(row.value for row in agreed):
        return Finding(True, "equal to the files, which have no number but 0")
    return Finding(True, "equal to the files")


def with_anchors(findings: Mapping[ColumnName, Finding]) -> dict[ColumnName, Finding]:
    """Return the findings, but nothing is known of memory.stat unless enough of it was compared at another value than
    0.
    """
    result = dict(findings)
    for table in ("memory.v1", "memory.v2"):
        of_stat = [name for name in result if name.table == table and name.key.startswith("memory.stat:")]
        anchors = [name for name in of_stat if result[name] == Finding(True, "equal to the files")]
        if of_stat and len(anchors) < min(ANCHORS, len(of_stat)):
            for name in of_stat:
                if result[name].agrees:
                    result[name] = Finding(None, "too few numbers of memory.stat that are not 0 to compare")
    return result


class BpfCheck:
    """Compares the columns of a BpfSource with the files. Not safe for concurrent use.

    Its programs are its own, and stay loaded.
    """

    def __init__(
        self,
        source: BpfSource,
        hierarchies: Hierarchies,
        columns: Iterable[Column],
        *,
        procfs: Path,
        sysfs: Path,
        choose: Callable[[], list[str]] | None = None,
    ) -> None:
        """columns: of the enabled metrics. choose: the cgroups to compare, if not those of `choose_groups`."""
        self._choose = choose
        self._source = source
        self._hierarchies = hierarchies
        known = {column.name.table for column in all_columns()}
        self._columns = [column for column in columns if column.table in known]
        self._procfs = procfs
        self._sysfs = sysfs
        self._fillers: dict[str, BpfFiller] = {}
        self._is_new = True

    def run(self) -> list[tuple[ColumnName, str]]:
        """Compare, and tell the source. Returns what `BpfSource.learn` returns."""
        if self._source.facts.obstacle:
            return []
        groups = self._choose() if self._choose else choose_groups(self._hierarchies, self._own_groups())
        with self._files() as files:
            if self._is_new:
                self._is_new = False
                self._plan(files, groups)
            for row, path in enumerate(groups):
                files.add(row, path, 0)
            rounds: dict[ColumnName, list[dict[str, Row]]] = defaultdict(list)
            for _ in range(ROUNDS):
                doubts = False
                for name, filler in self._fillers.items():
                    for column, rows in _compared(files.readers[name], files, filler, groups).items():
                        rounds[column].append(rows)
                        nature = filler.columns[column].nature
                        doubts |= any(compare(nature, row) is False for row in rows.values())
                if not doubts:
                    break
        natures = {name: item.nature for filler in self._fillers.values() for name, item in filler.columns.items()}
        findings = {name: judge(natures[name], rounds.get(name, ())) for name in natures}
        for filler in self._fillers.values():
            findings |= dict.fromkeys(filler.lacking, Finding(False, "this kernel's structs lack it"))
        refusals = {program: why for filler in self._fillers.values() for program, why in filler.refusals.items()}
        return self._source.learn(with_anchors(findings), refusals)

    def close(self) -> None:
        """Unload the programs of the comparisons. `run` must not be called again."""
        for filler in self._fillers.values():
            filler.close()
        self._fillers.clear()

    def _plan(self, files: CgroupSource, groups: Sequence[str]) -> None:
        for name, reader in files.readers.items():
            filler = self._source.new_filler(reader.layout)
            if filler is not None:
                self._fillers[name] = filler
                for column in filler.columns:
                    filler.enable(column, True)
                # What is refused or lacking ends one collection, and is left out of the next.
                for _ in (*filler.programs, "members"):
                    filler.fill(_new_tables(reader, groups), groups)

    def _own_groups(self) -> frozenset[str]:
        """Return the cgroups of this process and those above: measuring changes their numbers."""
        lines = read_small(self._procfs / "self/cgroup").decode(errors="surrogateescape").split("\n")
        own = [Path(line.split(":", 2)[2].lstrip("/")) for line in lines if line.count(":") > 1]
        return frozenset(str(group) for path in own for group in (path, *path.parents))

    @contextlib.contextmanager
    def _files(self) -> Iterator[CgroupSource]:
        files = CgroupSource(
            self._hierarchies, self._columns, Mailbox(), procfs=self._procfs, sysfs=self._sysfs, descriptors=0
        )
        try:
            yield files
        finally:
            files.close()


def _compared(
    reader: Reader, files: CgroupSource, filler: BpfFiller, groups: Sequence[str]
) -> dict[ColumnName, dict[str, Row]]:
    """Return the rows of one round, by column and by group."""
    before = _read(reader, files, groups)
    tables = _new_tables(reader, groups)
    filled = filler.fill(tables, groups)
    after = _read(reader, files, groups)
    result: dict[ColumnName, dict[str, Row]] = {}
    at = {name: number for number, (name, _) in enumerate(reader.layout)}
    for column in filler.columns:
        number = at[column.table]
        rows = result[column] = {}
        for row, group in enumerate(groups):
            if not filled[row]:
                continue
            if filler.columns[column].by_cpu:
                cells_of = [
                    _cells_of(table, row, column.key) for table in (before[number], tables[number], after[number])
                ]
                for cpu in set().union(*cells_of):
                    rows[f"{group} {cpu.decode()}"] = Row(*(cells.get(cpu) for cells in cells_of))
            elif column.key:
                cells = (before[number], tables[number], after[number])
                rows[group] = Row(*(table.get(row, column.key) for table in cells))
            else:  # the program says that there are no rows
                rows[group] = Row(_rows_of(before[number], row), 0, _rows_of(after[number], row))
    return result


def _new_tables(reader: Reader, groups: Sequence[str]) -> list[Table]:
    tables = reader.new_tables()
    for table in tables:
        table.grow(len(groups))
    return tables


def _cells_of(table: Table, parent: int, column: str) -> dict[bytes, Value]:
    """Return the cells of a container by the labels of their rows."""
    rows = (row for row in range(len(table)) if table.parent(row) == parent and table.labels(row))
    return {table.labels(row): table.get(row, column) for row in rows}


def _rows_of(table: Table, parent: int) -> int:
    return sum(table.parent(row) == parent for row in range(len(table)))


def _read(reader: Reader, files: CgroupSource, groups: Sequence[str]) -> list[Table]:
    """Read the files of all groups, settings too."""
    for row in range(len(groups)):
        reader.refresh(row)
    tables = reader.new_tables()
    mailbox = files.mailbox
    ticket = mailbox.collect([(reader, tables)], monotonic_ns() + int(SECONDS * 1e9), len(groups))
    ready = select.poll()
    ready.register(mailbox.fileno(), select.POLLIN)
    while not ticket.done:
        ready.poll()
    mailbox.take()
    return tables


def choose_groups(hierarchies: Hierarchies, without: frozenset[str] = frozenset()) -> list[str]:
    """Return paths of some cgroups of each hierarchy: those that use most memory, then those with processes."""
    chosen: dict[str, None] = {}
    for root in hierarchies.roots:
        groups = sorted((path for path in _listed(root) if path not in without), key=lambda path: _rank(root / path))
        chosen |= dict.fromkeys(groups[:GROUPS])
    return list(chosen)


def _listed(root: Path) -> Iterator[str]:
    """Yield paths of cgroups, those near the root first."""
    waiting = deque([root])
    count = 0
    while waiting:
        directory = waiting.popleft()
        with contextlib.suppress(OSError), os.scandir(directory) as entries:  # it may have gone
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield str(Path(entry.path).relative_to(root))
                    count += 1
                    if count == LISTED:
                        return
                    waiting.append(Path(entry.path))


def _rank(group: Path) -> tuple[int, bool]:
    usage = _content(group / "memory.current") or _content(group / "memory.usage_in_bytes")
    return -int(usage) if usage.isdigit() else 0, not _content(group / "cgroup.procs")


def _content(path: Path) -> str:
    """Return the beginning of a file, "" if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(32).decode().strip()
    except OSError:
        return ""

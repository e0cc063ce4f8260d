"""Columns of containers from BPF programs that walk all cgroups at once, and when files are read instead.

The facts of the host are probed once. `decide` says from them, from what the kernel refused and from what comparisons
with the files have shown, where each column comes from. A column is never filled before it was compared.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pymon._native import bpf as native
from pymon._native.bpf import ffi, lib
from pymon._native.table import Table
from pymon.catalogue.cgroup_fields import NUMBERED, TABLES
from pymon.sources.cgroup import Hierarchies, Layout, procs_root

Nature = Literal["counter", "gauge", "setting"]

OBJECTS = Path(native.__file__).parent
"""Where the files with the programs are. A build without clang has none."""

_CAPABILITIES = {"CAP_BPF": 39, "CAP_PERFMON": 38}
_CAP_SYS_ADMIN = 21
_NATURES: Mapping[int, Nature] = {
    lib.PM_BPF_COUNTER: "counter",
    lib.PM_BPF_GAUGE: "gauge",
    lib.PM_BPF_SETTING: "setting",
}
_VERSION_OF = {table: group.version for table, group in TABLES.items()}
_VERSION_OF |= {numbered: _VERSION_OF[table] for table, numbered in NUMBERED.items()}


class ColumnName(NamedTuple):
    """A column of a table. key: "" stands for all columns of a table whose rows are devices."""

    table: str
    key: str

    def __str__(self) -> str:
        return f"{self.table} {self.key or 'of cgroups without any'}"


@dataclass(frozen=True, slots=True)
class BpfColumn:
    """A column that a program knows.

    nature: what may be expected of a value that is read twice. index: in the native table of columns. by_cpu: whether a
    container has a row for each CPU.
    """

    name: ColumnName
    program: str
    nature: Nature
    index: int
    by_cpu: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What the host offers; each text is "" or one line that says why it does not."""

    tree: str = ""
    object: str = ""
    library: str = ""
    btf: str = ""
    capabilities: str = ""

    @property
    def obstacle(self) -> str:
        """The first reason why no program can be loaded, or ""."""
        return self.tree or self.object or self.library or self.btf or self.capabilities


@dataclass(frozen=True, slots=True)
class Finding:
    """What a comparison with the files has shown of a column.

    agrees: None when there was nothing to compare. text: one line about it.
    """

    agrees: bool | None
    text: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a column comes from, and why, in one line."""

    is_bpf: bool
    reason: str


def decide(
    column: BpfColumn, facts: Facts, refusals: Mapping[str, str], findings: Mapping[ColumnName, Finding]
) -> Decision:
    """Decide where a column comes from.

    refusals: by program, why the kernel does not run it. findings: of the last comparison.
    """
    if facts.obstacle:
        return Decision(False, facts.obstacle)
    if column.program in refusals:
        return Decision(False, refusals[column.program])
    finding = findings.get(column.name)
    if finding is None:
        return Decision(False, "not yet compared with the files")
    return Decision(finding.agrees is True, finding.text)


def all_columns() -> tuple[BpfColumn, ...]:
    """Return every column that programs know."""
    columns = []
    index = 0
    while (row := lib.pm_bpf_columns[index]).table != ffi.NULL:
        name = ColumnName(_text(row.table), _text(row.key))
        program = _text(lib.pm_bpf_programs[row.program].name)
        by_cpu = row.shape == lib.PM_BPF_OF_CPUS
        columns.append(BpfColumn(name, program, _NATURES[row.nature], index, by_cpu))
        index += 1
    return tuple(columns)


def capabilities_missing(status: str) -> str:
    """Return why /proc/self/status does not let this process load programs, or "".

    CAP_BPF allows to load a program, CAP_PERFMON to read the kernel's structs in it. CAP_SYS_ADMIN stands for both.
    """
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            mask = int(line.split()[1], 16)
            if mask >> _CAP_SYS_ADMIN & 1:
                return ""
            missing = [name for name, bit in _CAPABILITIES.items() if not mask >> bit & 1]
            return f"without {' and '.join(missing)}" if missing else ""
    return "capabilities are not known"


def refusal_text(error: int, log: str) -> str:
    """Return in one line why a program was refused, from the errno and what libbpf has logged.

    What the verifier objects to is its last line before its statistics.
    """
    if error == errno.EPROTO:
        return "refused: the object is of another version than the agent"
    said = ""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    for before, line in itertools.pairwise(lines):
        if line.startswith("processed ") and not said:
            said = before
    if not said and lines:
        said = lines[0].removeprefix("libbpf: ")
    return f"refused: {said[:200]}" if said else f"refused: {os.strerror(error)}"


class BpfFiller:
    """Fills columns of one reader. Implements `pymon._native.readers.Filler`."""

    def __init__(self, library: _Library, hierarchies: Hierarchies, layout: Layout, walker: Any = None) -> None:
        """Plan the walks that fill tables of this layout; nothing is loaded yet.

        walker: the pm_bpf_walker that runs walks, if it is not the kernel.
        """
        self._library = library  # the native part keeps pointers into it
        self._bulk: Any = ffi.gc(
            lib.pm_bpf_bulk_new(walker or ffi.NULL, library.functions, library.objects), lib.pm_bpf_bulk_free
        )
        if not self._bulk:
            raise MemoryError
        self.columns: dict[ColumnName, BpfColumn] = {}
        self.layout = layout
        self._index: dict[ColumnName, int] = {}
        parts: dict[str, int] = {}
        self.programs: list[str] = []
        places = {table: (number, list(keys)) for number, (table, keys) in enumerate(layout)}
        for column in all_columns():
            table, key = column.name
            root = _root(column, hierarchies)
            if table not in places or root is None or (key and key not in places[table][1]):
                continue
            number, keys = places[table]
            row = lib.pm_bpf_columns[column.index]
            if column.program not in parts:
                parts[column.program] = self._check(
                    lib.pm_bpf_bulk_add_part(self._bulk, row.program, os.fsencode(root))
                )
                self.programs.append(column.program)
            first, width = (keys.index(key), 1) if key else (0, len(keys))
            self._index[column.name] = self._check(
                lib.pm_bpf_bulk_add_column(self._bulk, parts[column.program], ffi.addressof(row), number, first, width)
            )
            self.columns[column.name] = column

    @staticmethod
    def _check(index: int) -> int:
        if index < 0:
            raise MemoryError
        return index

    @property
    def address(self) -> int:
        """Address of the pm_filler (native/linux/filler.h), which lives as long as this object."""
        return int(ffi.cast("uintptr_t", lib.pm_bpf_bulk_filler(self._bulk)))

    def enable(self, column: ColumnName, on: bool) -> None:
        """Fill a column from the next collection on, or leave it to the files."""
        lib.pm_bpf_bulk_enable(self._bulk, self._index[column], on)

    @property
    def lacking(self) -> frozenset[ColumnName]:
        """Columns that this kernel's structs were found not to have."""
        return frozenset(name for name, index in self._index.items() if lib.pm_bpf_bulk_lacks(self._bulk, index))

    @property
    def fallbacks(self) -> dict[str, int]:
        """How often files were read instead, by reason; of a whole collection, or of one row of it."""
        counts = {}
        for reason in range(lib.PM_BPF_REASONS):
            if count := lib.pm_bpf_bulk_count(self._bulk, reason):
                counts[_text(lib.pm_bpf_reason_name(reason))] = int(count)
        return counts

    @property
    def refusals(self) -> dict[str, str]:
        """The programs that the kernel has refused, and why."""
        refused = {}
        error, log = ffi.new("int *"), ffi.new("const char **")
        for part, program in enumerate(self.programs):
            if lib.pm_bpf_bulk_refused(self._bulk, part, error, log):
                refused[program] = refusal_text(error[0], _text(log[0]))
        return refused

    def fill(self, tables: Sequence[Table], paths: Sequence[str]) -> bytes:
        """Fill a row of the tables for each path, by hand. Return a byte for each: 1 if the row was filled."""
        encoded = [ffi.new("char[]", os.fsencode(path)) for path in paths]
        pointers = [ffi.cast("pm_table *", table.address) for table in tables]
        filled = ffi.new("uint8_t[]", len(paths))
        lib.pm_bpf_bulk_fill(self._bulk, pointers, len(tables), len(paths), ffi.new("const char *[]", encoded), filled)
        return bytes(ffi.buffer(filled))

    def close(self) -> None:
        """Close the walks of `fill`."""
        lib.pm_bpf_bulk_close(self._bulk)


class _Library(NamedTuple):
    """libbpf and the objects with the programs. contents: what the objects point to."""

    functions: Any
    objects: Any
    contents: tuple[Any, ...]


def probe(hierarchies: Hierarchies, procfs: Path, sysfs: Path, objects: Path = OBJECTS) -> tuple[Facts, _Library]:
    """Return what the host offers, and the library and objects if they are there."""
    other = [root for root in hierarchies.roots if not lib.pm_bpf_is_cgroup(os.fsencode(root))]
    functions = ffi.new("pm_libbpf *")
    reason = ffi.new("char[]", 256)
    missing = ""
    contents = []
    for index in range(lib.PM_BPF_OBJECTS):
        path = objects / _text(lib.pm_bpf_objects[index])
        try:
            contents.append(ffi.from_buffer(path.read_bytes()))
        except OSError as error:
            missing = missing or f"{path.name}: {error.strerror}: pymon was built without clang"
            contents.append(ffi.from_buffer(b""))
    library = ""
    if lib.pm_libbpf_load(functions, reason, 256) < 0:
        library = _text(reason)
    btf = _unreadable(sysfs / "kernel/btf/vmlinux")
    try:
        capabilities = capabilities_missing((procfs / "self/status").read_text())
    except OSError as error:
        capabilities = f"capabilities are not known: {error.strerror}"
    tree = f"{other[0]} is not of a cgroup file system" if other else ""
    native_objects = ffi.new("pm_bpf_object[]", [(content, len(content)) for content in contents])
    return Facts(tree, missing, library, btf, capabilities), _Library(functions, native_objects, tuple(contents))


def _unreadable(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        return f"no BTF: {path}: {error.strerror}"
    return ""


def _root(column: BpfColumn, hierarchies: Hierarchies) -> Path | None:
    if column.name.table == "process":
        return procs_root(hierarchies)
    if _VERSION_OF[column.name.table] == 1:
        row = lib.pm_bpf_columns[column.index]
        return hierarchies.v1.get(_text(lib.pm_bpf_programs[row.program].controller))
    return hierarchies.v2


def _text(pointer: Any) -> str:
    return bytes(ffi.string(pointer)).decode(errors="replace")


class BpfSource:
    """The fillers of a CgroupSource's readers, and the decision for each of their columns.

    facts: of the host. findings: of each column that was compared. filled: number of columns that programs fill.
    disagreements: how often a column that was filled has been given back to the files.
    """

    def __init__(self, hierarchies: Hierarchies, *, procfs: Path, sysfs: Path, objects: Path = OBJECTS) -> None:
        """Probe the host. Nothing is loaded, and every column comes from files until `learn` is called."""
        self.facts, self._library = probe(hierarchies, procfs, sysfs, objects)
        self.filled = 0
        self.disagreements = 0
        self._hierarchies = hierarchies
        self._fillers: list[BpfFiller] = []
        self.findings: dict[ColumnName, Finding] = {}
        self._refusals: dict[str, str] = {}
        self._lock = threading.Lock()

    def filler(self, _reader: str, layout: Layout) -> BpfFiller | None:
        """Return the filler of a reader, None if there is nothing that it could fill. For CgroupSource."""
        filler = self.new_filler(layout)
        if filler is not None:
            self._fillers.append(filler)
        return filler

    def new_filler(self, layout: Layout) -> BpfFiller | None:
        """Return a filler that is not a reader's, None if there is nothing that it could fill."""
        if self.facts.obstacle:
            return None
        filler = BpfFiller(self._library, self._hierarchies, layout)
        return filler if filler.columns else None

    def learn(
        self, findings: Mapping[ColumnName, Finding], refusals: Mapping[str, str]
    ) -> list[tuple[ColumnName, str]]:
        """Take the result of a comparison, and decide anew for each column. Thread-safe.

        A column about which there is nothing new keeps its last finding. Returns the columns that were filled and are
        read from files now, with the reason.
        """
        with self._lock:
            before = {name for name, decision in self.decisions().items() if decision.is_bpf}
            self.findings |= {
                name: finding
                for name, finding in findings.items()
                if finding.agrees is not None or name not in self.findings
            }
            self._refusals |= refusals
            after = self.decisions()
            for filler in self._fillers:
                for name in filler.columns:
                    filler.enable(name, after[name].is_bpf)
            lost = [(name, after[name].reason) for name in sorted(before) if not after[name].is_bpf]
            self.disagreements += len(lost)
            self.filled = sum(decision.is_bpf for decision in after.values())
        return lost

    def decisions(self) -> dict[ColumnName, Decision]:
        """Return the decision for each column of the readers that a program knows."""
        columns = [column for filler in self._fillers for column in filler.columns.values()]
        refusals = self._refusals.copy()
        for filler in self._fillers:
            refusals |= filler.refusals
        return {column.name: decide(column, self.facts, refusals, self.findings) for column in columns}

    @property
    def fallbacks(self) -> dict[str, int]:
        """How often files were read instead of a filled column, by reason."""
        counts: Counter[str] = Counter()
        for filler in self._fillers:
            counts.update(filler.fallbacks)
        return dict(counts)

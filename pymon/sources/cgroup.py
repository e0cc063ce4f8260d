"""The cgroup source: readers that fill the tables of containers from kernel files.

The files of each controller are chosen separately. A controller that is mounted as version 1 is read there, any other
in the version 2 tree. So a hybrid of both versions needs no special case.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pymon._native.readers import Mailbox, PlanFile, PlanTarget, Reader, is_keyed
from pymon.catalogue.cgroup_fields import (
    HUGEPAGE_SIZES,
    NETWORK_TABLES,
    NUMBERED,
    NUMBERED_LABELS,
    PROCESS_TABLES,
    TABLES,
    File,
    GroupTable,
)
from pymon.catalogue.model import Column, Metric
from pymon.sources.errors import SourceError

if TYPE_CHECKING:
    from pymon._native.readers import Filler
    from pymon.sources.latency import LatencySource

Layout: TypeAlias = Sequence[tuple[str, Sequence[str]]]
"""The tables of a reader and their columns, in order."""

SLOW_SECONDS = 60.0
"""Interval between two reads of a file that holds a setting."""

SPARE_DESCRIPTORS = 100
"""Part of the descriptor limit that is reserved for roots, settings and files that do not stay open."""


DESCRIPTOR_BYTES = 6144
"""Kernel memory of an open file of a cgroup: the file, its inode and name, and a buffer of one page or two."""

PROCS_CONTROLLERS = ("pids", "memory", "cpuacct", "cpu", "blkio", "systemd")
"""Version 1 controllers whose hierarchy is used for cgroup.procs, in order of preference. Version 2 comes last."""


@dataclass(frozen=True, slots=True)
class Hierarchies:
    """Root directories of a host's cgroup trees.

    v1: by controller. v2: of the version 2 tree, None when it is not mounted. v2_controllers: those enabled in it.
    """

    v1: Mapping[str, Path]
    v2: Path | None
    v2_controllers: frozenset[str]

    @property
    def roots(self) -> tuple[Path, ...]:
        """Every root directory, without duplicates."""
        roots = dict.fromkeys(self.v1.values())
        if self.v2:
            roots[self.v2] = None
        return tuple(roots)


def find_hierarchies(cgroupfs: Path) -> Hierarchies:
    """Return the cgroup trees that are mounted at or below `cgroupfs`.

    The version 2 tree is `cgroupfs` itself or a directory in it. Version 1 hierarchies are directories that are named
    after their controllers. Raises SourceError when no tree can be read.
    """
    if (cgroupfs / "cgroup.controllers").exists():
        return Hierarchies({}, cgroupfs, _controllers(cgroupfs))
    v1: dict[str, Path] = {}
    v2: Path | None = None
    try:
        entries = sorted(entry for entry in cgroupfs.iterdir() if entry.is_dir() and not entry.is_symlink())
    except OSError as error:
        raise SourceError.from_os_error(cgroupfs, error) from error
    for entry in entries:
        if (entry / "cgroup.controllers").exists():
            v2 = v2 or entry
        elif (entry / "cgroup.procs").exists():
            for controller in entry.name.split(","):
                v1.setdefault(controller.removeprefix("name="), entry)
    if not v1 and v2 is None:
        raise SourceError("nodata", f"{cgroupfs}: no control groups are mounted here")
    return Hierarchies(v1, v2, _controllers(v2) if v2 else frozenset())


def procs_root(hierarchies: Hierarchies) -> Path | None:
    """Return the root of the hierarchy whose cgroup.procs lists the processes of containers, or None."""
    return next((hierarchies.v1[name] for name in PROCS_CONTROLLERS if name in hierarchies.v1), hierarchies.v2)


def _controllers(v2: Path) -> frozenset[str]:
    try:
        return frozenset((v2 / "cgroup.controllers").read_text().split())
    except OSError as error:
        raise SourceError.from_os_error(v2 / "cgroup.controllers", error) from error


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open descriptors to the hard limit. Returns the new limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class CgroupSource:
    """Readers of the wanted columns from the cgroup trees of a host.

    readers: by name. They run in parallel. Each reads a part of the files for all containers, so that a file that hangs
    delays only its own reader. row_reader: reads all files of one container. It is a single thread, because passing a
    few microseconds of work to several threads costs more than the work.
    """

    def __init__(
        self,
        hierarchies: Hierarchies,
        columns: Iterable[Column],
        mailbox: Mailbox,
        *,
        procfs: Path,
        sysfs: Path,
        descriptors: int,
        memory_bytes: int | None = None,
        filler: Callable[[str, Layout], Filler | None] | None = None,
        latency: LatencySource | None = None,
        excluded_interfaces: Sequence[str] = (),
    ) -> None:
        """Start the readers.

        columns: the columns of the enabled metrics. descriptors: RLIMIT_NOFILE. memory_bytes: the kernel memory that
        files may take that stay open, None for no limit. filler: called with the name and layout
        of a reader; returns the Filler that fills columns of its tables before files are read, or None. latency: is
        told of the containers too, and closed with the readers. excluded_interfaces: patterns of fnmatch(3) of
        interfaces that are left out.

        Raises OSError when the root of a hierarchy cannot be opened.
        """
        self.hierarchies = hierarchies
        self.mailbox = mailbox
        self.latency = latency
        plans = _plan(hierarchies, columns, _huge_page_sizes(sysfs))
        self.readers: dict[str, Reader] = {}
        self._all: list[Reader] = []
        row_plan = _merged(plans.values())
        kept = sum(plan.kept_files for plan in (*plans.values(), row_plan))

        def budget(plan: _Plan) -> int:
            """Return how many files a reader may keep open. Memory is shared out by the files of a container."""
            most = max(0, descriptors - SPARE_DESCRIPTORS)
            if memory_bytes is None or not kept:
                return most
            return min(most, memory_bytes // DESCRIPTOR_BYTES * plan.kept_files // kept)

        def start(name: str, plan: _Plan, filler: Callable[[str, Layout], Filler | None] | None = None) -> Reader:
            layout = [(table, tuple(keys)) for table, keys in plan.layout.items()]
            reader = Reader(
                name,
                mailbox,
                roots=[str(root) for root in plan.roots],
                procfs=str(procfs),
                sysfs=str(sysfs),
                files=plan.files,
                net_files=plan.net_files,
                layout=layout,
                processes=plan.processes,
                filler=filler(name, layout) if filler else None,
                budget=budget(plan),
                sharers=len(plans) + 2,  # the row reader, and the sockets
                slow_seconds=SLOW_SECONDS,
                excluded=excluded_interfaces,
            )
            self._all.append(reader)
            return reader

        try:
            for name, plan in plans.items():
                self.readers[name] = start(name, plan, filler)
            self.row_reader = start("row", row_plan)
        except BaseException:
            self.close()
            raise

    @property
    def open_descriptors(self) -> int:
        """Number of descriptors kept open on kernel files of containers."""
        return sum(reader.open_descriptors for reader in self._all)

    @property
    def own_descriptors(self) -> int:
        """Number of descriptors that readers have open in tables of their own."""
        return sum(reader.own_descriptors for reader in self._all)

    @property
    def layout(self) -> dict[str, tuple[str, ...]]:
        """The tables of all readers, by name, and their columns."""
        return {table: keys for reader in self.readers.values() for table, keys in reader.layout}

    def add(self, row: int, path: str, start_ns: int, *, waits: bool = True) -> None:
        """Add a container: its row, its cgroup path, its start in nanoseconds on CLOCK_REALTIME.

        waits: whether tasks wait in it. Those in a group are counted there and in no group above.
        """
        for reader in self._all:
            reader.add(row, path, start_ns)
        if self.latency is not None and waits:
            self.latency.add(row, path)

    def remove(self, row: int) -> None:
        """Stop reading the container of a row. The readers close its files."""
        for reader in self._all:
            reader.remove(row)
        if self.latency is not None:
            self.latency.remove(row)

    def own(self, row: int, account: str | None) -> None:
        """Say which account the container of a row is of."""
        if self.latency is not None:
            self.latency.own(row, account)

    def refresh(self, row: int) -> None:
        """Look for a container's directories again, because it appeared in another hierarchy."""
        for reader in self._all:
            reader.refresh(row)
        if self.latency is not None:
            self.latency.look(row)

    def look_further(self, rows: int) -> None:
        """Look for directories in hierarchies that are not watched. Called every second; rows: of containers."""
        if self.latency is not None:
            self.latency.look_further(rows)

    def close(self) -> None:
        """Stop the readers' threads and close their files. Waits for a collection that is under way."""
        for reader in self._all:
            reader.close()
        if self.latency is not None:
            self.latency.close()


@dataclass(slots=True)
class _Plan:
    """The files that one reader reads, and the tables that it fills."""

    roots: list[Path] = field(default_factory=list)
    files: list[PlanFile] = field(default_factory=list)
    net_files: list[PlanFile] = field(default_factory=list)
    layout: dict[str, list[str]] = field(default_factory=dict)
    processes: dict[str, int] = field(default_factory=dict)
    _better: str = ""

    def root(self, path: Path) -> int:
        """Return the index of a root directory. A new one is added."""
        if path not in self.roots:
            self.roots.append(path)
        return self.roots.index(path)

    def table(self, name: str, columns: list[str]) -> int:
        """Return the index of a table. A new one is added with these columns."""
        self.layout.setdefault(name, columns)
        return list(self.layout).index(name)

    def add(self, table: str, file: File, root: Path, wanted: Sequence[str], numbered: str | None) -> None:
        """Add a file and its columns `wanted` to a table.

        numbered: a second table that gets the same rows, labelled with the devices' numbers too.
        """
        columns = self.layout.setdefault(table, [])
        first = len(columns)
        keys: tuple[tuple[str, int], ...] = ()
        if file.keys:
            keys = tuple((key, first) for key in file.keys)
            columns.append(file.name)
        elif is_keyed(file.kind):
            first = 0
            columns += [key for key in wanted if key not in columns]
            prefix = f"{file.better_than or file.name}:"
            keys = tuple((key.removeprefix(prefix), columns.index(key)) for key in wanted)
        else:
            columns += [f"{file.name}:{field}" for field in file.fields] or [file.name]
        targets = [PlanTarget(self.table(table, columns), tuple(file.labels.items()))]
        if numbered:
            targets.append(PlanTarget(self.table(numbered, columns), tuple(NUMBERED_LABELS.items())))
        rest = self._better == file.name
        self._better = file.better_than
        name, at = _name(file, root), self.root(root)
        self.files.append(PlanFile(name, file.kind, targets, at, file.slow, first, keys, file.second, rest))

    def add_network(self, table: str, wanted: Mapping[str, bool]) -> None:
        """Add the files of a container's network namespace that fill a table.

        wanted: columns, and whether their numbers may be negative.
        """
        negative = frozenset(key for key, may_be in wanted.items() if may_be)
        for file in NETWORK_TABLES[table]:
            target = PlanTarget(self.table(table, list(file.fields or wanted)))
            keys = tuple((key, i) for i, key in enumerate(self.layout[table])) if is_keyed(file.kind) else ()
            self.net_files.append(PlanFile(file.name, file.kind, [target], keys=keys, negative=negative))

    @property
    def kept_files(self) -> int:
        """How many files of a container stay open if there is room: those that are no settings, and its process."""
        return sum(not file.slow for file in self.files) + bool(self.net_files)

    def settings_last(self) -> None:
        """Move settings to the end. The position of a file is its priority for a descriptor that stays open.

        All files of cgroups take about as long to open. The directory of a process is found faster, so it is given up
        before them.
        """
        self.files.sort(key=lambda file: file.slow)


def _merged(plans: Iterable[_Plan]) -> _Plan:
    """Return one plan with the files and tables of several plans."""
    merged = _Plan()
    for plan in plans:
        tables = [merged.table(name, keys) for name, keys in plan.layout.items()]

        def moved(file: PlanFile, root: int, tables: list[int] = tables) -> PlanFile:
            targets = [replace(target, table=tables[target.table]) for target in file.targets]
            return replace(file, root=root, targets=targets)

        merged.files += [moved(file, merged.root(plan.roots[file.root])) for file in plan.files]
        merged.net_files += [moved(file, 0) for file in plan.net_files]
        merged.processes |= {key: tables[item] for key, item in plan.processes.items()}
    merged.settings_last()
    return merged


def _plan(hierarchies: Hierarchies, columns: Iterable[Column], huge_pages: frozenset[str]) -> dict[str, _Plan]:
    wanted: dict[str, dict[str, bool]] = {}
    for column in columns:
        wanted.setdefault(column.table, {})[column.key] = column.unit.signed
    plans: dict[str, _Plan] = {}
    for name, table in TABLES.items():
        numbered = NUMBERED.get(name)
        keys = wanted.get(name, {}) | (wanted.get(numbered, {}) if numbered else {})
        if not keys or not _mounted(table, hierarchies):
            continue
        if name == "cpu.v1" and "percpu.v1" in wanted:
            keys.pop("cpuacct.usage", None)
        plan = plans.setdefault(table.reader, _Plan())
        for file in table.files:
            named = file.better_than or file.name
            of_file = [key for key in keys if len(table.files) == 1 or key.partition(":")[0] == named]
            root = _root(table, file, hierarchies)
            if root is not None and file.optional and not (root / _name(file, root)).exists():
                continue
            if of_file and root is not None and not _other_page_size(file, huge_pages):
                plan.add(name, file, root, of_file, numbered if numbered in wanted else None)
    _plan_processes(hierarchies, wanted, plans)
    for plan in plans.values():
        plan.settings_last()
    return {name: plan for name, plan in plans.items() if plan.files}


def _plan_processes(
    hierarchies: Hierarchies, wanted: Mapping[str, Mapping[str, bool]], plans: dict[str, _Plan]
) -> None:
    """Add cgroup.procs to the plans when a wanted column needs it.

    It gives the number of processes, and through their PIDs the process tables and the network namespace.
    """
    network = [table for table in NETWORK_TABLES if table in wanted]
    processes = [table for table in PROCESS_TABLES if table in wanted]
    root = procs_root(hierarchies)
    if root is None or not (network or processes or "process" in wanted):
        return
    plan = plans.setdefault("process", _Plan())
    plan.add("process", File("cgroup.procs", "procs"), root, ["cgroup.procs"], None)
    for table in network:
        plan.add_network(table, wanted[table])
    plan.processes = {table: plan.table(table, list(PROCESS_TABLES[table])) for table in processes}


def _mounted(table: GroupTable, hierarchies: Hierarchies) -> bool:
    if table.version == 1:
        return table.controller in hierarchies.v1
    if hierarchies.v2 is None:
        return False
    if table.controller:
        return table.controller in hierarchies.v2_controllers
    return table.reader != "cpu" or "cpuacct" not in hierarchies.v1


def _name(file: File, root: Path) -> str:
    return file.older if file.older and not (root / file.name).exists() else file.name


def _root(table: GroupTable, file: File, hierarchies: Hierarchies) -> Path | None:
    if table.version == 2:  # noqa: PLR2004 - the version of the interface
        return hierarchies.v2
    names = file.controllers or (table.controller,)
    return next((hierarchies.v1[name] for name in names if name in hierarchies.v1), None)


def _huge_page_sizes(sysfs: Path) -> frozenset[str]:
    """Return the host's huge page sizes as hugetlb files spell them: "2MB" for hugepages/hugepages-2048kB in sysfs."""
    sizes = set()
    for directory in (sysfs / "kernel/mm/hugepages").glob("hugepages-*kB"):
        kib = int(directory.name.removeprefix("hugepages-").removesuffix("kB"))
        for unit, factor in (("GB", 1 << 20), ("MB", 1 << 10), ("KB", 1)):
            if kib >= factor:
                sizes.add(f"{kib // factor}{unit}")
                break
    return frozenset(sizes)


def _other_page_size(file: File, sizes: frozenset[str]) -> bool:
    return file.name.startswith("hugetlb.") and file.name.split(".")[1] not in sizes


def published(hierarchies: Hierarchies, metrics: Iterable[Metric]) -> frozenset[str]:
    """Return the tables that readers of this host would fill for `metrics`, and `container`, which needs no reader."""
    plans = _plan(hierarchies, columns_of(metrics), frozenset(HUGEPAGE_SIZES)).values()
    return frozenset({"container"}.union(*(plan.layout for plan in plans)))


def files_read(hierarchies: Hierarchies, columns: Iterable[Column], sysfs: Path) -> list[tuple[Path, str]]:
    """Return hierarchy root and name of each cgroup file that is read for a container at every scrape."""
    plans = _plan(hierarchies, columns, _huge_page_sizes(sysfs)).values()
    return [(plan.roots[file.root], file.name) for plan in plans for file in plan.files if not file.slow]


def columns_of(metrics: Iterable[Metric]) -> list[Column]:
    """Return every column that the metrics use. A column can occur more than once."""
    return [
        column
        for metric in metrics
        for sample in metric.samples
        for group in (sample.columns, sample.minus, sample.plus, sample.when)
        for column in group
    ]

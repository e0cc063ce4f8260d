"""The cgroup source: which kernel files hold which columns, and the readers that fill them.

Files are chosen for each controller by itself: a controller mounted as version 1 is read there, the others in the
version 2 tree, so that a hybrid of both is nothing special. Kernel documents: Documentation/admin-guide/cgroup-v2.rst,
Documentation/admin-guide/cgroup-v1/.
"""

from __future__ import annotations

import resource
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pymon._native.readers import Mailbox, Reader
from pymon.catalogue.cgroup_fields import (
    DESCRIPTOR_FIELDS,
    HUGEPAGE_SIZES,
    NETWORK_FIELDS,
    SCHED_FIELDS,
    TCP_STATES,
    UDP_STATES,
    ULIMIT_FIELDS,
)
from pymon.catalogue.model import Column, Metric
from pymon.sources.errors import SourceError

SLOW_SECONDS = 60.0
"""Settings are read again after this time."""

SPARE_DESCRIPTORS = 100
"""Of the limit: what a reader needs for roots, settings and files that do not stay open."""


@dataclass(frozen=True, slots=True)
class File:
    """A kernel file of a table.

    controllers: the version 1 hierarchies to look in, in order of preference.
    older: the file to read for the same columns where the hierarchy's root has none of this name.
    """

    name: str
    kind: str
    slow: bool = False
    controllers: tuple[str, ...] = ()
    older: str = ""

    def in_tree(self, root: Path) -> str:
        """The name of the file in this hierarchy."""
        return self.older if self.older and not (root / self.name).exists() else self.name


@dataclass(frozen=True, slots=True)
class TableFiles:
    """The files of a table in order of priority, where they are, and which reader reads them."""

    reader: str
    version: int
    controller: str
    files: tuple[File, ...]


def _v1(reader: str, controller: str, *files: File) -> TableFiles:
    return TableFiles(reader, 1, controller, files)


def _v2(reader: str, controller: str, *files: File) -> TableFiles:
    return TableFiles(reader, 2, controller, files)


def _setting(name: str, kind: str = "limit", *controllers: str) -> File:
    return File(name, kind, slow=True, controllers=controllers)


TABLES: Mapping[str, TableFiles] = {
    "memory.v2": _v2(
        "memory",
        "memory",
        File("memory.stat", "keyed"),
        File("memory.current", "value"),
        File("memory.peak", "value"),
        File("memory.swap.current", "value"),
        _setting("memory.max"),
        _setting("memory.swap.max"),
        _setting("memory.min"),
    ),
    "memory.v1": _v1(
        "memory",
        "memory",
        File("memory.stat", "keyed"),
        File("memory.usage_in_bytes", "value"),
        File("memory.max_usage_in_bytes", "value"),
        File("memory.kmem.usage_in_bytes", "value"),
        _setting("memory.limit_in_bytes"),
        _setting("memory.memsw.limit_in_bytes"),
        _setting("memory.soft_limit_in_bytes"),
    ),
    "numa.v1": _v1("memory", "memory", File("memory.numa_stat", "numa")),
    "cpu.v2": _v2("cpu", "", File("cpu.stat", "keyed"), _setting("cpu.max", "pair"), _setting("cpu.weight", "value")),
    "cpu.v1": _v1(
        "cpu",
        "cpuacct",
        File("cpuacct.stat", "keyed"),
        File("cpuacct.usage", "value"),
        File("cpu.stat", "keyed", controllers=("cpu",)),
        _setting("cpu.cfs_quota_us", "limit", "cpu"),
        _setting("cpu.cfs_period_us", "value", "cpu"),
        _setting("cpu.shares", "value", "cpu"),
    ),
    "percpu.v1": _v1("cpu", "cpuacct", File("cpuacct.usage_percpu", "percpu")),
    "cpuset.v1": _v1("cpu", "cpuset", _setting("cpuset.memory_migrate", "value")),
    "io.v2": _v2("io", "io", File("io.stat", "io")),
    "io.v1": _v1(
        "io",
        "blkio",
        # Where a kernel has no _recursive, what groups inside a container did is missing.
        File("blkio.throttle.io_service_bytes_recursive", "blkio", older="blkio.throttle.io_service_bytes"),
        File("blkio.throttle.io_serviced_recursive", "blkio", older="blkio.throttle.io_serviced"),
    ),
    "events.v2": _v2("io", "memory", File("memory.events", "keyed")),
    "events.v1": _v1("io", "memory", File("memory.oom_control", "keyed"), File("memory.failcnt", "value")),
    "pressure": _v2(
        "pressure",
        "",
        File("cpu.pressure", "pressure"),
        File("memory.pressure", "pressure"),
        File("io.pressure", "pressure"),
    ),
    "pids.v2": _v2("process", "pids", File("pids.current", "value"), _setting("pids.max")),
    "pids.v1": _v1("process", "pids", File("pids.current", "value"), _setting("pids.max")),
    "hugetlb.v2": _v2(
        "hugetlb",
        "hugetlb",
        *(File(f"hugetlb.{size}.current", "value") for size in HUGEPAGE_SIZES),
        *(File(f"hugetlb.{size}.events", "keyed") for size in HUGEPAGE_SIZES),
    ),
    "hugetlb.v1": _v1(
        "hugetlb",
        "hugetlb",
        *(File(f"hugetlb.{size}.usage_in_bytes", "value") for size in HUGEPAGE_SIZES),
        *(File(f"hugetlb.{size}.max_usage_in_bytes", "value") for size in HUGEPAGE_SIZES),
        *(File(f"hugetlb.{size}.failcnt", "value") for size in HUGEPAGE_SIZES),
    ),
}
"""Every table of the source that is read from files of a group's directory."""

NUMBERED = {"io.v2": "blkio.v2", "io.v1": "blkio.v1"}
"""Tables whose rows are block devices, and those that repeat the rows with the devices' numbers."""

PROCS_CONTROLLERS = ("pids", "memory", "cpuacct", "cpu", "blkio", "systemd")
"""Where to look for cgroup.procs in version 1, in order of preference; the version 2 tree comes last."""

NETWORK_TABLES: Mapping[str, tuple[str, ...]] = {
    "network": NETWORK_FIELDS,
    "sockstat": (),
    "tcp": TCP_STATES,
    "tcp6": TCP_STATES,
    "udp": UDP_STATES,
    "udp6": UDP_STATES,
    "advtcp": (),
}
"""Tables of the network namespaces that containers have to themselves, and their columns where those are fixed."""

NETWORK_KEYS: Mapping[str, str] = {"sockstat": "sockstat_keys", "advtcp": "advtcp_keys"}
"""Network tables whose columns are those that are wanted, and where the reader takes them."""

PROCESS_TABLES: Mapping[str, tuple[str, ...]] = {
    "sched": SCHED_FIELDS,
    "descriptors": DESCRIPTOR_FIELDS,
    "ulimits": ULIMIT_FIELDS,
}
"""Tables of what the processes of a container are looked at for, one by one, and their columns."""

PAIR_FIELDS = ("quota", "period")
PRESSURE_FIELDS = ("some", "full")
NUMA_TYPES = ("file", "anon", "unevictable")


@dataclass(frozen=True, slots=True)
class Hierarchies:
    """Root directories of the cgroup trees of a host."""

    v1: Mapping[str, Path]
    v2: Path | None
    v2_controllers: frozenset[str]

    @property
    def roots(self) -> tuple[Path, ...]:
        """Every root once."""
        roots = dict.fromkeys(self.v1.values())
        if self.v2:
            roots[self.v2] = None
        return tuple(roots)


def find_hierarchies(cgroupfs: Path) -> Hierarchies:
    """Look at what is mounted below `cgroupfs`: the version 2 tree there itself or in a directory of its own, and
    version 1 hierarchies in directories named after their controllers.

    Raises SourceError when nothing of that can be read.
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
    """Root of the hierarchy whose cgroup.procs says which processes a container has."""
    return next((hierarchies.v1[name] for name in PROCS_CONTROLLERS if name in hierarchies.v1), hierarchies.v2)


def _controllers(v2: Path) -> frozenset[str]:
    try:
        return frozenset((v2 / "cgroup.controllers").read_text().split())
    except OSError as error:
        raise SourceError.from_os_error(v2 / "cgroup.controllers", error) from error


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open descriptors to the hard one; the limit now in force."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class CgroupSource:
    """Readers for the columns that a catalogue wants from the cgroup trees of a host.

    readers: side by side, each with a part of the files, for all containers at once: a stuck file holds up its own.
    row_reader: all files of one container in one go, because handing a few microseconds' work to several threads costs
    more than doing it.
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
    ) -> None:
        """columns: those of the metrics that are switched on. descriptors: RLIMIT_NOFILE.

        Raises OSError where a hierarchy's root cannot be opened.
        """
        self.hierarchies = hierarchies
        plans = _plan(hierarchies, columns, _huge_page_sizes(sysfs))
        self.readers: dict[str, Reader] = {}
        self._all: list[Reader] = []

        def start(name: str, plan: _Plan) -> Reader:
            reader = Reader(
                name,
                mailbox,
                roots=[str(root) for root in plan.roots],
                procfs=str(procfs),
                sysfs=str(sysfs),
                files=plan.files,
                layout=[(table, tuple(keys)) for table, keys in plan.layout.items()],
                io_numbered=plan.numbered,
                net=plan.net,
                processes=plan.processes,
                budget=max(0, descriptors - SPARE_DESCRIPTORS),
                sharers=len(plans) + 2,  # the row reader, and the sockets
                slow_seconds=SLOW_SECONDS,
            )
            self._all.append(reader)
            return reader

        try:
            for name, plan in plans.items():
                self.readers[name] = start(name, plan)
            self.row_reader = start("row", _merged(plans.values()))
        except BaseException:
            self.close()
            raise

    @property
    def open_descriptors(self) -> int:
        """Descriptors kept open on kernel files of containers."""
        return sum(reader.open_descriptors for reader in self._all)

    @property
    def layout(self) -> dict[str, tuple[str, ...]]:
        """Tables and their columns, over all readers."""
        return {table: keys for reader in self.readers.values() for table, keys in reader.layout}

    def add(self, row: int, path: str, start_ns: int) -> None:
        """A container came."""
        for reader in self._all:
            reader.add(row, path, start_ns)

    def remove(self, row: int) -> None:
        """A container went."""
        for reader in self._all:
            reader.remove(row)

    def refresh(self, row: int) -> None:
        """A container appeared in one more hierarchy."""
        for reader in self._all:
            reader.refresh(row)

    def close(self) -> None:
        """Stop the readers."""
        for reader in self._all:
            reader.close()


class _Plan:
    """What one reader reads."""

    def __init__(self) -> None:
        self.roots: list[Path] = []
        self.files: list[tuple[str, int, str, bool, int, int, tuple[tuple[str, int], ...]]] = []
        self.layout: dict[str, list[str]] = {}
        self.numbered: int | None = None
        self.net: dict[str, object] | None = None
        self.processes: dict[str, int] = {}

    def root(self, path: Path) -> int:
        if path not in self.roots:
            self.roots.append(path)
        return self.roots.index(path)

    def table(self, name: str, columns: Iterable[str] = ()) -> int:
        self.layout.setdefault(name, list(columns))
        return list(self.layout).index(name)

    def file(self, table: str, file: File, root: Path, wanted: Sequence[str]) -> None:
        """Add a file of which the columns `wanted` (`file` or `file:field`) are wanted."""
        index = self.table(table)
        columns = self.layout[table]
        first = len(columns)
        keys: tuple[tuple[str, int], ...] = ()
        if file.kind in ("keyed", "io", "blkio"):
            fields = [key.split(":", 1)[-1] for key in wanted]
            keys = tuple((field, first + i) for i, field in enumerate(fields))
            columns += wanted
        elif file.kind == "pair":
            columns += [f"{file.name}:{field}" for field in PAIR_FIELDS]
        elif file.kind == "pressure":
            columns += [f"{file.name}:{field}" for field in PRESSURE_FIELDS]
        elif file.kind == "numa":
            keys = tuple((kind, first) for kind in NUMA_TYPES)
            columns.append(file.name)
        else:
            columns.append(file.name)
        self.files.append((file.in_tree(root), self.root(root), file.kind, file.slow, index, first, keys))


def _merged(plans: Iterable[_Plan]) -> _Plan:
    """One plan for all files of several."""
    merged = _Plan()
    for plan in plans:
        tables = {i: merged.table(name, keys) for i, (name, keys) in enumerate(plan.layout.items())}
        for name, root, kind, slow, table, column, keys in plan.files:
            merged.files.append((name, merged.root(plan.roots[root]), kind, slow, tables[table], column, keys))
        if plan.numbered is not None:
            merged.numbered = tables[plan.numbered]
        if plan.net is not None:
            merged.net = {key: tables[item] if isinstance(item, int) else item for key, item in plan.net.items()}
        merged.processes |= {key: tables[item] for key, item in plan.processes.items()}
    merged.files.sort(key=lambda file: file[3])  # what stays open first
    return merged


def _plan(hierarchies: Hierarchies, columns: Iterable[Column], huge_pages: frozenset[str]) -> dict[str, _Plan]:
    wanted: dict[str, dict[str, None]] = {}
    for column in columns:
        wanted.setdefault(column.table, {})[column.key] = None
    plans: dict[str, _Plan] = {}
    for slow in (False, True):  # files that stay open come first: the position is the priority
        for name, table in TABLES.items():
            numbered = NUMBERED.get(name)
            keys = wanted.get(name, {}) | (wanted.get(numbered, {}) if numbered else {})
            if not keys or not _mounted(table, hierarchies):
                continue
            if name == "cpu.v1" and "percpu.v1" in wanted:
                keys.pop("cpuacct.usage", None)
            plan = plans.setdefault(table.reader, _Plan())
            for file in table.files:
                of_file = [key for key in keys if key == file.name or key.split(":")[0] == file.name]
                if file.kind == "io":
                    of_file = list(keys)
                root = _root(table, file, hierarchies)
                if not of_file or root is None or file.slow is not slow or _other_page_size(file, huge_pages):
                    continue
                plan.file(name, file, root, of_file)
            if numbered in wanted and name in plan.layout:
                plan.numbered = plan.table(numbered, ())
                plan.layout[numbered] = plan.layout[name]
    _plan_processes(hierarchies, wanted, plans)
    return {name: plan for name, plan in plans.items() if plan.files}


def _plan_processes(
    hierarchies: Hierarchies, wanted: Mapping[str, Mapping[str, None]], plans: dict[str, _Plan]
) -> None:
    """cgroup.procs counts processes and leads to them and their network namespaces; it belongs before the settings."""
    tables = [table for table in NETWORK_TABLES if table in wanted]
    of_processes = [table for table in PROCESS_TABLES if table in wanted]
    if not tables and not of_processes and "process" not in wanted:
        return
    root = procs_root(hierarchies)
    if root is None:
        return
    plan = plans.setdefault("process", _Plan())
    plan.file("process", File("cgroup.procs", "procs"), root, ["cgroup.procs"])
    fast = [file for file in plan.files if not file[3]]
    plan.files = fast + [file for file in plan.files if file[3]]
    net: dict[str, object] = {}
    for table in tables:
        columns = NETWORK_TABLES[table] or tuple(wanted[table])
        net[table] = plan.table(table, columns)
    if tables:
        net.setdefault("network", plan.table("network", NETWORK_FIELDS))
        for table, keys in NETWORK_KEYS.items():
            net[keys] = tuple((key, i) for i, key in enumerate(wanted.get(table, ())))
        plan.net = net
    plan.processes = {table: plan.table(table, PROCESS_TABLES[table]) for table in of_processes}


def _mounted(table: TableFiles, hierarchies: Hierarchies) -> bool:
    if table.version == 1:
        return table.controller in hierarchies.v1
    if hierarchies.v2 is None:
        return False
    if table.controller:
        return table.controller in hierarchies.v2_controllers
    return table.reader != "cpu" or "cpuacct" not in hierarchies.v1


def _root(table: TableFiles, file: File, hierarchies: Hierarchies) -> Path | None:
    if table.version == 2:  # noqa: PLR2004 - the version of the interface
        return hierarchies.v2
    names = file.controllers or (table.controller,)
    return next((hierarchies.v1[name] for name in names if name in hierarchies.v1), None)


def _huge_page_sizes(sysfs: Path) -> frozenset[str]:
    """The host's huge page sizes as hugetlb's files spell them; /sys/kernel/mm/hugepages/hugepages-2048kB is 2MB."""
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
    """The tables that readers of this host would fill for these metrics, and the one that needs no reader."""
    plans = _plan(hierarchies, columns_of(metrics), frozenset(HUGEPAGE_SIZES)).values()
    return frozenset({"container"}.union(*(plan.layout for plan in plans)))


def files_read(hierarchies: Hierarchies, columns: Iterable[Column], sysfs: Path) -> list[tuple[Path, str]]:
    """Hierarchy root and file name of what is read of a container at every scrape."""
    plans = _plan(hierarchies, columns, _huge_page_sizes(sysfs)).values()
    return [(plan.roots[root], name) for plan in plans for name, root, _, slow, *_ in plan.files if not slow]


def columns_of(metrics: Iterable[Metric]) -> list[Column]:
    """Every column that the metrics name."""
    return [
        column
        for metric in metrics
        for sample in metric.samples
        for group in (sample.columns, sample.minus, sample.plus, sample.when)
        for column in group
    ]

"""Caches, threads, NUMA nodes and memory modules of the machine, as cAdvisor reports them.

Sources: /sys/devices/system/cpu/cpuN/{topology,cache} and /sys/devices/system/node/nodeN
(Documentation/ABI/stable/sysfs-devices-node, Documentation/ABI/testing/sysfs-devices-system-cpu), and
/sys/devices/system/edac/mc (Documentation/ABI/testing/sysfs-devices-edac).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import KIB, ONE, Column, Metric, Unit, gauge
from pymon.sources.kernel_file import KernelFile, read_small
from pymon.sources.node.kernel_text import text, unsigned
from pymon.sources.node.machine import Identity, parse_cpu_list
from pymon.sources.node.source import Collector, NodeSource

MIB = Unit(multiply=1 << 20)

_Labels = tuple[tuple[str, str], ...]
_NUMBER_OF_UNIT = {b"K": 1, b"M": 1 << 10, b"G": 1 << 20}
_MEM_TOTAL = re.compile(rb"^Node +\d+ MemTotal: +(\d+) .*\n", re.MULTILINE)
_HUGEPAGES = re.compile(r"hugepages-(\d+)kB")
_MOST_ENTRIES = 4096
"""Entries of a directory of sysfs that are looked at."""


def parse_cache_kib(word: bytes) -> int | None:
    """Return a cache's size in KiB from a word such as ``32K`` or ``8M``, None when it is not one."""
    number = unsigned(word[:-1])
    factor = _NUMBER_OF_UNIT.get(word[-1:])
    return None if number is None or factor is None else number * factor


class MachineTopology(NodeSource):
    """Tables of one column: node_caches, node_siblings, node_memory, node_distance, node_hugepages, node_dimms.

    Every row has the machine's identity. What cannot be read has no row. Caches, threads and modules do not change
    while the same CPUs are online, so they are read again only when others are.
    """

    name: ClassVar[str] = "machine_topology"

    def __init__(self, procfs: Path, sysfs: Path, rootfs: Path) -> None:
        self._system = sysfs / "devices" / "system"
        self._nodes = str(self._system / "node")
        self._online = KernelFile(self._system / "cpu" / "online")
        self._identity = tuple(Identity(procfs, sysfs, rootfs).labels())
        self._caches = Table("node_caches", ("kib",))
        self._siblings = Table("node_siblings", ("threads",))
        self._memory = Table("node_memory", ("kib",))
        self._distance = Table("node_distance", ("distance",))
        self._hugepages = Table("node_hugepages", ("pages",))
        self._dimms = Table("node_dimms", ("count", "mib"))
        self._seen: bytes | None = None
        self._lasting: list[tuple[Table, _Labels, tuple[int, ...]]] = []
        tables = (self._caches, self._siblings, self._memory, self._distance, self._hugepages, self._dimms)
        super().__init__(tables, (self._online,))

    def _fill(self) -> None:
        online = self._read(self._online)
        if online is not None and online != self._seen:
            self._seen, self._lasting = online, []
            self._look_at_cpus(parse_cpu_list(online))
            self._look_at_dimms()
        for table, labels, values in self._lasting:
            self._add(table, labels, values)
        for directory in _numbered(self._nodes, "node"):
            self._add_node(directory)

    def _add(self, table: Table, labels: _Labels, values: tuple[int, ...]) -> None:
        table.fill(table.add_row([*labels, *self._identity]), values)

    def _look_at_cpus(self, cpus: list[int]) -> None:
        nodes = {
            cpu: directory.rpartition("node")[2]
            for directory in _numbered(self._nodes, "node")
            for cpu in parse_cpu_list(read_small(f"{directory}/cpulist"))
        }
        cores: dict[int, tuple[str, str]] = {}
        for cpu in cpus:
            core_id = read_small(self._system / "cpu" / f"cpu{cpu}" / "topology" / "core_id").strip()
            cores[cpu] = (nodes.get(cpu, "0"), text(core_id))
        threads = Counter(cores.values())
        caches: dict[tuple[_Labels, bytes], int] = {}
        for cpu, (node, core) in cores.items():
            if not core:
                continue
            labels = (("node_id", node), ("core_id", core), ("thread_id", str(cpu)))
            self._lasting.append((self._siblings, labels, (threads[node, core],)))
            for cache in _numbered(self._system / "cpu" / f"cpu{cpu}" / "cache", "index"):
                shared = read_small(f"{cache}/shared_cpu_list").strip()
                kib = parse_cache_kib(read_small(f"{cache}/size").strip())
                if kib is None:
                    continue
                of_core = len({cores[other] for other in parse_cpu_list(shared + b"\n") if other in cores}) <= 1
                kind, level = (text(read_small(f"{cache}/{name}").strip()) for name in ("type", "level"))
                place: _Labels = (
                    ("node_id", node),
                    ("core_id", core if of_core else ""),
                    ("type", kind),
                    ("level", level),
                )
                caches[place, shared] = kib
        sums: Counter[_Labels] = Counter()
        for (place, _), kib in caches.items():
            sums[place] += kib
        self._lasting += [(self._caches, place, (kib,)) for place, kib in sums.items()]

    def _look_at_dimms(self) -> None:
        counts: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        for controller in _numbered(self._system / "edac" / "mc", "mc"):
            for module in (*_numbered(controller, "dimm"), *_numbered(controller, "rank")):
                size = unsigned(read_small(f"{module}/size").strip())
                if size:
                    kind = text(read_small(f"{module}/dimm_mem_type").strip())
                    counts[kind] += 1
                    sizes[kind] += size
        self._lasting += [(self._dimms, (("type", kind),), (counts[kind], sizes[kind])) for kind in counts]

    def _add_node(self, directory: str) -> None:
        node = ("node_id", directory.rpartition("node")[2])
        kib = _MEM_TOTAL.search(read_small(f"{directory}/meminfo"))
        if kib is not None and (total := unsigned(kib[1])) is not None:
            self._add(self._memory, (node,), (total,))
        for target, word in enumerate(read_small(f"{directory}/distance").split()):
            distance = unsigned(word)
            if distance is not None:
                self._add(self._distance, (node, ("target_node_id", str(target))), (distance,))
        for pages in _page_sizes(f"{directory}/hugepages"):
            count = unsigned(read_small(f"{directory}/hugepages/hugepages-{pages}kB/nr_hugepages").strip())
            if count is not None:
                self._add(self._hugepages, (node, ("page_size", pages)), (count,))


def _numbered(directory: Path | str, prefix: str) -> list[str]:
    """Return the paths of entries that are called `prefix` and a number, by number; none where they cannot be read."""
    words = (name.removeprefix(prefix) for name in _names(directory) if name.startswith(prefix))
    numbers = sorted(filter(str.isdecimal, words), key=int)[:_MOST_ENTRIES]
    return [f"{directory}/{prefix}{number}" for number in numbers]


def _page_sizes(directory: str) -> list[str]:
    """Return the sizes in KiB of entries such as ``hugepages-2048kB``."""
    return sorted(match[1] for match in map(_HUGEPAGES.fullmatch, _names(directory)) if match)


def _names(directory: Path | str) -> list[str]:
    """Return the names in a directory, none where it cannot be read."""
    try:
        with os.scandir(directory) as found:
            return [entry.name for entry in found]
    except OSError:
        return []


def _metric(suffix: str, help: str, table: str, key: str, unit: Unit = ONE) -> Metric:
    return gauge(f"machine_{suffix}", help, MachineTopology.name, Column(table, key, unit))


METRICS = (
    _metric(
        "cpu_cache_capacity_bytes", "Cache size in bytes assigned to NUMA node and CPU core.", "node_caches", "kib", KIB
    ),
    _metric("thread_siblings_count", "Number of CPU thread siblings.", "node_siblings", "threads"),
    _metric("node_memory_capacity_bytes", "Amount of memory assigned to NUMA node.", "node_memory", "kib", KIB),
    _metric("node_distance", "Distance between NUMA node and target NUMA node.", "node_distance", "distance"),
    _metric("node_hugepages_count", "Number of hugepages assigned to NUMA node.", "node_hugepages", "pages"),
    _metric("dimm_count", "Number of memory modules by type.", "node_dimms", "count"),
    _metric("dimm_capacity_bytes", "Capacity of memory modules by type.", "node_dimms", "mib", MIB),
)

COLLECTOR = Collector(
    MachineTopology.name,
    lambda node: MachineTopology(node.procfs, node.sysfs, node.rootfs),
    METRICS,
    row_labels={
        "node_siblings": ("node_id", "core_id", "thread_id", "machine_id", "system_uuid", "boot_id"),
        "node_memory": ("node_id", "machine_id", "system_uuid", "boot_id"),
        "node_distance": ("node_id", "target_node_id", "machine_id", "system_uuid", "boot_id"),
        "node_hugepages": ("node_id", "page_size", "machine_id", "system_uuid", "boot_id"),
    },
)

"""Size and identity of the machine, as cAdvisor reports them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import KIB, ONE, Column, Metric, Unit, gauge
from pymon.sources.errors import SourceError
from pymon.sources.kernel_file import KernelFile, read_small
from pymon.sources.node.kernel_text import complete_lines, text, unsigned
from pymon.sources.node.source import Collector, NodeSource

MACHINE_FIELDS = ("cores", "physical_cores", "sockets", "MemTotal", "SwapTotal")
"""CPUs from sysfs, and memory from /proc/meminfo in KiB."""

_CPU_MAX = 65535


def parse_cpu_list(data: bytes) -> list[int]:
    """Return the CPU numbers of a line such as ``0-3,8``, or [] when it is not such a list."""
    cpus: list[int] = []
    for part in (complete_lines(data) or [b""])[0].split(b","):
        first, dash, last = part.partition(b"-")
        low, high = unsigned(first), unsigned(last if dash else first)
        if low is None or high is None or high > _CPU_MAX:
            return []
        cpus.extend(range(low, high + 1))
    return cpus


class Machine(NodeSource):
    """Table node_machine {machine_id, system_uuid, boot_id}: one row with memory in KiB and counts of online CPUs.

    An identity that does not exist or cannot be read is empty. Only root can read the system's UUID.
    """

    name: ClassVar[str] = "machine"

    def __init__(self, procfs: Path, sysfs: Path, rootfs: Path) -> None:
        self._meminfo = KernelFile(procfs / "meminfo")
        self._online = KernelFile(sysfs / "devices" / "system" / "cpu" / "online")
        self._cpus = sysfs / "devices" / "system" / "cpu"
        self._counted: tuple[bytes, list[int]] = (b"", [])
        self._identity = Identity(procfs, sysfs, rootfs)
        self._table = Table("node_machine", MACHINE_FIELDS)
        super().__init__((self._table,), (self._meminfo, self._online))

    def _fill(self) -> None:
        row = self._table.add_row(self._identity.labels())
        cells = 0
        memory = self._read(self._meminfo)
        if memory is not None:
            cells += self._table.scan_keyed(row, memory)
            if self._table.malformed:
                self._misread(self._meminfo.path, "integers that are not negative behind the keys")
        online = self._read(self._online)
        if online is not None:
            counts = self._count(online)
            self._table.fill(row, counts)
            cells += len(counts)
        if not cells:
            self._table.clear()
            self._misread(self._meminfo.path, "a line such as 'MemTotal: 24684096 kB'")

    def _count(self, online: bytes) -> list[int]:
        """Return the numbers of threads, cores and sockets, or only of threads when the topology cannot be read.

        The topology is read again only when other CPUs are online.
        """
        if online == self._counted[0]:
            return self._counted[1]
        cpus = parse_cpu_list(online)
        if not cpus:
            self._misread(self._online.path, "a list such as '0-3'")
            return []
        places = set()
        for cpu in cpus:
            topology = self._cpus / f"cpu{cpu}" / "topology"
            try:
                places.add(((topology / "physical_package_id").read_bytes(), (topology / "core_id").read_bytes()))
            except OSError as error:
                self.problems.append(SourceError.from_os_error(topology, error))
                return [len(cpus)]
        self._counted = (online, [len(cpus), len(places), len({package for package, _ in places})])
        return self._counted[1]


class Identity:
    """The labels machine_id, system_uuid and boot_id, "" for what cannot be read. What has been read stays the same."""

    def __init__(self, procfs: Path, sysfs: Path, rootfs: Path) -> None:
        machine_ids = (rootfs / "etc" / "machine-id", rootfs / "var" / "lib" / "dbus" / "machine-id")
        self._places = {
            "machine_id": machine_ids,
            "system_uuid": (
                sysfs / "class" / "dmi" / "id" / "product_uuid",
                procfs / "device-tree" / "system-id",
                procfs / "device-tree" / "vm,uuid",
                machine_ids[0],
            ),
            "boot_id": (procfs / "sys" / "kernel" / "random" / "boot_id",),
        }
        self._labels = dict.fromkeys(self._places, "")

    def labels(self) -> list[tuple[str, str]]:
        """Return the names and values."""
        for name, value in self._labels.items():
            if not value:
                self._labels[name] = _first_line(self._places[name])
        return list(self._labels.items())


def _first_line(paths: tuple[Path, ...]) -> str:
    """Return the content of the first file that is not empty. Device tree strings end in NUL, which is removed."""
    for path in paths:
        word = read_small(path).strip(b"\0\n ")
        if word:
            return text(word)
    return ""


def _machine(suffix: str, help: str, key: str, unit: Unit = ONE, *more: Column) -> Metric:
    return gauge(f"machine_{suffix}", help, "machine", Column("node_machine", key, unit), *more)


METRICS = (
    _machine("cpu_cores", "Number of logical CPU cores.", "cores", ONE, Column("kstat.system_misc", "ncpus")),
    _machine("cpu_physical_cores", "Number of physical CPU cores.", "physical_cores"),
    _machine("cpu_sockets", "Number of CPU sockets.", "sockets"),
    _machine("memory_bytes", "Amount of memory installed on the machine.", "MemTotal", KIB),
    _machine("swap_bytes", "Amount of swap memory available on the machine.", "SwapTotal", KIB),
)

COLLECTOR = Collector(
    Machine.name,
    lambda node: Machine(node.procfs, node.sysfs, node.rootfs),
    METRICS,
    row_labels={"node_machine": ("machine_id", "system_uuid", "boot_id")},
)

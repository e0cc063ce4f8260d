"""Size and identity of the machine, as cAdvisor gives them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.node_fields import MACHINE_FIELDS
from pymon.sources.errors import SourceError
from pymon.sources.kernel_file import KernelFile, read_small
from pymon.sources.node.kernel_text import complete_lines, text, unsigned
from pymon.sources.node.source import NodeSource


def parse_cpu_list(data: bytes) -> list[int]:
    """CPU numbers of a line such as ``0-3,8``; [] when it is none."""
    cpus: list[int] = []
    for part in (complete_lines(data) or [b""])[0].split(b","):
        first, dash, last = part.partition(b"-")
        low, high = unsigned(first), unsigned(last if dash else first)
        if low is None or high is None:
            return []
        cpus.extend(range(low, high + 1))
    return cpus


class Machine(NodeSource):
    """Table node_machine {machine_id, system_uuid, boot_id}: one row, counts of CPUs that are online, and KiB.

    An identity that is not there or not readable (the system's UUID is root's) is empty.
    """

    name: ClassVar[str] = "machine"

    def __init__(self, procfs: Path, sysfs: Path, rootfs: Path) -> None:
        self._meminfo = KernelFile(procfs / "meminfo")
        self._online = KernelFile(sysfs / "devices" / "system" / "cpu" / "online")
        self._cpus = sysfs / "devices" / "system" / "cpu"
        self._counted: tuple[bytes, list[int]] = (b"", [])
        machine_ids = (rootfs / "etc" / "machine-id", rootfs / "var" / "lib" / "dbus" / "machine-id")
        self._identities = {
            "machine_id": machine_ids,
            "system_uuid": (
                sysfs / "class" / "dmi" / "id" / "product_uuid",
                procfs / "device-tree" / "system-id",
                procfs / "device-tree" / "vm,uuid",
                machine_ids[0],
            ),
            "boot_id": (procfs / "sys" / "kernel" / "random" / "boot_id",),
        }
        self._table = Table("node_machine", MACHINE_FIELDS)
        super().__init__((self._table,), (self._meminfo, self._online))

    def _fill(self) -> None:
        row = self._table.add_row([(name, _first_line(paths)) for name, paths in self._identities.items()])
        cells = 0
        memory = self._read(self._meminfo)
        if memory is not None:
            cells += self._table.scan_keyed(row, memory)
        online = self._read(self._online)
        if online is not None:
            counts = self._count(online)
            self._table.fill(row, counts)
            cells += len(counts)
        if not cells:
            self._table.clear()
            self._misread(self._meminfo.path, "a line such as 'MemTotal: 24684096 kB'")

    def _count(self, online: bytes) -> list[int]:
        """Threads, cores and sockets, or only threads. CPUs keep their places while the same ones are online."""
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


def _first_line(paths: tuple[Path, ...]) -> str:
    """The first of the files that has something; device tree strings end in NUL."""
    for path in paths:
        word = read_small(path).strip(b"\0\n ")
        if word:
            return text(word)
    return ""

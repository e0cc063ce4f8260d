"""How often CPUs were throttled for heat, and which are isolated, from /sys/devices/system/cpu."""

from __future__ import annotations

from pathlib import Path

from pymon._native.table import Table
from pymon.sources.errors import SourceError
from pymon.sources.kernel_file import read_small
from pymon.sources.node.attributes import integer
from pymon.sources.node.kernel_text import text
from pymon.sources.node.machine import parse_cpu_list


class CpuThrottles:
    """Tables node_cpu_core {package, core}, node_cpu_package {package} and node_cpu_isolated {cpu}.

    The CPUs of a core share a counter, and so do those of a package. Which files there are is found out again only when
    other CPUs are online. Most virtual machines have none.
    """

    def __init__(self, sysfs: Path) -> None:
        self._cpus = sysfs / "devices" / "system" / "cpu"
        self._cores = Table("node_cpu_core", ("throttles",))
        self._packages = Table("node_cpu_package", ("throttles",))
        self._isolated = Table("node_cpu_isolated", ("isolated",))
        self.tables = (self._cores, self._packages, self._isolated)
        self._online: bytes | None = None
        self._counters: list[tuple[Table, tuple[tuple[str, str], ...], Path]] = []

    def fill(self, problems: list[SourceError]) -> None:
        """Add rows to the empty tables. Append errors to `problems`."""
        online = read_small(self._cpus / "online")
        if online != self._online:
            self._counters = self._find(parse_cpu_list(online))
            self._online = online
        for table, labels, path in self._counters:
            count = integer(read_small(path).strip())
            if count is None:
                problems.append(SourceError("parse", f"{path}: expected an integer"))
            else:
                table.fill(table.add_row(labels), (count,))
        for cpu in dict.fromkeys(parse_cpu_list(read_small(self._cpus / "isolated"))):
            self._isolated.fill(self._isolated.add_row((("cpu", str(cpu)),)), (1,))

    def _find(self, cpus: list[int]) -> list[tuple[Table, tuple[tuple[str, str], ...], Path]]:
        found: dict[tuple[tuple[str, str], ...], tuple[Table, tuple[tuple[str, str], ...], Path]] = {}
        for cpu in cpus:
            directory = self._cpus / f"cpu{cpu}"
            throttle = directory / "thermal_throttle"
            if not throttle.is_dir():
                continue
            package, core = (
                text(read_small(directory / "topology" / name).strip()) for name in ("physical_package_id", "core_id")
            )
            if package.isdecimal() and core.isdecimal():
                labels = (("package", package), ("core", core))
                found.setdefault(labels, (self._cores, labels, throttle / "core_throttle_count"))
                found.setdefault(labels[:1], (self._packages, labels[:1], throttle / "package_throttle_count"))
        return [counter for counter in found.values() if counter[-1].exists()]

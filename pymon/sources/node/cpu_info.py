"""The CPU's model number, from lines ``model : 85`` of /proc/cpuinfo (arch/x86/kernel/cpu/proc.c)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.sources.errors import SourceError
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.kernel_text import complete_lines, unsigned
from pymon.sources.node.source import Collector, NodeSource

CPU_INFO_FIELDS = ("model",)
"""The line 'model' of /proc/cpuinfo, a number that only x86 has."""


def parse_model(data: bytes) -> int | None:
    """Return the model number of the first CPU, or None when there is none, as on processors other than x86."""
    for line in complete_lines(data):
        key, _, value = line.partition(b":")
        if key.strip() == b"model":
            return unsigned(value.strip())
    return None


class CpuInfo(NodeSource):
    """Table node_cpu_info: one row. The file is long and the model does not change, so it is read only once."""

    name: ClassVar[str] = "cpu_info"

    def __init__(self, procfs: Path) -> None:
        self._path = procfs / "cpuinfo"
        self._table = Table("node_cpu_info", CPU_INFO_FIELDS)
        self._model: int | None = None
        super().__init__((self._table,))

    def _fill(self) -> None:
        if self._model is None:
            file = KernelFile(self._path)
            try:
                self._model = parse_model(self._read(file) or b"")
            finally:
                file.close()
        if self._model is not None:
            self._table.fill(self._table.add_row(), (self._model,))
        elif not self.problems:
            raise SourceError("nodata", f"{self._path}: no line such as 'model : 85'")


COLLECTOR = Collector(CpuInfo.name, lambda node: CpuInfo(node.procfs), dialect="cmon")

"""Control groups by controller, from /proc/cgroups (kernel/cgroup/cgroup-v1.c).

#subsys_name	hierarchy	num_cgroups	enabled
cpu	2	170	1
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import Column, gauge
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.kernel_text import complete_lines, text, unsigned
from pymon.sources.node.source import Collector, NodeSource

CGROUPS_FIELDS = ("cgroups", "enabled")

_WORDS = 4


class Cgroups(NodeSource):
    """Table node_cgroups {subsys_name}: a row for each controller."""

    name: ClassVar[str] = "cgroups"

    def __init__(self, procfs: Path) -> None:
        self._file = KernelFile(procfs / "cgroups")
        self._table = Table("node_cgroups", CGROUPS_FIELDS)
        super().__init__((self._table,), (self._file,))

    def _fill(self) -> None:
        data = self._read_text(self._file)
        if data is None:
            return
        lines = [line.split() for line in complete_lines(data) if not line.startswith(b"#")]
        rows = {text(words[0]): [unsigned(word) for word in words[2:]] for words in lines if len(words) == _WORDS}
        if not any(any(number is not None for number in numbers) for numbers in rows.values()):
            self._misread(self._file.path, "lines such as 'cpu 2 170 1'")
            return
        for name, numbers in rows.items():
            self._table.fill(self._table.add_row((("subsys_name", name),)), numbers)


METRICS = (
    gauge(
        "node_cgroups_cgroups",
        "Current cgroup number of the subsystem.",
        "cgroups",
        Column("node_cgroups", "cgroups"),
    ),
    gauge(
        "node_cgroups_enabled",
        "Current cgroup number of the subsystem.",
        "cgroups",
        Column("node_cgroups", "enabled"),
    ),
)

COLLECTOR = Collector(
    Cgroups.name,
    lambda node: Cgroups(node.procfs),
    METRICS,
    default=False,
    row_labels={
        "node_cgroups": ("subsys_name",),
    },
)

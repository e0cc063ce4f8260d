"""The fields of uname(2), read from /proc/sys/kernel.

Before Linux 6.1 that directory has no file for `machine`, so `machine` comes from uname(2) of this process.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import Column, gauge
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.kernel_text import complete_lines, text
from pymon.sources.node.source import INFO_FIELDS, Collector, NodeSource

_FILES = {
    "sysname": "ostype",
    "release": "osrelease",
    "version": "version",
    "nodename": "hostname",
    "domainname": "domainname",
}


class Uname(NodeSource):
    """Table node_uname {sysname, release, version, nodename, domainname, machine}: one row with the constant 1.

    A label whose file cannot be read is empty.
    """

    name: ClassVar[str] = "uname"

    def __init__(self, procfs: Path, machine: str = os.uname().machine) -> None:
        self._machine = machine
        self._by_label = {label: KernelFile(procfs / "sys" / "kernel" / name) for label, name in _FILES.items()}
        self._table = Table("node_uname", INFO_FIELDS)
        super().__init__((self._table,), self._by_label.values())

    def _fill(self) -> None:
        lines = {label: complete_lines(self._read(file) or b"") for label, file in self._by_label.items()}
        if any(lines.values()):
            names = [(label, text(line[0]) if line else "") for label, line in lines.items()]
            self._table.fill(self._table.add_row([*names, ("machine", self._machine)]), (1,))
        elif not self.problems:
            self._misread(self._by_label["release"].path, "a line such as '6.1.0'")


METRICS = (
    gauge(
        "node_uname_info",
        "Labeled system information as provided by the uname system call.",
        "uname",
        Column("node_uname", "info"),
    ),
)

COLLECTOR = Collector(
    Uname.name, lambda node: Uname(node.procfs), METRICS, row_labels={"node_uname": (*_FILES, "machine")}
)

"""What uname(2) says, read where the kernel shows it as files: /proc/sys/kernel.

Only the machine has no file there before Linux 6.1; it is that of the running program.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.node_fields import INFO_FIELDS
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.kernel_text import complete_lines, text
from pymon.sources.node.source import NodeSource

_FILES = {
    "sysname": "ostype",
    "release": "osrelease",
    "version": "version",
    "nodename": "hostname",
    "domainname": "domainname",
}


class Uname(NodeSource):
    """Table node_uname: one row {sysname, release, version, nodename, domainname, machine} with the constant 1.

    A name whose file can't be read is empty.
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

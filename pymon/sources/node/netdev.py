"""Traffic of network devices, from /proc/net/dev.

That file is a link to /proc/self/net/dev: the devices of the network namespace that this process was in when the
file was opened, which is the node's own.
    eth0: 27110567     881    0    0    0     0          0         0    78671     755    0    0    0     0  0  0
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.node_fields import NETDEV_FIELDS
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.source import NodeSource

_HEADER_LINES = 2


class Netdev(NodeSource):
    """Table node_netdev: a row for each device {device}, bytes, packets and counts of errors since it was made."""

    name: ClassVar[str] = "netdev"

    def __init__(self, procfs: Path) -> None:
        self._file = KernelFile(procfs / "net" / "dev")
        self._table = Table("node_netdev", NETDEV_FIELDS)
        super().__init__((self._table,), (self._file,))

    def _fill(self) -> None:
        data = self._read(self._file)
        if data is not None and not self._table.scan_rows(data, "device", skip=_HEADER_LINES):
            self._misread(self._file.path, "two lines of header and a line for each device, such as 'lo: 0 0 ...'")

"""Traffic of network devices, from /proc/net/dev.

That file is a link to /proc/self/net/dev. It shows the devices of the network namespace in which this process opened
it, which is the node's own:
    eth0: 27110567     881    0    0    0     0          0         0    78671     755    0    0    0     0  0  0
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import Column, counter
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.exclusions import DEFAULT_EXCLUSIONS
from pymon.sources.node.kernel_text import text
from pymon.sources.node.source import Collector, NodeContext, NodeSource

NETDEV_FIELDS = (
    "receive_bytes",
    "receive_packets",
    "receive_errs",
    "receive_drop",
    "receive_fifo",
    "receive_frame",
    "receive_compressed",
    "receive_multicast",
    "transmit_bytes",
    "transmit_packets",
    "transmit_errs",
    "transmit_drop",
    "transmit_fifo",
    "transmit_colls",
    "transmit_carrier",
    "transmit_compressed",
)
"""/proc/net/dev, in order (net/core/net-procfs.c). Its header has Receive and Transmit."""

_HEADER_LINES = 2


class Netdev(NodeSource):
    """Table node_netdev {device}: bytes, packets and errors of each device since it was created."""

    name: ClassVar[str] = "netdev"

    def __init__(self, procfs: Path, excluded: re.Pattern[str] | None = None) -> None:
        self._excluded = excluded
        self._file = KernelFile(procfs / "net" / "dev")
        self._table = Table("node_netdev", NETDEV_FIELDS)
        super().__init__((self._table,), (self._file,))

    def _fill(self) -> None:
        data = self._read(self._file)
        if data is None:
            return
        if self._excluded is not None:
            data = self._kept(data, self._excluded)
        if not self._table.scan_rows(data, "device", skip=_HEADER_LINES) or self._table.malformed:
            self._misread(self._file.path, "two lines of header and a line for each device, such as 'lo: 0 0 ...'")

    @staticmethod
    def _kept(data: bytes, excluded: re.Pattern[str]) -> bytes:
        """Return the lines of devices that are not left out."""
        lines = data.splitlines(keepends=True)
        names = (text(line.partition(b":")[0].strip()) for line in lines)
        return b"".join(line for line, name in zip(lines, names, strict=True) if not excluded.search(name))


def _make(node: NodeContext) -> Netdev:
    """Return the source for a node. Only if operators leave devices out, lines are looked at one by one."""
    excluded = node.exclusions.net_devices
    return Netdev(node.procfs, None if excluded == DEFAULT_EXCLUSIONS.net_devices else excluded)


METRICS = tuple(
    counter(f"node_network_{field}_total", f"Network device statistic {field}.", "netdev", Column("node_netdev", field))
    for field in NETDEV_FIELDS
)

COLLECTOR = Collector(Netdev.name, _make, METRICS, row_labels={"node_netdev": ("device",)})

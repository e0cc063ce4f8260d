"""Bytes in the queues of UDP sockets, from /proc/net/udp and /proc/net/udp6."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import Column, Kind, Metric, Sample
from pymon.sources.errors import SourceError
from pymon.sources.node.socket_table import SOCKET, socket_lines
from pymon.sources.node.source import Collector, NodeSource

UDP_QUEUE_FIELDS = ("tx", "rx")
"""Sums over all sockets, in bytes."""


class UdpQueues(NodeSource):
    """Table node_udp_queues {ip}: a row for v4 and, where the kernel has IPv6, v6."""

    name: ClassVar[str] = "udp_queues"

    def __init__(self, procfs: Path) -> None:
        self._paths = {"v4": procfs / "net" / "udp", "v6": procfs / "net" / "udp6"}
        self._table = Table("node_udp_queues", UDP_QUEUE_FIELDS)
        super().__init__((self._table,))

    def _fill(self) -> None:
        for version, path in self._paths.items():
            sent = received = 0
            try:
                for lines in socket_lines(path):
                    for _, to_send, to_read in SOCKET.findall(lines):
                        sent += int(to_send, 16)
                        received += int(to_read, 16)
            except SourceError as error:
                if error.reason != "enoent":
                    self.problems.append(error)
                continue
            self._table.fill(self._table.add_row((("ip", version),)), (sent, received))


METRICS = (
    Metric(
        "node_udp_queues",
        Kind.GAUGE,
        "Number of allocated memory in the kernel for UDP datagrams in bytes.",
        "udp_queues",
        tuple(Sample((Column("node_udp_queues", queue),), (("queue", queue),)) for queue in UDP_QUEUE_FIELDS),
    ),
)

COLLECTOR = Collector(
    UdpQueues.name,
    lambda node: UdpQueues(node.procfs),
    METRICS,
    row_labels={
        "node_udp_queues": ("ip",),
    },
)

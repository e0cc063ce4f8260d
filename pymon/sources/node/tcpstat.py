"""TCP sockets by state, from /proc/net/tcp and /proc/net/tcp6. Off by default, since it walks all sockets."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import Column, Kind, Metric, Sample
from pymon.sources.errors import SourceError
from pymon.sources.node.socket_table import SOCKET, socket_lines
from pymon.sources.node.source import Collector, NodeSource

_STATES = (
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
)
"""The states from 1 on (include/net/tcp_states.h). A socket that waits to be accepted, 12, is in syn_recv for users."""

_NEW_SYN_RECV = 12

TCPSTAT_FIELDS = (*_STATES, "rx_queued_bytes", "tx_queued_bytes")
"""Numbers of sockets in each state, and sums of the queues of all."""


class Tcpstat(NodeSource):
    """Table node_tcp_states: one row, of IPv4 and IPv6 together."""

    name: ClassVar[str] = "tcpstat"

    def __init__(self, procfs: Path) -> None:
        self._paths = [procfs / "net" / name for name in ("tcp", "tcp6")]
        self._table = Table("node_tcp_states", TCPSTAT_FIELDS)
        super().__init__((self._table,))

    def _fill(self) -> None:
        states: Counter[int] = Counter()
        sent = received = read = 0
        for path in self._paths:
            try:
                for lines in socket_lines(path):
                    for state, to_send, to_read in SOCKET.findall(lines):
                        states[int(state, 16)] += 1
                        sent += int(to_send, 16)
                        received += int(to_read, 16)
                read += 1
            except SourceError as error:
                if error.reason != "enoent":
                    raise
        if read:
            states[_STATES.index("syn_recv") + 1] += states.pop(_NEW_SYN_RECV, 0)
            counts = (states[number] for number, _ in enumerate(_STATES, 1))
            self._table.fill(self._table.add_row(), (*counts, received, sent))


METRICS = (
    Metric(
        "node_tcp_connection_states",
        Kind.GAUGE,
        "Number of connection states.",
        "tcpstat",
        tuple(Sample((Column("node_tcp_states", state),), (("state", state),)) for state in TCPSTAT_FIELDS),
    ),
)

COLLECTOR = Collector(Tcpstat.name, lambda node: Tcpstat(node.procfs), METRICS, default=False)

"""The NFS client, from /proc/net/rpc/nfs (fs/nfs, net/sunrpc/stats.c). The file is there while the client is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import Column, Kind, Metric, Sample, counter
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.nfs_procedures import NFS_V2, NFS_V3, NFS_V4_CLIENT
from pymon.sources.node.rpc_lines import parse_rpc, places_of
from pymon.sources.node.source import Collector, NodeSource

_PLACES = {
    "udp": ("net", 1),
    "tcp": ("net", 2),
    "connections": ("net", 3),
    "rpcs": ("rpc", 0),
    "retransmissions": ("rpc", 1),
    "refreshes": ("rpc", 2),
    **places_of("proc2", "2", NFS_V2),
    **places_of("proc3", "3", NFS_V3),
    **places_of("proc4", "4", NFS_V4_CLIENT),
}
_PROCEDURES = {"2": NFS_V2, "3": NFS_V3, "4": NFS_V4_CLIENT}

NFS_FIELDS = tuple(_PLACES)
"""Counters, and the calls of each procedure by version of the protocol."""


class Nfs(NodeSource):
    """Table node_nfs: one row."""

    name: ClassVar[str] = "nfs"

    def __init__(self, procfs: Path) -> None:
        self._file = KernelFile(procfs / "net" / "rpc" / "nfs")
        self._table = Table("node_nfs", NFS_FIELDS)
        super().__init__((self._table,), (self._file,))

    def _fill(self) -> None:
        data = self._read_text(self._file, optional=True)
        if data is None:
            return
        cells = parse_rpc(data, _PLACES.values())
        if cells.count(None) == len(cells):
            self._misread(self._file.path, "lines such as 'rpc 7 0 7'")
        else:
            self._table.fill(self._table.add_row(), cells)


def _nfs(suffix: str, help: str, key: str) -> Metric:
    return counter(f"node_nfs_{suffix}_total", help, "nfs", Column("node_nfs", key))


METRICS = (
    _nfs("connections", "Total number of NFSd TCP connections.", "connections"),
    Metric(
        "node_nfs_packets_total",
        Kind.COUNTER,
        "Total NFSd network packets (sent+received) by protocol type.",
        "nfs",
        tuple(Sample((Column("node_nfs", name),), (("protocol", name),)) for name in ("udp", "tcp")),
    ),
    Metric(
        "node_nfs_requests_total",
        Kind.COUNTER,
        "Number of NFS procedures invoked.",
        "nfs",
        tuple(
            Sample((Column("node_nfs", f"{version} {name}"),), (("proto", version), ("method", name)))
            for version, names in _PROCEDURES.items()
            for name in names
        ),
    ),
    _nfs("rpc_authentication_refreshes", "Number of RPC authentication refreshes performed.", "refreshes"),
    _nfs("rpc_retransmissions", "Number of RPC transmissions performed.", "retransmissions"),
    _nfs("rpcs", "Total number of RPCs performed.", "rpcs"),
)

COLLECTOR = Collector(Nfs.name, lambda node: Nfs(node.procfs), METRICS)

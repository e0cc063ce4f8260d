"""The NFS client, from /proc/net/rpc/nfs (fs/nfs, net/sunrpc/stats.c). The file is there while the client is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon.catalogue.model import Column, Kind, Metric, Sample, counter
from pymon.sources.node.nfs_procedures import NFS_V2, NFS_V3, NFS_V4_CLIENT
from pymon.sources.node.rpc_lines import RpcSource, calls, places_of
from pymon.sources.node.source import Collector

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
"""Counters, and the calls of each procedure by version of the protocol."""

_PROCEDURES = {"2": NFS_V2, "3": NFS_V3, "4": NFS_V4_CLIENT}


class Nfs(RpcSource):
    """Table node_nfs: one row of the numbers that `_PLACES` names."""

    name: ClassVar[str] = "nfs"

    def __init__(self, procfs: Path) -> None:
        super().__init__(procfs / "net" / "rpc" / "nfs", "node_nfs", _PLACES, "rpc 7 0 7")


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
        tuple(calls("node_nfs", _PROCEDURES.items())),
    ),
    _nfs("rpc_authentication_refreshes", "Number of RPC authentication refreshes performed.", "refreshes"),
    _nfs("rpc_retransmissions", "Number of RPC transmissions performed.", "retransmissions"),
    _nfs("rpcs", "Total number of RPCs performed.", "rpcs"),
)

COLLECTOR = Collector(Nfs.name, lambda node: Nfs(node.procfs), METRICS)

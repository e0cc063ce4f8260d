"""The NFS server, from /proc/net/rpc/nfsd (fs/nfsd/stats.c). The file is there while the server is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon.catalogue.model import Column, Kind, Metric, Sample, counter, gauge
from pymon.sources.node.nfs_procedures import NFS_V2, NFS_V3, NFS_V4_SERVER
from pymon.sources.node.rpc_lines import RpcSource, calls, places_of
from pymon.sources.node.source import Collector

_PLACES = {
    "hits": ("rc", 0),
    "misses": ("rc", 1),
    "nocache": ("rc", 2),
    "stale": ("fh", 0),
    "read": ("io", 0),
    "written": ("io", 1),
    "threads": ("th", 0),
    "cache_size": ("ra", 0),
    "not_found": ("ra", 11),
    "udp": ("net", 1),
    "tcp": ("net", 2),
    "connections": ("net", 3),
    "rpcs": ("rpc", 0),
    "fmt": ("rpc", 2),
    "auth": ("rpc", 3),
    "cInt": ("rpc", 4),
    "4 WdelegGetattr": ("wdeleg_getattr", 0),
    **places_of("proc2", "2", NFS_V2),
    **places_of("proc3", "3", NFS_V3),
    **places_of("proc4ops", "4", NFS_V4_SERVER, 3),
}
"""Counters, and the calls of each procedure by version of the protocol."""

_PROCEDURES = {"2": NFS_V2, "3": NFS_V3, "4": NFS_V4_SERVER}


class Nfsd(RpcSource):
    """Table node_nfsd: one row of the numbers that `_PLACES` names."""

    name: ClassVar[str] = "nfsd"

    def __init__(self, procfs: Path) -> None:
        super().__init__(procfs / "net" / "rpc" / "nfsd", "node_nfsd", _PLACES, "rc 0 6 18622")


def _nfsd(suffix: str, help: str, key: str) -> Metric:
    return counter(f"node_nfsd_{suffix}_total", help, "nfsd", Column("node_nfsd", key))


METRICS = (
    _nfsd("connections", "Total number of NFSd TCP connections.", "connections"),
    _nfsd("disk_bytes_read", "Total NFSd bytes read.", "read"),
    _nfsd("disk_bytes_written", "Total NFSd bytes written.", "written"),
    _nfsd("file_handles_stale", "Total number of NFSd stale file handles", "stale"),
    Metric(
        "node_nfsd_packets_total",
        Kind.COUNTER,
        "Total NFSd network packets (sent+received) by protocol type.",
        "nfsd",
        tuple(Sample((Column("node_nfsd", name),), (("proto", name),)) for name in ("udp", "tcp")),
    ),
    _nfsd("read_ahead_cache_not_found", "Total number of NFSd read ahead cache not found.", "not_found"),
    gauge(
        "node_nfsd_read_ahead_cache_size_blocks",
        "How large the read ahead cache is in blocks.",
        "nfsd",
        Column("node_nfsd", "cache_size"),
    ),
    _nfsd("reply_cache_hits", "Total number of NFSd Reply Cache hits (client lost server response).", "hits"),
    _nfsd(
        "reply_cache_misses",
        "Total number of NFSd Reply Cache an operation that requires caching (idempotent).",
        "misses",
    ),
    _nfsd(
        "reply_cache_nocache",
        "Total number of NFSd Reply Cache non-idempotent operations (rename/delete/…).",
        "nocache",
    ),
    Metric(
        "node_nfsd_requests_total",
        Kind.COUNTER,
        "Total number NFSd Requests by method and protocol.",
        "nfsd",
        tuple(calls("node_nfsd", (*_PROCEDURES.items(), ("4", ("WdelegGetattr",))))),
    ),
    Metric(
        "node_nfsd_rpc_errors_total",
        Kind.COUNTER,
        "Total number of NFSd RPC errors by error type.",
        "nfsd",
        tuple(Sample((Column("node_nfsd", name),), (("error", name),)) for name in ("auth", "cInt", "fmt")),
    ),
    _nfsd("server_rpcs", "Total number of NFSd RPCs.", "rpcs"),
    gauge(
        "node_nfsd_server_threads",
        "Total number of NFSd kernel threads that are running.",
        "nfsd",
        Column("node_nfsd", "threads"),
    ),
)

COLLECTOR = Collector(Nfsd.name, lambda node: Nfsd(node.procfs), METRICS)

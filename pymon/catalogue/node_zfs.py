"""Metrics of the node's ZFS: node_exporter's names on Linux, and on Solaris where the cache has names of its own."""

from __future__ import annotations

from pymon.catalogue.model import ONE, SIGNED, Column, Kind, Metric, Sample, unknown
from pymon.catalogue.node_fields import ZFS_DATASET_FIELDS, ZFS_FIELDS, ZFS_POOL_IO_FIELDS, ZFS_POOL_STATES

_ZFS_SUBSYSTEMS = {
    "abdstats": "abd",
    "arcstats": "arc",
    "dbufstats": "dbuf",
    "dmu_tx": "dmu_tx",
    "dnodestats": "dnode",
    "fm": "fm",
    "vdev_cache_stats": "vdev_cache",
    "vdev_mirror_stats": "vdev_mirror",
    "xuio_stats": "xuio",
    "zfetchstats": "zfetch",
    "zil": "zil",
}
_ZFS_SIGNED = frozenset({"memory_available_bytes"})


def _zfs(subsystem: str, file: str, table: str, field: str) -> Metric:
    """Names and helps follow the sysctl that FreeBSD has for the field; no unit is applied, as in node_exporter."""
    return unknown(
        f"node_zfs_{subsystem}_{field.replace('-', '_')}",
        f"kstat.zfs.misc.{file}.{field}",
        "zfs",
        Column(table, field, SIGNED if field in _ZFS_SIGNED else ONE),
    )


_ZFS = (
    *(
        _zfs(_ZFS_SUBSYSTEMS[file], file, f"node_zfs_{file}", field)
        for file, fields in ZFS_FIELDS.items()
        for field in fields
    ),
    *(_zfs("zpool", "io", "node_zfs_pool", field) for field in ZFS_POOL_IO_FIELDS),
    *(_zfs("zpool_dataset", "objset", "node_zfs_dataset", field) for field in ZFS_DATASET_FIELDS),
    Metric(
        "node_zfs_zpool_state",
        Kind.GAUGE,
        "kstat.zfs.misc.state",
        "zfs",
        tuple(Sample((Column("node_zfs_pool_state", state),), (("state", state),)) for state in ZFS_POOL_STATES),
    ),
)


def _arc(suffix: str, kind: Kind, help: str, field: str) -> Metric:
    """As node_exporter names it on Solaris and FreeBSD."""
    return Metric(
        f"node_zfs_arcstats_{suffix}", kind, f"ZFS ARC {help}", "zfs", (Sample((Column("kstat.arcstats", field),)),)
    )


_ARCSTATS = (
    _arc("anon_bytes", Kind.GAUGE, "anon size", "anon_size"),
    _arc("c_bytes", Kind.GAUGE, "target size", "c"),
    _arc("c_max_bytes", Kind.GAUGE, "maximum size", "c_max"),
    _arc("c_min_bytes", Kind.GAUGE, "minimum size", "c_min"),
    _arc("data_bytes", Kind.GAUGE, "data size", "data_size"),
    _arc("demand_data_hits_total", Kind.COUNTER, "demand data hits", "demand_data_hits"),
    _arc("demand_data_misses_total", Kind.COUNTER, "demand data misses", "demand_data_misses"),
    _arc("demand_metadata_hits_total", Kind.COUNTER, "demand metadata hits", "demand_metadata_hits"),
    _arc("demand_metadata_misses_total", Kind.COUNTER, "demand metadata misses", "demand_metadata_misses"),
    _arc("hdr_bytes", Kind.GAUGE, "header size", "hdr_size"),
    _arc("hits_total", Kind.COUNTER, "hits", "hits"),
    _arc("mfu_bytes", Kind.GAUGE, "MFU size", "mfu_size"),
    _arc("mfu_ghost_hits_total", Kind.COUNTER, "MFU ghost hits", "mfu_ghost_hits"),
    _arc("mfu_ghost_size", Kind.GAUGE, "MFU ghost size", "mfu_ghost_size"),
    _arc("misses_total", Kind.COUNTER, "misses", "misses"),
    _arc("mru_bytes", Kind.GAUGE, "MRU size", "mru_size"),
    _arc("mru_ghost_bytes", Kind.GAUGE, "MRU ghost size", "mru_ghost_size"),
    _arc("mru_ghost_hits_total", Kind.COUNTER, "MRU ghost hits", "mru_ghost_hits"),
    _arc("other_bytes", Kind.GAUGE, "other size", "other_size"),
    _arc("p_bytes", Kind.GAUGE, "MRU target size", "p"),
    _arc("size_bytes", Kind.GAUGE, "size", "size"),
)

METRICS: tuple[Metric, ...] = (*_ZFS, *_ARCSTATS)
"""OpenZFS on Linux, then the cache on illumos."""

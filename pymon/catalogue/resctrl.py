"""Cache and memory bandwidth of containers that have a group in resctrl, of the collector container_resctrl."""

from __future__ import annotations

from pymon.catalogue.model import Column, Kind, Metric, Sample

COLLECTOR = "container_resctrl"

TABLE = "resctrl"

NODES = 16
"""Caches of the last level that are told of: of one node, one each."""

FIELDS = {
    "llc_occupancy": (
        "container_llc_occupancy_bytes",
        "Last level cache usage statistics for container counted with RDT Memory Bandwidth Monitoring (MBM).",
    ),
    "mbm_total_bytes": (
        "container_memory_bandwidth_bytes",
        "Total memory bandwidth usage statistics for container counted with RDT Memory Bandwidth Monitoring (MBM).",
    ),
    "mbm_local_bytes": (
        "container_memory_bandwidth_local_bytes",
        "Local memory bandwidth usage statistics for container counted with RDT Memory Bandwidth Monitoring (MBM).",
    ),
}
"""Name and help of the metric of each file of mon_data."""

COLUMNS = tuple(f"{field}:{node}" for field in FIELDS for node in range(NODES))
"""A column for each file of each cache, in bytes."""

METRICS = tuple(
    Metric(
        name,
        Kind.GAUGE,
        help,
        COLLECTOR,
        tuple(Sample((Column(TABLE, f"{field}:{node}"),), labels=(("node_id", str(node)),)) for node in range(NODES)),
    )
    for field, (name, help) in FIELDS.items()
)

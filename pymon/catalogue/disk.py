"""Use of the writable layers of containers, which the collector container_disk measures in the background."""

from __future__ import annotations

from pymon.catalogue.model import Column, gauge

COLLECTOR = "container_disk"

TABLE = "disk"

COLUMNS = ("used", "limit", "inodes", "inodes_free")
"""In bytes, and numbers."""

LABELS = ("device",)

METRICS = (
    gauge(
        "container_fs_inodes_free",
        "Inodes that are left to the container, or to all on its file system where it has no quota.",
        COLLECTOR,
        Column(TABLE, "inodes_free"),
    ),
    gauge(
        "container_fs_inodes_total",
        "Inodes that the container may have, or that its file system has where it has no quota.",
        COLLECTOR,
        Column(TABLE, "inodes"),
    ),
    gauge(
        "container_fs_limit_bytes",
        "Bytes that the container may use, or that its file system has where it has no quota.",
        COLLECTOR,
        Column(TABLE, "limit"),
    ),
    gauge(
        "container_fs_usage_bytes",
        "Bytes that the files in the container's writable layer take.",
        COLLECTOR,
        Column(TABLE, "used"),
    ),
)

"""Statistics of XFS file systems, from /sys/fs/xfs/DEVICE/stats/stats (fs/xfs/xfs_stats.c).

Each line has a name and counters of 32 bits:
    extent_alloc 1 872 0 0
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import Column, counter
from pymon.sources.node.attributes import AttributeSource
from pymon.sources.node.kernel_text import text, unsigned
from pymon.sources.node.source import Collector

_COUNTERS = {
    "allocation_btree_compares_total": (
        "abt",
        1,
        "Number of allocation B-tree compares for a filesystem.",
    ),
    "allocation_btree_lookups_total": (
        "abt",
        0,
        "Number of allocation B-tree lookups for a filesystem.",
    ),
    "allocation_btree_records_deleted_total": (
        "abt",
        3,
        "Number of allocation B-tree records deleted for a filesystem.",
    ),
    "allocation_btree_records_inserted_total": (
        "abt",
        2,
        "Number of allocation B-tree records inserted for a filesystem.",
    ),
    "block_map_btree_compares_total": (
        "bmbt",
        1,
        "Number of block map B-tree compares for a filesystem.",
    ),
    "block_map_btree_lookups_total": (
        "bmbt",
        0,
        "Number of block map B-tree lookups for a filesystem.",
    ),
    "block_map_btree_records_deleted_total": (
        "bmbt",
        3,
        "Number of block map B-tree records deleted for a filesystem.",
    ),
    "block_map_btree_records_inserted_total": (
        "bmbt",
        2,
        "Number of block map B-tree records inserted for a filesystem.",
    ),
    "block_mapping_extent_list_compares_total": (
        "blk_map",
        6,
        "Number of extent list compares for a filesystem.",
    ),
    "block_mapping_extent_list_deletions_total": (
        "blk_map",
        4,
        "Number of extent list deletions for a filesystem.",
    ),
    "block_mapping_extent_list_insertions_total": (
        "blk_map",
        3,
        "Number of extent list insertions for a filesystem.",
    ),
    "block_mapping_extent_list_lookups_total": (
        "blk_map",
        5,
        "Number of extent list lookups for a filesystem.",
    ),
    "block_mapping_reads_total": (
        "blk_map",
        0,
        "Number of block map for read operations for a filesystem.",
    ),
    "block_mapping_unmaps_total": (
        "blk_map",
        2,
        "Number of block unmaps (deletes) for a filesystem.",
    ),
    "block_mapping_writes_total": (
        "blk_map",
        1,
        "Number of block map for write operations for a filesystem.",
    ),
    "directory_operation_create_total": (
        "dir",
        1,
        "Number of times a new directory entry was created for a filesystem.",
    ),
    "directory_operation_getdents_total": (
        "dir",
        3,
        "Number of times the directory getdents operation was performed for a filesystem.",
    ),
    "directory_operation_lookup_total": (
        "dir",
        0,
        ("Number of file name directory lookups which miss the operating systems directory name lookup cache."),
    ),
    "directory_operation_remove_total": (
        "dir",
        2,
        "Number of times an existing directory entry was created for a filesystem.",
    ),
    "extent_allocation_blocks_allocated_total": (
        "extent_alloc",
        1,
        "Number of blocks allocated for a filesystem.",
    ),
    "extent_allocation_blocks_freed_total": (
        "extent_alloc",
        3,
        "Number of blocks freed for a filesystem.",
    ),
    "extent_allocation_extents_allocated_total": (
        "extent_alloc",
        0,
        "Number of extents allocated for a filesystem.",
    ),
    "extent_allocation_extents_freed_total": (
        "extent_alloc",
        2,
        "Number of extents freed for a filesystem.",
    ),
    "inode_operation_attempts_total": (
        "ig",
        0,
        "Number of times the OS looked for an XFS inode in the inode cache.",
    ),
    "inode_operation_attribute_changes_total": (
        "ig",
        6,
        "Number of times the OS explicitly changed the attributes of an XFS inode.",
    ),
    "inode_operation_duplicates_total": (
        "ig",
        4,
        (
            "Number of times the OS tried to add a missing XFS inode to the inode cache, but found it had"
            " already been added by another process."
        ),
    ),
    "inode_operation_found_total": (
        "ig",
        1,
        "Number of times the OS looked for and found an XFS inode in the inode cache.",
    ),
    "inode_operation_missed_total": (
        "ig",
        3,
        "Number of times the OS looked for an XFS inode in the cache, but did not find it.",
    ),
    "inode_operation_reclaims_total": (
        "ig",
        5,
        ("Number of times the OS reclaimed an XFS inode from the inode cache to free memory for another purpose."),
    ),
    "inode_operation_recycled_total": (
        "ig",
        2,
        ("Number of times the OS found an XFS inode in the cache, but could not use it as it was being recycled."),
    ),
    "read_calls_total": (
        "rw",
        1,
        "Number of read(2) system calls made to files in a filesystem.",
    ),
    "vnode_active_total": (
        "vnodes",
        0,
        "Number of vnodes not on free lists for a filesystem.",
    ),
    "vnode_allocate_total": (
        "vnodes",
        1,
        "Number of times vn_alloc called for a filesystem.",
    ),
    "vnode_get_total": (
        "vnodes",
        2,
        "Number of times vn_get called for a filesystem.",
    ),
    "vnode_hold_total": (
        "vnodes",
        3,
        "Number of times vn_hold called for a filesystem.",
    ),
    "vnode_reclaim_total": (
        "vnodes",
        5,
        "Number of times vn_reclaim called for a filesystem.",
    ),
    "vnode_release_total": (
        "vnodes",
        4,
        "Number of times vn_rele called for a filesystem.",
    ),
    "vnode_remove_total": (
        "vnodes",
        6,
        "Number of times vn_remove called for a filesystem.",
    ),
    "write_calls_total": (
        "rw",
        0,
        "Number of write(2) system calls made to files in a filesystem.",
    ),
}
"""Line, place in it, and help of each metric."""

XFS_FIELDS = tuple(_COUNTERS)


def parse_xfs(data: bytes) -> dict[str, list[int | None]]:
    """Return the numbers of each line by its name."""
    lines = (line.split() for line in data.split(b"\n"))
    return {text(words[0]): [unsigned(word) for word in words[1:]] for words in lines if words}


class Xfs(AttributeSource):
    """Table node_xfs {device}: a row for each mounted file system."""

    name: ClassVar[str] = "xfs"

    def __init__(self, sysfs: Path) -> None:
        self._directory = sysfs / "fs" / "xfs"
        self._table = Table("node_xfs", XFS_FIELDS)
        super().__init__((self._table,))

    def _fill(self) -> None:
        for device in self._entries(self._directory):
            path = self._directory / device / "stats" / "stats"
            data = self._attribute(path)
            if data is None:
                continue
            lines = parse_xfs(data)
            numbers = [lines.get(line, [])[at : at + 1] for line, at, _ in _COUNTERS.values()]
            if any(numbers):
                cells = [number[0] if number else None for number in numbers]
                self._table.fill(self._table.add_row((("device", device),)), cells)
            else:
                self._misread(path, "lines such as 'extent_alloc 1 872 0 0'")


METRICS = tuple(
    counter(f"node_xfs_{name}", help, "xfs", Column("node_xfs", name)) for name, (_, _, help) in _COUNTERS.items()
)

COLLECTOR = Collector(
    Xfs.name,
    lambda node: Xfs(node.sysfs),
    METRICS,
    row_labels={
        "node_xfs": ("device",),
    },
)

"""The cmon dialect's metrics of the ZFS adaptive replacement cache."""

from __future__ import annotations

from pymon.catalogue.model import Column, Kind, Metric, Sample
from pymon.catalogue.node_fields import ZFS_FIELDS

_GAUGES = (
    ("anon_evictable_data", "anon_evictable_data_bytes", "Evictable data of buffers that have no identity yet."),
    ("anon_evictable_metadata", "anon_evictable_metadata_bytes", "Evictable metadata of such buffers."),
    ("anon_size", "anon_size_bytes", "Buffers that have no identity yet: dirty, or being written."),
    ("arc_meta_limit", "arc_meta_limit_bytes", "Most metadata that the cache may hold."),
    ("arc_meta_max", "arc_meta_max_bytes", "Most metadata that the cache has held."),
    ("arc_meta_min", "arc_meta_min_bytes", "Metadata below which none is evicted."),
    ("arc_meta_used", "arc_meta_used_bytes", "Metadata in the cache."),
    ("c", "target_cache_size_bytes", "Size that the cache aims at."),
    ("c_max", "max_target_cache_size_bytes", "Largest size that it may aim at."),
    ("c_min", "min_target_cache_size_bytes", "Smallest size that it may aim at."),
    ("compressed_size", "compressed_size_bytes", "Buffers as they are on disk, compressed."),
    ("data_size", "data_size_bytes", "Buffers that hold data of files."),
    ("hash_chain_max", "hash_chain_max", "Length of the longest chain of the hash table so far."),
    ("hash_chains", "hash_chains", "Chains of the hash table with more than one element."),
    ("hash_elements", "hash_elements", "Elements of the hash table."),
    ("hash_elements_max", "hash_elements_max", "Most elements that it has had."),
    ("hdr_size", "hdr_size_bytes", "Headers of the cache's own."),
    ("l2_asize", "l2_asize_bytes", "Space used on the second level devices."),
    ("l2_hdr_size", "l2_hdr_bytes", "Headers in memory of what is on the second level."),
    ("l2_size", "l2_size_bytes", "Content of the second level before compression."),
    ("metadata_size", "metadata_size_bytes", "Buffers that hold metadata."),
    ("mfu_evictable_data", "mfu_evictable_data_bytes", "Evictable data in the list of the frequently used."),
    ("mfu_evictable_metadata", "mfu_evictable_metadata_bytes", "Evictable metadata in that list."),
    (
        "mfu_ghost_evictable_data",
        "mfu_ghost_evictable_data",
        "Data that was evicted from the list of the frequently used and is remembered, in bytes.",
    ),
    ("mfu_ghost_evictable_metadata", "mfu_ghost_evictable_metadata_bytes", "Metadata that was evicted from it."),
    ("mfu_ghost_size", "mfu_ghost_size_bytes", "All that was evicted from it and is remembered."),
    ("mfu_size", "mfu_size_bytes", "Buffers in the list of the frequently used."),
    ("mru_evictable_data", "mru_evictable_data_bytes", "Evictable data in the list of the recently used."),
    ("mru_evictable_metadata", "mru_evictable_metadata_bytes", "Evictable metadata in that list."),
    (
        "mru_ghost_evictable_data",
        "mru_ghost_evictable_data_bytes",
        "Data that was evicted from the list of the recently used and is remembered.",
    ),
    ("mru_ghost_evictable_metadata", "mru_ghost_evictable_metadata_bytes", "Metadata that was evicted from it."),
    ("mru_ghost_size", "mru_ghost_size_bytes", "All that was evicted from it and is remembered."),
    ("mru_size", "mru_size_bytes", "Buffers in the list of the recently used."),
    ("other_size", "other_size_bytes", "Memory of the cache that holds neither data nor metadata of pools."),
    ("overhead_size", "overhead_size_bytes", "Uncompressed copies that consumers hold of buffers."),
    ("p", "p_bytes", "Size that the list of the recently used aims at."),
    ("size", "size_bytes", "Size of the cache."),
    ("uncompressed_size", "uncompressed_size_bytes", "Buffers as they would be uncompressed."),
)
"""Statistic, end of the metric's name, help."""

_COUNTERS = (
    ("async_upgrade_sync", "async_upgrade_sync_total", "Reads ahead that a synchronous read made urgent."),
    ("demand_data_hits", "demand_data_hits_total", "Hits of data that was asked for."),
    ("demand_data_misses", "demand_data_misses_total", "Misses of data that was asked for."),
    (
        "demand_hit_predictive_prefetch",
        "demand_hit_predictive_prefetch_total",
        "Hits of what was read ahead by prediction.",
    ),
    ("demand_metadata_hits", "demand_metadata_hits_total", "Hits of metadata that was asked for."),
    ("demand_metadata_misses", "demand_metadata_misses_total", "Misses of metadata that was asked for."),
    ("evict_l2_cached", "evict_l2_cached_bytes_total", "Bytes evicted that the second level holds."),
    ("evict_l2_eligible", "evict_l2_eligible_bytes_total", "Bytes evicted that the second level could have held."),
    ("evict_l2_ineligible", "evict_l2_ineligible_bytes_total", "Bytes evicted that the second level may not hold."),
    ("evict_l2_skip", "evict_l2_skip_total", "Evictions put off because the second level was writing the buffer."),
    ("evict_not_enough", "evict_not_enough_total", "Evictions that did not reach their goal."),
    ("evict_skip", "evict_skip_total", "Buffers passed over by evictions."),
    ("hash_collisions", "hash_collisions_total", "Collisions in the hash table."),
    ("hits", "hits_total", "Hits."),
    ("l2_abort_lowmem", "l2_abort_lowmem_total", "Feeds of the second level given up for want of memory."),
    ("l2_cksum_bad", "l2_cksum_bad_total", "Reads from the second level with a bad checksum."),
    ("l2_evict_l1cached", "l2_evict_l1cached_total", "Evictions from the second level of what memory holds too."),
    ("l2_evict_lock_retry", "l2_evict_lock_retry_total", "Evictions from the second level that met a held lock."),
    ("l2_evict_reading", "l2_evict_reading_total", "Evictions from the second level of what was being read."),
    ("l2_feeds", "l2_feeds_total", "Feeds of the second level."),
    ("l2_free_on_write", "l2_free_on_write_total", "Buffers freed while the second level was writing them."),
    ("l2_hits", "l2_hits_total", "Hits in the second level."),
    ("l2_io_error", "l2_io_error_total", "Reads from the second level that failed."),
    ("l2_misses", "l2_misses_total", "Misses in the second level."),
    ("l2_read_bytes", "l2_read_bytes", "Bytes read from the second level."),
    ("l2_rw_clash", "l2_rw_clash_total", "Reads from the second level that a write spoilt."),
    ("l2_write_bytes", "l2_write_bytes", "Bytes written to the second level."),
    ("l2_writes_done", "l2_writes_done_total", "Writes to the second level that are done."),
    ("l2_writes_error", "l2_writes_error_total", "Writes to the second level that failed."),
    ("l2_writes_lock_retry", "l2_writes_lock_retry_total", "Writes to the second level that met a held lock."),
    ("l2_writes_sent", "l2_writes_sent_total", "Writes to the second level that were issued."),
    ("memory_throttle_count", "memory_throttle_count", "Times that the cache held back writes for want of memory."),
    ("mfu_ghost_hits", "mfu_ghost_hits_total", "Misses of what was evicted from the list of the frequently used."),
    ("mfu_hits", "mfu_hits_total", "Hits in the list of the frequently used."),
    ("misses", "misses_total", "Misses."),
    ("mru_ghost_hits", "mru_ghost_hits_total", "Misses of what was evicted from the list of the recently used."),
    ("mru_hits", "mru_hits_total", "Hits in the list of the recently used."),
    ("mutex_miss", "mutex_miss_total", "Buffers not evicted because of a held lock."),
    ("prefetch_data_hits", "prefetch_data_hits_total", "Hits of data read ahead."),
    ("prefetch_data_misses", "prefetch_data_misses_total", "Misses of data read ahead."),
    ("prefetch_metadata_hits", "prefetch_metadata_hits_total", "Hits of metadata read ahead."),
    ("prefetch_metadata_misses", "prefetch_metadata_misses_total", "Misses of metadata read ahead."),
    (
        "sync_wait_for_async",
        "sync_wait_for_async_total",
        "Synchronous reads that waited for one that was under way.",
    ),
)


def arcstats(statistic: str, suffix: str, kind: Kind, help: str) -> Metric:
    """The metric of a statistic: from kstat, and from OpenZFS on Linux where that has it."""
    columns = [Column("kstat.arcstats", statistic)]
    if statistic in ZFS_FIELDS["arcstats"]:
        columns.append(Column("node_zfs_arcstats", statistic))
    return Metric(f"arcstats_{suffix}", kind, help, "arcstats", (Sample(tuple(columns)),))


METRICS: tuple[Metric, ...] = tuple(
    arcstats(statistic, suffix, kind, f"ZFS cache: {help}")
    for kind, rows in ((Kind.GAUGE, _GAUGES), (Kind.COUNTER, _COUNTERS))
    for statistic, suffix, help in rows
)
"""Gauges, then counters."""

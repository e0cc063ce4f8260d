"""Metrics of the ZFS adaptive replacement cache (ARC) in the cmon dialect."""

from __future__ import annotations

from pymon.catalogue.model import Column, Kind, Metric, Sample
from pymon.catalogue.zfs_fields import ZFS_FIELDS

_GAUGES: dict[str, dict[str, str]] = {
    "_bytes": {
        "anon_evictable_data": "Evictable data of anonymous buffers, which are dirty or being written.",
        "anon_evictable_metadata": "Evictable metadata of anonymous buffers, which are dirty or being written.",
        "anon_size": "Size of anonymous buffers, which are dirty or being written.",
        "arc_meta_limit": "Limit of metadata in the cache.",
        "arc_meta_max": "Maximum of metadata in the cache so far.",
        "arc_meta_min": "Size of metadata below which none is evicted.",
        "arc_meta_used": "Size of metadata in the cache.",
        "c": "Target size of the cache.",
        "c_max": "Maximum target size of the cache.",
        "c_min": "Minimum target size of the cache.",
        "compressed_size": "Compressed size of buffers, as on disk.",
        "data_size": "Size of buffers with file data.",
        "hdr_size": "Size of the headers of buffers.",
        "l2_asize": "Space used on the second level (L2ARC) devices.",
        "l2_hdr_size": "Size of the headers in memory of buffers on the second level.",
        "l2_size": "Size of the content of the second level before compression.",
        "metadata_size": "Size of buffers with metadata.",
        "mfu_evictable_data": "Evictable data in the list of frequently used buffers.",
        "mfu_evictable_metadata": "Evictable metadata in the list of frequently used buffers.",
        "mfu_ghost_evictable_metadata": "Metadata evicted from the list of frequently used buffers and remembered.",
        "mfu_ghost_size": "Size of all buffers evicted from the list of frequently used buffers and remembered.",
        "mfu_size": "Size of the list of frequently used buffers.",
        "mru_evictable_data": "Evictable data in the list of recently used buffers.",
        "mru_evictable_metadata": "Evictable metadata in the list of recently used buffers.",
        "mru_ghost_evictable_data": "Data evicted from the list of recently used buffers and remembered.",
        "mru_ghost_evictable_metadata": "Metadata evicted from the list of recently used buffers and remembered.",
        "mru_ghost_size": "Size of all buffers evicted from the list of recently used buffers and remembered.",
        "mru_size": "Size of the list of recently used buffers.",
        "other_size": "Memory of the cache that contains neither data nor metadata of pools.",
        "overhead_size": "Size of uncompressed copies of buffers in use.",
        "p": "Target size of the list of recently used buffers.",
        "size": "Size of the cache.",
        "uncompressed_size": "Uncompressed size of buffers.",
    },
    "": {
        "hash_chain_max": "Length of the longest chain of the hash table so far.",
        "hash_chains": "Chains of the hash table with more than one element.",
        "hash_elements": "Elements of the hash table.",
        "hash_elements_max": "Maximum number of elements of the hash table so far.",
        "mfu_ghost_evictable_data": "Data evicted from the list of frequently used buffers and remembered, in bytes.",
    },
}
"""Help of each statistic, by what follows its name in the name of the metric."""

_COUNTERS: dict[str, dict[str, str]] = {
    "_total": {
        "async_upgrade_sync": "Prefetch reads that became synchronous because a demand read waited for them.",
        "demand_data_hits": "Hits of demand reads of data.",
        "demand_data_misses": "Misses of demand reads of data.",
        "demand_hit_predictive_prefetch": "Hits of demand reads in predictively prefetched buffers.",
        "demand_metadata_hits": "Hits of demand reads of metadata.",
        "demand_metadata_misses": "Misses of demand reads of metadata.",
        "evict_l2_skip": "Evictions skipped because the buffer was being written to the second level.",
        "evict_not_enough": "Evictions that freed less than requested.",
        "evict_skip": "Buffers skipped by evictions.",
        "hash_collisions": "Collisions in the hash table.",
        "hits": "Cache hits.",
        "l2_abort_lowmem": "Writes to the second level aborted because of low memory.",
        "l2_cksum_bad": "Reads from the second level with a bad checksum.",
        "l2_evict_l1cached": "Evictions from the second level of buffers that are in memory as well.",
        "l2_evict_lock_retry": "Evictions from the second level retried because of a held lock.",
        "l2_evict_reading": "Evictions from the second level of buffers that were being read.",
        "l2_feeds": "Runs of the thread that writes to the second level.",
        "l2_free_on_write": "Buffers freed while they were being written to the second level.",
        "l2_hits": "Hits in the second level.",
        "l2_io_error": "Reads from the second level that failed.",
        "l2_misses": "Misses in the second level.",
        "l2_rw_clash": "Reads from the second level that were overwritten meanwhile.",
        "l2_writes_done": "Completed writes to the second level.",
        "l2_writes_error": "Writes to the second level that failed.",
        "l2_writes_lock_retry": "Writes to the second level retried because of a held lock.",
        "l2_writes_sent": "Writes to the second level issued.",
        "mfu_ghost_hits": "Misses of buffers that were evicted from the list of frequently used buffers.",
        "mfu_hits": "Hits in the list of frequently used buffers.",
        "misses": "Cache misses.",
        "mru_ghost_hits": "Misses of buffers that were evicted from the list of recently used buffers.",
        "mru_hits": "Hits in the list of recently used buffers.",
        "mutex_miss": "Buffers not evicted because of a held lock.",
        "prefetch_data_hits": "Hits of prefetch reads of data.",
        "prefetch_data_misses": "Misses of prefetch reads of data.",
        "prefetch_metadata_hits": "Hits of prefetch reads of metadata.",
        "prefetch_metadata_misses": "Misses of prefetch reads of metadata.",
        "sync_wait_for_async": "Synchronous reads that waited for an asynchronous read of the same buffer.",
    },
    "_bytes_total": {
        "evict_l2_cached": "Bytes evicted that are on the second level.",
        "evict_l2_eligible": "Bytes evicted that were eligible for the second level.",
        "evict_l2_ineligible": "Bytes evicted that were not eligible for the second level.",
    },
    "": {
        "l2_read_bytes": "Bytes read from the second level.",
        "l2_write_bytes": "Bytes written to the second level.",
        "memory_throttle_count": "Times that the cache throttled writes because of low memory.",
    },
}

_NAMES = {
    "c": "target_cache_size",
    "c_max": "max_target_cache_size",
    "c_min": "min_target_cache_size",
    "l2_hdr_size": "l2_hdr",
}
"""Statistics whose metric has another name than theirs."""


def _metric(statistic: str, suffix: str, kind: Kind, help: str) -> Metric:
    """Return the metric of a statistic, from kstat or, if OpenZFS on Linux has it, from there."""
    columns = [Column("kstat.arcstats", statistic)]
    if statistic in ZFS_FIELDS["arcstats"]:
        columns.append(Column("node_zfs_arcstats", statistic))
    return Metric(f"arcstats_{suffix}", kind, help, "arcstats", (Sample(tuple(columns)),))


def _of_kind(kind: Kind, helps: dict[str, dict[str, str]]) -> list[Metric]:
    """Return the metrics of one kind, sorted by the name of the statistic."""
    rows = sorted((statistic, ending, help) for ending, by_name in helps.items() for statistic, help in by_name.items())
    return [
        _metric(statistic, _NAMES.get(statistic, statistic) + ending, kind, f"ZFS cache: {help}")
        for statistic, ending, help in rows
    ]


METRICS: tuple[Metric, ...] = (*_of_kind(Kind.GAUGE, _GAUGES), *_of_kind(Kind.COUNTER, _COUNTERS))
"""All metrics of the cache, gauges first."""

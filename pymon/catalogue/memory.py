"""cAdvisor's metrics of memory, and others that the kernel has: use, page cache, faults, reclaim, NUMA nodes."""

from __future__ import annotations

from pymon.catalogue.model import Column, Kind, Metric, Sample, counter, gauge

_FAULTS = tuple(
    Sample(
        (Column("memory.v2", f"memory.stat:{fault}"), Column("memory.v1", f"memory.stat:{prefix}{fault}")),
        labels=(("failure_type", fault), ("scope", scope)),
    )
    for fault in ("pgfault", "pgmajfault")
    for scope, prefix in (("container", ""), ("hierarchy", "total_"))
)


def memory_columns(v2: str, v1: str | None, kstat: str | None = None) -> tuple[Column, ...]:
    """Return the columns of a number: of version 2, and where there are such, of version 1 and of a zone's cap."""
    columns = [Column("memory.v2", v2)]
    if v1:
        columns.append(Column("memory.v1", v1))
    if kstat:
        columns.append(Column("kstat.memcap", kstat))
    return tuple(columns)


MEMORY: tuple[Metric, ...] = (
    gauge(
        "container_memory_cache",
        "Page cache memory, in bytes.",
        "container_memory",
        *memory_columns("memory.stat:file", "memory.stat:total_cache"),
    ),
    gauge(
        "container_memory_rss",
        "Anonymous and swap cache memory, in bytes.",
        "container_memory",
        *memory_columns("memory.stat:anon", "memory.stat:total_rss", "rss"),
    ),
    gauge(
        "container_memory_swap",
        "Swap in use, in bytes.",
        "container_memory",
        *memory_columns("memory.swap.current", "memory.stat:total_swap", "swap"),
    ),
    gauge(
        "container_memory_mapped_file",
        "Memory of mapped files, in bytes.",
        "container_memory",
        *memory_columns("memory.stat:file_mapped", "memory.stat:total_mapped_file"),
    ),
    gauge(
        "container_memory_kernel_usage",
        "Kernel memory charged to the container, in bytes.",
        "container_memory",
        *memory_columns("memory.stat:kernel", "memory.kmem.usage_in_bytes"),
    ),
    counter(
        "container_memory_failcnt",
        "Times that the memory limit was hit.",
        "container_memory",
        Column("events.v1", "memory.failcnt"),
        Column("kstat.memcap", "nover"),
    ),
    gauge(
        "container_memory_usage_bytes",
        "Memory in use, in bytes, all of it, whenever it was last accessed.",
        "container_memory",
        *memory_columns("memory.current", "memory.usage_in_bytes", "rss"),
    ),
    gauge(
        "container_memory_max_usage_bytes",
        "Highest memory use recorded, in bytes.",
        "container_memory",
        *memory_columns("memory.peak", "memory.max_usage_in_bytes"),
    ),
    Metric(
        "container_memory_working_set_bytes",
        Kind.GAUGE,
        "Memory in use less the inactive part of the page cache, in bytes.",
        "container_memory",
        (
            Sample(
                memory_columns("memory.current", "memory.usage_in_bytes"),
                minus=memory_columns("memory.stat:inactive_file", "memory.stat:total_inactive_file"),
            ),
        ),
    ),
    gauge(
        "container_memory_total_active_file_bytes",
        "Page cache memory on the active list, in bytes.",
        "container_memory",
        *memory_columns("memory.stat:active_file", "memory.stat:total_active_file"),
    ),
    gauge(
        "container_memory_total_inactive_file_bytes",
        "Page cache memory on the inactive list, in bytes.",
        "container_memory",
        *memory_columns("memory.stat:inactive_file", "memory.stat:total_inactive_file"),
    ),
    Metric("container_memory_failures_total", Kind.COUNTER, "Page faults.", "container_memory", _FAULTS),
    counter(
        "container_memory_events_high_total",
        "Times that processes were throttled because the high limit was exceeded.",
        "container_memory",
        Column("events.v2", "memory.events:high"),
    ),
    counter(
        "container_memory_events_max_total",
        "Times that memory use was about to go over the limit.",
        "container_memory",
        Column("events.v2", "memory.events:max"),
    ),
    gauge(
        "container_memory_file_dirty_bytes",
        "Page cache memory waiting to be written, in bytes.",
        "container_memory",
        *memory_columns("memory.stat:file_dirty", None),
    ),
    gauge(
        "container_memory_file_writeback_bytes",
        "Page cache memory being written, in bytes.",
        "container_memory",
        *memory_columns("memory.stat:file_writeback", None),
    ),
    counter(
        "container_memory_pgscan_total",
        "Pages scanned by reclaim.",
        "container_memory",
        *memory_columns("memory.stat:pgscan", None),
    ),
    counter(
        "container_memory_pgsteal_total",
        "Pages reclaimed.",
        "container_memory",
        *memory_columns("memory.stat:pgsteal", None),
    ),
    counter(
        "container_memory_workingset_refault_file_total",
        "Faults on page cache pages that had just been evicted.",
        "container_memory",
        *memory_columns("memory.stat:workingset_refault_file", None),
    ),
    counter(
        "container_memory_workingset_refault_anon_total",
        "Faults on anonymous pages that had just been evicted.",
        "container_memory",
        *memory_columns("memory.stat:workingset_refault_anon", None),
    ),
    Metric(
        "container_oom_events_total",
        Kind.COUNTER,
        "Processes of the container killed for want of memory.",
        "container_memory",
        (
            Sample(
                (
                    Column("events.v2", "memory.events:oom_kill"),
                    Column("events.v1", "memory.oom_control:oom_kill"),
                )
            ),
        ),
    ),
    Metric(
        "container_memory_numa_pages",
        Kind.GAUGE,
        "Pages on each NUMA node.",
        "container_memory_numa",
        (Sample((Column("numa.v1", "memory.numa_stat"),)),),
    ),
)

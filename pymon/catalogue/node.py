"""Metrics of the node: names, types, labels and help of node_exporter 1.12, and cAdvisor's machine metrics.

Untyped there is unknown here. The constant label of a line stands in the sample; all others are the row's.
Columns of kstats are for what node_exporter has on Solaris; there `kernel` is a mode of CPUs, and the cache of ZFS has
names of its own.
"""

from __future__ import annotations

from pymon.catalogue import node_zfs
from pymon.catalogue.model import (
    CENTI,
    FSCALE,
    KIB,
    MILLI,
    NSEC,
    ONE,
    SECTOR,
    SIGNED,
    USEC,
    USER_HZ,
    Column,
    Kind,
    Metric,
    Sample,
    Unit,
    counter,
    gauge,
    unknown,
)
from pymon.catalogue.node_fields import (
    MEMINFO_COUNT_FIELDS,
    MEMINFO_KIB_FIELDS,
    NETDEV_FIELDS,
    VMSTAT_FIELDS,
)


def _by_label(table: str, label: str, keys: dict[str, str], unit: Unit = ONE) -> tuple[Sample, ...]:
    """A line for each key of a table, told apart by the value of one label."""
    return tuple(Sample((Column(table, key, unit),), ((label, value),)) for key, value in keys.items())


_CPU = (
    Metric(
        "node_cpu_guest_seconds_total",
        Kind.COUNTER,
        "Seconds the CPUs spent in guests (VMs) for each mode.",
        "cpu",
        _by_label("node_cpu", "mode", {"guest": "user", "guest_nice": "nice"}, USER_HZ),
    ),
    Metric(
        "node_cpu_seconds_total",
        Kind.COUNTER,
        "Seconds the CPUs spent in each mode.",
        "cpu",
        (
            *_by_label(
                "node_cpu",
                "mode",
                {mode: mode for mode in ("idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user")},
                USER_HZ,
            ),
            *_by_label(
                "kstat.cpu_sys",
                "mode",
                {"cpu_nsec_idle": "idle", "cpu_nsec_kernel": "kernel", "cpu_nsec_user": "user"},
                NSEC,
            ),
        ),
    ),
)


def _disk(key: str, unit: Unit = ONE) -> Column:
    return Column("node_disk", key, unit)


_DISKSTATS = (
    gauge(
        "node_disk_ata_rotation_rate_rpm",
        "ATA disk rotation rate in RPMs (0 for SSDs).",
        "diskstats",
        _disk("ID_ATA_ROTATION_RATE_RPM"),
    ),
    gauge("node_disk_ata_write_cache", "ATA disk has a write cache.", "diskstats", _disk("ID_ATA_WRITE_CACHE")),
    gauge(
        "node_disk_ata_write_cache_enabled",
        "ATA disk has its write cache enabled.",
        "diskstats",
        _disk("ID_ATA_WRITE_CACHE_ENABLED"),
    ),
    gauge(
        "node_disk_device_mapper_backing_device_info",
        "Info about the underlying block devices of a device mapper device.",
        "diskstats",
        Column("node_disk_backing", "info"),
    ),
    gauge(
        "node_disk_device_mapper_info",
        "Info about disk device mapper.",
        "diskstats",
        Column("node_disk_mapper", "info"),
    ),
    counter(
        "node_disk_discard_time_seconds_total",
        "This is the total number of seconds spent by all discards.",
        "diskstats",
        _disk("discard_ms", MILLI),
    ),
    counter(
        "node_disk_discarded_sectors_total",
        "The total number of sectors discarded successfully.",
        "diskstats",
        _disk("discarded_sectors"),
    ),
    counter(
        "node_disk_discards_completed_total",
        "The total number of discards completed successfully.",
        "diskstats",
        _disk("discards"),
    ),
    counter(
        "node_disk_discards_merged_total", "The total number of discards merged.", "diskstats", _disk("discards_merged")
    ),
    gauge(
        "node_disk_filesystem_info",
        "Info about disk filesystem.",
        "diskstats",
        Column("node_disk_filesystem", "info"),
    ),
    counter(
        "node_disk_flush_requests_time_seconds_total",
        "This is the total number of seconds spent by all flush requests.",
        "diskstats",
        _disk("flush_ms", MILLI),
    ),
    counter(
        "node_disk_flush_requests_total",
        "The total number of flush requests completed successfully",
        "diskstats",
        _disk("flushes"),
    ),
    gauge("node_disk_info", "Info of /sys/block/<block_device>.", "diskstats", Column("node_disk_info", "info")),
    gauge("node_disk_io_now", "The number of I/Os currently in progress.", "diskstats", _disk("in_flight")),
    counter("node_disk_io_time_seconds_total", "Total seconds spent doing I/Os.", "diskstats", _disk("io_ms", MILLI)),
    counter(
        "node_disk_io_time_weighted_seconds_total",
        "The weighted # of seconds spent doing I/Os.",
        "diskstats",
        _disk("weighted_io_ms", MILLI),
    ),
    counter(
        "node_disk_read_bytes_total",
        "The total number of bytes read successfully.",
        "diskstats",
        _disk("read_sectors", SECTOR),
    ),
    counter(
        "node_disk_read_time_seconds_total",
        "The total number of seconds spent by all reads.",
        "diskstats",
        _disk("read_ms", MILLI),
    ),
    counter(
        "node_disk_reads_completed_total",
        "The total number of reads completed successfully.",
        "diskstats",
        _disk("reads"),
    ),
    counter("node_disk_reads_merged_total", "The total number of reads merged.", "diskstats", _disk("reads_merged")),
    counter(
        "node_disk_write_time_seconds_total",
        "This is the total number of seconds spent by all writes.",
        "diskstats",
        _disk("write_ms", MILLI),
    ),
    counter(
        "node_disk_writes_completed_total",
        "The total number of writes completed successfully.",
        "diskstats",
        _disk("writes"),
    ),
    counter("node_disk_writes_merged_total", "The number of writes merged.", "diskstats", _disk("writes_merged")),
    counter(
        "node_disk_written_bytes_total",
        "The total number of bytes written successfully.",
        "diskstats",
        _disk("written_sectors", SECTOR),
    ),
)


def _filesystem(suffix: str, help: str, key: str) -> Metric:
    return gauge(f"node_filesystem_{suffix}", help, "filesystem", Column("node_filesystem", key))


_FILESYSTEM = (
    _filesystem("avail_bytes", "Filesystem space available to non-root users in bytes.", "avail"),
    _filesystem(
        "device_error", "Whether an error occurred while getting statistics for the given device.", "device_error"
    ),
    _filesystem("files", "Filesystem total file nodes.", "files"),
    _filesystem("files_free", "Filesystem total free file nodes.", "files_free"),
    _filesystem("free_bytes", "Filesystem free space in bytes.", "free"),
    gauge(
        "node_filesystem_mount_info",
        "Filesystem mount information.",
        "filesystem",
        Column("node_filesystem_mount", "info"),
    ),
    _filesystem("readonly", "Filesystem read-only status.", "readonly"),
    _filesystem("size_bytes", "Filesystem size in bytes.", "size"),
)


def _load(minutes: int) -> Metric:
    return gauge(
        f"node_load{minutes}",
        f"{minutes}m load average.",
        "loadavg",
        Column("node_loadavg", f"load{minutes}", CENTI),
        Column("kstat.system_misc", f"avenrun_{minutes}min", FSCALE),
    )


_LOADAVG = (_load(1), _load(15), _load(5))


def _machine(suffix: str, help: str, key: str, unit: Unit = ONE, *more: Column) -> Metric:
    return gauge(f"machine_{suffix}", help, "machine", Column("node_machine", key, unit), *more)


_MACHINE = (
    _machine("cpu_cores", "Number of logical CPU cores.", "cores", ONE, Column("kstat.system_misc", "ncpus")),
    _machine("cpu_physical_cores", "Number of physical CPU cores.", "physical_cores"),
    _machine("cpu_sockets", "Number of CPU sockets.", "sockets"),
    _machine("memory_bytes", "Amount of memory installed on the machine.", "MemTotal", KIB),
    _machine("swap_bytes", "Amount of swap memory available on the machine.", "SwapTotal", KIB),
)


def _memory(key: str, suffix: str, unit: Unit) -> Metric:
    """node_exporter's name of a line: ``Active(anon)`` is ``Active_anon``."""
    field = key.replace("(", "_").replace(")", "") + suffix
    return gauge(
        f"node_memory_{field}", f"Memory information field {field}.", "meminfo", Column("node_meminfo", key, unit)
    )


_MEMINFO = (
    *(_memory(key, "_bytes", KIB) for key in MEMINFO_KIB_FIELDS),
    *(_memory(key, "", ONE) for key in MEMINFO_COUNT_FIELDS),
)

_NETDEV = tuple(
    counter(f"node_network_{field}_total", f"Network device statistic {field}.", "netdev", Column("node_netdev", field))
    for field in NETDEV_FIELDS
)


def _pressure(suffix: str, help: str, key: str) -> Metric:
    return counter(f"node_pressure_{suffix}_seconds_total", help, "pressure", Column("node_pressure", key, USEC))


_PRESSURE = (
    _pressure("cpu_waiting", "Total time in seconds that processes have waited for CPU time", "cpu_some"),
    _pressure("io_stalled", "Total time in seconds no process could make progress due to IO congestion", "io_full"),
    _pressure("io_waiting", "Total time in seconds that processes have waited due to IO congestion", "io_some"),
    _pressure("irq_stalled", "Total time in seconds no process could make progress due to IRQ congestion", "irq_full"),
    _pressure(
        "memory_stalled",
        "Total time in seconds no process could make progress due to memory congestion",
        "memory_full",
    ),
    _pressure("memory_waiting", "Total time in seconds that processes have waited for memory", "memory_some"),
)

_STAT = (
    gauge(
        "node_boot_time_seconds",
        "Node boot time, in unixtime.",
        "stat",
        Column("node_stat", "btime"),
        Column("kstat.system_misc", "boot_time"),
    ),
    counter("node_context_switches_total", "Total number of context switches.", "stat", Column("node_stat", "ctxt")),
    counter("node_forks_total", "Total number of forks.", "stat", Column("node_stat", "processes")),
    counter("node_intr_total", "Total number of interrupts serviced.", "stat", Column("node_stat", "intr")),
    gauge(
        "node_procs_blocked",
        "Number of processes blocked waiting for I/O to complete.",
        "stat",
        Column("node_stat", "procs_blocked"),
    ),
    gauge(
        "node_procs_running",
        "Number of processes in runnable state.",
        "stat",
        Column("node_stat", "procs_running"),
    ),
)

_TIME = (
    gauge(
        "node_time_clocksource_available_info",
        "Available clocksources read from '/sys/devices/system/clocksource'.",
        "time",
        Column("node_time_clocksource_available", "info"),
    ),
    gauge(
        "node_time_clocksource_current_info",
        "Current clocksource read from '/sys/devices/system/clocksource'.",
        "time",
        Column("node_time_clocksource_current", "info"),
    ),
    gauge("node_time_seconds", "System time in seconds since epoch (1970).", "time", Column("node_time", "now", NSEC)),
    gauge(
        "node_time_zone_offset_seconds",
        "System time zone offset in seconds.",
        "time",
        Column("node_time_zone", "offset", SIGNED),
    ),
)

_UNAME = (
    gauge(
        "node_uname_info",
        "Labeled system information as provided by the uname system call.",
        "uname",
        Column("node_uname", "info"),
    ),
)

_VMSTAT = tuple(
    unknown(f"node_vmstat_{field}", f"/proc/vmstat information field {field}.", "vmstat", Column("node_vmstat", field))
    for field in VMSTAT_FIELDS
)

NODE: tuple[Metric, ...] = (
    *_CPU,
    *_DISKSTATS,
    *_FILESYSTEM,
    *_LOADAVG,
    *_MACHINE,
    *_MEMINFO,
    *_NETDEV,
    *_PRESSURE,
    *_STAT,
    *_TIME,
    *_UNAME,
    *_VMSTAT,
    *node_zfs.METRICS,
)
"""Every family of the node, in the order in which it is written."""

"""The cmon dialect: metrics of zones and of the node with the names, types and units of Triton's cmon-agent.

In each metric, columns of kstats come first, then columns of Linux with the same meaning. Differences on Linux:
- mem_agg_usage is resident memory. On Linux that is anonymous and mapped memory, without the rest of the page cache.
- mem_swap is swap in use. On illumos it is reserved swap.
- vfs_* counts bytes and operations of block devices, with a series for each device. On illumos it counts operations of
  the file system layer. The times and queues have no equivalent on Linux.
- tcp_* exists for containers with a network namespace of their own.
- load_average, cpu_wait_time, CPU caps and anon_alloc_fail are absent, as control groups do not count them.
"""

from __future__ import annotations

from dataclasses import replace

from pymon.catalogue import cmon_arcstats, cmon_ntp
from pymon.catalogue.kstat_fields import NODE_STATUS, ZONE_STATUS
from pymon.catalogue.model import (
    CENTI,
    FSCALE,
    NSEC,
    ONE,
    SIGNED,
    USER_HZ,
    Column,
    Kind,
    Metric,
    Sample,
    Unit,
    counter,
    gauge,
)
from pymon.catalogue.program_fields import TIME_TABLE, ZFS_TABLE, ZPOOL_TABLE

USEC_IN_NSEC = Unit(multiply=1000)
TICKS_IN_NSEC = Unit(multiply=10**7)
SECONDS = Unit(divide=10**6, decimals=3)
"""Converts nanoseconds to seconds with 3 decimals."""
MILLISECONDS = Unit(divide=10**6)
"""Converts nanoseconds to whole milliseconds."""


def _status(collector: str) -> tuple[Metric, ...]:
    """Return the metrics about a collector itself, for zones and for the node, as cmon-agent has them."""
    metrics = []
    for name, column, help, unit in (
        ("available_boolean", "available", "Whether {} metrics were available.", ONE),
        ("cached_boolean", "cached", "Whether {} metrics are from an earlier collection.", ONE),
        ("timer_seconds", "timer_ns", "Time that it took to get {} metrics, in seconds.", NSEC),
    ):
        key = f"{collector}:{column}"
        tables = [
            table
            for table, columns in (("kstat.status", ZONE_STATUS), ("kstat.node_status", NODE_STATUS))
            if key in columns
        ]
        samples = tuple(Sample((Column(table, key, unit),)) for table in tables)
        metrics.append(Metric(f"{collector}_metrics_{name}", Kind.GAUGE, help.format(collector), collector, samples))
    return tuple(metrics)


def _cpu(metric: str, help: str, kstat: str, v2: str, v1: str) -> Metric:
    return counter(
        metric,
        help,
        "zone_misc",
        Column("kstat.zone_misc", kstat),
        Column("cpu.v2", f"cpu.stat:{v2}", USEC_IN_NSEC),
        Column("cpu.v1", f"cpuacct.stat:{v1}", TICKS_IN_NSEC),
    )


_ZONE_MISC = (
    *_status("zone_misc"),
    _cpu("cpu_user_usage", "CPU time consumed in user mode, in nanoseconds.", "nsec_user", "user_usec", "user"),
    _cpu("cpu_sys_usage", "CPU time consumed in the kernel, in nanoseconds.", "nsec_sys", "system_usec", "system"),
    counter(
        "cpu_wait_time",
        "Time that threads waited for a CPU, in nanoseconds.",
        "zone_misc",
        Column("kstat.zone_misc", "nsec_waitrq"),
    ),
    gauge(
        "load_average",
        "Load average over one minute.",
        "zone_misc",
        Column("kstat.zone_misc", "avenrun_1min", FSCALE),
    ),
)


def _cpucap(suffix: str, kind: Kind, help: str, statistic: str) -> Metric:
    return Metric(f"cpucap_{suffix}", kind, help, "cpucap", (Sample((Column("kstat.cpucap", statistic),)),))


_CPUCAP = (
    *_status("cpucap"),
    _cpucap("above_base_seconds_total", Kind.COUNTER, "Time with CPU use above the baseline.", "above_base_sec"),
    _cpucap("above_seconds_total", Kind.COUNTER, "Time with CPU use above the cap.", "above_sec"),
    _cpucap("baseline_percentage", Kind.GAUGE, "Baseline of CPU use, in percent of one CPU.", "baseline"),
    _cpucap("below_seconds_total", Kind.COUNTER, "Time with CPU use below the cap.", "below_sec"),
    _cpucap("burst_limit_seconds", Kind.GAUGE, "Maximum duration of bursts. After it, the cap is the baseline.",
            "burst_limit_sec"),
    _cpucap("cur_usage_percentage", Kind.GAUGE, "CPU use, in percent of one CPU.", "usage"),
    _cpucap("effective_percentage", Kind.GAUGE, "Effective CPU cap, in percent of one CPU.", "effective"),
    _cpucap("limit_percentage", Kind.GAUGE, "CPU cap, in percent of one CPU.", "value"),
    _cpucap("max_usage_percentage", Kind.GAUGE, "Highest CPU use, in percent of one CPU.", "maxusage"),
    _cpucap("waiting_threads_count", Kind.GAUGE, "Threads that wait because of the CPU cap.", "nwait"),
)  # fmt: skip

_MEMCAP = (
    *_status("memcap"),
    Metric(
        "mem_agg_usage",
        Kind.GAUGE,
        "Resident memory, in bytes.",
        "memcap",
        (
            Sample((Column("kstat.memcap", "rss"),)),
            Sample(
                (Column("memory.v2", "memory.stat:anon"), Column("memory.v1", "memory.stat:total_rss")),
                plus=(
                    Column("memory.v2", "memory.stat:file_mapped"),
                    Column("memory.v1", "memory.stat:total_mapped_file"),
                ),
            ),
        ),
    ),
    counter(
        "mem_anon_alloc_fail",
        "Allocations of anonymous memory that failed.",
        "memcap",
        Column("kstat.memcap", "anon_alloc_fail"),
    ),
    gauge(
        "mem_limit",
        "Memory limit, in bytes.",
        "memcap",
        Column("kstat.memcap", "physcap"),
        Column("memory.v2", "memory.max"),
        Column("memory.v1", "memory.limit_in_bytes"),
    ),
    gauge(
        "mem_swap",
        "Swap, in bytes.",
        "memcap",
        Column("kstat.memcap", "swap"),
        Column("memory.v2", "memory.swap.current"),
        Column("memory.v1", "memory.stat:total_swap"),
    ),
    gauge(
        "mem_swap_limit",
        "Swap limit, in bytes.",
        "memcap",
        Column("kstat.memcap", "swapcap"),
        Column("memory.v2", "memory.swap.max"),
    ),
)


def _vfs(suffix: str, help: str, statistic: str, v2: str, v1: str) -> Metric:
    return counter(
        f"vfs_{suffix}",
        help,
        "zone_vfs",
        Column("kstat.zone_vfs", statistic),
        Column("io.v2", v2),
        Column("io.v1", f"blkio.throttle.{v1}"),
    )


def _queue(suffix: str, kind: Kind, help: str, statistic: str) -> Metric:
    return Metric(f"vfs_{suffix}", kind, help, "zone_vfs", (Sample((Column("kstat.zone_vfs", statistic),)),))


_ZONE_VFS = (
    *_status("zone_vfs"),
    _vfs("bytes_read_count", "Bytes read.", "nread", "rbytes", "io_service_bytes_recursive:Read"),
    _vfs("bytes_written_count", "Bytes written.", "nwritten", "wbytes", "io_service_bytes_recursive:Write"),
    _queue("elements_run_state", Kind.GAUGE, "Operations in the run queue.", "rcnt"),
    _queue("elements_wait_state", Kind.GAUGE, "Operations in the wait queue.", "wcnt"),
    _vfs("read_operation_count", "Reads.", "reads", "rios", "io_serviced_recursive:Read"),
    _queue("run_length_time_count", Kind.COUNTER, "Time in the run queue times its length, in nanoseconds.",
           "rlentime"),
    _queue("run_time_count", Kind.COUNTER, "Time in the run queue, in nanoseconds.", "rtime"),
    _queue("wait_length_time_count", Kind.COUNTER, "Time in the wait queue times its length, in nanoseconds.",
           "wlentime"),
    _queue("wait_time_count", Kind.COUNTER, "Time in the wait queue, in nanoseconds.", "wtime"),
    _vfs("write_operation_count", "Writes.", "writes", "wios", "io_serviced_recursive:Write"),
)  # fmt: skip


def _zone_zfs(suffix: str, kind: Kind, help: str, statistic: str) -> Metric:
    return Metric(f"zone_zfs_{suffix}", kind, help, "zone_zfs", (Sample((Column("kstat.zone_zfs", statistic),)),))


_ZONE_ZFS = (
    *_status("zone_zfs"),
    _zone_zfs("bytes_read_count", Kind.COUNTER, "Bytes that the zone read from pools.", "nread"),
    _zone_zfs("bytes_written_count", Kind.COUNTER, "Bytes that the zone wrote to pools.", "nwritten"),
    _zone_zfs("read_operation_count", Kind.COUNTER, "Reads from pools.", "reads"),
    _zone_zfs("run_length_time_count", Kind.COUNTER, "Sum of the durations of all reads, in nanoseconds.",
              "rlentime"),
    _zone_zfs("run_time_count", Kind.COUNTER, "Time with at least one read in progress, in nanoseconds.", "rtime"),
    _zone_zfs("wait_time_count", Kind.COUNTER, "Time that reads waited before they were issued, in nanoseconds.",
              "waittime"),
    _zone_zfs("write_operation_count", Kind.COUNTER, "Writes to pools.", "writes"),
)  # fmt: skip

_SWAPRESV = (
    *_status("swapresv"),
    gauge("swapresv_usage_bytes", "Reserved swap, in bytes.", "swapresv", Column("kstat.swapresv", "usage")),
    gauge("swapresv_limit_bytes", "Limit of reserved swap, in bytes.", "swapresv", Column("kstat.swapresv", "value")),
)

_NPROCS = (
    *_status("nprocs"),
    gauge("nprocs_usage_count", "Processes.", "nprocs", Column("kstat.nprocs", "usage")),
    gauge("nprocs_limit_count", "Limit of processes.", "nprocs", Column("kstat.nprocs", "value")),
)


def _tcp(suffix: str, help: str, statistic: str, linux: str | None = None, kind: Kind = Kind.COUNTER) -> Metric:
    columns = (Column("kstat.tcp", statistic), *((Column("advtcp", linux),) if linux else ()))
    return Metric(f"tcp_{suffix}", kind, help, "tcp", (Sample(columns),))


_TCP = (
    *_status("tcp"),
    _tcp("active_open_count", "Connections opened actively.", "activeOpens", "Tcp:ActiveOpens"),
    _tcp(
        "current_established_connections_total",
        "Established connections.",
        "currEstab",
        "Tcp:CurrEstab",
        Kind.GAUGE,
    ),
    _tcp("duplicate_ack_count", "Duplicate acknowledgements received.", "inDupAck"),
    _tcp("failed_connection_attempt_count", "Attempts to connect that failed.", "attemptFails", "Tcp:AttemptFails"),
    _tcp("half_open_drop_count", "Half-open connections dropped.", "halfOpenDrop"),
    _tcp(
        "listen_drop_Qzero_count",
        "Connections refused because the queue of half-open connections was full.",
        "listenDropQ0",
        "TcpExt:TCPReqQFullDrop",
    ),
    _tcp(
        "listen_drop_count",
        "Connections refused because the backlog was full.",
        "listenDrop",
        "TcpExt:ListenOverflows",
    ),
    _tcp("passive_open_count", "Connections accepted.", "passiveOpens", "Tcp:PassiveOpens"),
    _tcp("retransmit_timeout_drop_count", "Connections dropped after too many retransmissions.", "timRetransDrop"),
    _tcp("retransmitted_segment_count", "Segments retransmitted.", "retransSegs", "Tcp:RetransSegs"),
)


def _link(suffix: str, help: str, statistic: str, linux: str) -> Metric:
    return counter(f"net_agg_{suffix}", help, "link", Column("kstat.link", statistic), Column("network", linux))


_LINK = (
    *_status("link"),
    _link("bytes_in", "Bytes received.", "rbytes64", "receive_bytes"),
    _link("bytes_out", "Bytes sent.", "obytes64", "transmit_bytes"),
    _link("packets_in", "Packets received.", "ipackets64", "receive_packets"),
    _link("packets_out", "Packets sent.", "opackets64", "transmit_packets"),
)


def _zfs(field: str, help: str, unit: Unit = ONE) -> Metric:
    return gauge(f"zfs_{field}", f"Root dataset: {help}", "zfs", Column(ZFS_TABLE, field, unit))


_ZFS = (
    *_status("zfs"),
    _zfs("available", "available space, in bytes."),
    _zfs("compressratio", "compression ratio with descendants and snapshots.", CENTI),
    _zfs("logicalreferenced", "uncompressed size of its data, in bytes."),
    _zfs("logicalused", "space used without compression, in bytes."),
    _zfs("quota", "quota, in bytes; 0 is none."),
    _zfs("recordsize", "record size, in bytes."),
    _zfs("refcompressratio", "compression ratio of its data.", CENTI),
    _zfs("referenced", "size of its data, in bytes."),
    _zfs("used", "space used with descendants and snapshots, in bytes."),
    _zfs("usedbydataset", "space used by the dataset itself, in bytes."),
    _zfs("usedbysnapshots", "space used by snapshots, in bytes."),
)

CONTAINER: tuple[Metric, ...] = (
    *_ZONE_MISC,
    *_CPUCAP,
    *_MEMCAP,
    *_ZONE_VFS,
    *_ZONE_ZFS,
    *_SWAPRESV,
    *_NPROCS,
    *_TCP,
    *_LINK,
    *_ZFS,
)
"""Metrics of a zone or a container."""


def _time_of_day(unit_name: str, unit: Unit) -> Metric:
    """Return the metric of the time: of the node its clock, of a container the time when it was last read."""
    samples = (Sample((Column(TIME_TABLE, "now_ns", unit),)), Sample((Column("container", "last_seen", unit),)))
    return Metric("time_of_day", Kind.COUNTER, f"Time of day, in {unit_name} since 1970.", "time", samples)


TIME: tuple[Metric, ...] = (*_status("time"), _time_of_day("seconds", SECONDS))
"""Metrics that both zones and the node have."""


def _cpu_util(mode: str, help: str, *, linux: bool = True) -> Metric:
    columns = [Column("kstat.cpu_sys", f"cpu_nsec_{mode}", NSEC)]
    if linux:
        columns.append(Column("node_cpu_util", mode, USER_HZ))
    return counter(f"cpu_{mode}_seconds_total", help, "cpu_util", *columns)


def _zpool(suffix: str, help: str, field: str, unit: Unit = ONE) -> Metric:
    return gauge(f"zpool_{suffix}", help, "zpool", Column(ZPOOL_TABLE, field, unit))


def _metaslab_group(what: str) -> Metric:
    return counter(
        f"metaslab_group_{what}", f"Metaslab {what} of the group.", "zpool", Column("kstat.metaslab_group", what)
    )


NODE: tuple[Metric, ...] = (
    *_status("cpu_info"),
    gauge(
        "cpu_info_model",
        "Model number of the CPU.",
        "cpu_info",
        Column("kstat.cpu_info", "model", SIGNED),
        Column("node_cpu_info", "model"),
    ),
    *_status("cpu_util"),
    _cpu_util("dtrace", "Time that the CPU spent in DTrace probes, in seconds.", linux=False),
    _cpu_util("idle", "Time that the CPU was idle, in seconds."),
    _cpu_util("kernel", "Time that the CPU spent in the kernel, in seconds."),
    _cpu_util("user", "Time that the CPU spent in user mode, in seconds."),
    *_status("zpool"),
    _metaslab_group("loads"),
    _metaslab_group("unloads"),
    _zpool("allocated_bytes", "Space of the pool that is in use.", "allocated"),
    _zpool("fragmentation_percent", "Fragmentation of the pool's free space.", "fragmentation"),
    _zpool(
        "health_status",
        "Health of the pool: 0 online, 1 degraded, 2 faulted, 3 offline, 4 removed, 5 unavailable, -1 other.",
        "health",
        SIGNED,
    ),
    _zpool("size_bytes", "Size of the pool.", "size"),
    *_status("arcstats"),
    *cmon_arcstats.METRICS,
    *_status("ntp"),
    *cmon_ntp.METRICS,
)
"""Metrics of the node."""

_LEGACY: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _queue("run_length_time_count", Kind.COUNTER, "vfs_wait_length_time_count once more.", "wlentime"),
        *(
            replace(metric, kind=kind)
            for metric in cmon_arcstats.METRICS
            for name, kind in (
                ("arcstats_hdr_size_bytes", Kind.COUNTER),
                ("arcstats_l2_read_bytes", Kind.GAUGE),
            )
            if metric.name == name
        ),
        _time_of_day("milliseconds", MILLISECONDS),
        *(
            replace(metric, help=cmon_ntp.LEGACY[metric.name][1], samples=(Sample((cmon_ntp.LEGACY[metric.name][0],)),))
            for metric in cmon_ntp.METRICS
            if metric.name in cmon_ntp.LEGACY
        ),
    )
}


def metrics(*, legacy: bool = False) -> tuple[Metric, ...]:
    """Return all families of the dialect. legacy: keep the types and values that cmon-agent exports by mistake."""
    every = (*CONTAINER, *TIME, *NODE)
    return tuple(_LEGACY.get(metric.name, metric) for metric in every) if legacy else every

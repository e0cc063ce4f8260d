"""The cadvisor dialect: container metrics with cAdvisor's names, labels and units.

The names of tables contain the version of the cgroup interface. A host provides one version of each controller. A limit
that is not set has no series. cAdvisor exports 0 for it, which would mean a limit of 0.

Columns of kstats are for zones, if a statistic has the same meaning. There, memory in use is the memory that counts
against the cap, and swap is reserved swap.
"""

from __future__ import annotations

from dataclasses import replace

from pymon.catalogue.cgroup_fields import ADVANCED_TCP_FIELDS, HUGEPAGE_SIZES, TASK_FIELDS, TCP_STATES, UDP_STATES
from pymon.catalogue.io_scheduler import IO_SCHEDULER
from pymon.catalogue.kernel_counts import KERNEL_COUNTS
from pymon.catalogue.memory import MEMORY, memory_columns
from pymon.catalogue.model import (
    NSEC,
    ONE,
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
)

SHARES_OF_WEIGHT = Unit(subtract=1, multiply=262142, divide=9999, add=2)
"""Converts cpu.weight, 1 to 10000, to cpu.shares, 2 to 262144, as container runtimes do."""


def _cpu_v1(key: str, unit: Unit) -> Column:
    return Column("cpu.v1", key, unit)


def _cpu_v2(key: str, unit: Unit) -> Column:
    return Column("cpu.v2", key, unit)


def _zone(statistic: str) -> Column:
    return Column("kstat.zone_misc", statistic, NSEC)


def _limited(metric: str, help: str, *columns: Column) -> Metric:
    """Return a counter of the CFS bandwidth controller. It has a series only for containers with a quota."""
    quota = (Column("cpu.v2", "cpu.max:quota"), Column("cpu.v1", "cpu.cfs_quota_us"))
    return Metric(metric, Kind.COUNTER, help, "container_cpu", (Sample(columns, when=quota),))


def _io(metric: str, help: str, v2: str | None, v1: str, unit: Unit = ONE) -> Metric:
    columns = (Column("io.v2", v2, unit),) if v2 else ()
    return counter(metric, help, "container_io", *columns, Column("io.v1", v1, unit))


def _io_v2(metric: str, help: str, key: str) -> Metric:
    return counter(metric, help, "container_io", Column("io.v2", key, USEC))


def _blkio_operation(operation: str, v2: str | None) -> Sample:
    columns = (Column("blkio.v2", v2),) if v2 else ()
    v1 = Column("blkio.v1", f"blkio.throttle.io_service_bytes_recursive:{operation}")
    return Sample((*columns, v1), labels=(("operation", operation),))


def _network(metric: str, help: str, key: str, kstat: str) -> Metric:
    return counter(metric, help, "container_network", Column("network", key), Column("kstat.link", kstat))


def _states(metric: str, help: str, collector: str, table: str, label: str, states: tuple[str, ...]) -> Metric:
    samples = tuple(Sample((Column(table, state),), labels=((label, state),)) for state in states)
    return Metric(metric, Kind.GAUGE, help, collector, samples)


def _hugetlb(metric: str, kind: Kind, help: str, v2: str | None, v1: str) -> Metric:
    samples = []
    for size in HUGEPAGE_SIZES:
        columns = [Column("hugetlb.v2", v2.format(size=size))] if v2 else []
        columns.append(Column("hugetlb.v1", v1.format(size=size)))
        samples.append(Sample(tuple(columns), labels=(("pagesize", size),)))
    return Metric(metric, kind, help, "container_hugetlb", tuple(samples))


_TCP_STATISTICS = {
    "Tcp:ActiveOpens": ("activeOpens",),
    "Tcp:PassiveOpens": ("passiveOpens",),
    "Tcp:AttemptFails": ("attemptFails",),
    "Tcp:CurrEstab": ("currEstab",),
    "Tcp:RetransSegs": ("retransSegs",),
    "TcpExt:ListenOverflows": ("listenDrop",),
    "TcpExt:TCPReqQFullDrop": ("listenDropQ0",),
}
"""Field of Linux -> statistics with the same meaning in the kstat of a zone's TCP."""

METRICS: tuple[Metric, ...] = (
    gauge(
        "container_last_seen",
        "Unix time at which the container was last seen.",
        "container",
        Column("container", "last_seen", NSEC),
    ),
    gauge(
        "container_start_time_seconds",
        "Unix time at which the container started.",
        "container",
        Column("container", "start_seconds"),
        Column("kstat.zone_misc", "boot_time"),
    ),
    gauge(
        "container_creation_time_seconds",
        "Unix time at which the container's control group was made.",
        "container",
        Column("container", "creation_seconds"),
    ),
    gauge(
        "container_health_state",
        "Result of the runtime's health check: 1 healthy, -1 no check, 0 otherwise.",
        "container",
        Column("container", "health", SIGNED),
    ),
    Metric(
        "container_cpu_usage_seconds_total",
        Kind.COUNTER,
        "CPU time consumed, in seconds.",
        "container_cpu",
        (
            Sample((Column("percpu.v1", "cpuacct.usage_percpu", NSEC),)),
            Sample((_cpu_v2("cpu.stat:usage_usec", USEC), _cpu_v1("cpuacct.usage", NSEC)), labels=(("cpu", "total"),)),
            Sample((_zone("nsec_user"),), labels=(("cpu", "total"),), plus=(_zone("nsec_sys"),)),
        ),
    ),
    counter(
        "container_cpu_user_seconds_total",
        "CPU time consumed in user mode, in seconds.",
        "container_cpu",
        _cpu_v2("cpu.stat:user_usec", USEC),
        _cpu_v1("cpuacct.stat:user", USER_HZ),
        _zone("nsec_user"),
    ),
    counter(
        "container_cpu_system_seconds_total",
        "CPU time consumed in the kernel, in seconds.",
        "container_cpu",
        _cpu_v2("cpu.stat:system_usec", USEC),
        _cpu_v1("cpuacct.stat:system", USER_HZ),
        _zone("nsec_sys"),
    ),
    _limited(
        "container_cpu_cfs_periods_total",
        "Enforcement periods of the CPU quota that have passed.",
        _cpu_v2("cpu.stat:nr_periods", ONE),
        _cpu_v1("cpu.stat:nr_periods", ONE),
    ),
    _limited(
        "container_cpu_cfs_throttled_periods_total",
        "Enforcement periods in which the container was throttled.",
        _cpu_v2("cpu.stat:nr_throttled", ONE),
        _cpu_v1("cpu.stat:nr_throttled", ONE),
    ),
    _limited(
        "container_cpu_cfs_throttled_seconds_total",
        "Time for which the container was throttled, in seconds.",
        _cpu_v2("cpu.stat:throttled_usec", USEC),
        _cpu_v1("cpu.stat:throttled_time", NSEC),
    ),
    _limited(
        "container_cpu_cfs_burst_periods_total",
        "Enforcement periods in which the container burst over its quota.",
        _cpu_v2("cpu.stat:nr_bursts", ONE),
    ),
    _limited(
        "container_cpu_cfs_burst_seconds_total",
        "CPU time used over the quota in bursts, in seconds.",
        _cpu_v2("cpu.stat:burst_usec", USEC),
    ),
    *MEMORY,
    gauge(
        "container_memory_migrate",
        "Whether pages follow the container to other memory nodes.",
        "container_cpuset",
        Column("cpuset.v1", "cpuset.memory_migrate"),
    ),
    _hugetlb(
        "container_hugetlb_usage_bytes",
        Kind.GAUGE,
        "Huge page memory in use, in bytes.",
        "hugetlb.{size}.current",
        "hugetlb.{size}.usage_in_bytes",
    ),
    _hugetlb(
        "container_hugetlb_max_usage_bytes",
        Kind.GAUGE,
        "Highest huge page memory use recorded, in bytes.",
        None,
        "hugetlb.{size}.max_usage_in_bytes",
    ),
    _hugetlb(
        "container_hugetlb_failcnt",
        Kind.COUNTER,
        "Times that the huge page limit was hit.",
        "hugetlb.{size}.events:max",
        "hugetlb.{size}.failcnt",
    ),
    _io(
        "container_fs_reads_bytes_total",
        "Bytes read from the device.",
        "rbytes",
        "blkio.throttle.io_service_bytes_recursive:Read",
    ),
    _io(
        "container_fs_writes_bytes_total",
        "Bytes written to the device.",
        "wbytes",
        "blkio.throttle.io_service_bytes_recursive:Write",
    ),
    _io("container_fs_reads_total", "Reads from the device.", "rios", "blkio.throttle.io_serviced_recursive:Read"),
    _io("container_fs_writes_total", "Writes to the device.", "wios", "blkio.throttle.io_serviced_recursive:Write"),
    _io_v2(
        "container_fs_io_cost_usage_seconds_total", "Device time used, by the io.cost model, in seconds.", "cost.usage"
    ),
    _io_v2(
        "container_fs_io_cost_wait_seconds_total", "Time waited for the io.cost controller, in seconds.", "cost.wait"
    ),
    _io_v2(
        "container_fs_io_cost_indebt_seconds_total",
        "Time in debt to the io.cost controller, in seconds.",
        "cost.indebt",
    ),
    _io_v2("container_fs_io_cost_indelay_seconds_total", "Time delayed for io.cost debt, in seconds.", "cost.indelay"),
    *IO_SCHEDULER,
    Metric(
        "container_blkio_device_usage_total",
        Kind.COUNTER,
        "Bytes moved to and from the device, by operation.",
        "container_io",
        (
            _blkio_operation("Read", "rbytes"),
            _blkio_operation("Write", "wbytes"),
            _blkio_operation("Sync", None),
            _blkio_operation("Async", None),
            _blkio_operation("Discard", None),
            _blkio_operation("Total", None),
        ),
    ),
    _network("container_network_receive_bytes_total", "Bytes received.", "receive_bytes", "rbytes64"),
    _network("container_network_receive_packets_total", "Packets received.", "receive_packets", "ipackets64"),
    _network(
        "container_network_receive_packets_dropped_total",
        "Received packets that were dropped.",
        "receive_drop",
        "norcvbuf",
    ),
    _network("container_network_receive_errors_total", "Errors while receiving.", "receive_errs", "ierrors"),
    _network("container_network_transmit_bytes_total", "Bytes sent.", "transmit_bytes", "obytes64"),
    _network("container_network_transmit_packets_total", "Packets sent.", "transmit_packets", "opackets64"),
    _network(
        "container_network_transmit_packets_dropped_total",
        "Packets dropped while sending.",
        "transmit_drop",
        "noxmtbuf",
    ),
    _network("container_network_transmit_errors_total", "Errors while sending.", "transmit_errs", "oerrors"),
    gauge(
        "container_sockstat_sockets_used", "Sockets in use.", "container_sockstat", Column("sockstat", "sockets:used")
    ),
    gauge(
        "container_sockstat_tcp_inuse",
        "TCP sockets in use, IPv4.",
        "container_sockstat",
        Column("sockstat", "TCP:inuse"),
    ),
    gauge(
        "container_sockstat_tcp_tw",
        "TCP sockets in state time-wait.",
        "container_sockstat",
        Column("sockstat", "TCP:tw"),
    ),
    gauge(
        "container_sockstat_udp_inuse",
        "UDP sockets in use, IPv4.",
        "container_sockstat",
        Column("sockstat", "UDP:inuse"),
    ),
    gauge(
        "container_sockstat_raw_inuse",
        "Raw sockets in use, IPv4.",
        "container_sockstat",
        Column("sockstat", "RAW:inuse"),
    ),
    gauge(
        "container_sockstat_tcp6_inuse",
        "TCP sockets in use, IPv6.",
        "container_sockstat",
        Column("sockstat", "TCP6:inuse"),
    ),
    gauge(
        "container_sockstat_udp6_inuse",
        "UDP sockets in use, IPv6.",
        "container_sockstat",
        Column("sockstat", "UDP6:inuse"),
    ),
    gauge(
        "container_sockstat_raw6_inuse",
        "Raw sockets in use, IPv6.",
        "container_sockstat",
        Column("sockstat", "RAW6:inuse"),
    ),
    _states(
        "container_network_tcp_usage_total",
        "TCP sockets by state, IPv4.",
        "container_tcp",
        "tcp",
        "tcp_state",
        TCP_STATES,
    ),
    _states(
        "container_network_tcp6_usage_total",
        "TCP sockets by state, IPv6.",
        "container_tcp",
        "tcp6",
        "tcp_state",
        TCP_STATES,
    ),
    _states(
        "container_network_udp_usage_total",
        "UDP sockets and queues, IPv4.",
        "container_udp",
        "udp",
        "udp_state",
        UDP_STATES,
    ),
    _states(
        "container_network_udp6_usage_total",
        "UDP sockets and queues, IPv6.",
        "container_udp",
        "udp6",
        "udp_state",
        UDP_STATES,
    ),
    Metric(
        "container_network_advance_tcp_stats_total",
        Kind.GAUGE,
        "The kernel's counters and settings of TCP.",
        "container_advtcp",
        tuple(
            Sample(
                (
                    Column("advtcp", key, SIGNED if key == "Tcp:MaxConn" else ONE),
                    *(Column("kstat.tcp", name) for name in _TCP_STATISTICS.get(key, ())),
                ),
                labels=(("tcp_state", key.partition(":")[2].lower()),),
            )
            for key in ADVANCED_TCP_FIELDS
        ),
    ),
    counter(
        "container_cpu_schedstat_run_seconds_total",
        "Time that main threads of the container's processes ran, in seconds.",
        "container_sched",
        Column("sched", "run", NSEC),
    ),
    counter(
        "container_cpu_schedstat_runqueue_seconds_total",
        "Time that main threads of the container's processes waited for a CPU, in seconds.",
        "container_sched",
        Column("sched", "runqueue", NSEC),
    ),
    counter(
        "container_cpu_schedstat_run_periods_total",
        "Times that main threads of the container's processes were put on a CPU.",
        "container_sched",
        Column("sched", "periods"),
    ),
    gauge(
        "container_file_descriptors",
        "Open file descriptors of the container's processes.",
        "container_file_descriptors",
        Column("descriptors", "files"),
    ),
    gauge(
        "container_sockets",
        "Open file descriptors that are sockets.",
        "container_file_descriptors",
        Column("descriptors", "sockets"),
    ),
    Metric(
        "container_ulimits_soft",
        Kind.GAUGE,
        "Soft limits of the container's first process.",
        "container_ulimits",
        (Sample((Column("ulimits", "max_open_files"),), labels=(("ulimit", "max_open_files"),)),),
    ),
    Metric(
        "container_tasks_state",
        Kind.GAUGE,
        "Threads in the container by state.",
        "container_tasks",
        tuple(Sample((Column("tasks", state),), labels=(("state", state),)) for state in TASK_FIELDS),
    ),
    gauge("container_processes", "Processes in the container.", "container_process", Column("process", "cgroup.procs")),
    gauge(
        "container_threads",
        "Threads in the container.",
        "container_pids",
        Column("pids.v2", "pids.current"),
        Column("pids.v1", "pids.current"),
    ),
    gauge(
        "container_threads_max",
        "Most threads that the container may have.",
        "container_pids",
        Column("pids.v2", "pids.max"),
        Column("pids.v1", "pids.max"),
    ),
    *(
        counter(
            f"container_pressure_{resource}_{name}_seconds_total",
            f"Time for which {who} waited for {what}, in seconds.",
            "container_pressure",
            Column("pressure", f"{resource}.pressure:{key}:total", USEC),
        )
        for resource, what in (("cpu", "a CPU"), ("memory", "memory"), ("io", "I/O"))
        for name, key, who in (("waiting", "some", "some process"), ("stalled", "full", "all processes"))
    ),
    gauge(
        "container_spec_cpu_period",
        "Enforcement period of the CPU quota, in microseconds.",
        "container_cpu",
        _cpu_v2("cpu.max:period", ONE),
        _cpu_v1("cpu.cfs_period_us", ONE),
    ),
    gauge(
        "container_spec_cpu_quota",
        "CPU quota in a period, in microseconds.",
        "container_cpu",
        _cpu_v2("cpu.max:quota", ONE),
        _cpu_v1("cpu.cfs_quota_us", ONE),
    ),
    gauge(
        "container_spec_cpu_shares",
        "Share of CPU time relative to others.",
        "container_cpu",
        _cpu_v2("cpu.weight", SHARES_OF_WEIGHT),
        _cpu_v1("cpu.shares", ONE),
    ),
    gauge(
        "container_spec_memory_limit_bytes",
        "Memory limit, in bytes.",
        "container_memory",
        *memory_columns("memory.max", "memory.limit_in_bytes", "physcap"),
    ),
    gauge(
        "container_spec_memory_swap_limit_bytes",
        "Swap limit, in bytes; with version 1 control groups memory and swap together.",
        "container_memory",
        *memory_columns("memory.swap.max", "memory.memsw.limit_in_bytes", "swapcap"),
    ),
    gauge(
        "container_spec_memory_reservation_limit_bytes",
        "Memory reservation, in bytes.",
        "container_memory",
        *memory_columns("memory.min", "memory.soft_limit_in_bytes"),
    ),
    *KERNEL_COUNTS,
)


def without_table(metric: Metric, table: str) -> Metric:
    """Return a metric without the samples that come only from a table."""
    samples = tuple(sample for sample in metric.samples if any(column.table != table for column in sample.columns))
    return replace(metric, samples=samples)

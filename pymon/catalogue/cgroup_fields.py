"""Kernel files that are read of containers, and the fields of each: the tables of the cgroup source.

A column is named `file` or `file:field`, or in a table of one file by the field alone. Fields that no metric names are
not read, so a file is added by its row here and the metrics that name its columns. Kernel documents:
Documentation/admin-guide/cgroup-v2.rst, Documentation/admin-guide/cgroup-v1/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pymon.catalogue.model import Column, Creation

CREATION = Creation(
    Column("container", "creation_seconds"),
    frozenset(
        f"{name}.v2"
        for name in "blkio cpu cputime events freezer hugetlb io memory misc pids_events swap zswap".split()
    )
    | {"pressure", "pressure_irq"},
)
"""Of version 2. Counters of version 1 can be set back by a write."""

HUGEPAGE_SIZES = ("64KB", "1MB", "2MB", "16MB", "32MB", "512MB", "1GB", "16GB")
"""The huge page sizes of all architectures, in the spelling of hugetlb's file names."""

TCP_STATES = (
    "established",
    "synsent",
    "synrecv",
    "finwait1",
    "finwait2",
    "timewait",
    "close",
    "closewait",
    "lastack",
    "listen",
    "closing",
)
"""In the order of the kernel's state numbers, which start at 1 (include/net/tcp_states.h)."""

UDP_STATES = ("listen", "dropped", "rxqueued", "txqueued")

NETWORK_FIELDS = tuple(
    f"{way}_{field}"
    for way, fields in (
        ("receive", ("bytes", "packets", "errs", "drop", "fifo", "frame", "compressed", "multicast")),
        ("transmit", ("bytes", "packets", "errs", "drop", "fifo", "colls", "carrier", "compressed")),
    )
    for field in fields
)
"""The columns of a line of /proc/PID/net/dev, in order."""

SCHED_FIELDS = ("run", "runqueue", "periods")
"""The fields of /proc/PID/schedstat: nanoseconds on a CPU, nanoseconds waiting for a CPU, number of time slices."""

DESCRIPTOR_FIELDS = ("files", "sockets")
"""The number of entries in /proc/PID/fd, and of those that are sockets."""

ULIMIT_FIELDS = ("max_open_files",)
"""Soft limits from /proc/PID/limits: the number of open files. A limit that is `unlimited` has no value."""

TASK_FIELDS = ("sleeping", "running", "stopped", "uninterruptible")
"""States of threads in /proc/PID/task/TID/stat: S, R, T or t, and D."""

ADVANCED_TCP_FIELDS = (
    *(
        f"Tcp:{field}"
        for field in (
            "RtoAlgorithm",
            "RtoMin",
            "RtoMax",
            "MaxConn",
            "ActiveOpens",
            "PassiveOpens",
            "AttemptFails",
            "EstabResets",
            "CurrEstab",
            "InSegs",
            "OutSegs",
            "RetransSegs",
            "InErrs",
            "OutRsts",
            "InCsumErrors",
        )
    ),
    *(
        f"TcpExt:{field}"
        for field in (
            "EmbryonicRsts",
            "SyncookiesSent",
            "SyncookiesRecv",
            "SyncookiesFailed",
            "PruneCalled",
            "RcvPruned",
            "OfoPruned",
            "OutOfWindowIcmps",
            "LockDroppedIcmps",
            "TW",
            "TWRecycled",
            "TWKilled",
            "TCPTimeWaitOverflow",
            "TCPTimeouts",
            "TCPSpuriousRTOs",
            "TCPLossProbes",
            "TCPLossProbeRecovery",
            "TCPRenoRecoveryFail",
            "TCPSackRecoveryFail",
            "TCPRenoFailures",
            "TCPSackFailures",
            "TCPLossFailures",
            "DelayedACKs",
            "DelayedACKLocked",
            "DelayedACKLost",
            "ListenOverflows",
            "ListenDrops",
            "TCPHPHits",
            "TCPPureAcks",
            "TCPHPAcks",
            "TCPRenoRecovery",
            "TCPSackRecovery",
            "TCPSACKReneging",
            "TCPFACKReorder",
            "TCPSACKReorder",
            "TCPRenoReorder",
            "TCPTSReorder",
            "TCPFullUndo",
            "TCPPartialUndo",
            "TCPDSACKUndo",
            "TCPLossUndo",
            "TCPFastRetrans",
            "TCPSlowStartRetrans",
            "TCPLostRetransmit",
            "TCPRetransFail",
            "TCPRcvCollapsed",
            "TCPDSACKOldSent",
            "TCPDSACKOfoSent",
            "TCPDSACKRecv",
            "TCPDSACKOfoRecv",
            "TCPAbortOnData",
            "TCPAbortOnClose",
            "TCPAbortOnMemory",
            "TCPAbortOnTimeout",
            "TCPAbortOnLinger",
            "TCPAbortFailed",
            "TCPMemoryPressures",
            "TCPMemoryPressuresChrono",
            "TCPSACKDiscard",
            "TCPDSACKIgnoredOld",
            "TCPDSACKIgnoredNoUndo",
            "TCPMD5NotFound",
            "TCPMD5Unexpected",
            "TCPMD5Failure",
            "TCPSackShifted",
            "TCPSackMerged",
            "TCPSackShiftFallback",
            "TCPBacklogDrop",
            "PFMemallocDrop",
            "TCPMinTTLDrop",
            "TCPDeferAcceptDrop",
            "IPReversePathFilter",
            "TCPReqQFullDoCookies",
            "TCPReqQFullDrop",
            "TCPFastOpenActive",
            "TCPFastOpenActiveFail",
            "TCPFastOpenPassive",
            "TCPFastOpenPassiveFail",
            "TCPFastOpenListenOverflow",
            "TCPFastOpenCookieReqd",
            "TCPSynRetrans",
            "TCPOrigDataSent",
            "PAWSActive",
            "PAWSEstab",
        )
    ),
)
"""Protocol and field of /proc/PID/net/snmp and /proc/PID/net/netstat, those that cAdvisor has. Kernels lack some."""


@dataclass(frozen=True, slots=True)
class File:
    """A kernel file.

    kind: of native/linux/kinds.c. A file of kind `flat` or `nested` has the fields that metrics name: a key, or what
    labels do not say of key and subkey: `key:subkey` without labels, the subkey where labels come from the key, else
    the key.
    slow: a setting, read again after a minute.
    controllers: the version 1 hierarchies to look in, in order of preference; none: that of the table.
    older: the file to read for the same columns where the hierarchy's root has none of this name.
    optional: whether nothing is read where the root has neither.
    better_than: the file after it, whose columns it fills. That one only fills what is left then, and nothing where
    this one cannot be read, because the numbers of the two do not go on from one another.
    fields: of a file without keys that has several numbers, in order.
    labels: of kinds `nested` and `listed`: a row is added for each combination of their values. Label to where its
    value comes from: `key`, `scope` (whether the key begins with `hierarchical_`), `device`, `major`, `minor` (the key
    is the number of a block device), `node` (the subkey without its `N`), `subkey`.
    keys: the keys that count, where both key and subkey are labels and the numbers have one column.
    second: of the kinds that look at the groups above, too: a file that is read after it, as one text.
    """

    name: str
    kind: str
    slow: bool = False
    controllers: tuple[str, ...] = ()
    older: str = ""
    optional: bool = False
    better_than: str = ""
    fields: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    second: str = ""


@dataclass(frozen=True, slots=True)
class GroupTable:
    """The files of a table in order of priority, where they are, and which reader reads them.

    version: of the control groups. controller: "" is any.
    """

    reader: str
    version: int
    controller: str
    files: tuple[File, ...]


def _v1(reader: str, controller: str, *files: File) -> GroupTable:
    return GroupTable(reader, 1, controller, files)


def _v2(reader: str, controller: str, *files: File) -> GroupTable:
    return GroupTable(reader, 2, controller, files)


def _setting(name: str, kind: str = "limit", *controllers: str) -> File:
    return File(name, kind, slow=True, controllers=controllers)


def _scheduler(field: str, better_than: str = "") -> File:
    """Return a file of the scheduler BFQ, or of its predecessor CFQ, which is not there without it.

    BFQ counts bytes and operations; more with CONFIG_BFQ_CGROUP_DEBUG only.
    """
    return File(
        f"blkio.bfq.{field}_recursive",
        "nested",
        older=f"blkio.{field}_recursive",
        optional=True,
        better_than=better_than,
        labels=_BY_DEVICE,
    )


def _throttle(field: str) -> File:
    """Return a file of blk-throttle. In older kernels what groups inside a container did is missing."""
    name = f"blkio.throttle.{field}"
    return File(f"{name}_recursive", "nested", older=name, labels=_BY_DEVICE)


def _least(name: str, kind: str = "limit", second: str = "") -> File:
    """Return a setting that is the lowest of the group's and of those above it."""
    return File(name, f"least {kind}", slow=True, second=second)


_BY_DEVICE = {"device": "device"}

_BY_RESOURCE = {"resource": "key"}

_NUMA = (
    "anon",
    "file",
    "kernel_stack",
    "pagetables",
    "sec_pagetables",
    "shmem",
    "file_mapped",
    "file_dirty",
    "file_writeback",
    "swapcached",
    "anon_thp",
    "file_thp",
    "shmem_thp",
    "inactive_anon",
    "active_anon",
    "inactive_file",
    "active_file",
    "unevictable",
    "slab_reclaimable",
    "slab_unreclaimable",
)
"""The sizes in bytes of memory.numa_stat. Its other lines count events."""

CGROUP_CONTROLLERS = (
    "cpuset",
    "cpu",
    "io",
    "memory",
    "devices",
    "freezer",
    "perf_event",
    "hugetlb",
    "pids",
    "rdma",
    "misc",
    "dmem",
)
"""The controllers that cgroup.stat may name (include/linux/cgroup_subsys.h)."""

TABLES: Mapping[str, GroupTable] = {
    "memory.v2": _v2(
        "memory",
        "memory",
        File("memory.stat", "flat"),
        File("memory.current", "value"),
        File("memory.peak", "value"),
        File("memory.swap.current", "value"),
        _setting("memory.max"),
        _setting("memory.swap.max"),
        _setting("memory.min"),
        _setting("memory.low"),
        _setting("memory.high"),
    ),
    "memory.v1": _v1(
        "memory",
        "memory",
        File("memory.stat", "flat"),
        File("memory.usage_in_bytes", "value"),
        File("memory.max_usage_in_bytes", "value"),
        File("memory.kmem.usage_in_bytes", "value"),
        _setting("memory.limit_in_bytes"),
        _setting("memory.memsw.limit_in_bytes"),
        _setting("memory.soft_limit_in_bytes"),
    ),
    "numa.v1": _v1(
        "memory",
        "memory",
        File(
            "memory.numa_stat",
            "nested",
            labels={"node": "node", "scope": "scope", "type": "key"},
            keys=("file", "anon", "unevictable"),
        ),
    ),
    "numa.v2": _v2(
        "memory", "memory", File("memory.numa_stat", "nested", labels={"node": "node", "type": "key"}, keys=_NUMA)
    ),
    "swap.v2": _v2(
        "memory",
        "memory",
        File("memory.swap.events", "flat"),
        File("memory.swap.peak", "value"),
        _setting("memory.swap.high"),
    ),
    "zswap.v2": _v2(
        "memory",
        "memory",
        File("memory.zswap.current", "value"),
        File("memory.stat", "flat"),
        _setting("memory.zswap.max"),
    ),
    "cpu.v2": _v2(
        "cpu",
        "",
        File("cpu.stat", "flat"),
        File("cpu.max", "pair", slow=True, fields=("quota", "period")),
        _setting("cpu.weight", "value"),
    ),
    "cpu.v1": _v1(
        "cpu",
        "cpuacct",
        File("cpuacct.stat", "flat"),
        File("cpuacct.usage", "value"),
        File("cpu.stat", "flat", controllers=("cpu",)),
        _setting("cpu.cfs_quota_us", "limit", "cpu"),
        _setting("cpu.cfs_period_us", "value", "cpu"),
        _setting("cpu.shares", "value", "cpu"),
    ),
    "cputime.v2": _v2("cpu", "", File("cpu.stat", "flat"), File("cpu.stat.local", "flat")),
    "percpu.v1": _v1("cpu", "cpuacct", File("cpuacct.usage_percpu", "percpu")),
    "cpuset.v1": _v1(
        "cpu", "cpuset", _setting("cpuset.memory_migrate", "value"), _setting("cpuset.effective_cpus", "cpus")
    ),
    "cpuset.v2": _v2("cpu", "cpuset", _setting("cpuset.cpus.effective", "cpus")),
    "io.v2": _v2("io", "io", File("io.stat", "nested", labels=_BY_DEVICE)),
    "io.v1": _v1(
        "io",
        "blkio",
        # Where no throttle rule was ever set for a device, only its scheduler counts, if it counts by group.
        _scheduler("io_service_bytes", "blkio.throttle.io_service_bytes_recursive"),
        _throttle("io_service_bytes"),
        _scheduler("io_serviced", "blkio.throttle.io_serviced_recursive"),
        _throttle("io_serviced"),
    ),
    "iosched.v1": _v1("io", "blkio", _scheduler("io_service_time"), _scheduler("io_merged"), _scheduler("io_queued")),
    "events.v2": _v2("io", "memory", File("memory.events", "flat")),
    "events.v1": _v1("io", "memory", File("memory.oom_control", "flat"), File("memory.failcnt", "value")),
    "pressure": _v2(
        "pressure",
        "",
        File("cpu.pressure", "nested"),
        File("memory.pressure", "nested"),
        File("io.pressure", "nested"),
    ),
    "pressure_irq": _v2("pressure", "", File("irq.pressure", "nested")),
    "pids_events.v2": _v2("process", "pids", File("pids.peak", "value"), File("pids.events", "flat")),
    "pids_events.v1": _v1("process", "pids", File("pids.peak", "value"), File("pids.events", "flat")),
    "freezer.v2": _v2("group", "", File("cgroup.events", "flat"), File("cgroup.stat.local", "flat")),
    "descendants.v2": _v2("group", "", File("cgroup.stat", "flat")),
    "misc.v2": _v2(
        "group",
        "misc",
        *(File(f"misc.{name}", "listed", labels=_BY_RESOURCE) for name in ("current", "peak", "max", "events")),
    ),
    "rdma.v2": _v2(
        "group",
        "rdma",
        *(File(f"rdma.{name}", "nested", labels={"device": "key"}) for name in ("current", "max")),
    ),
    "dmem.v2": _v2(
        "group",
        "dmem",
        *(File(f"dmem.{name}", "listed", labels={"region": "key"}) for name in ("current", "max", "min", "low")),
    ),
    "effective_memory.v2": _v2("memory", "memory", _least("memory.max")),
    "effective_memory.v1": _v1("memory", "memory", _least("memory.limit_in_bytes")),
    "effective_cpu.v2": _v2("cpu", "cpu", _least("cpu.max", "cores")),
    "effective_cpu.v1": _v1("cpu", "cpu", _least("cpu.cfs_quota_us", "cores", "cpu.cfs_period_us")),
    "effective_pids.v2": _v2("process", "pids", _least("pids.max")),
    "effective_pids.v1": _v1("process", "pids", _least("pids.max")),
    "pids.v2": _v2("process", "pids", File("pids.current", "value"), _setting("pids.max")),
    "pids.v1": _v1("process", "pids", File("pids.current", "value"), _setting("pids.max")),
    "hugetlb.v2": _v2(
        "hugetlb",
        "hugetlb",
        *(File(f"hugetlb.{size}.current", "value") for size in HUGEPAGE_SIZES),
        *(File(f"hugetlb.{size}.events", "flat") for size in HUGEPAGE_SIZES),
    ),
    "hugetlb.v1": _v1(
        "hugetlb",
        "hugetlb",
        *(File(f"hugetlb.{size}.usage_in_bytes", "value") for size in HUGEPAGE_SIZES),
        *(File(f"hugetlb.{size}.max_usage_in_bytes", "value") for size in HUGEPAGE_SIZES),
        *(File(f"hugetlb.{size}.failcnt", "value") for size in HUGEPAGE_SIZES),
    ),
}
"""Every table of the source that is read from files of a group's directory."""

NUMBERED = {"io.v2": "blkio.v2", "io.v1": "blkio.v1"}
"""Tables whose rows are block devices, and those that repeat the rows with the devices' numbers."""

NUMBERED_LABELS = {"device": "device", "major": "major", "minor": "minor"}

NETWORK_TABLES: Mapping[str, tuple[File, ...]] = {
    "network": (File("net/dev", "interfaces", fields=NETWORK_FIELDS),),
    "sockstat": (File("net/sockstat", "nested"), File("net/sockstat6", "nested")),
    "tcp": (File("net/tcp", "tcp", fields=TCP_STATES),),
    "tcp6": (File("net/tcp6", "tcp", fields=TCP_STATES),),
    "udp": (File("net/udp", "udp", fields=UDP_STATES),),
    "udp6": (File("net/udp6", "udp", fields=UDP_STATES),),
    "advtcp": (File("net/snmp", "statistics"), File("net/netstat", "statistics")),
}
"""Tables of the network namespaces that containers have to themselves: files below /proc/PID. A column is named by its
field alone."""

ROW_LABELS: Mapping[str, tuple[str, ...]] = {
    **{name: tuple(table.files[0].labels) for name, table in TABLES.items()},
    **dict.fromkeys(NUMBERED.values(), tuple(NUMBERED_LABELS)),
    "percpu.v1": ("cpu",),
    "network": ("interface",),
}
"""Labels that rows of a table have besides those of their container."""

PROCESS_TABLES: Mapping[str, tuple[str, ...]] = {
    "sched": SCHED_FIELDS,
    "descriptors": DESCRIPTOR_FIELDS,
    "ulimits": ULIMIT_FIELDS,
    "tasks": TASK_FIELDS,
}
"""Tables of what the processes of a container are looked at for, one by one, and their columns."""

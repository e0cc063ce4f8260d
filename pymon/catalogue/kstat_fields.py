"""The kstats and statistics that are read, in the spelling of illumos. They define the tables of the kstat source.

Only the listed statistics are read. A statistic that a kernel does not have is absent, so the lists contain those of
all kernels. The layouts are defined in usr/src/uts/common/os (zone.c, cap_util.c), uts/common/sys/kstat.h and arc.c of
illumos.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

UNLIMITED_64 = 2**64 - 1
"""UINT64_MAX: the value of a resource control (rctl) without a limit."""

UNLIMITED_PAGES = (2**32 - 1) * 4096
"""UINT32_MAX pages of 4 KiB: the value of physcap without a limit, in bytes."""

UNLIMITED_32 = 2**31 - 1
"""INT_MAX: how the rctl of processes says it."""


class Rows(StrEnum):
    """What a row of a table represents.

    ZONE: a zone. Row i belongs to row i of the table of zones. The instance of the kstat is the zone's id.
    OF_ZONE: a kstat of the zone that its statistic `zonename` names. The parent is the row of that zone.
    NODE: a kstat of the node. It has no parent.
    """

    ZONE = "zone"
    OF_ZONE = "of_zone"
    NODE = "node"


@dataclass(frozen=True, slots=True)
class Kstat:
    """A set of kstats and the table that they fill.

    collector: the collector of its metrics. module, kstat_class: of the kstat.
    name: of the kstat, "" for any; `{zone}` is the zone's name, cut to 30 characters; `{instance}` is the instance.
    instance: of the kstat, None for any.
    labels: label -> source of its value: "instance", "name", "stat:<name>" or "interface". The last is the name without
    `z<zone id>_`, with the part before its first digit replaced by `vnic`.
    absent: statistic -> values that mean that there is none.
    """

    table: str
    collector: str
    kstat_class: str
    module: str
    name: str
    rows: Rows
    statistics: tuple[str, ...]
    instance: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


ARCSTATS_FIELDS = tuple(
    """
    anon_evictable_data anon_evictable_metadata anon_size arc_meta_limit arc_meta_max arc_meta_min arc_meta_used
    async_upgrade_sync c c_max c_min compressed_size data_size demand_data_hits demand_data_misses
    demand_hit_predictive_prefetch demand_metadata_hits demand_metadata_misses evict_l2_cached evict_l2_eligible
    evict_l2_ineligible evict_l2_skip evict_not_enough evict_skip hash_chain_max hash_chains hash_collisions
    hash_elements hash_elements_max hdr_size hits l2_abort_lowmem l2_asize l2_cksum_bad l2_evict_l1cached
    l2_evict_lock_retry l2_evict_reading l2_feeds l2_free_on_write l2_hdr_size l2_hits l2_io_error l2_misses
    l2_read_bytes l2_rw_clash l2_size l2_write_bytes l2_writes_done l2_writes_error l2_writes_lock_retry l2_writes_sent
    memory_throttle_count metadata_size mfu_evictable_data mfu_evictable_metadata mfu_ghost_evictable_data
    mfu_ghost_evictable_metadata mfu_ghost_hits mfu_ghost_size mfu_hits mfu_size misses mru_evictable_data
    mru_evictable_metadata mru_ghost_evictable_data mru_ghost_evictable_metadata mru_ghost_hits mru_ghost_size mru_hits
    mru_size mutex_miss other_size overhead_size p prefetch_data_hits prefetch_data_misses prefetch_metadata_hits
    prefetch_metadata_misses size sync_wait_for_async uncompressed_size
    """.split()
)

KSTATS: tuple[Kstat, ...] = (
    Kstat(
        "kstat.zone_misc", "zone_misc", "zone_misc", "zones", "{zone}", Rows.ZONE,
        ("nsec_user", "nsec_sys", "nsec_waitrq", "avenrun_1min", "avenrun_5min", "avenrun_15min", "boot_time",
         "forkfail_cap", "forkfail_noproc", "forkfail_nomem", "forkfail_misc", "mapfail_seglim", "nested_interp",
         "init_pid", "init_restarts"),
    ),
    Kstat(
        "kstat.cpucap", "cpucap", "zone_caps", "caps", "cpucaps_zone_{instance}", Rows.ZONE,
        ("above_base_sec", "above_sec", "baseline", "below_sec", "burst_limit_sec", "bursting_sec", "effective",
         "maxusage", "nwait", "usage", "value"),
    ),
    Kstat(
        "kstat.memcap", "memcap", "zone_memory_cap", "memory_cap", "{zone}", Rows.ZONE,
        ("rss", "physcap", "swap", "swapcap", "nover", "pagedout", "pgpgin", "anonpgin", "execpgin", "fspgin",
         "anon_alloc_fail"),
        absent={"physcap": (0, UNLIMITED_PAGES, UNLIMITED_64), "swapcap": (0, UNLIMITED_64)},
    ),
    Kstat(
        "kstat.zone_vfs", "zone_vfs", "zone_vfs", "zone_vfs", "{zone}", Rows.ZONE,
        ("nread", "reads", "rtime", "rcnt", "rlentime", "nwritten", "writes", "wtime", "wcnt", "wlentime"),
    ),
    Kstat(
        "kstat.zone_zfs", "zone_zfs", "zone_zfs", "zone_zfs", "{zone}", Rows.ZONE,
        ("nread", "reads", "rtime", "rlentime", "nwritten", "writes", "waittime"),
    ),
    Kstat(
        "kstat.swapresv", "swapresv", "zone_caps", "caps", "swapresv_zone_{instance}", Rows.ZONE, ("usage", "value"),
        absent={"value": (UNLIMITED_64,)},
    ),
    Kstat(
        "kstat.nprocs", "nprocs", "zone_caps", "caps", "nprocs_zone_{instance}", Rows.ZONE, ("usage", "value"),
        absent={"value": (UNLIMITED_32, UNLIMITED_64)},
    ),
    Kstat(
        "kstat.tcp", "tcp", "mib2", "tcp", "tcp", Rows.ZONE,
        ("attemptFails", "retransSegs", "inDupAck", "listenDrop", "listenDropQ0", "halfOpenDrop", "timRetransDrop",
         "activeOpens", "passiveOpens", "currEstab"),
    ),
    Kstat(
        "kstat.link", "link", "net", "link", "", Rows.OF_ZONE,
        ("ipackets64", "opackets64", "rbytes64", "obytes64", "ierrors", "oerrors", "norcvbuf", "noxmtbuf"),
        instance=0, labels={"interface": "interface"},
    ),
    Kstat("kstat.cpu_info", "cpu_info", "misc", "cpu_info", "cpu_info0", Rows.NODE, ("model",), instance=0),
    Kstat(
        "kstat.cpu_sys", "cpu_util", "misc", "cpu", "sys", Rows.NODE,
        ("cpu_nsec_idle", "cpu_nsec_kernel", "cpu_nsec_user", "cpu_nsec_dtrace"),
        labels={"cpu_id": "instance"},
    ),
    Kstat(
        "kstat.metaslab_group", "zpool", "misc", "zfs_metaslab_group", "", Rows.NODE, ("loads", "unloads"),
        labels={"pool": "stat:spa_name", "vdev_guid": "name"},
    ),
    Kstat("kstat.arcstats", "arcstats", "misc", "zfs", "arcstats", Rows.NODE, ARCSTATS_FIELDS, instance=0),
    Kstat(
        "kstat.system_misc", "loadavg", "misc", "unix", "system_misc", Rows.NODE,
        ("avenrun_1min", "avenrun_5min", "avenrun_15min", "boot_time", "nproc", "ncpus"), instance=0,
    ),
)  # fmt: skip
"""All kstats that are read. To add a statistic, add its name here; to add a kstat, add a row."""

NODE_EXPORTER_KSTATS: tuple[Kstat, ...] = tuple(
    replace(item, labels={"cpu": "instance"}) if item.table == "kstat.cpu_sys" else item for item in KSTATS
)
"""All kstats that are read, with the labels of node_exporter, for the dialect with its names."""

ZONE_COLLECTORS = tuple(dict.fromkeys(item.collector for item in KSTATS if item.rows is not Rows.NODE))
NODE_COLLECTORS = tuple(dict.fromkeys(item.collector for item in KSTATS if item.rows is Rows.NODE))

STATUS_COLUMNS = ("available", "cached", "timer_ns")
"""Columns about each collector in `kstat.status` (one row for each zone) and `kstat.node_status` (one row).

The keys are `<collector>:<column>`. available: 1 if there were values, else 0. cached: 1 if these are from an earlier
run, else 0. timer_ns: duration in nanoseconds.
"""


def status_columns(collectors: tuple[str, ...]) -> tuple[str, ...]:
    """Return the columns of a status table for these collectors."""
    return tuple(f"{collector}:{column}" for collector in collectors for column in STATUS_COLUMNS)


ZONE_STATUS = status_columns((*ZONE_COLLECTORS, "zfs", "time"))
"""Columns of `kstat.status`. Those of kstats, which the kstat source fills, come first."""

NODE_STATUS = status_columns((*NODE_COLLECTORS, "ntp", "time"))
"""Columns of `kstat.node_status`. Those of kstats, which the kstat source fills, come first."""

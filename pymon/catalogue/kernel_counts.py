"""Metrics of containers that the kernel counts and cAdvisor has not.

Names begin with `container_`, or with `pymon_container_` if pymon computes the number; labels and units are as cAdvisor
would have them. What is in a file that is read anyway belongs to the collector of that file. A file more for each
container, if it is no setting, belongs to a collector that is off by default.
"""

from __future__ import annotations

from pymon.catalogue.cgroup_fields import CGROUP_CONTROLLERS
from pymon.catalogue.model import NSEC, USEC, Column, Kind, Metric, Sample, counter, gauge


def _memory(name: str, help: str, v2: str, v1: str | None = None) -> Metric:
    columns = [Column("memory.v2", v2)]
    if v1:
        columns.append(Column("memory.v1", v1))
    return gauge(name, help, "container_memory", *columns)


def _event(key: str, help: str) -> Metric:
    return counter(
        f"container_memory_events_{key}_total", help, "container_memory", Column("events.v2", f"memory.events:{key}")
    )


def _pids(key: str) -> tuple[Column, ...]:
    return Column("pids_events.v2", key), Column("pids_events.v1", key)


def _states(name: str, help: str, prefix: str) -> Metric:
    samples = tuple(
        Sample((Column("descendants.v2", f"cgroup.stat:{prefix}_{controller}"),), labels=(("controller", controller),))
        for controller in CGROUP_CONTROLLERS
    )
    return Metric(name, Kind.GAUGE, help, "container_cgroups", samples)


KERNEL_COUNTS: tuple[Metric, ...] = (
    _memory(
        "container_memory_active_anon_bytes",
        "Anonymous memory on the active list, in bytes.",
        "memory.stat:active_anon",
        "memory.stat:total_active_anon",
    ),
    _memory(
        "container_memory_inactive_anon_bytes",
        "Anonymous memory on the inactive list, in bytes.",
        "memory.stat:inactive_anon",
        "memory.stat:total_inactive_anon",
    ),
    _memory(
        "container_memory_anon_thp_bytes",
        "Anonymous memory in transparent huge pages, in bytes.",
        "memory.stat:anon_thp",
        "memory.stat:total_rss_huge",
    ),
    _memory(
        "container_memory_secondary_pagetables_bytes",
        "Memory of page tables that are not the processes' own, such as those of virtual machines, in bytes.",
        "memory.stat:sec_pagetables",
    ),
    _memory(
        "container_spec_memory_low_bytes",
        "Memory that is reclaimed only if none can be reclaimed from groups without such a protection, in bytes.",
        "memory.low",
    ),
    _memory(
        "container_spec_memory_high_bytes",
        "Memory use above which processes are slowed down and memory is reclaimed, in bytes.",
        "memory.high",
    ),
    _event("low", "Times that memory was reclaimed although use was below the low limit."),
    _event("oom", "Times that memory was at the limit and an allocation was about to fail."),
    _event("oom_group_kill", "Times that all processes of the group were killed together for want of memory."),
    gauge(
        "container_cpuset_cpus",
        "CPUs that the container may run on.",
        "container_cpuset",
        Column("cpuset.v2", "cpuset.cpus.effective"),
        Column("cpuset.v1", "cpuset.effective_cpus"),
    ),
    gauge(
        "pymon_container_effective_memory_limit_bytes",
        "Lowest memory limit of the container's control group and those above it, in bytes.",
        "container_effective",
        Column("effective_memory.v2", "memory.max"),
        Column("effective_memory.v1", "memory.limit_in_bytes"),
    ),
    gauge(
        "pymon_container_effective_cpu_limit_cores",
        "Lowest CPU quota of the container's control group and those above it, in CPUs.",
        "container_effective",
        Column("effective_cpu.v2", "cpu.max", NSEC),
        Column("effective_cpu.v1", "cpu.cfs_quota_us", NSEC),
    ),
    gauge(
        "pymon_container_effective_threads_max",
        "Lowest limit of threads of the container's control group and those above it.",
        "container_effective",
        Column("effective_pids.v2", "pids.max"),
        Column("effective_pids.v1", "pids.max"),
    ),
    Metric(
        "container_memory_numa_bytes",
        Kind.GAUGE,
        "Memory on each NUMA node by type, in bytes.",
        "container_memory_numa",
        (Sample((Column("numa.v2", "memory.numa_stat"),)),),
    ),
    *(
        counter(
            f"container_memory_swap_events_{key}_total",
            help,
            "container_swap",
            Column("swap.v2", f"memory.swap.events:{key}"),
        )
        for key, help in (
            ("high", "Times that swap use was over the high limit."),
            ("max", "Times that swap use was about to go over the limit and an allocation failed."),
            ("fail", "Times that an allocation of swap failed, for want of swap or at the limit."),
        )
    ),
    gauge(
        "container_memory_swap_max_usage_bytes",
        "Highest swap use recorded, in bytes.",
        "container_swap",
        Column("swap.v2", "memory.swap.peak"),
    ),
    gauge(
        "container_spec_memory_swap_high_bytes",
        "Swap use above which processes are slowed down, in bytes.",
        "container_swap",
        Column("swap.v2", "memory.swap.high"),
    ),
    gauge(
        "container_memory_zswap_bytes",
        "Memory of the compressed swap cache, in bytes.",
        "container_zswap",
        Column("zswap.v2", "memory.zswap.current"),
    ),
    gauge(
        "container_spec_memory_zswap_limit_bytes",
        "Limit of the compressed swap cache, in bytes.",
        "container_zswap",
        Column("zswap.v2", "memory.zswap.max"),
    ),
    gauge(
        "container_memory_zswapped_bytes",
        "Memory that is in the compressed swap cache, before compression, in bytes.",
        "container_zswap",
        Column("zswap.v2", "memory.stat:zswapped"),
    ),
    *(
        counter(f"container_memory_{key}_total", help, "container_zswap", Column("zswap.v2", f"memory.stat:{key}"))
        for key, help in (
            ("zswpin", "Pages that came back from the compressed swap cache."),
            ("zswpout", "Pages that went into the compressed swap cache."),
            ("zswpwb", "Pages that were written from the compressed swap cache to swap."),
        )
    ),
    counter(
        "container_cpu_nice_seconds_total",
        "CPU time of processes with a positive nice value, in user mode, in seconds.",
        "container_cputime",
        Column("cputime.v2", "cpu.stat:nice_usec", USEC),
    ),
    counter(
        "container_cpu_core_sched_force_idle_seconds_total",
        "CPU time for which core scheduling kept a CPU idle because of the container's processes, in seconds.",
        "container_cputime",
        Column("cputime.v2", "cpu.stat:core_sched.force_idle_usec", USEC),
    ),
    counter(
        "container_cpu_local_throttled_seconds_total",
        "Time for which the container was throttled by its own quota or one above it, in seconds.",
        "container_cputime",
        Column("cputime.v2", "cpu.stat.local:throttled_usec", USEC),
    ),
    gauge("container_threads_peak", "Most threads at a time.", "container_pids_events", *_pids("pids.peak")),
    counter(
        "container_threads_max_events_total",
        "Times that a thread could not be started because of a limit.",
        "container_pids_events",
        *_pids("pids.events:max"),
    ),
    counter(
        "container_pressure_irq_stalled_seconds_total",
        "Time for which all processes waited for interrupts, in seconds.",
        "container_pressure_irq",
        Column("pressure_irq", "irq.pressure:full:total", USEC),
    ),
    gauge(
        "container_frozen",
        "Whether all processes of the container are frozen.",
        "container_freezer",
        Column("freezer.v2", "cgroup.events:frozen"),
    ),
    counter(
        "container_frozen_seconds_total",
        "Time for which the container was frozen or about to be, in seconds.",
        "container_freezer",
        Column("freezer.v2", "cgroup.stat.local:frozen_usec", USEC),
    ),
    gauge(
        "container_cgroups",
        "Control groups inside the container.",
        "container_cgroups",
        Column("descendants.v2", "cgroup.stat:nr_descendants"),
    ),
    gauge(
        "container_cgroups_dying",
        "Control groups inside the container that were removed and still hold resources.",
        "container_cgroups",
        Column("descendants.v2", "cgroup.stat:nr_dying_descendants"),
    ),
    _states(
        "container_cgroups_by_controller",
        "Control groups at and inside the container that have the controller.",
        "nr_subsys",
    ),
    _states(
        "container_cgroups_dying_by_controller",
        "Control groups inside the container that were removed and still hold resources of the controller.",
        "nr_dying_subsys",
    ),
    *(
        gauge(f"container_misc_{name}", help, "container_misc", Column("misc.v2", f"misc.{file}"))
        for name, file, help in (
            ("usage", "current", "Units of a scarce resource that are in use, such as keys of encrypted machines."),
            ("max_usage", "peak", "Most units of a scarce resource at a time."),
            ("limit", "max", "Most units of a scarce resource that the container may use."),
        )
    ),
    counter(
        "container_misc_max_events_total",
        "Times that the use of a scarce resource was about to go over a limit.",
        "container_misc",
        Column("misc.v2", "misc.events"),
    ),
    *(
        gauge(f"container_rdma_{name}", help, "container_rdma", Column("rdma.v2", f"rdma.{key}"))
        for name, key, help in (
            ("hca_handles", "current:hca_handle", "Handles of RDMA devices that are open."),
            ("hca_objects", "current:hca_object", "Objects of RDMA devices that are in use."),
            ("hca_handles_limit", "max:hca_handle", "Most handles of RDMA devices that may be open."),
            ("hca_objects_limit", "max:hca_object", "Most objects of RDMA devices that may be in use."),
        )
    ),
    *(
        gauge(f"container_dmem_{name}_bytes", help, "container_dmem", Column("dmem.v2", f"dmem.{file}"))
        for name, file, help in (
            ("usage", "current", "Memory of a device in use, in bytes."),
            ("limit", "max", "Limit of the use of a device's memory, in bytes."),
            ("min", "min", "Memory of a device that is never evicted, in bytes."),
            ("low", "low", "Memory of a device that is evicted only if there is none elsewhere, in bytes."),
        )
    ),
)

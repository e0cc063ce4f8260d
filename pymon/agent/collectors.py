"""All collectors of the agent: their names, defaults, help texts, and the tables that they fill."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymon.agent.containers import ContainerCollector
from pymon.agent.options import CollectorOption
from pymon.sources.node import NODE_COLLECTORS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pymon.catalogue.model import Metric

_CONTAINER: tuple[tuple[str, bool, str, tuple[str, ...]], ...] = (
    ("container", True, "When containers started, were seen and ended.", ("container", "stopped")),
    ("container_cpu", True, "CPU time, quota and shares.", ("cpu.v1", "cpu.v2", "percpu.v1")),
    ("container_percpu", True, "CPU time by CPU (version 1), instead of the total.", ("percpu.v1",)),
    ("container_cpuset", True, "Settings of the cpuset controller.", ("cpuset.v1", "cpuset.v2")),
    ("container_cputime", False, "Kinds of CPU time (version 2); two more files.", ("cputime.v2",)),
    ("container_memory", True, "Memory.", ("memory.v1", "memory.v2", "events.v1", "events.v2")),
    ("container_memory_numa", False, "Memory by NUMA node; one more file a container.", ("numa.v1", "numa.v2")),
    ("container_swap", False, "Swap limits that were hit, and peak (version 2); two more files.", ("swap.v2",)),
    ("container_zswap", False, "The compressed swap cache (version 2); two more files.", ("zswap.v2",)),
    ("container_hugetlb", True, "Huge pages.", ("hugetlb.v1", "hugetlb.v2")),
    ("container_io", True, "Block devices.", ("io.v1", "io.v2", "blkio.v1", "blkio.v2")),
    (
        "container_io_scheduler",
        False,
        "Block devices, as their scheduler counts (version 1); up to three more files.",
        ("iosched.v1", "io.v1", "io.v2"),
    ),
    ("container_network", True, "Interfaces of network namespaces.", ("network",)),
    ("container_sockstat", True, "Sockets in use in network namespaces.", ("sockstat",)),
    ("container_tcp", False, "TCP sockets by state; walks the kernel's socket table.", ("tcp", "tcp6")),
    ("container_udp", False, "UDP sockets and queues; walks the kernel's socket table.", ("udp", "udp6")),
    ("container_advtcp", False, "The kernel's TCP statistics of network namespaces; two more files.", ("advtcp",)),
    ("container_process", True, "Processes.", ("process",)),
    ("container_sched", False, "Scheduling statistics; a file of every process.", ("sched",)),
    (
        "container_file_descriptors",
        False,
        "Open files and sockets; a directory of every process and a link of every file.",
        ("descriptors",),
    ),
    ("container_ulimits", False, "The limit of open files of the first process; one more file.", ("ulimits",)),
    (
        "container_tasks",
        False,
        "Threads by state, and load averages; reads a file of every thread every second.",
        ("tasks", "load"),
    ),
    (
        "container_disk",
        False,
        "Use of writable layers; walks their files in the background where they have no project quota.",
        ("disk",),
    ),
    (
        "container_resctrl",
        False,
        "Cache and memory bandwidth of containers that have a group in resctrl; reads the groups every second.",
        ("resctrl",),
    ),
    ("container_pids", True, "Threads and their limit.", ("pids.v1", "pids.v2")),
    (
        "container_peaks",
        False,
        "The highest CPU time, throttling, pressure and memory in the last 15 s and 60 s; reads them every second.",
        ("peaks", "memory_peaks"),
    ),
    (
        "container_latency",
        False,
        "Waiting for a CPU and for block devices, counted by BPF at every switch and request.",
        ("latency.tasks", "latency.requests"),
    ),
    (
        "container_pids_events",
        False,
        "Most threads, and threads that were refused; two more files.",
        ("pids_events.v1", "pids_events.v2"),
    ),
    (
        "container_effective",
        True,
        "The tightest limits of containers and the groups above them.",
        tuple(f"effective_{name}.{version}" for name in ("memory", "cpu", "pids") for version in ("v1", "v2")),
    ),
    ("container_pressure", True, "Pressure stall times (version 2).", ("pressure",)),
    ("container_pressure_irq", False, "Stalls by interrupts (version 2); one more file.", ("pressure_irq",)),
    ("container_freezer", False, "Frozen containers (version 2); two more files.", ("freezer.v2",)),
    ("container_cgroups", False, "Control groups in containers (version 2); one more file.", ("descendants.v2",)),
    ("container_misc", False, "Scarce resources of the machine (version 2); four more files.", ("misc.v2",)),
    ("container_rdma", False, "RDMA devices (version 2); two more files.", ("rdma.v2",)),
    ("container_dmem", False, "Memory of devices (version 2); four more files.", ("dmem.v2",)),
)

CONTAINER_COLLECTORS: tuple[ContainerCollector, ...] = tuple(
    ContainerCollector(name, tables) for name, _, _, tables in _CONTAINER
)

_CMON: dict[str, str] = {
    "zone_misc": "CPU time and load of containers.",
    "cpucap": "CPU caps of zones.",
    "memcap": "Memory of containers and its caps.",
    "zone_vfs": "File systems of containers.",
    "zone_zfs": "What zones ask of ZFS, and how long they are held back.",
    "swapresv": "Swap that zones have reserved, and its cap.",
    "nprocs": "Processes of zones, and their cap.",
    "tcp": "TCP of containers.",
    "link": "Interfaces of containers.",
    "cpu_info": "Model of the CPU.",
    "cpu_util": "CPU time of the node.",
    "zpool": "ZFS pools, by zpool(8).",
    "arcstats": "Cache of ZFS.",
    "ntp": "The time daemon, by ntpq(8).",
    "triton_core": "What zones of Triton itself serve at their metricPorts.",
}
"""Collectors of the cmon dialect. Its `zfs` and `time` are not listed here: they share names with node collectors."""

COLLECTORS: tuple[CollectorOption, ...] = (
    *(CollectorOption(name, default, text) for name, default, text, _ in _CONTAINER),
    *(
        CollectorOption(item.name, item.default, f"Node: {item.name}, as node_exporter has it.")
        for item in NODE_COLLECTORS
    ),
    *(CollectorOption(name, True, f"Dialect cmon: {text}") for name, text in _CMON.items()),
    CollectorOption("plugin", True, "Programs of the operator."),
    CollectorOption("textfile", True, "Metrics in files."),
)


def collectors_of(
    metrics: Iterable[Metric], tables: Collection[str], node: Collection[str] = ()
) -> list[ContainerCollector]:
    """Return the collectors whose metrics use these tables, each with the tables that it uses.

    A collector that uses tables of containers and of the node is returned twice, once for each. node: names of the
    tables that are about the node.
    """
    found: dict[str, dict[str, None]] = {}
    for metric in metrics:
        for sample in metric.samples:
            for column in sample.columns:
                if column.table in tables:
                    found.setdefault(metric.collector, {})[column.table] = None
    split = [
        ContainerCollector(name, tuple(table for table in of_name if (table in node) is about_node), about_node)
        for name, of_name in found.items()
        for about_node in (False, True)
    ]
    return [item for item in split if item.tables]

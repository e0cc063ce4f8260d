"""Every collector of the agent: its name, whether it is on by default, what it costs, and the tables it fills."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymon.agent.containers import ContainerCollector
from pymon.agent.options import CollectorOption
from pymon.sources.node import NODE_COLLECTORS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pymon.catalogue.model import Metric

_CONTAINER: tuple[tuple[str, bool, str, tuple[str, ...]], ...] = (
    ("container", True, "When containers started and were seen.", ("container",)),
    ("container_cpu", True, "CPU time, quota and shares.", ("cpu.v1", "cpu.v2")),
    ("container_percpu", True, "CPU time by CPU (version 1), instead of the total.", ("percpu.v1",)),
    ("container_cpuset", True, "Settings of the cpuset controller (version 1).", ("cpuset.v1",)),
    ("container_memory", True, "Memory.", ("memory.v1", "memory.v2", "events.v1", "events.v2")),
    ("container_memory_numa", False, "Pages by NUMA node (version 1); one more file a container.", ("numa.v1",)),
    ("container_hugetlb", True, "Huge pages.", ("hugetlb.v1", "hugetlb.v2")),
    ("container_io", True, "Block devices.", ("io.v1", "io.v2", "blkio.v1", "blkio.v2")),
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
    ("container_pids", True, "Threads and their limit.", ("pids.v1", "pids.v2")),
    ("container_pressure", True, "Pressure stall times (version 2).", ("pressure",)),
)

CONTAINER_COLLECTORS: tuple[ContainerCollector, ...] = tuple(
    ContainerCollector(name, tables) for name, _, _, tables in _CONTAINER
)

_CMON: dict[str, str] = {
    "zone_misc": "CPU time and load of containers.",
    "cpucap": "CPU caps of zones.",
    "memcap": "Memory of containers and its caps.",
    "zone_vfs": "File systems of containers.",
    "tcp": "TCP of containers.",
    "link": "Interfaces of containers.",
    "cpu_info": "Model of the CPU.",
    "cpu_util": "CPU time of the node.",
    "zpool": "ZFS pools, by zpool(8).",
    "arcstats": "Cache of ZFS.",
    "ntp": "The time daemon, by ntpq(8).",
}
"""Collectors of the cmon dialect, beside `zfs` and `time`, which the node's have too."""

COLLECTORS: tuple[CollectorOption, ...] = (
    *(CollectorOption(name, default, text) for name, default, text, _ in _CONTAINER),
    *(CollectorOption(item.name, True, f"Node: {item.name}, as node_exporter has it.") for item in NODE_COLLECTORS),
    *(CollectorOption(name, True, f"Dialect cmon: {text}") for name, text in _CMON.items()),
    CollectorOption("plugin", True, "Programs of the operator."),
    CollectorOption("textfile", True, "Metrics in files."),
)


def collectors_of(
    metrics: Iterable[Metric], tables: Collection[str], node: Collection[str] = ()
) -> list[ContainerCollector]:
    """The collectors of metrics that take something from these tables; those of `node` are about the node."""
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

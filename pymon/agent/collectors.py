"""Every collector of the agent: its name, whether it is on by default, what it costs, and the tables it fills."""

from __future__ import annotations

from pymon.agent.containers import ContainerCollector
from pymon.agent.options import CollectorOption
from pymon.sources.node import NODE_COLLECTORS

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

COLLECTORS: tuple[CollectorOption, ...] = (
    *(CollectorOption(name, default, text) for name, default, text, _ in _CONTAINER),
    *(CollectorOption(item.name, True, f"Node: {item.name}, as node_exporter has it.") for item in NODE_COLLECTORS),
)

"""Builds the parts of an agent for Linux, where containers are cgroups."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Any

from pymon.agent.cgroup_containers import CgroupContainers
from pymon.agent.cgroup_registry import open_registry
from pymon.agent.collectors import CONTAINER_COLLECTORS, collectors_of
from pymon.agent.disk import DiskSampler
from pymon.agent.load import LoadSampler
from pymon.agent.memory_peaks import MemoryPeakSampler
from pymon.agent.peaks import PeakSampler
from pymon.agent.platform_parts import PlatformParts
from pymon.agent.resctrl import ResctrlSampler
from pymon.catalogue import disk, latency, load, peaks, resctrl
from pymon.sources.cgroup import columns_of, procs_root
from pymon.sources.memory_peaks import FILES
from pymon.sources.net_process import NetProcesses
from pymon.sources.node import CMON_COLLECTORS, NODE_COLLECTORS, NodeContext
from pymon.sources.node.exclusions import Exclusions
from pymon.sources.node.unit_choice import DEFAULT_UNITS, UnitChoice
from pymon.sources.programs import Ntpq, ProgramSource, Zpool
from pymon.sources.writable_layers import WritableLayers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymon.agent.options import AgentOptions
    from pymon.agent.sampler import Sampler
    from pymon.catalogue.model import Metric
    from pymon.sources.node import NodeSource
    from pymon.sources.programs import Program


_PEAK_SHARE = 4
"""The part of the descriptors that watching peaks of memory may take is one in so many."""


def build_cgroups(options: AgentOptions, metrics: Sequence[Metric], *, serving: bool) -> PlatformParts:
    """Return the readers, the registry and the node collectors.

    serving: create and store a UUID for a node that has none.
    Raises ConfigError when the options cannot be used on this machine.
    """
    source, registry, mailbox, bpf = open_registry(options, columns_of(metrics), serving=serving)
    samplers: list[Sampler] = []
    if options.dialect != "cmon" and peaks.COLLECTOR in options.collectors:
        samplers.append(PeakSampler(source.layout, lambda: registry.rows))
        if source.hierarchies.v2 is not None and "memory" in source.hierarchies.v2_controllers:
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // (len(FILES) * _PEAK_SHARE)
            samplers.append(MemoryPeakSampler(source.hierarchies.v2, registry.started, lambda: registry.rows, most))
    if options.dialect != "cmon" and load.COLLECTOR in options.collectors:
        samplers.append(LoadSampler(lambda: registry.rows))
    if options.dialect != "cmon" and disk.COLLECTOR in options.collectors:
        layers = WritableLayers(procs_root(source.hierarchies), options.procfs, options.rootfs)
        samplers.append(DiskSampler(layers, registry.started, lambda: registry.rows))
    if options.dialect != "cmon" and resctrl.COLLECTOR in options.collectors:
        root = options.sysfs / "fs" / "resctrl"
        samplers.append(ResctrlSampler(root, registry.started, lambda: registry.rows))
    for sampler in samplers:
        registry.tell_of_row(sampler.forget)
    programs = _programs(options)
    published = {"container", *source.layout, *(latency.COLUMNS if source.latency is not None else ())}
    published.update(sampler.name for sampler in samplers)
    if options.dialect == "cmon":
        collectors = collectors_of(metrics, published)
    else:
        collectors = [
            item
            for item in CONTAINER_COLLECTORS
            if item.name in options.collectors and any(table in published for table in item.tables)
        ]
    stopped = registry.stopped if registry.stopped.keep_seconds else None
    containers = CgroupContainers(source, registry, mailbox, collectors, bpf, samplers, stopped)
    registry.use_last_read(containers.last_tables.numbers)
    return PlatformParts(
        registry,
        containers,
        [*_node_sources(options), *(ProgramSource(program) for program in programs)],
        programs,
        (
            ("pymon_containers", "Containers that are there.", lambda: len(registry)),
            (
                "pymon_containers_stopped",
                "Containers that have ended and whose last numbers are kept.",
                lambda: len(registry.stopped),
            ),
            (
                "pymon_uuid_labels_refused",
                "Containers with a label that would be their UUID and is not honoured.",
                lambda: registry.uuid_labels_refused,
            ),
            (
                "pymon_container_descriptions_overdue",
                "Containers whose description hangs: what their runtime has written is not read in time.",
                lambda: registry.descriptions_overdue,
            ),
            (
                "pymon_open_descriptors",
                "Descriptors kept open on kernel files of containers; readers have descriptor tables of their own.",
                lambda: source.open_descriptors,
            ),
            (
                "pymon_cgroup_watches",
                "Inotify watches on directories of cgroups, as the kernel counts them.",
                lambda: registry.tree.kernel_watches(),  # noqa: PLW0108  # there may be another tree later
            ),
            (
                "pymon_cgroup_unwatched",
                "Directories of cgroups that are listed at intervals, because no inotify watch is left for them.",
                lambda: registry.tree.unwatched,
            ),
            (
                "pymon_bpf_columns",
                "Columns of containers that BPF fills; the others are read from files.",
                lambda: bpf.source.filled if bpf else 0,
            ),
        ),
        (
            (
                "pymon_cgroup_following_errors",
                "Internal errors of the thread that follows the cgroups. After each the trees are walked anew.",
                (),
                lambda: {(): registry.following_errors},
            ),
            (
                "pymon_bpf_fallbacks",
                "How often files were read instead of BPF, by reason: of a whole collection, or of one container.",
                ("reason",),
                lambda: {(reason,): count for reason, count in bpf.source.fallbacks.items()} if bpf else {},
            ),
            (
                "pymon_bpf_columns_lost",
                "Columns that BPF had filled and that are read from files since they disagreed with them.",
                (),
                lambda: {(): bpf.source.disagreements if bpf else 0},
            ),
        ),
        samplers=samplers,
        descriptors=lambda: source.own_descriptors,
        net_processes=NetProcesses(options.procfs, listed) if (listed := procs_root(source.hierarchies)) else None,
    )


def _node_sources(options: AgentOptions) -> list[NodeSource]:
    given = {
        "arp_devices": options.arp_exclude,
        "disk_devices": options.disk_exclude,
        "file_system_types": options.fs_types_exclude,
        "mount_points": options.mount_points_exclude,
        "net_devices": options.netdev_exclude,
        "netclass_devices": options.netclass_exclude,
    }
    exclusions = Exclusions(**{name: pattern for name, pattern in given.items() if pattern is not None})
    units = UnitChoice(
        options.unit_include or DEFAULT_UNITS.include,
        options.unit_exclude or DEFAULT_UNITS.exclude,
        options.unit_start_times,
        options.unit_restarts,
        options.unit_tasks,
    )
    context = NodeContext(options.procfs, options.sysfs, options.rootfs, exclusions=exclusions, units=units)
    if options.dialect != "cmon":
        return [item.make(context) for item in NODE_COLLECTORS if item.name in options.collectors]
    return [item.make(context) for item in CMON_COLLECTORS if item.name in options.collectors]


def _programs(options: AgentOptions) -> list[Program[Any]]:
    if options.dialect != "cmon":
        return []
    return [program() for program in (Zpool, Ntpq) if program.name in options.collectors]

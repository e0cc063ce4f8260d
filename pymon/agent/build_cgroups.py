"""An agent for Linux: containers by their cgroups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pymon._native.readers import Mailbox
from pymon.agent.cgroup_containers import CgroupContainers
from pymon.agent.collectors import CONTAINER_COLLECTORS, collectors_of
from pymon.agent.parts import Parts
from pymon.agent.registry import Registry
from pymon.config import ConfigError
from pymon.containers.files import UnreadableError
from pymon.containers.identity import node_identity
from pymon.containers.labels import LabelExport
from pymon.containers.owner import OwnerRules, RuleError
from pymon.containers.recognise import Patterns, Recogniser
from pymon.containers.runtimes import Runtimes
from pymon.sources.cgroup import CgroupSource, columns_of, find_hierarchies, raise_descriptor_limit
from pymon.sources.errors import SourceError
from pymon.sources.node import CMON_COLLECTORS, NODE_COLLECTORS, NodeContext
from pymon.sources.programs import Ntpq, ProgramSource, Zpool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pymon.agent.options import AgentOptions
    from pymon.catalogue.model import Metric
    from pymon.sources.node import NodeSource
    from pymon.sources.programs import Program


def build_cgroups(options: AgentOptions, metrics: Sequence[Metric]) -> Parts:
    """Readers, registry and node collectors. ConfigError where the options and the machine do not agree."""
    _check_readable("path.procfs", options.procfs, "stat")
    try:
        hierarchies = find_hierarchies(options.cgroupfs)
    except SourceError as error:
        raise ConfigError(f"path.cgroupfs: {error}") from error
    try:
        owners = OwnerRules(options.owners)
        export = LabelExport(options.container_labels)
        patterns = Patterns(options.container_patterns)
        identity = node_identity(options.rootfs, options.sysfs, options.procfs)
    except (RuleError, ValueError, UnreadableError) as error:
        raise ConfigError(str(error)) from error
    mailbox = Mailbox()
    try:
        source = CgroupSource(
            hierarchies,
            columns_of(metrics),
            mailbox,
            procfs=options.procfs,
            sysfs=options.sysfs,
            descriptors=raise_descriptor_limit(),
        )
        registry = Registry(
            source,
            Recogniser(patterns, every=options.container_all),
            Runtimes(options.rootfs),
            owners,
            export,
            identity,
            procfs=options.procfs,
        )
    except SourceError as error:
        raise ConfigError(f"path.cgroupfs: {error}") from error
    except OSError as error:
        raise ConfigError(f"path.cgroupfs: {error.filename}: {error.strerror}") from error
    programs = _programs(options)
    published = {"container", *source.layout}
    if options.dialect == "cmon":
        collectors = collectors_of(metrics, published)
    else:
        collectors = [
            item
            for item in CONTAINER_COLLECTORS
            if item.name in options.collectors and any(table in published for table in item.tables)
        ]
    return Parts(
        registry,
        CgroupContainers(source, registry, mailbox, collectors),
        [*_node_sources(options), *(ProgramSource(program) for program in programs)],
        programs,
        (
            ("pymon_containers", "Containers that are there.", lambda: len(registry)),
            (
                "pymon_open_descriptors",
                "Descriptors kept open on kernel files of containers; readers have descriptor tables of their own.",
                lambda: source.open_descriptors,
            ),
            ("pymon_cgroup_watches", "Directories watched for new containers.", lambda: registry.tree.watched),
            (
                "pymon_cgroup_unwatched",
                "Directories listed at each scrape for want of an inotify watch.",
                lambda: registry.tree.unwatched,
            ),
        ),
    )


def _node_sources(options: AgentOptions) -> list[NodeSource]:
    context = NodeContext(options.procfs, options.sysfs, options.rootfs)
    if options.dialect != "cmon":
        return [item.make(context) for item in NODE_COLLECTORS if item.name in options.collectors]
    return [item.make(context) for item in CMON_COLLECTORS if item.name in options.collectors]


def _programs(options: AgentOptions) -> list[Program[Any]]:
    if options.dialect != "cmon":
        return []
    return [program() for program in (Zpool, Ntpq) if program.name in options.collectors]


def _check_readable(key: str, root: Path, name: str) -> None:
    try:
        with (root / name).open("rb") as file:
            file.read(1)
    except OSError as error:
        raise ConfigError(f"{key}: {root / name}: {error.strerror}, expected a readable procfs") from error

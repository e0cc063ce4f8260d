"""Putting an agent together from its options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pymon._native.readers import Mailbox
from pymon.agent.cgroup_containers import CgroupContainers
from pymon.agent.collection import AgentCollection
from pymon.agent.collectors import COLLECTORS, CONTAINER_COLLECTORS
from pymon.agent.registry import Registry
from pymon.agent.self_metrics import SelfMetrics
from pymon.agent.workers import NodeWorker
from pymon.catalogue import cadvisor, node
from pymon.config import ConfigError
from pymon.containers.files import UnreadableError
from pymon.containers.identity import node_identity
from pymon.containers.labels import LabelExport
from pymon.containers.owner import OwnerRules, RuleError
from pymon.containers.recognise import Patterns, Recogniser
from pymon.containers.runtimes import Runtimes
from pymon.sources.cgroup import CgroupSource, columns_of, find_hierarchies, raise_descriptor_limit
from pymon.sources.errors import SourceError
from pymon.sources.node import NODE_COLLECTORS, NodeContext

if TYPE_CHECKING:
    from pathlib import Path

    from pymon.agent.containers import Containers
    from pymon.agent.options import AgentOptions
    from pymon.agent.rows import ContainerRows
    from pymon.catalogue.model import Metric


@dataclass(frozen=True, slots=True)
class Agent:
    """The parts of an agent that outlive a scrape."""

    registry: ContainerRows
    containers: Containers
    collection: AgentCollection
    self_metrics: SelfMetrics


def enabled_metrics(options: AgentOptions) -> list[Metric]:
    """The metrics of the collectors that are on."""
    metrics = [metric for metric in (*cadvisor.METRICS, *node.NODE) if metric.collector in options.collectors]
    if "container_percpu" in options.collectors:
        return metrics
    return [cadvisor.without_table(metric, "percpu.v1") for metric in metrics]


def build_agent(options: AgentOptions) -> Agent:
    """An agent that is ready to be started on a loop. ConfigError where the options and the machine do not agree."""
    if options.source not in ("auto", "cgroupfs"):
        raise ConfigError(f"source: expected auto or cgroupfs on this system, got {options.source}")
    if options.dialect != "cadvisor":
        raise ConfigError(f"dialect: expected cadvisor on this system, got {options.dialect}")
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
    metrics = enabled_metrics(options)
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
    self_metrics = SelfMetrics(source="cgroupfs", dialect=options.dialect)
    context = NodeContext(options.procfs, options.sysfs, options.rootfs)
    workers = [NodeWorker(item.make(context)) for item in NODE_COLLECTORS if item.name in options.collectors]
    published = set(source.layout) | {"container"}
    containers = CgroupContainers(
        source,
        registry,
        mailbox,
        [
            item
            for item in CONTAINER_COLLECTORS
            if item.name in options.collectors and any(table in published for table in item.tables)
        ],
    )
    collection = AgentCollection(
        metrics,
        containers,
        workers,
        self_metrics,
        known_collectors=[option.name for option in COLLECTORS],
    )
    self_metrics.gauge("pymon_containers", "Containers that are there.", lambda: len(registry))
    self_metrics.gauge(
        "pymon_open_descriptors",
        "Descriptors kept open on kernel files of containers; readers have descriptor tables of their own.",
        lambda: source.open_descriptors,
    )
    self_metrics.gauge("pymon_cgroup_watches", "Directories watched for new containers.", lambda: registry.tree.watched)
    self_metrics.gauge(
        "pymon_cgroup_unwatched",
        "Directories listed at each scrape for want of an inotify watch.",
        lambda: registry.tree.unwatched,
    )
    return Agent(registry, containers, collection, self_metrics)


def _check_readable(key: str, root: Path, name: str) -> None:
    try:
        with (root / name).open("rb") as file:
            file.read(1)
    except OSError as error:
        raise ConfigError(f"{key}: {root / name}: {error.strerror}, expected a readable procfs") from error

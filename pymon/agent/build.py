"""Builds an agent from its options."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pymon.agent import scrape_table
from pymon.agent.collection import AgentCollection
from pymon.agent.collectors import COLLECTORS
from pymon.agent.extensions import TEXTFILE, Extensions
from pymon.agent.platform_parts import enabled_metrics
from pymon.agent.self_metrics import SelfMetrics
from pymon.agent.source import source_of
from pymon.agent.workers import NodeWorker, NodeWorkers
from pymon.catalogue.latency import OF_NEIGHBOURS
from pymon.catalogue.model import Kind
from pymon.config import ConfigError
from pymon.containers.labels import LabelExport
from pymon.plugins.config import PLUGIN
from pymon.plugins.plugins import Plugins
from pymon.plugins.textfile import Textfile

if TYPE_CHECKING:
    from pymon.agent.apps import Apps
    from pymon.agent.containers import Containers
    from pymon.agent.options import AgentOptions
    from pymon.agent.platform_parts import PlatformParts
    from pymon.agent.rows import ContainerRows


_log = logging.getLogger(__name__)

_KINDS = {Kind.COUNTER: "counter", Kind.UNKNOWN: "untyped"}


@dataclass(frozen=True, slots=True)
class Agent:
    """The parts of an agent that exist for its whole life."""

    registry: ContainerRows
    containers: Containers
    collection: AgentCollection
    self_metrics: SelfMetrics
    apps: Apps | None = None


def build_agent(options: AgentOptions, *, serving: bool = False) -> Agent:
    """Return an agent that is ready to be started on a loop.

    serving: the agent will serve requests. It may read slow files after it has started, and may create the node's UUID.
    Otherwise all files have been read on return, and nothing is written.
    Raises ConfigError when the options cannot be used on this machine.
    """
    source = source_of(options)
    if options.kstat_library is not None and source != "kstat":
        raise ConfigError(f"kstat.library: expected source kstat with it, got {options.source}")
    if options.container_uuid_label and source == "kstat":
        raise ConfigError("container.uuid-label: expected none with source kstat, zones have UUIDs of their own")
    if options.container_app_metrics is not None and source == "kstat":
        raise ConfigError("container.app-metrics: expected none with source kstat, which has no network namespaces")
    metrics = enabled_metrics(options)
    # Import only the module that is needed, because importing takes a noticeable time.
    if source == "kstat":
        from pymon.agent.build_zones import build_zones as build  # noqa: PLC0415
    else:
        from pymon.agent.build_cgroups import build_cgroups as build  # noqa: PLC0415
    parts = build(options, metrics, serving=serving)
    self_metrics = SelfMetrics(
        source=source,
        dialect=options.dialect,
        server=str(parts.rows.node.uuid),
        datacenter=parts.datacenter,
        programs=parts.programs,
    )
    self_metrics.more_descriptors = parts.descriptors
    for name, help, value in parts.gauges:
        self_metrics.gauge(name, help, value)
    for name, help, labels, values in parts.counters:
        self_metrics.counters(name, help, labels, values)
    clashes = LabelExport(options.container_labels).dropped
    for key in clashes:
        _log.warning("container.label %r is not exported: an earlier one makes the same label of metrics", key)
    self_metrics.gauge(
        "pymon_container_label_clashes",
        "Keys of --container.label that are not exported, because an earlier one makes the same label of metrics.",
        lambda: len(clashes),
    )
    if options.dialect != "cmon":
        metrics = [*metrics, *scrape_table.METRICS]
    textfile = None
    # As in node_exporter, node_textfile_scrape_error is there without a directory too.
    on_linux = source != "kstat" and options.dialect != "cmon"
    if TEXTFILE in options.collectors and (options.textfile_directories or on_linux):
        textfile = Textfile(options.textfile_directories)
    workers = [NodeWorker(item) for item in (*parts.node_sources, *([textfile] if textfile else ()))]
    plugins = None
    directories = (options.plugin_node_directory, options.plugin_container_directory)
    if PLUGIN not in options.collectors:
        directories = (None, None)
    if any(directories) or parts.plugins:
        plugins = Plugins(*directories, owner_uid=os.geteuid(), own=parts.plugins)
        parts.rows.tell_of_gone(plugins.forget)
    of_plugins = ((PLUGIN,) if any(directories) else ()) + tuple(plugin.collector for plugin in parts.plugins)
    extensions = None
    if plugins or textfile:
        taken = [(metric.name, _KINDS.get(metric.kind, "gauge")) for metric in metrics]
        taken += [(metric.name, metric.type) for metric in self_metrics.registry.collect()]
        if self_metrics.cmon is not None:
            taken += [(family.name, family.kind) for family in self_metrics.cmon.families()]
        extensions = Extensions(
            plugins,
            textfile,
            parts.rows,
            self_metrics,
            taken=taken,
            by_name=source == "kstat",
            of_plugins=of_plugins,
        )
    collection = AgentCollection(
        metrics,
        parts.containers,
        NodeWorkers(workers),
        self_metrics,
        known_collectors=[option.name for option in COLLECTORS],
        extensions=extensions,
        container_labels=options.dialect != "cmon",
        samplers=parts.samplers,
        operators_only=() if options.container_show_neighbours else OF_NEIGHBOURS,
    )
    return Agent(parts.rows, parts.containers, collection, self_metrics, _apps(options, parts, self_metrics))


def _apps(options: AgentOptions, parts: PlatformParts, own: SelfMetrics) -> Apps | None:
    if options.container_app_metrics is None:
        return None
    from pymon.agent.apps import Apps  # noqa: PLC0415  # only processes that serve load asyncio

    if parts.net_processes is None:
        raise ConfigError("container.app-metrics: expected none where no cgroup hierarchy has processes")
    return Apps(parts.rows, parts.net_processes, options.container_app_metrics, own)

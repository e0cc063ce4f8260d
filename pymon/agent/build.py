"""Putting an agent together from its options."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pymon.agent.build_cgroups import build_cgroups
from pymon.agent.build_zones import build_zones
from pymon.agent.collection import AgentCollection
from pymon.agent.collectors import COLLECTORS
from pymon.agent.guests import PLUGIN, TEXTFILE, Guests
from pymon.agent.parts import enabled_metrics
from pymon.agent.self_metrics import SelfMetrics
from pymon.agent.workers import NodeWorker
from pymon.catalogue.model import Kind
from pymon.config import ConfigError
from pymon.plugins.plugins import Plugins
from pymon.plugins.textfile import Textfile

if TYPE_CHECKING:
    from pymon.agent.containers import Containers
    from pymon.agent.options import AgentOptions
    from pymon.agent.rows import ContainerRows


_KINDS = {Kind.COUNTER: "counter", Kind.UNKNOWN: "untyped"}


@dataclass(frozen=True, slots=True)
class Agent:
    """The parts of an agent that outlive a scrape."""

    registry: ContainerRows
    containers: Containers
    collection: AgentCollection
    self_metrics: SelfMetrics


def source_of(options: AgentOptions) -> str:
    """Where statistics come from: cgroupfs or kstat. ConfigError for what there is not."""
    if options.source == "bpf":
        raise ConfigError("source: expected auto, cgroupfs or kstat, got bpf")
    if options.source == "auto":
        return "kstat" if sys.platform.startswith("sunos") else "cgroupfs"
    return options.source


def build_agent(options: AgentOptions, *, serving: bool = False) -> Agent:
    """An agent that is ready to be started on a loop. ConfigError where the options and the machine do not agree.

    serving: it is to answer soon, and may read what takes long afterwards. Else all has been read.
    """
    source = source_of(options)
    if options.kstat_library is not None and source != "kstat":
        raise ConfigError(f"kstat.library: expected source kstat with it, got {options.source}")
    metrics = enabled_metrics(options)
    parts = build_zones(options, metrics, serving=serving) if source == "kstat" else build_cgroups(options, metrics)
    self_metrics = SelfMetrics(
        source=source, dialect=options.dialect, server=str(parts.rows.node.uuid), programs=parts.programs
    )
    for name, help, value in parts.gauges:
        self_metrics.gauge(name, help, value)
    textfile = None
    if options.textfile_directories and TEXTFILE in options.collectors:
        textfile = Textfile(options.textfile_directories)
    workers = [NodeWorker(item) for item in (*parts.node_sources, *([textfile] if textfile else ()))]
    plugins = None
    if (options.plugin_node_directory or options.plugin_container_directory) and PLUGIN in options.collectors:
        plugins = Plugins(options.plugin_node_directory, options.plugin_container_directory, owner_uid=os.geteuid())
        parts.rows.tell_of_gone(plugins.forget)
    guests = None
    if plugins or textfile:
        taken = [(metric.name, _KINDS.get(metric.kind, "gauge")) for metric in metrics]
        taken += [(metric.name, metric.type) for metric in self_metrics.registry.collect()]
        if self_metrics.cmon is not None:
            taken += [(family.name, family.kind) for family in self_metrics.cmon.families()]
        guests = Guests(plugins, textfile, parts.rows, self_metrics, taken=taken, by_name=source == "kstat")
    collection = AgentCollection(
        metrics,
        parts.containers,
        workers,
        self_metrics,
        known_collectors=[option.name for option in COLLECTORS],
        guests=guests,
        container_labels=options.dialect != "cmon",
    )
    return Agent(parts.rows, parts.containers, collection, self_metrics)

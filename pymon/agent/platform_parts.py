"""The parts of an agent that each platform builds in its own way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pymon.catalogue import cadvisor, cmon, disk, latency, load, peaks, resctrl, stopped
from pymon.sources.node import NODE_COLLECTORS, NodeContext

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pymon.agent.containers import Containers
    from pymon.agent.options import AgentOptions
    from pymon.agent.rows import ContainerRows
    from pymon.agent.sampler import Sampler
    from pymon.catalogue.model import Metric
    from pymon.exposition.own_metrics import Values
    from pymon.plugins.config import Plugin
    from pymon.sources.net_process import NetProcesses
    from pymon.sources.node import NodeSource
    from pymon.sources.programs import Program


class PlatformParts(NamedTuple):
    """The parts that a platform provides.

    programs: background programs. gauges, counters: name, help, for counters the labels, and values of each about the
    agent itself. datacenter: the node's, "" if unknown. descriptors: returns the number of open descriptors of threads
    that have a table of their own. plugins: for containers, besides those of the operator. samplers: take
    samples beside scrapes. net_processes: finds processes by which network namespaces can be entered, None for none.
    """

    rows: ContainerRows
    containers: Containers
    node_sources: Sequence[NodeSource]
    programs: Sequence[Program[Any]]
    gauges: Sequence[tuple[str, str, Callable[[], float | None]]]
    counters: Sequence[tuple[str, str, tuple[str, ...], Callable[[], Values]]] = ()
    datacenter: str = ""
    descriptors: Callable[[], int] = int
    plugins: Sequence[Plugin] = ()
    samplers: Sequence[Sampler] = ()
    net_processes: NetProcesses | None = None


def enabled_metrics(options: AgentOptions) -> list[Metric]:
    """Return the metrics of the dialect whose collectors are enabled."""
    if options.dialect == "cmon":
        every = cmon.metrics(legacy=options.cmon_legacy_values)
    else:
        node = NodeContext(options.procfs, options.sysfs, options.rootfs)
        of_node = (
            metric for collector in NODE_COLLECTORS for metric in (*collector.metrics, *collector.more_metrics(node))
        )
        of_containers = (*stopped.with_last(cadvisor.METRICS), *stopped.METRICS)
        sampled = (*peaks.METRICS, *load.METRICS, *disk.METRICS, *resctrl.METRICS)
        every = (*of_containers, *latency.METRICS, *sampled, *of_node)
    metrics = [metric for metric in every if metric.collector in options.collectors]
    if "container_percpu" in options.collectors:
        return metrics
    return [cadvisor.without_table(metric, "percpu.v1") for metric in metrics]

"""What the systems have in common when an agent is put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pymon.catalogue import cadvisor, cmon, node

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pymon.agent.containers import Containers
    from pymon.agent.options import AgentOptions
    from pymon.agent.rows import ContainerRows
    from pymon.catalogue.model import Metric
    from pymon.sources.node import NodeSource
    from pymon.sources.programs import Program


class Parts(NamedTuple):
    """What a system brings.

    programs: those that run in the background. gauges: name, help and value of what the agent says of itself.
    """

    rows: ContainerRows
    containers: Containers
    node_sources: Sequence[NodeSource]
    programs: Sequence[Program[Any]]
    gauges: Sequence[tuple[str, str, Callable[[], float]]]


def enabled_metrics(options: AgentOptions) -> list[Metric]:
    """The metrics of the dialect whose collectors are on."""
    if options.dialect == "cmon":
        every = cmon.metrics(legacy=options.cmon_legacy_values)
    else:
        every = (*cadvisor.METRICS, *node.NODE)
    metrics = [metric for metric in every if metric.collector in options.collectors]
    if "container_percpu" in options.collectors:
        return metrics
    return [cadvisor.without_table(metric, "percpu.v1") for metric in metrics]

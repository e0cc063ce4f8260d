"""Collectors of the node. Each module of this package that has a COLLECTOR is one: its fields, its parser, its metrics.

Names, types, labels and help of metrics are those of node_exporter 1.12 and of cAdvisor's machine metrics. The type
untyped of node_exporter is unknown here. Constant labels are in the samples, all others in the rows. Columns of kstats
are for the metrics that node_exporter has on Solaris, where `kernel` is a mode of CPUs and the metrics of the ZFS cache
have different names. Metrics of the cmon dialect are in `catalogue/cmon.py`.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from pymon.sources.node.source import Collector, NodeContext, NodeSource

if TYPE_CHECKING:
    from pymon.catalogue.model import Metric


def _collectors(dialect: str) -> tuple[Collector, ...]:
    modules = [import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)]
    collectors = [module.COLLECTOR for module in modules if hasattr(module, "COLLECTOR")]
    return tuple(sorted((item for item in collectors if item.dialect == dialect), key=lambda item: item.name))


NODE_COLLECTORS = _collectors("cadvisor")
"""The collectors of the node by name, which is the order of their metrics."""

CMON_COLLECTORS = _collectors("cmon")
"""The collectors of the node in the cmon dialect."""

NODE_METRICS: tuple[Metric, ...] = tuple(metric for collector in NODE_COLLECTORS for metric in collector.metrics)
"""All families of the node, in the order of the exposition."""

__all__ = ["CMON_COLLECTORS", "NODE_COLLECTORS", "NODE_METRICS", "Collector", "NodeContext", "NodeSource"]

"""docs/metrics.md from the catalogue: ``python -m pymon.catalogue.document > docs/metrics.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from pymon.catalogue import cadvisor, node
from pymon.catalogue.model import Metric

_HEAD = """\
# Metrics

Generated from the catalogue by `make docs`; change the catalogue, not this page.

A line is absent where the kernel does not have the number, and where a limit is not set. In OpenMetrics a family whose
name breaks a rule of that format (a counter without `_total`, a gauge with it) is of type unknown and keeps its name.
"""


def metrics_page() -> str:
    """The whole page."""
    return "\n".join(
        (
            _HEAD,
            *_section("Containers (cAdvisor's names)", cadvisor.METRICS),
            *_section("Node (node_exporter's names)", node.NODE),
        )
    )


def _section(title: str, metrics: Iterable[Metric]) -> Iterator[str]:
    yield f"## {title}\n"
    yield "| metric | type | collector | labels | from | meaning |\n|---|---|---|---|---|---|"
    for metric in metrics:
        constant = dict.fromkeys(name for sample in metric.samples for name, _ in sample.labels)
        labels = ", ".join(f"`{name}`" for name in constant)
        yield (
            f"| `{metric.name}` | {metric.kind.value} | {metric.collector} | {labels} | {_origin(metric)} "
            f"| {metric.help} |"
        )
    yield ""


def _origin(metric: Metric) -> str:
    columns = metric.samples[0].columns
    more = ", …" if len(metric.samples) > 1 else ""
    return ", ".join(f"`{column.table}` {column.key}" for column in columns).replace("|", "\\|") + more


if __name__ == "__main__":
    sys.stdout.write(metrics_page())

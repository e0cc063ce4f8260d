"""docs/metrics.md from the catalogue: ``python -m pymon.catalogue.document > docs/metrics.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from pymon.catalogue import cadvisor, cmon, node
from pymon.catalogue.kstat_fields import KSTATS
from pymon.catalogue.model import Metric, Sample
from pymon.catalogue.program_fields import LABELS

_HEAD = """\
# Metrics

Generated from the catalogue by `make docs`; change the catalogue, not this page.

A line is absent where the kernel does not have the number, and where a limit is not set. In OpenMetrics a family whose
name breaks a rule of that format (a counter without `_total`, a gauge with it) is of type unknown and keeps its name.

`from` is where the number comes from: a table and what it has read. Tables named `kstat.…` are those of illumos; `zfs`,
`zpool_list` and `ntp…` are what the programs say.
"""

_CMON = """\
On Linux the dialect has what means the same there. `mem_agg_usage` is anonymous and mapped memory; the rest of the
page cache is not in it. `mem_swap` is swap in use, where illumos has reserved swap. `vfs_*` counts what zones ask of
the file system layer; Linux counts what reaches block devices, so there the bytes and operations are those, with a line
for each device. Load averages, run queue times and CPU caps have no counterpart in control groups.
"""

_LEGACY = """\
## `--cmon.legacy-values`

cmon-agent gives some metrics another type or value than their names say. Those are put right, unless this switch is on,
for dashboards that count on them:

| metric | type | from | type with the switch | from, with the switch | meaning with the switch |
|---|---|---|---|---|---|
"""

_SHOWN_COLUMNS = 4

_ROW_LABELS = {**{kstat.table: tuple(kstat.labels) for kstat in KSTATS}, **LABELS}


def metrics_page() -> str:
    """The whole page."""
    return "\n".join(
        (
            _HEAD,
            *_section("Containers (cAdvisor's names)", cadvisor.METRICS),
            *_section("Node (node_exporter's names)", node.NODE),
            *_section("Containers and zones (cmon-agent's names)", (*cmon.CONTAINER, *cmon.TIME), _CMON),
            *_section("Node (cmon-agent's names)", (*cmon.TIME, *cmon.NODE)),
            _LEGACY + "\n".join(_legacy_rows()),
            "",
        )
    )


def _section(title: str, metrics: Iterable[Metric], text: str = "") -> Iterator[str]:
    yield f"## {title}\n"
    if text:
        yield text
    yield "| metric | type | collector | labels | from | meaning |\n|---|---|---|---|---|---|"
    for metric in metrics:
        labels = dict.fromkeys(name for sample in metric.samples for name, _ in sample.labels)
        labels |= dict.fromkeys(_ROW_LABELS.get(metric.samples[0].columns[0].table, ()))
        yield (
            f"| `{metric.name}` | {metric.kind.value} | {metric.collector} | {_quoted(labels)} | {_origin(metric)} "
            f"| {metric.help} |"
        )
    yield ""


def _legacy_rows() -> Iterator[str]:
    for metric, legacy in zip(cmon.metrics(), cmon.metrics(legacy=True), strict=True):
        if metric != legacy:
            yield (
                f"| `{metric.name}` | {metric.kind.value} | {_origin(metric)} | {legacy.kind.value} "
                f"| {_origin(legacy)} | {legacy.help} |"
            )


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _origin(metric: Metric) -> str:
    columns = list(dict.fromkeys(text for sample in metric.samples for text in _columns(sample)))
    more = ", …" if len(columns) > _SHOWN_COLUMNS else ""
    return ", ".join(columns[:_SHOWN_COLUMNS]).replace("|", "\\|") + more


def _columns(sample: Sample) -> Iterator[str]:
    for column in sample.columns:
        added = [plus.key for plus in sample.plus if plus.table == column.table]
        yield f"`{column.table}` {' + '.join((column.key, *added))}"


if __name__ == "__main__":
    sys.stdout.write(metrics_page())

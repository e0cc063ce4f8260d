"""Writes docs/metrics.md: ``python docs/metrics.py > docs/metrics.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from pymon.agent import scrape_table
from pymon.catalogue import cadvisor, cmon, disk, latency, load, peaks, resctrl, stopped
from pymon.catalogue.cgroup_fields import ROW_LABELS
from pymon.catalogue.kstat_fields import KSTATS
from pymon.catalogue.model import Metric, Sample
from pymon.catalogue.program_fields import LABELS
from pymon.sources.node import CMON_COLLECTORS, NODE_COLLECTORS, NODE_METRICS

_HEAD = """\
# Metrics

Generated from the catalogue by `make docs`; change the catalogue, not this page.

A series is absent if the kernel does not provide the value or a limit is not set. In OpenMetrics, a family whose name
breaks a rule of that format (a counter without `_total`, a gauge with it) has the type unknown and keeps its name.

Series of containers have the labels `id`, `name` and `image` besides, `container_label_…` where it is asked for, and on
nodes of Kubernetes `namespace`, `pod` and `container`. On Linux, those of the dialect cmon have them too.

The column `from` shows the source of the value: an internal table and the field that was read into it. Tables named
`kstat.…` exist on illumos. Tables named `zfs`, `zpool_list` and `ntp…` contain output of zfs(8), zpool(8) and ntpq(8).
"""

_LATENCY = """\
Counted by BPF programs. [agent.md](agent.md#how-long-containers-wait) says what is in them and what they cost. A
histogram has a series for each bound `le` in seconds, 9.5367431640625e-07 (a power of two) and then four times as long
each, a sum and a count.
"""

_PEAKS = """\
The highest rate of a second, or the highest use, in the last 15 or 60 seconds before the scrape; see
[agent.md](agent.md#peaks-between-scrapes).
"""

_STOPPED = """\
Of containers that have ended, for a while; see [agent.md](agent.md#containers-that-have-ended). Their last numbers have
names of the section before, and come from the table `stopped`.
"""

_CMON = """\
On Linux, the dialect has only the metrics with an equivalent there. `mem_agg_usage` is anonymous and mapped memory,
without the rest of the page cache. `mem_swap` is swap in use on Linux and reserved swap on illumos. On illumos, `vfs_*`
counts operations of the file system layer. On Linux, it counts operations of block devices, with one series for each
device. Load averages, run queue times and CPU caps have no equivalent in control groups.
"""

_LEGACY = """\
## `--cmon.legacy-values`

In cmon-agent, some metrics have a type or value that does not fit their name. pymon corrects these. With this flag, it
exports them as cmon-agent does, for dashboards that depend on it:

| metric | type | from | type with the switch | from, with the switch | meaning with the switch |
|---|---|---|---|---|---|
"""

_SHOWN_COLUMNS = 4

_OF_CONFIGURATION = {"kstat.link": ("nic_tag", "network_uuid")}
"""Labels that rows get from the configuration of a zone, besides those of the kstat."""

_ROW_LABELS = {
    latency.REQUESTS: latency.REQUEST_LABELS,
    disk.TABLE: disk.LABELS,
    **{kstat.table: (*kstat.labels, *_OF_CONFIGURATION.get(kstat.table, ())) for kstat in KSTATS},
    **LABELS,
    **ROW_LABELS,
    **{
        table: labels
        for collector in (*NODE_COLLECTORS, *CMON_COLLECTORS)
        for table, labels in collector.row_labels.items()
    },
}


def metrics_page() -> str:
    """Return the page as Markdown."""
    return "\n".join(
        (
            _HEAD,
            *_section(
                "Containers (cAdvisor's names)",
                (*stopped.with_last(cadvisor.METRICS), *load.METRICS, *disk.METRICS, *resctrl.METRICS),
            ),
            *_section("Containers that have ended", stopped.METRICS, _STOPPED),
            *_section("Waiting of containers", latency.METRICS, _LATENCY),
            *_section("Peaks between scrapes", peaks.METRICS, _PEAKS),
            *_section("Node (node_exporter's names)", (*NODE_METRICS, *scrape_table.METRICS)),
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
        tables = dict.fromkeys(column.table for sample in metric.samples for column in sample.columns)
        for table in tables:
            labels |= dict.fromkeys(_ROW_LABELS.get(table, ()))
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

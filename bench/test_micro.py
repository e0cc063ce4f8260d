"""The parts of a scrape by themselves, with pytest-benchmark; no ratios, for comparing two states of the code."""

from __future__ import annotations

from pathlib import Path

from pymon._native.renderer import Body, Labels, decimal
from pymon._native.table import Table
from pymon.exposition.compile import compile_catalogue
from pymon.exposition.compression import gzip
from pymon.exposition.negotiation import negotiate
from pymon.sources.node import NODE_METRICS
from pymon.sources.node.meminfo import MEMINFO_COUNT_FIELDS, MEMINFO_KIB_FIELDS

PROMETHEUS_2_53 = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


def meminfo() -> Table:
    return Table("node_meminfo", MEMINFO_KIB_FIELDS + MEMINFO_COUNT_FIELDS)


def test_scan_meminfo(benchmark) -> None:
    data = Path("/proc/meminfo").read_bytes()
    table = meminfo()
    row = table.add_row()
    assert benchmark(table.scan_keyed, row, data) > 20


def test_render_meminfo(benchmark) -> None:
    table = meminfo()
    table.scan_keyed(table.add_row(), Path("/proc/meminfo").read_bytes())
    compiled = compile_catalogue(NODE_METRICS, {table.name: table.columns})
    body = Body()

    def render() -> int:
        body.clear()
        return compiled.renderer.render(body, [table], Labels(()))

    assert benchmark(render) > 20


def test_gzip(benchmark) -> None:
    body = Body()
    for i in range(30_000):
        body.append(b'container_memory_rss{id="/docker/%064x",image="shop/web",name="web-%d"} %d\n' % (i, i, i * 4096))
    assert len(benchmark(gzip, body)) < len(body)


def test_decimal(benchmark) -> None:
    assert benchmark(decimal, 2**63 - 1, (0, 1, 1, 0, 9, False)) == b"9223372036.854775807"


def test_negotiate(benchmark) -> None:
    assert benchmark(negotiate, PROMETHEUS_2_53).openmetrics

"""Rendering alone: nanoseconds a sample, and prometheus_client's generate_latest on the same values."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric as ClientMetric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from pymon._native.renderer import Body, Labels
from pymon._native.table import Table
from pymon.catalogue import cadvisor
from pymon.exposition.compile import compile_catalogue, label_block
from pymon.sources.cgroup import columns_of

ROUNDS = 31


class _Families(Collector):
    def __init__(self, families: list[ClientMetric]) -> None:
        self._families = families

    def collect(self) -> Iterator[ClientMetric]:
        return iter(self._families)


def measure(containers: int = 1000) -> dict[str, object]:
    """Medians over rounds that render the same tables with one and the other in turn."""
    wanted = [metric for metric in cadvisor.METRICS if not metric.collector.endswith(("tcp", "udp", "numa", "hugetlb"))]
    layout: dict[str, dict[str, None]] = {}
    for column in columns_of(wanted):
        if not column.table.endswith(".v1"):
            layout.setdefault(column.table, {})[column.key] = None
    tables = {name: Table(name, tuple(keys)) for name, keys in layout.items()}
    numbers = random.Random(1)  # noqa: S311 - the same numbers in every run
    for table in tables.values():
        table.grow(containers)
        for row in range(containers):
            table.fill(row, [int(10 ** numbers.uniform(0, 13)) for _ in table.columns])
    compiled = compile_catalogue(wanted, {name: table.columns for name, table in tables.items()})
    labels = Labels(
        [
            label_block(
                (
                    ("id", f"/system.slice/docker-{numbers.getrandbits(256):064x}.scope"),
                    ("image", "registry/shop/web:1.42.0"),
                    ("name", f"web-{i}"),
                )
            )
            for i in range(containers)
        ]
    )
    body = Body()
    order = [tables[name] for name in compiled.tables]
    samples = compiled.renderer.render(body, order, labels)
    text = bytes(body).decode()
    registry = CollectorRegistry()
    registry.register(_Families(list(text_string_to_metric_families(text))))
    ours, theirs = [], []
    for i in range(ROUNDS):
        start = time.perf_counter()
        body.clear()
        compiled.renderer.render(body, order, labels)
        ours.append((time.perf_counter() - start) / samples * 1e9)
        if i % 10 == 0:
            start = time.perf_counter()
            peer = generate_latest(registry)
            theirs.append((time.perf_counter() - start) / samples * 1e9)
    if peer.count(b"\n") < samples:
        raise RuntimeError("prometheus_client wrote fewer samples")
    return {
        "samples": samples,
        "bytes": len(text),
        "ns_a_sample": statistics.median(ours),
        "prometheus_client_ns_a_sample": statistics.median(theirs),
        "times_fewer": statistics.median(theirs) / statistics.median(ours),
    }

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


class Rendering:
    """The same values for our renderer and for prometheus_client."""

    def __init__(self, containers: int) -> None:
        wanted = [item for item in cadvisor.METRICS if not item.collector.endswith(("tcp", "udp", "numa", "hugetlb"))]
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
        self._renderer = compiled.renderer
        self._labels = Labels(
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
        self._body = Body()
        self._tables = [tables[name] for name in compiled.tables]
        self.samples = self._renderer.render(self._body, self._tables, self._labels)
        self.text = bytes(self._body)
        self._registry = CollectorRegistry()
        self._registry.register(_Families(list(text_string_to_metric_families(self.text.decode()))))

    def ours(self) -> float:
        """Nanoseconds for a sample, of our renderer."""
        start = time.perf_counter()
        self._body.clear()
        self._renderer.render(self._body, self._tables, self._labels)
        return (time.perf_counter() - start) / self.samples * 1e9

    def theirs(self) -> float:
        """Nanoseconds for a sample, of prometheus_client. RuntimeError if it writes fewer."""
        start = time.perf_counter()
        peer = generate_latest(self._registry)
        taken = (time.perf_counter() - start) / self.samples * 1e9
        if peer.count(b"\n") < self.samples:
            raise RuntimeError("prometheus_client wrote fewer samples")
        return taken


def measure(containers: int = 1000) -> dict[str, object]:
    """Medians over rounds that render the same tables with one and the other in turn."""
    rendering = Rendering(containers)
    ours, theirs = [], []
    for i in range(ROUNDS):
        ours.append(rendering.ours())
        if i % 10 == 0:
            theirs.append(rendering.theirs())
    return {
        "samples": rendering.samples,
        "bytes": len(rendering.text),
        "ns_a_sample": statistics.median(ours),
        "prometheus_client_ns_a_sample": statistics.median(theirs),
        "times_fewer": statistics.median(theirs) / statistics.median(ours),
    }

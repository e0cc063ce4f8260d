"""The metrics of waiting: what the catalogue says of columns and buckets is what the programs have."""

from __future__ import annotations

from prometheus_client.utils import floatToGoString

from pymon._native.bpf import lib
from pymon.catalogue import latency


def test_the_columns_and_buckets_are_those_of_the_programs() -> None:
    columns = [len(latency.COLUMNS[table]) for table in (latency.TASKS, latency.REQUESTS)]
    assert columns == [lib.PM_LATENCY_COLUMNS, lib.PM_LATENCY_IO_COLUMNS]
    assert (latency.FIRST, latency.STEP, latency.BUCKETS) == (
        lib.PM_LATENCY_FIRST, lib.PM_LATENCY_STEP, lib.PM_LATENCY_BUCKETS,
    )  # fmt: skip


def test_bounds_are_spelled_as_openmetrics_wants_them() -> None:
    bounds = latency.bounds_seconds()
    assert bounds[:3] == ("9.5367431640625e-07", "3.814697265625e-06", "1.52587890625e-05")
    assert bounds[5] == "0.0009765625"
    assert bounds[-5:] == ("1.0", "4.0", "16.0", "64.0", "+Inf")
    assert list(bounds) == [floatToGoString(bound) for bound in bounds]
    assert [float(bound) for bound in bounds[:-1]] == [4.0**power for power in range(-10, 4)]


def test_families_of_neighbours_are_families_of_the_collector() -> None:
    assert {metric.name for metric in latency.METRICS} > latency.OF_NEIGHBOURS

"""The metrics of waiting: what the catalogue says of columns and buckets is what the programs have."""

from __future__ import annotations

from pymon._native.bpf import lib
from pymon.catalogue import latency


def test_the_columns_and_buckets_are_those_of_the_programs() -> None:
    columns = [len(latency.COLUMNS[table]) for table in (latency.TASKS, latency.REQUESTS)]
    assert columns == [lib.PM_LATENCY_COLUMNS, lib.PM_LATENCY_IO_COLUMNS]
    assert (latency.FIRST, latency.STEP, latency.BUCKETS) == (
        lib.PM_LATENCY_FIRST, lib.PM_LATENCY_STEP, lib.PM_LATENCY_BUCKETS,
    )  # fmt: skip


def test_bounds_are_spelled_as_the_series_of_other_programs_are() -> None:
    bounds = latency.bounds_seconds()
    assert bounds[:3] == ("1.024e-06", "4.096e-06", "1.6384e-05")
    assert bounds[5] == "0.001048576"
    assert bounds[-2:] == ("68.719476736", "+Inf")
    assert list(map(float, bounds)) == sorted(map(float, bounds))


def test_families_of_neighbours_are_families_of_the_collector() -> None:
    assert {metric.name for metric in latency.METRICS} > latency.OF_NEIGHBOURS

"""Samples between scrapes: whose they are, how old they may be, and which columns they are of."""

from __future__ import annotations

from pymon._native.table import Table
from pymon.agent.peaks import PeakSampler
from pymon.agent.sampler import FRESH_SECONDS
from pymon.catalogue.peaks import COLUMNS, TABLE

SECOND = 10**9


class Clock:
    now_ns = 50 * SECOND

    def __call__(self) -> int:
        return self.now_ns


def cpu(*values: int) -> Table:
    table = Table("cpu.v1", ["cpuacct.usage", "cpu.stat:throttled_time"])
    table.grow(len(values))
    for row, value in enumerate(values):
        table.set(row, "cpuacct.usage", value)
    return table


def test_a_sampler_reads_the_columns_that_there_are_and_tells_in_millionths() -> None:
    clock = Clock()
    sampler = PeakSampler({"cpu.v1": ("cpuacct.usage",)}, lambda: 2, clock_ns=clock)
    assert sampler.tables == {"cpu.v1"}
    assert sampler.table is None
    for used in ((0, 0), (SECOND // 2, 3 * SECOND)):
        sampler.take({"cpu.v1": cpu(*used)})
        clock.now_ns += SECOND
    table = sampler.table
    assert table is not None
    assert [table.get(row, "cpu:15") for row in range(2)] == [500_000, 3_000_000]
    assert table.get(0, "throttled:15") is None


def test_what_a_scrape_holds_is_not_changed_by_the_next_sample() -> None:
    clock = Clock()
    sampler = PeakSampler({"cpu.v1": ("cpuacct.usage",)}, lambda: 1, clock_ns=clock)
    tables = []
    for used in (0, SECOND, 3 * SECOND):
        sampler.take({"cpu.v1": cpu(used)})
        clock.now_ns += SECOND
        tables.append(sampler.table)
    assert tables[1] is not None
    assert tables[2] is not None
    assert [table.get(0, "cpu:60") for table in tables[1:] if table is not None] == [1_000_000, 2_000_000]


def test_an_old_sample_is_not_told() -> None:
    clock = Clock()
    sampler = PeakSampler({}, lambda: 1, clock_ns=clock)
    sampler.take({})
    assert sampler.table is not None
    clock.now_ns += int(FRESH_SECONDS * SECOND) + 1
    assert sampler.table is None


def peak(sampler: PeakSampler, row: int) -> tuple[int | None, int | None]:
    """The peak of a row as a scrape of all containers has it, and as a scrape of one."""
    table, one = sampler.table, Table(TABLE, COLUMNS)
    assert table is not None
    sampler.copy_row(row, one)
    return table.get(row, "cpu:60"), one.get(0, "cpu:60") if len(one) else None


def test_another_container_in_the_row_has_no_peak_of_the_one_before() -> None:
    clock = Clock()
    sampler = PeakSampler({"cpu.v1": ("cpuacct.usage",)}, lambda: 2, clock_ns=clock)
    for used in (0, SECOND):
        sampler.take({"cpu.v1": cpu(used, used)})
        clock.now_ns += SECOND
    assert peak(sampler, 0) == (1_000_000, 1_000_000)
    held = sampler.table
    sampler.forget(0)
    assert peak(sampler, 0) == (None, None)  # before the next sample too
    assert held is not None
    assert held.get(0, "cpu:60") == 1_000_000  # a scrape may be rendering it
    assert peak(sampler, 1) == (1_000_000, 1_000_000)
    sampler.take({"cpu.v1": cpu(9 * SECOND, 2 * SECOND)})
    assert peak(sampler, 0) == (None, None)
    assert peak(sampler, 1) == (1_000_000, 1_000_000)


def test_a_sample_that_was_read_before_the_row_was_given_away_says_nothing_of_the_next() -> None:
    clock = Clock()
    sampler = PeakSampler({"cpu.v1": ("cpuacct.usage",)}, lambda: 1, clock_ns=clock)
    sampler.take({"cpu.v1": cpu(0)})
    clock.now_ns += SECOND
    read = {"cpu.v1": cpu(1)}
    sampler.forget(0)
    sampler.take(read)
    clock.now_ns += SECOND
    sampler.take({"cpu.v1": cpu(1000 * SECOND)})  # of another container, which is older than the agent knows it
    assert peak(sampler, 0) == (None, None)
    clock.now_ns += SECOND
    sampler.take({"cpu.v1": cpu(1002 * SECOND)})
    assert peak(sampler, 0) == (2_000_000, 2_000_000)


def test_a_row_that_is_given_away_while_a_sample_is_taken_has_no_peak() -> None:
    clock = Clock()
    forgotten: list[int] = []

    def rows() -> int:
        if forgotten:
            sampler.forget(forgotten.pop())
        return 1

    sampler = PeakSampler({"cpu.v1": ("cpuacct.usage",)}, rows, clock_ns=clock)
    sampler.take({"cpu.v1": cpu(0)})
    clock.now_ns += SECOND
    forgotten.append(0)
    sampler.take({"cpu.v1": cpu(SECOND)})
    assert peak(sampler, 0) == (None, None)

"""Peaks of counters: the highest rate of a second in a window."""

from __future__ import annotations

import pytest

from pymon._native.peaks import Peaks
from pymon._native.table import Table

SECOND = 10**9
START = 1_000 * SECOND
COLUMNS = ["15", "60"]


class Counted:
    """One counter of some containers, sampled at given times; a peak is read as of a time."""

    def __init__(self, rows: int = 1) -> None:
        self.peaks = Peaks(1)
        self.rows = rows
        self.table = Table("t", ["value"])
        self.table.grow(rows)

    def take(self, at_ns: int, *values: int | None) -> None:
        for row, value in enumerate(values):
            self.table.unset(row)
            if value is not None:
                self.table.set(row, "value", value)
        self.peaks.take(0, self.table, "value", self.rows, START + at_ns, 1.0)

    def peak(self, at_ns: int, row: int = 0) -> tuple[int | None, int | None]:
        out = Table("peaks", COLUMNS)
        self.peaks.write(out, self.rows, (15, 60), START + at_ns)
        return out.get(row, "15"), out.get(row, "60")


def test_a_peak_is_the_highest_rate_of_its_window() -> None:
    counted = Counted()
    counted.take(0, 0)
    assert counted.peak(0) == (None, None), "one sample makes no rate"
    total = 0
    for second in range(1, 31):
        total += 500 if second == 10 else 20
        counted.take(second * SECOND, total)
    assert counted.peak(30 * SECOND) == (20, 500)
    assert counted.peak(24 * SECOND)[0] == 500, "the second of the peak is the last of 15"
    assert counted.peak(69 * SECOND)[1] == 500
    assert counted.peak(70 * SECOND)[1] == 20
    assert counted.peak(200 * SECOND) == (None, None), "absent, not 0, when nothing was sampled"


@pytest.mark.parametrize(("seconds", "rate"), [(0.1, None), (0.25, 400), (4.0, 25), (6.0, None)])
def test_a_rate_is_taken_over_the_time_that_has_passed(seconds: float, rate: int | None) -> None:
    counted = Counted()
    counted.take(0, 1000)
    at = int(seconds * SECOND)
    counted.take(at, 1100)
    assert counted.peak(at)[0] == rate


def test_a_sample_too_soon_is_part_of_the_next_rate() -> None:
    counted = Counted()
    counted.take(0, 0)
    counted.take(SECOND // 10, 1000)
    counted.take(SECOND, 1010)
    assert counted.peak(SECOND)[0] == 1010


def test_a_counter_that_became_less_has_no_rate_for_that_second() -> None:
    counted = Counted()
    counted.take(0, 2**63)
    counted.take(SECOND, 10)
    assert counted.peak(SECOND) == (None, None)
    counted.take(2 * SECOND, 15)
    assert counted.peak(2 * SECOND)[0] == 5


def test_an_absent_value_is_no_zero() -> None:
    counted = Counted(rows=2)
    counted.take(0, 100, None)
    counted.take(SECOND, None, None)
    counted.take(2 * SECOND, 400, None)
    assert counted.peak(2 * SECOND)[0] == 150, "over the two seconds that have passed"
    assert counted.peak(2 * SECOND, row=1) == (None, None)


def test_a_forgotten_row_begins_anew_and_others_go_on() -> None:
    counted = Counted(rows=2)
    counted.take(0, 0, 0)
    counted.take(SECOND, 900, 7)
    counted.peaks.forget(0)
    assert counted.peak(SECOND) == (None, None)
    assert counted.peak(SECOND, row=1)[0] == 7
    counted.take(2 * SECOND, 5, 8)
    assert counted.peak(2 * SECOND) == (None, None), "another container's first sample"
    counted.peaks.forget(10**6)  # never seen


def test_many_rows_grow() -> None:
    counted = Counted(rows=5000)
    counted.take(0, *range(5000))
    counted.take(SECOND, *(2 * value for value in range(5000)))
    assert [counted.peak(SECOND, row)[1] for row in (0, 63, 64, 4999)] == [0, 63, 64, 4999]

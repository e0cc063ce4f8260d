"""Averages that decay."""

from __future__ import annotations

import pytest

from pymon._native.loads import Loads
from pymon._native.table import Table


class Averaged:
    """Averages of two numbers of some containers."""

    def __init__(self) -> None:
        self.loads = Loads(2)

    def take(self, *numbers: tuple[int | None, int | None], keep: float = 0.5, rows: int | None = None) -> None:
        table = Table("t", ["other", "a", "b"])
        table.grow(len(numbers))
        for row, of_row in enumerate(numbers):
            table.fill(row, of_row, first=1)
        self.loads.take(table, ("a", "b"), len(numbers) if rows is None else rows, keep)

    def averages(self, rows: int) -> list[tuple[int | None, int | None]]:
        out = Table("load", ["a", "b"])
        self.loads.write(out, rows)
        assert len(out) == rows
        return [(out.get(row, "a"), out.get(row, "b")) for row in range(rows)]


def test_averages_in_thousandths() -> None:
    averaged = Averaged()
    assert averaged.averages(2) == [(None, None)] * 2
    averaged.take((4, 0), (1, 1))
    assert averaged.averages(2) == [(4000, 0), (1000, 1000)], "the first number is the average"
    averaged.take((0, 1), (1, 1))
    assert averaged.averages(2) == [(2000, 500), (1000, 1000)]
    averaged.take((8, 1), (1, 1), keep=0.75)
    assert averaged.averages(2)[0] == (3500, 625)
    averaged.take((7, 7), (7, 7), keep=0.0)
    assert averaged.averages(2) == [(7000, 7000)] * 2


def test_what_is_absent_begins_anew() -> None:
    averaged = Averaged()
    averaged.take((4, 4))
    averaged.take((None, 0))
    assert averaged.averages(1) == [(None, 2000)]
    averaged.take((1, 0))
    assert averaged.averages(1) == [(1000, 1000)]


def test_rows_come_and_go() -> None:
    averaged = Averaged()
    averaged.take((4, 4))
    averaged.take((4, 4), (6, 6), *[(1, 2)] * 1000)
    assert averaged.averages(1002)[-1] == (1000, 2000)
    averaged.loads.forget(1)
    averaged.loads.forget(10**6)
    averaged.take((0, 0), (2, 2), (0, 0))
    assert averaged.averages(4) == [(2000, 2000), (2000, 2000), (500, 1000), (1000, 2000)]


def test_rows_that_a_table_does_not_have_are_absent() -> None:
    averaged = Averaged()
    averaged.take((4, 4), (4, 4))
    averaged.take((4, 4), rows=2)
    assert averaged.averages(2) == [(4000, 4000), (None, None)]


def test_what_is_refused() -> None:
    averaged = Averaged()
    with pytest.raises(KeyError):
        averaged.loads.take(Table("t", ["a"]), ("a", "b"), 1, 0.5)
    with pytest.raises(ValueError, match="2 columns"):
        averaged.loads.take(Table("t", ["a"]), ("a",), 1, 0.5)
    with pytest.raises(ValueError, match="2 columns"):
        averaged.loads.write(Table("t", ["a"]), 1)

"""Load averages: over how long, and whose they are."""

from __future__ import annotations

import pytest

from pymon._native.table import Table
from pymon.agent.load import LoadSampler
from pymon.agent.sampler import FRESH_SECONDS

SECOND = 10**9


class Clock:
    now_ns = 50 * SECOND

    def __call__(self) -> int:
        return self.now_ns


def tasks(*running: int) -> dict[str, Table]:
    table = Table("tasks", ["sleeping", "running", "stopped", "uninterruptible"])
    table.grow(len(running))
    for row, count in enumerate(running):
        table.fill(row, (9, count, 9, 0))
    return {"tasks": table}


def running(sampler: LoadSampler, row: int = 0) -> int | None:
    assert sampler.table is not None
    return sampler.table.get(row, "running")


def test_an_average_follows_in_about_ten_seconds() -> None:
    clock = Clock()
    sampler = LoadSampler(lambda: 1, clock_ns=clock)
    assert sampler.tables == {"tasks"}
    assert sampler.table is None
    sampler.take(tasks(0))
    assert running(sampler) == 0
    for _ in range(10):
        clock.now_ns += SECOND
        sampler.take(tasks(1))
    assert running(sampler) == 632, "1 - 1/e"
    for _ in range(60):
        clock.now_ns += SECOND
        sampler.take(tasks(1))
    assert running(sampler) == pytest.approx(1000, abs=5)
    assert sampler.table is not None
    assert sampler.table.get(0, "uninterruptible") == 0


def test_it_does_not_matter_how_often_samples_are_taken() -> None:
    averages = []
    for seconds in (0.5, 1, 2.5, 5):
        clock = Clock()
        sampler = LoadSampler(lambda: 1, clock_ns=clock)
        sampler.take(tasks(0))
        for _ in range(int(10 / seconds)):
            clock.now_ns += int(seconds * SECOND)
            sampler.take(tasks(1))
        averages.append(running(sampler))
    assert averages == [632] * 4


def test_late_samples_are_left_out_and_an_old_average_is_not_told() -> None:
    clock = Clock()
    sampler = LoadSampler(lambda: 1, clock_ns=clock)
    sampler.take(tasks(4))
    clock.now_ns += SECOND
    sampler.take({})
    assert running(sampler) == 4000
    clock.now_ns += int(FRESH_SECONDS * SECOND)
    sampler.take({})
    assert sampler.table is not None
    assert len(sampler.table) == 0, "samples are taken, but nothing was read lately"
    sampler.take(tasks(1))
    assert running(sampler) == 1000, "it begins anew"


def test_a_row_that_is_another_containers_now() -> None:
    clock = Clock()
    sampler = LoadSampler(lambda: 2, clock_ns=clock)
    sampler.take(tasks(8, 8))
    sampler.forget(1)
    assert (running(sampler, 0), running(sampler, 1)) == (8000, None)
    one = sampler.new_table()
    sampler.copy_row(1, one)
    assert len(one) == 0
    sampler.copy_row(0, one)
    assert one.get(0, "running") == 8000
    sampler.take(tasks(8, 2))
    assert running(sampler, 1) is None
    sampler.take(tasks(8, 2))
    assert (running(sampler, 0), running(sampler, 1)) == (8000, 2000)

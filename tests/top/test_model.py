"""Rates and the last minutes of containers, from summaries."""

import math

import pytest

from pymon.top.document import decoded
from pymon.top.model import POINTS, RATES, Model
from tests.top.summaries import document, row


def told(*summaries):
    model = Model()
    for summary in summaries:
        model.update(decoded(summary))
    return model


def cpu(one):
    return one.rates[tuple(RATES).index("cpu")]


def at(time, *rows, **node):
    return document(*rows, time=time, **node)


def test_a_rate_is_of_two_readings_of_the_node_s_clock():
    one = told(at(100, row("a", cpu_seconds=1)), at(104, row("a", cpu_seconds=3))).containers["a"]
    assert cpu(one) == pytest.approx(0.5)
    assert one.rates[tuple(RATES).index("read")] is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (at(100, row("a", cpu_seconds=5)), at(104, row("a", cpu_seconds=3))),  # reset
        (at(100, row("a", cpu_seconds=1)), at(104, row("a", cpu_seconds=3, start_seconds=9))),  # another container
        (at(100, row("a", cpu_seconds=1)), at(1000, row("a", cpu_seconds=3))),  # long ago
        (at(100, row("a", cpu_seconds=1)), at(50, row("a", cpu_seconds=3))),  # the clock was set
        (at(100, row("a")), at(104, row("a", cpu_seconds=3))),
        (at(100, row("a", cpu_seconds=1)), at(104, row("a", cpu_seconds=3, end_seconds=103))),  # it has ended
    ],
)
def test_there_is_no_rate(first, second):
    assert cpu(told(first, second).containers["a"]) is None


def test_the_same_reading_twice_changes_nothing():
    reading = at(104, row("a", cpu_seconds=3))
    one = told(at(100, row("a", cpu_seconds=1)), reading, reading).containers["a"]
    assert cpu(one) == pytest.approx(0.5)
    assert len(one.series("cpu")) == 2


def test_the_history_has_the_last_readings_oldest_first():
    model = told(*(at(100 + second, row("a", memory_bytes=second)) for second in range(POINTS + 5)))
    one = model.containers["a"]
    assert one.series("memory") == list(range(5, POINTS + 5))
    assert one.series("memory", 2) == [POINTS + 3, POINTS + 4]
    assert math.isnan(one.series("cpu", 1)[0])


def test_a_container_that_is_gone_is_gone_and_one_of_a_node_that_is_away_stays():
    model = told(at(100, row("a"), row("b")), at(102, row("a")))
    assert list(model.containers) == ["a"]
    model = told(at(100, row("a", cpu_seconds=1)), at(102, row("a", cpu_seconds=2)), at(0, error="timed out"))
    (one,) = model.containers.values()
    assert (one.waits, cpu(one), one.row.cpu_seconds) == (True, None, 2.0)
    assert [host.error for host in model.away()] == ["timed out"]
    model.update(decoded(at(110, row("a", cpu_seconds=4))))
    assert (model.containers["a"].waits, cpu(model.containers["a"])) == (False, pytest.approx(0.25))


def test_totals():
    model = told(
        at(100, row("a", cpu_seconds=1, memory_bytes=5), row("b", cpu_seconds=1), row("c")),
        at(101, row("a", cpu_seconds=2, memory_bytes=5), row("b", cpu_seconds=3, memory_bytes=6), row("c")),
    )
    assert (model.total("cpu"), model.total("read"), model.memory()) == (pytest.approx(3), None, 11)
    assert Model().memory() is None


def test_numbers_that_no_machine_has_do_no_harm():
    one = told(
        at(100, row("a", cpu_seconds=-1e308, memory_bytes=1e308)), at(100.0000001, row("a", cpu_seconds=1e308))
    ).containers["a"]
    assert one.series("memory")[0] == math.inf
    assert cpu(one) == math.inf
    assert told(at(1, row("a", memory_bytes=1, memory_limit_bytes=0))).containers["a"].of_limit is None

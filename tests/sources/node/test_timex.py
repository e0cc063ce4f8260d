import errno
from fractions import Fraction

import pytest

from pymon.sources.errors import SourceError
from pymon.sources.node import NODE_METRICS
from pymon.sources.node.adjtimex import Timex, read_timex
from pymon.sources.node.timex import ClockDiscipline
from tests.oracle import render


def published(state, **fields):
    source = ClockDiscipline(lambda: (state, Timex(**fields)))
    source.collect()
    return {name.removeprefix("node_timex_"): value for (name, _), value in render(NODE_METRICS, source.tables).items()}


def test_units():
    found = published(
        0,
        offset=-7,
        freq=-65536,
        maxerror=11,
        esterror=12,
        tick=10000,
        jitter=13,
        tai=37,
        status=0x2001,
        ppsfreq=131072,
    )
    assert found["offset_seconds"] == Fraction(-7, 10**9)
    assert found["frequency_adjustment_ratio"] == 1 - Fraction(1, 10**6)
    assert found["pps_frequency_hertz"] == Fraction(2, 10**6)
    assert found["maxerror_seconds"] == Fraction(11, 10**6)
    assert found["estimated_error_seconds"] == Fraction(12, 10**6)
    assert found["tick_seconds"] == Fraction(1, 100)
    assert found["pps_jitter_seconds"] == Fraction(13, 10**9)
    assert found["tai_offset_seconds"] == 37
    assert found["status"] == 0x2001


@pytest.mark.parametrize(("state", "synchronised"), [(0, 1), (1, 1), (4, 1), (5, 0)])
def test_microseconds_and_the_state(state, synchronised):
    found = published(state, offset=250, jitter=3)
    assert found["offset_seconds"] == Fraction(250, 10**6)
    assert found["pps_jitter_seconds"] == Fraction(3, 10**6)
    assert found["sync_status"] == synchronised


def test_a_number_that_does_not_fit_is_absent():
    found = published(0, offset=2**62, maxerror=5)
    assert "offset_seconds" not in found
    assert found["maxerror_seconds"] == Fraction(5, 10**6)


def test_a_call_that_is_refused_is_an_error():
    def refused():
        raise OSError(errno.EPERM, "Operation not permitted")

    with pytest.raises(SourceError) as caught:
        ClockDiscipline(refused).collect()
    assert caught.value.reason == "eperm"


def test_the_kernel_is_asked():
    state, timex = read_timex()
    assert 0 <= state <= 5
    assert 9000 <= timex.tick <= 11000

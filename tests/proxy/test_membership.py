"""When a proxy leaves DNS and returns."""

from __future__ import annotations

import pytest

from pymon.proxy.membership import LEAVE_SECONDS, RETURN_SECONDS, Membership

NODES = 100


class Steps:
    """One step each half of a second."""

    def __init__(self) -> None:
        self.membership = Membership()
        self.now = 1000.0

    def for_seconds(self, seconds: float, own: int, best: int = NODES, nodes: int = NODES) -> bool:
        for _ in range(int(seconds * 2)):
            self.now += 0.5
            self.membership.step(self.now, own, best, nodes)
        return self.membership.leaves


def test_one_that_reaches_less_than_half_leaves_after_a_while_and_returns_at_most_of_them() -> None:
    steps = Steps()
    assert not steps.for_seconds(LEAVE_SECONDS, 49)
    assert steps.for_seconds(1, 49)
    assert steps.for_seconds(100, 89), "more than half, but not 90 %"
    assert steps.for_seconds(RETURN_SECONDS, 90)
    assert not steps.for_seconds(1, 90)


def test_the_time_begins_anew_when_it_is_better_meanwhile() -> None:
    steps = Steps()
    for _ in range(5):
        assert not steps.for_seconds(LEAVE_SECONDS - 1, 0)
        assert not steps.for_seconds(0.5, 50)
    assert steps.for_seconds(LEAVE_SECONDS + 1, 0)
    for _ in range(5):
        assert steps.for_seconds(RETURN_SECONDS - 1, 100)
        assert steps.for_seconds(0.5, 89)


@pytest.mark.parametrize("best", [0, 30, 59])
def test_one_that_is_no_worse_than_others_stays(best: int) -> None:
    assert not Steps().for_seconds(100, 30, best)


def test_without_nodes_or_others_it_stays() -> None:
    assert not Steps().for_seconds(100, 0, 0)
    assert not Steps().for_seconds(100, 0, 100, 0)


@pytest.mark.parametrize("lie", [10**9, NODES + 1])
def test_one_that_reaches_half_of_all_nodes_stays_whatever_others_say(lie: int) -> None:
    assert not Steps().for_seconds(100, 50, lie)

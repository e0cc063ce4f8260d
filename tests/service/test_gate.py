"""Who is let in, and who gives way."""

from __future__ import annotations

import pytest

from pymon.service.gate import Gate, GateLimits


class Waiting:
    def __init__(self, name: int, source: str, gone: list[int]) -> None:
        self.source = source
        self._name = name
        self._gone = gone

    def give_way(self) -> None:
        self._gone.append(self._name)


def test_handshakes_have_a_burst_and_a_rate_for_each_source() -> None:
    now = 1000.0
    gate = Gate(GateLimits(handshakes_per_second=10, handshakes_burst=5), clock=lambda: now)
    assert [gate.admit("a") for _ in range(7)] == [True] * 5 + [False] * 2
    assert gate.admit("b")
    assert gate.refused["rate"] == 2
    now += 0.2
    assert [gate.admit("a") for _ in range(3)] == [True, True, False]
    now += 3600
    assert [gate.admit("a") for _ in range(6)] == [True] * 5 + [False]


def test_who_is_refused_pays_nothing() -> None:
    now = 1000.0
    gate = Gate(GateLimits(handshakes_per_second=10, handshakes_burst=1), clock=lambda: now)
    assert gate.admit("a")
    for _ in range(100):
        assert not gate.admit("a")
    now += 0.1
    assert gate.admit("a")


def test_sources_are_forgotten_beyond_the_bound() -> None:
    gate = Gate(GateLimits(handshakes_per_second=1, handshakes_burst=1, sources=3), clock=lambda: 0.0)
    assert [gate.admit(name) for name in "abcab"] == [True, True, True, False, False]
    assert [gate.admit(name) for name in "dabc"] == [True, False, False, True]


def test_the_oldest_gives_way() -> None:
    gate = Gate(GateLimits(pending=3, pending_of_source=3))
    gone: list[int] = []
    waiting = [Waiting(number, f"192.0.2.{number}", gone) for number in range(6)]
    for connection in waiting[:5]:
        gate.enter(connection)
    assert gone == [0, 1]
    assert gate.refused["crowded"] == 2
    gate.leave(waiting[2])
    gate.leave(waiting[2])
    gate.leave(waiting[0])
    gate.enter(waiting[5])
    assert gone == [0, 1]
    assert gate.pending == 3
    assert gate.drop_oldest()
    assert gone == [0, 1, 3]
    gate.drop_all()
    assert gone == [0, 1, 3, 4, 5]
    assert not gate.drop_oldest()
    assert gate._pending_of == {}


@pytest.mark.parametrize("bound", [1, 2])
def test_a_crowded_source_makes_room_itself(bound: int) -> None:
    gate = Gate(GateLimits(pending=100, pending_of_source=bound))
    gone: list[int] = []
    gate.enter(Waiting(100, "quiet", gone))
    for number in range(5):
        gate.enter(Waiting(number, "noisy", gone))
    assert gone == list(range(5 - bound))
    assert gate.refused["source_crowded"] == 5 - bound
    assert gate.pending == bound + 1


def test_peers_without_an_address_are_bounded_together_only() -> None:
    gate = Gate(GateLimits(pending=10, pending_of_source=1))
    gone: list[int] = []
    for number in range(12):
        gate.enter(Waiting(number, "", gone))
    assert gone == [0, 1]

"""Turns of connections that read large responses, by a clock of the test."""

import heapq
import itertools

from pymon.proxy.pacing import READING_PART, TURN_SECONDS, Pacing


class Clock:
    """The time and the timers of a loop."""

    def __init__(self):
        self.now = 100.0
        self._timers = []
        self._order = itertools.count()

    def time(self):
        return self.now

    def call_at(self, at, call):
        timer = Timer(call)
        heapq.heappush(self._timers, (at, next(self._order), timer))
        return timer

    @property
    def armed(self):
        return sum(timer.call is not None for _, _, timer in self._timers)

    def forward(self, seconds):
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            at, _, timer = heapq.heappop(self._timers)
            self.now = max(self.now, at)
            if timer.call is not None:
                timer.call()
        self.now = end


class Timer:
    def __init__(self, call):
        self.call = call

    def cancel(self):
        self.call = None


class Connection:
    def __init__(self):
        self.reads = True

    def pause(self):
        self.reads = False

    def resume(self):
        self.reads = True


def read(pacing, connection, seconds):
    assert connection.reads
    pacing.charge(seconds)
    pacing.wait(connection)


def begun(count):
    clock = Clock()
    return clock, Pacing(clock.time, clock.call_at), [Connection() for _ in range(count)]


def test_reading_has_its_part_of_the_time():
    clock, pacing, (one,) = begun(1)
    for _ in range(3):
        read(pacing, one, 0.002)
        assert not one.reads
        clock.forward(0.002 / READING_PART - 0.0001)
        assert not one.reads
        clock.forward(0.0002)
        assert one.reads
    assert not clock.armed, "one that has the turn for itself keeps it"


def test_connections_take_turns_and_one_reads_at_a_time():
    clock, pacing, connections = begun(3)
    for one in connections:
        read(pacing, one, 0.0001)
    order = []
    for _ in range(9):
        while not any(one.reads for one in connections):
            clock.forward(0.0001)
        (reading,) = (one for one in connections if one.reads)
        order.append(connections.index(reading))
        read(pacing, reading, 0.0001)
    assert order == [0, 1, 2] * 3


def test_one_without_data_gives_its_turn_to_the_next():
    clock, pacing, (silent, other) = begun(2)
    read(pacing, silent, 0.0001)
    read(pacing, other, 0.0001)
    clock.forward(0.0021)
    assert (silent.reads, other.reads) == (True, False)
    clock.forward(TURN_SECONDS)
    assert (silent.reads, other.reads) == (False, True)


def test_one_that_is_done_gives_its_turn_to_the_next_and_reads_again():
    clock, pacing, (first, second, third) = begun(3)
    for one in (first, second, third):
        read(pacing, one, 0.0001)
    pacing.leave(third)
    assert third.reads
    clock.forward(0.0031)
    assert (first.reads, second.reads) == (True, False)
    pacing.leave(first)
    clock.forward(0.0001)
    assert (first.reads, second.reads) == (True, True)
    pacing.leave(second)
    clock.forward(10)
    assert not clock.armed

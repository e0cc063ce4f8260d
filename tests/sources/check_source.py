"""What every source of containers' numbers has to do: `check_source` is given the means to make one, and a system for
it to measure. A new source adds a `System` in test_sources.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

Numbers = tuple[int | None, ...]
SECONDS = 5.0
"""More than a collection takes that runs out of time."""


class Outcome(NamedTuple):
    """What came of a collection.

    numbers: of each container that has a row, None where a cell is absent. failures: by reason. rows: of the tables.
    """

    numbers: Mapping[str, Numbers]
    failures: Mapping[str, int]
    rows: int


class System(Protocol):
    """A source, and what it measures: containers by name, each with the same few numbers."""

    width: int
    """How many numbers a container has; at least 2."""

    def add(self, names: Sequence[str], numbers: Callable[[str], Numbers]) -> None:
        """Containers come. None: the system does not have this number, which is no failure."""

    def change(self, name: str, numbers: Numbers) -> None:
        """Another value of each number that is there."""

    def remove(self, name: str) -> None:
        """A container goes, and the source knows."""

    def vanish(self, name: str) -> None:
        """A container goes in the next collection, after the source has looked which there are."""

    def spoil(self, name: str) -> None:
        """The first number of a container can no longer be had."""

    def collect(self) -> Outcome:
        """Collect all containers, and return the outcome."""

    def collect_late(self) -> Outcome:
        """Collect with a deadline that has passed, and return the outcome."""


def check_source(make: Callable[[], AbstractContextManager[System]]) -> None:
    """Fails with an AssertionError that says what the source does not do."""
    for check in (_values, _absent_zero_failed, _vanishing, _deadlines, _growth):
        with make() as system:
            check(system)


def _of(width: int, start: int = 1) -> Callable[[str], Numbers]:
    """Numbers that differ from those of every other name."""
    return lambda name: tuple(start + 1000 * int(name.removeprefix("c")) + i for i in range(width))


def _names(first: int, end: int) -> list[str]:
    return [f"c{number}" for number in range(first, end)]


def _values(system: System) -> None:
    """Numbers are those of the system, and of this collection."""
    numbers = _of(system.width)
    assert system.collect().numbers == {}, "nothing is there yet"
    system.add(_names(1, 4), numbers)
    for _ in range(3):
        outcome = system.collect()
        assert outcome.numbers == {name: numbers(name) for name in _names(1, 4)}
        assert outcome.failures == {}
    most = (2**63 - 1,) * system.width
    system.change("c2", most)
    assert system.collect().numbers == {"c1": numbers("c1"), "c2": most, "c3": numbers("c3")}


def _absent_zero_failed(system: System) -> None:
    """A number that is 0 is a number; one that the system lacks is absent; one that cannot be had is absent, counts as
    a failure, and costs no other container anything.
    """
    numbers = _of(system.width)
    zero, absent = (0,) * system.width, (None,) * (system.width - 1)
    system.add(["c1"], lambda _: zero)
    system.add(["c2"], lambda _: (*absent, 7))
    system.add(["c3", "c4"], numbers)
    for _ in range(2):
        outcome = system.collect()
        assert outcome.numbers == {"c1": zero, "c2": (*absent, 7), "c3": numbers("c3"), "c4": numbers("c4")}
        assert outcome.failures == {}, "what is absent is no failure"
    system.spoil("c3")
    outcome = system.collect()
    assert sum(outcome.failures.values()) > 0
    assert outcome.numbers["c3"][0] is None
    assert {name: outcome.numbers[name] for name in ("c1", "c2", "c4")} == {
        "c1": zero,
        "c2": (*absent, 7),
        "c4": numbers("c4"),
    }


def _is_part_of(found: Numbers, whole: Numbers) -> bool:
    return all(cell in (None, number) for cell, number in zip(found, whole, strict=True))


def _vanishing(system: System) -> None:
    """A container that goes in mid-collection costs no other anything; who takes its row inherits nothing."""
    numbers = _of(system.width)
    names = _names(1, 6)
    system.add(names, numbers)
    system.collect()
    for gone, new in (("c1", "c11"), ("c3", "c13"), ("c5", "c15")):
        system.vanish(gone)
        outcome = system.collect()
        names.remove(gone)
        assert {name: outcome.numbers[name] for name in names} == {name: numbers(name) for name in names}
        assert _is_part_of(outcome.numbers.get(gone, (None,) * system.width), numbers(gone))
        system.remove(gone)
        assert system.collect().numbers == {name: numbers(name) for name in names}
        system.add([new], lambda _: (None,) * (system.width - 1) + (9,))
        assert system.collect().numbers[new] == (None,) * (system.width - 1) + (9,)
        system.remove(new)


def _deadlines(system: System) -> None:
    """A collection that runs out of time says so, has nothing wrong in it, and spoils none of the next."""
    numbers = _of(system.width)
    system.add(_names(1, 30), numbers)
    expected = {name: numbers(name) for name in _names(1, 30)}
    assert system.collect().numbers == expected
    started = time.monotonic()
    outcome = system.collect_late()
    assert time.monotonic() - started < SECONDS
    assert sum(outcome.failures.values()) > 0
    assert all(_is_part_of(found, expected[name]) for name, found in outcome.numbers.items())
    outcome = system.collect()
    assert (outcome.numbers, outcome.failures) == (expected, {})


def _growth(system: System) -> None:
    """Tables grow with the containers, and rows are used again."""
    numbers = _of(system.width)
    there: set[str] = set()
    for first, end in ((1, 2), (2, 70), (70, 400)):
        system.add(_names(first, end), numbers)
        there |= set(_names(first, end))
        outcome = system.collect()
        assert outcome.numbers == {name: numbers(name) for name in there}
    most = outcome.rows
    for name in _names(1, 400)[::2]:
        system.remove(name)
        there.remove(name)
    assert system.collect().numbers == {name: numbers(name) for name in there}
    system.add(_names(1000, 1100), numbers)
    there |= set(_names(1000, 1100))
    outcome = system.collect()
    assert outcome.numbers == {name: numbers(name) for name in there}
    assert outcome.rows <= most
    assert outcome.failures == {}

"""Runners that take turns, so that a machine that is busy for a while is so for all of them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bench.suite.peers import AbsentError
from bench.suite.result import Better, Case

WARM_UP = 2

ERRORS = (OSError, RuntimeError, ValueError, subprocess.SubprocessError)
"""What is a runner's failure and not one of the suite."""


@dataclass(slots=True)
class Field:
    """The runners of a case: those that can run, and what is to be said of the others and of what was compared."""

    runners: dict[str, Callable[[], float]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    agreed: dict[str, str] = field(default_factory=dict)

    def fails(self, runner: str, error: Exception) -> None:
        """Leave out a runner, as absent or as failed."""
        self.runners.pop(runner, None)
        where = self.absent if isinstance(error, AbsentError) else self.failed
        where[runner] = one_line(error)

    def case(self, name: str, title: str, unit: str, runs: Mapping[str, list[float]], better: Better = "lower") -> Case:
        """The case with what was measured of the runners that are still in."""
        values = {who: tuple(runs[who]) for who in self.runners}
        return Case(name, title, unit, better, values, dict(self.absent), dict(self.failed), dict(self.agreed))

    def measure(
        self, name: str, title: str, unit: str, rounds: int, better: Better = "lower", warm_up: int = WARM_UP
    ) -> Case:
        """Run all in turn; a runner that fails once is out."""
        runs: dict[str, list[float]] = {who: [] for who in self.runners}
        for turn in range(warm_up + rounds):
            for who, run in list(self.runners.items()):
                try:
                    value = run()
                except ERRORS as error:
                    self.fails(who, error)
                else:
                    if turn >= warm_up:
                        runs[who].append(value)
        return self.case(name, title, unit, runs, better)


def one_line(error: Exception) -> str:
    """What an exception says, short and in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__

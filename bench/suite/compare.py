"""Two results side by side. What has a floor is compared by its ratio to the floor of the same round."""

from __future__ import annotations

import statistics
from typing import NamedTuple

from bench.suite.charts import number, quartiles
from bench.suite.result import FLOOR, Case, Result

FEWEST_ROUNDS = 4
"""With fewer on a side, chance alone often keeps the two apart."""

MANY_ROUNDS = 10


class Line(NamedTuple):
    """A runner of a case in both results. a, b: medians; verdict: better, worse, noise, or why there is none."""

    case: str
    runner: str
    unit: str
    a: float | None
    b: float | None
    verdict: str


def spread(values: tuple[float, ...]) -> tuple[float, float]:
    """Between what the values count as the same: quartiles of many, all of few."""
    return quartiles(values) if len(values) >= MANY_ROUNDS else (min(values), max(values))


def judge(case: Case, a: tuple[float, ...], b: tuple[float, ...]) -> str:
    """Whether B is beyond the noise of A: the spreads of the two do not overlap."""
    if min(len(a), len(b)) < FEWEST_ROUNDS:
        return "too few rounds"
    (low_a, high_a), (low_b, high_b) = spread(a), spread(b)
    if low_b <= high_a and low_a <= high_b:
        return "noise"
    return "better" if (low_a > high_b) == (case.better == "lower") else "WORSE"


def values(case: Case, other: Case, runner: str) -> tuple[str, tuple[float, ...], tuple[float, ...]]:
    """The unit and the values that are compared: ratios to the floor where both have one."""
    mine, theirs = case.to_floor(runner), other.to_floor(runner)
    if runner != FLOOR and mine is not None and theirs is not None:
        return "of the floor", mine, theirs
    return case.unit, case.runs[runner], other.runs[runner]


def state(case: Case | None, runner: str) -> str:
    """What a result says of a runner that it did not measure."""
    if case is None:
        return "no such case"
    return "absent" if runner in case.absent else "failed" if runner in case.failed else "not run"


def compare(a: Result, b: Result) -> list[Line]:
    """A line for each runner that either has measured."""
    lines = []
    cases_a, cases_b = ({case.name: case for case in result.cases} for result in (a, b))
    for name in cases_a | cases_b:
        one, other = cases_a.get(name), cases_b.get(name)
        for runner in dict.fromkeys([*(one.runs if one else ()), *(other.runs if other else ())]):
            if one and other and runner in one.runs and runner in other.runs:
                unit, mine, theirs = values(one, other, runner)
                verdict = judge(one, mine, theirs)
                lines.append(Line(name, runner, unit, statistics.median(mine), statistics.median(theirs), verdict))
            elif one and runner in one.runs:
                lines.append(Line(name, runner, one.unit, one.median(runner), None, f"B: {state(other, runner)}"))
            elif other:
                lines.append(Line(name, runner, other.unit, None, other.median(runner), f"A: {state(one, runner)}"))
    return lines


def differences(a: Result, b: Result) -> list[str]:
    """What besides the code can be why the two differ."""
    facts = {"cpu", "cpus", "kernel", "distribution"}
    found = [(key, a.machine.get(key), b.machine.get(key)) for key in sorted(facts)]
    found += [(who, a.versions.get(who), b.versions.get(who)) for who in sorted({*a.versions, *b.versions})]
    said = [f"{what}: {mine or '-'} / {theirs or '-'}" for what, mine, theirs in found if mine != theirs]
    loads = [result.machine.get("load_before") for result in (a, b)]
    return [*said, f"load before: {loads[0]} / {loads[1]}"]


def text(a: Result, b: Result) -> str:
    """The comparison as a table in Markdown, after what differs between the machines."""
    lines = [f"A: {a.date}, {a.command}", f"B: {b.date}, {b.command}", *differences(a, b), ""]
    lines += ["| case | runner | unit | A | B | B / A | |", "|---|---|---|---|---|---|---|"]
    for line in compare(a, b):
        shown = ["" if value is None else number(value) for value in (line.a, line.b)]
        ratio = number(line.b / line.a) if line.a and line.b is not None else ""
        lines.append(
            f"| {line.case} | {line.runner} | {line.unit} | {shown[0]} | {shown[1]} | {ratio} | {line.verdict} |"
        )
    return "\n".join(lines) + "\n"

"""A case as a bar chart in SVG: the median of each runner, and a whisker from the first to the third quartile."""

from __future__ import annotations

import statistics
from html import escape

from bench.suite.result import FLOOR, Case

WIDTH, LABEL, VALUE, BAR, GAP, TOP = 720, 190, 120, 20, 10, 40
COLOURS = {"floor": "#9ca3af", "pymon": "#2563eb", "peer": "#d97706"}


def quartiles(values: tuple[float, ...]) -> tuple[float, float]:
    """The first and the third quartile, or the value itself if it is the only one."""
    if len(values) == 1:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third


def number(value: float) -> str:
    """Three digits that count, without an exponent."""
    if value == 0:
        return "0"
    decimals = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 4
    return f"{value:,.{decimals}f}"


def kind(runner: str) -> str:
    """Which colour a runner has."""
    return FLOOR if runner == FLOOR else "pymon" if runner.startswith("pymon") else "peer"


def draw(case: Case) -> str:
    """The chart of what was measured. What is absent or failed has a line of text in place of a bar."""
    others = dict.fromkeys(case.absent, "absent") | dict.fromkeys(case.failed, "failed")
    rows = len(case.runs) + len(others)
    height = TOP + rows * (BAR + GAP) + GAP
    most = max((quartiles(runs)[1] for runs in case.runs.values()), default=0) or 1
    room = WIDTH - LABEL - VALUE
    title = f"{case.title}, {case.unit} ({case.better} is better)"
    root = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="12" role="img" aria-label="{escape(title)}">'
    )
    parts = [root, f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>']
    parts.append(f'<text x="{GAP}" y="24" font-size="14" font-weight="bold" fill="#111">{escape(title)}</text>')
    for row, who in enumerate([*case.runs, *others]):
        y = TOP + row * (BAR + GAP)
        middle = y + BAR // 2
        parts.append(f'<text x="{LABEL - 8}" y="{middle + 4}" text-anchor="end" fill="#111">{escape(who)}</text>')
        if who in others:
            parts.append(f'<text x="{LABEL}" y="{middle + 4}" fill="#6b7280">{others[who]}</text>')
            continue
        value = case.median(who)
        low, high = (LABEL + room * end / most for end in quartiles(case.runs[who]))
        length = room * value / most
        whisker = f"M{low:.1f} {middle}H{high:.1f}M{low:.1f} {y + 5}V{y + BAR - 5}M{high:.1f} {y + 5}V{y + BAR - 5}"
        right = max(high, LABEL + length) + 6
        parts.append(f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{COLOURS[kind(who)]}"/>')
        parts.append(f'<path d="{whisker}" stroke="#111" fill="none"/>')
        parts.append(f'<text x="{right:.1f}" y="{middle + 4}" fill="#111">{number(value)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"

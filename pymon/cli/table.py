"""Text for a terminal: tables, the fields of one thing, ages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, the last one uncut; each text as `printable` shows it."""
    lines = [tuple(headings), *(tuple(map(printable, row)) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headings) - 1)]
    return "".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=True)), line[-1]]) + "\n"
        for line in lines
    )


def fields(pairs: Iterable[tuple[str, str]]) -> str:
    """One thing, a line for each of its fields."""
    lines = [(name, printable(value) or "-") for name, value in pairs]
    width = max(len(name) for name, _ in lines)
    return "".join(f"{name:<{width}}  {value}\n" for name, value in lines)


def printable(text: str) -> str:
    """The text with what a terminal would act on, or could not show, as escapes: a tenant may have chosen it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def age(seconds: float) -> str:
    """Seconds, minutes, hours or days: the largest unit that fits."""
    for unit, letter in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= unit:
            return f"{int(seconds // unit)}{letter}"
    return f"{max(0, int(seconds))}s"

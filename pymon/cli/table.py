"""Text for a terminal: tables, lists of fields, and ages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table with a line of headings. Columns are as wide as their widest cell; cells are made `printable`."""
    lines = [tuple(headings), *(tuple(map(printable, row)) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headings) - 1)]
    return "".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=True)), line[-1]]) + "\n"
        for line in lines
    )


def fitted(
    headings: Sequence[str], rows: Sequence[Sequence[str]], width: int, least: Mapping[int, int]
) -> list[list[str]]:
    """Return the rows with cells shortened so that their table has at most `width` characters a line, if possible.

    least: the minimum width, in characters, of each column that may be shortened, by its index. Columns are shortened
        in this order.
    """
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *shown, strict=True)]
    excess = sum(widths) + 2 * (len(widths) - 1) - width
    for column, kept in least.items():
        cut = min(max(widths[column] - max(kept, len(headings[column])), 0), max(excess, 0))
        widths[column] -= cut
        excess -= cut
    return [[_cut(cell, size) for cell, size in zip(row, widths, strict=True)] for row in shown]


def _cut(text: str, size: int) -> str:
    """Return the text, or its two ends with an ellipsis between them. The end of a path says more than its middle."""
    if len(text) <= size:
        return text
    tail = (size - 1) // 2
    return f"{text[: size - 1 - tail]}…{text[len(text) - tail :]}"


def fields(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a line for each pair of a field's name and value, with aligned values."""
    lines = [(name, printable(value) or "-") for name, value in pairs]
    width = max(len(name) for name, _ in lines)
    return "".join(f"{name:<{width}}  {value}\n" for name, value in lines)


def printable(text: str) -> str:
    """Return text with unprintable characters escaped. Tenants choose some of it, and could use control sequences."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def age(seconds: float) -> str:
    """Return a duration as text in its largest unit, rounded down: s, m, h or d."""
    for unit, letter in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= unit:
            return f"{int(seconds // unit)}{letter}"
    return f"{max(0, int(seconds))}s"

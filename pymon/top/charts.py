"""Charts of numbers as lines of text: block characters of eight heights, or ASCII."""

from __future__ import annotations

import math
from collections.abc import Sequence

_BLOCKS = " ▁▂▃▄▅▆▇█"
_MARKS = " _.-=+*%#"
"""The characters of `_BLOCKS` for terminals without Unicode, the emptiest first."""

_LEVELS = len(_BLOCKS) - 1
_LEAST_TOP = 0.01
"""Of a core or of a second: less than this is no peak."""


def line(values: Sequence[float], width: int, *, ascii_only: bool) -> str:
    """Return a chart of one line; see `chart`."""
    return chart(values, width, 1, ascii_only=ascii_only)[0]


def chart(values: Sequence[float], width: int, height: int, *, ascii_only: bool) -> list[str]:
    """Return the lines of a chart of the last `width` values, a column for each, the newest at the right.

    It begins at 0 and ends at the largest value, or at a hundredth. There is nothing where a value is NaN, and
    something where it is 0.
    """
    glyphs = _MARKS if ascii_only else _BLOCKS
    values = values[-width:] if width > 0 else ()
    top = max((value for value in values if math.isfinite(value)), default=0.0)
    top = max(top, _LEAST_TOP)
    levels = [_level(value, top, height * _LEVELS) for value in values]
    floors = range((height - 1) * _LEVELS, -1, -_LEVELS)
    return ["".join(glyphs[min(_LEVELS, max(0, level - floor))] for level in levels).rjust(width) for floor in floors]


def _level(value: float, top: float, most: int) -> int:
    if math.isnan(value):
        return 0
    return max(1, round(min(value / top, 1.0) * most))

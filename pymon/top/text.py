"""Names and numbers as text of a terminal.

A name is a tenant's, and a number is a server's: whatever they are, they take the columns they are given and nothing
else.
"""

from __future__ import annotations

import functools
import math
import unicodedata

NONE = "-"
"""Stands for a value that is not there, which is not 0."""

MAX_CHARACTERS = 256
"""Longer texts are cut before anything is done with them."""

_RIGHT_TO_LEFT = frozenset(("R", "AL", "AN"))
_BLANK_LETTERS = frozenset("\u115f\u1160\u3164\uffa0")
_WIDE = frozenset("WF")
_LARGEST = 999.5
_UNITS = "BKMGTPE"


def _plain(character: str, *, ascii_only: bool) -> bool:
    if character.isascii():
        return character.isprintable()
    return not (
        ascii_only
        or not character.isprintable()
        or character in _BLANK_LETTERS
        or unicodedata.category(character) in ("Mn", "Me")
        or unicodedata.bidirectional(character) in _RIGHT_TO_LEFT
    )


@functools.lru_cache(maxsize=4096)
def shown(text: str, *, ascii_only: bool = False) -> str:
    r"""Return a text with escapes (``\u202e``) for what a terminal would not show where it stands.

    These are control and format characters, marks that join the character before them, and the letters of scripts that
    run from right to left: a terminal that knows these would move the numbers beside them. ascii_only: escapes all that
    is not ASCII.
    """
    return "".join(
        one if _plain(one, ascii_only=ascii_only) else one.encode("unicode_escape").decode("ascii")
        for one in text[:MAX_CHARACTERS]
    )


def columns_of(text: str) -> int:
    """Return the columns that a text of `shown` takes."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(one) in _WIDE else 1 for one in text)


def fitted(text: str, width: int, *, right: bool = False) -> str:
    """Return a text of `shown` in exactly `width` columns. What is cut off is replaced by a ``~``."""
    taken = columns_of(text)
    if taken > width:
        kept, taken = [], 0
        for one in text:
            size = columns_of(one)
            if taken + size > width - 1:
                break
            kept.append(one)
            taken += size
        text, taken = "".join(kept) + "~" * min(width, 1), taken + min(width, 1)
    blanks = " " * (width - taken)
    return blanks + text if right else text + blanks


def size(value: float | None) -> str:
    """Return a number of bytes in at most five characters: ``1.2G``, in powers of 1024."""
    if value is None or not 0 <= value < math.inf:
        return NONE
    for unit in _UNITS:
        if value < _LARGEST:
            return f"{value:.0f}{unit}" if unit == "B" or value >= 99.95 else f"{value:.1f}{unit}"  # noqa: PLR2004
        value /= 1024
    return ">999E"


def cores(value: float | None) -> str:
    """Return a number of CPU cores in at most five characters."""
    if value is None or not 0 <= value < math.inf:
        return NONE
    if value >= 9999.5:  # noqa: PLR2004
        return ">9999"
    return f"{value:.2f}" if value < 99.995 else f"{value:.0f}"  # noqa: PLR2004


def percent(value: float | None) -> str:
    """Return a ratio as a percentage in at most five characters."""
    if value is None or not 0 <= value < math.inf:
        return NONE
    return f"{100 * value:.0f}%" if value < 9.995 else ">999%"  # noqa: PLR2004


def count(value: float | None) -> str:
    """Return a whole number in at most seven characters."""
    if value is None or not 0 <= value < math.inf:
        return NONE
    return f"{value:.0f}" if value < 1e6 else ">999999"  # noqa: PLR2004


def seconds(value: float | None) -> str:
    """Return a time in its largest unit, rounded down, in at most six characters."""
    if value is None or not math.isfinite(value):
        return NONE
    for unit, letter in ((86400, "d"), (3600, "h"), (60, "m")):
        if value >= unit:
            return f"{min(99999, value // unit):.0f}{letter}"
    return f"{max(0, value) // 1:.0f}s"

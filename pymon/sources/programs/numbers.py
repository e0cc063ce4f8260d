"""Numbers as programs write them. Everything that is not wholly one is None."""

from __future__ import annotations

import re
from decimal import Decimal, DecimalException

_INT64_MIN, _INT64_MAX, _UINT64_MAX = -(2**63), 2**63 - 1, 2**64 - 1
_BILLION = 9
_BILLION_MOST = Decimal(_INT64_MAX).scaleb(-_BILLION)
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_UNSIGNED = re.compile(r"[0-9]{1,20}")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,20}(?:\.[0-9]{0,20})?(?:[eE][+-]?[0-9]{1,3})?")
_RATIO = re.compile(r"([0-9]{1,15})\.([0-9]{2})x?")
_HEXADECIMAL = re.compile(r"0[xX]([0-9a-fA-F]{1,16})")


def integer(word: str) -> int | None:
    """An integer that a cell can hold: `-22`, `+4`, `18446744073709551615`."""
    if _INTEGER.fullmatch(word) is None:
        return None
    value = int(word)
    return value if _INT64_MIN <= value <= _UINT64_MAX else None


def unsigned(word: str) -> int | None:
    """Digits only."""
    return integer(word) if _UNSIGNED.fullmatch(word) else None


def hexadecimal(word: str) -> int | None:
    """`0x1`."""
    match = _HEXADECIMAL.fullmatch(word)
    return int(match[1], 16) if match else None


def billionths(word: str) -> int | None:
    """A decimal number times 10**9, to the nearest integer: `-0.313` is -313000000, `1.6e+07` is 16 * 10**15.

    The sign that some releases of ntpq put before positive numbers is one too.
    """
    if _DECIMAL.fullmatch(word) is None:
        return None
    try:
        value = Decimal(word)
        return int(value.scaleb(_BILLION).to_integral_value()) if abs(value) <= _BILLION_MOST else None
    except DecimalException:
        return None


def hundredths(word: str) -> int | None:
    """A ratio of two decimals, with or without an x: `1.53x` is 153."""
    match = _RATIO.fullmatch(word)
    return int(match[1] + match[2]) if match else None

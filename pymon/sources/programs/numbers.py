"""Parses numbers in the output of programs. Each function returns None when the whole word is not such a number."""

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
    """Return a decimal integer that fits a table cell: `-22`, `+4`, `18446744073709551615`."""
    if _INTEGER.fullmatch(word) is None:
        return None
    value = int(word)
    return value if _INT64_MIN <= value <= _UINT64_MAX else None


def unsigned(word: str) -> int | None:
    """Return an unsigned integer of decimal digits without a sign, at most 2**64-1."""
    return integer(word) if _UNSIGNED.fullmatch(word) else None


def hexadecimal(word: str) -> int | None:
    """Return a hexadecimal integer of at most 64 bits, written as `0x1`."""
    match = _HEXADECIMAL.fullmatch(word)
    return int(match[1], 16) if match else None


def billionths(word: str) -> int | None:
    """Return a decimal number in units of 10**-9, rounded: `-0.313` is -313000000, `1.6e+07` is 16 * 10**15.

    A leading `+` is accepted, because some releases of ntpq write it.
    """
    if _DECIMAL.fullmatch(word) is None:
        return None
    try:
        value = Decimal(word)
        return int(value.scaleb(_BILLION).to_integral_value()) if abs(value) <= _BILLION_MOST else None
    except DecimalException:
        return None


def hundredths(word: str) -> int | None:
    """Return a ratio with two decimals in hundredths. A trailing `x` is optional: `1.53x` is 153."""
    match = _RATIO.fullmatch(word)
    return int(match[1] + match[2]) if match else None

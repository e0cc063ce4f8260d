"""Splits and decodes the text of kernel files."""

from __future__ import annotations

import re

_OCTAL = re.compile(rb"\\([0-7]{3})")
_UINT64_MAX = 2**64 - 1
_DIGITS_MAX = 20


def complete_lines(data: bytes) -> list[bytes]:
    """Return the lines without their newline. A last line without a newline is left out, because it was cut off."""
    return data.split(b"\n")[:-1]


def unsigned(word: bytes) -> int | None:
    """Return the word as an unsigned 64-bit integer, or None when it is not one in decimal digits."""
    if not word.isdigit() or len(word) > _DIGITS_MAX:
        return None
    value = int(word)
    return value if value <= _UINT64_MAX else None


def text(data: bytes) -> str:
    """Return kernel bytes as a label value.

    Prometheus rejects a whole response for one byte that is not UTF-8. Such a byte is written as a backslash, x and two
    hexadecimal digits, so that different names stay different.
    """
    return data.decode("utf-8", "backslashreplace")


def unescaped(word: bytes) -> bytes:
    """Decode a word in which the kernel wrote blanks and other characters as a backslash and three octal digits."""
    return _OCTAL.sub(lambda match: bytes((int(match[1], 8) & 0xFF,)), word)

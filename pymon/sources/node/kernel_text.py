"""Words and lines of kernel text."""

from __future__ import annotations

_UINT64_MAX = 2**64 - 1


def complete_lines(data: bytes) -> list[bytes]:
    """Lines without their newline; a last line that was cut off is left out."""
    return data.split(b"\n")[:-1]


def unsigned(word: bytes) -> int | None:
    """An unsigned 64-bit integer in decimal digits, or None when the word is anything else."""
    if not word.isdigit():
        return None
    value = int(word)
    return value if value <= _UINT64_MAX else None


def text(data: bytes) -> str:
    """Kernel bytes as a label value.

    A scraper refuses the whole answer for one byte that is no UTF-8. Such a byte is written as a backslash, x and its
    hexadecimal digits, which keeps different names different.
    """
    return data.decode("utf-8", "backslashreplace")

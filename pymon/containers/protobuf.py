"""Reads messages of protocol buffers field by field, without a schema.

A library for protocol buffers makes objects of a whole message at once, and two bytes can make one of hundreds. Here
nothing is made of a message but the fields that are looked at, and their number has a limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .files import UnreadableError

Value = int | memoryview
"""Of a number, its bits as an unsigned integer; of text, bytes and messages, their bytes."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_VARINT_BYTES = 10
_MASK = (1 << 64) - 1


class Reader:
    """Reads a message and those in it, of at most so many fields together."""

    def __init__(self, origin: Path, most: int) -> None:
        """origin: who sent it, for the messages of errors. most: the most fields."""
        self._origin = origin
        self._left = most

    def fields(self, data: memoryview) -> Iterator[tuple[int, Value]]:
        """Yield the number and the value of each field. Those of fixed size are left out. Raises UnreadableError."""
        at, end = 0, len(data)
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise UnreadableError(self._origin, "sent a message with too many fields")
            key, at = self._varint(data, at)
            number, kind = key >> 3, key & 7
            if kind == _VARINT:
                value, at = self._varint(data, at)
                yield number, value
            elif kind == _BYTES:
                length, at = self._varint(data, at)
                if length > end - at:
                    raise self._broken()
                yield number, data[at : at + length]
                at += length
            elif kind in (_FIXED32, _FIXED64):
                at += 4 if kind == _FIXED32 else 8
                if at > end:
                    raise self._broken()
            else:
                raise self._broken()

    def texts(self, entry: Value) -> tuple[str, str]:
        """Return the key and the value of an entry of a map of text. Raises UnreadableError."""
        found = dict(self.fields(entry)) if isinstance(entry, memoryview) else {}
        return text(found.get(1)), text(found.get(2))

    def _varint(self, data: memoryview, at: int) -> tuple[int, int]:
        """Return the number at an offset, and the offset after it."""
        value = shift = 0
        for byte in data[at : at + _VARINT_BYTES]:
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:  # noqa: PLR2004
                return value & _MASK, at
            shift += 7
        raise self._broken()

    def _broken(self) -> UnreadableError:
        return UnreadableError(self._origin, "sent what is no message of protocol buffers")


def text(value: Value | None) -> str:
    """Return the text of a field, "" if there is none. Bytes that are not UTF-8 become "\N{REPLACEMENT CHARACTER}"."""
    return bytes(value).decode("utf-8", "replace") if isinstance(value, memoryview) else ""


def number(value: Value | None) -> int:
    """Return the signed number of a field, 0 if there is none."""
    if not isinstance(value, int):
        return 0
    return value - (1 << 64) if value >> 63 else value


def field(number: int, content: bytes) -> bytes:
    """Return a field whose value is text or a message. number: at most 15."""
    length, size = b"", len(content)
    while size >= 0x80:  # noqa: PLR2004
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | _BYTES]) + length + bytes([size]) + content

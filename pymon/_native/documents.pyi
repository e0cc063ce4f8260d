"""Locates the items of a JSON array in an untrusted document."""

from array import array

from typing_extensions import Buffer

def array_items(text: Buffer, start: int, most: int) -> tuple[array[int], int]:
    """Return the offsets of the items of a JSON array, and the offset of its closing bracket.

    start: offset just after the opening bracket. The array holds the start and end offset of each item, in order. The
    offset of the closing bracket is -1 when the array is not closed, has more than `most` items, or has anything other
    than a comma between two items. Runs without the GIL. Raises ValueError when `start` is outside the
    text or `most` is less than 1.
    """

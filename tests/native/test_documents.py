"""Where the items of an array lie, against what a JSON decoder makes of the whole."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymon._native.documents import array_items

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(), values, max_size=4),
    max_leaves=10,
)


def items(text: bytes, most: int = 1000, start: int = 1) -> tuple[list[bytes], int]:
    found, end = array_items(text, start, most)
    return [text[first:last] for first, last in zip(found[::2], found[1::2], strict=True)], end


@given(st.lists(VALUES), st.sampled_from([None, 1]), st.booleans())
def test_items_are_those_of_the_decoder(values: list[object], indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode()
    found, end = items(text)
    assert [json.loads(item) for item in found] == values
    assert end == len(text) - 1


@pytest.mark.parametrize(
    ("text", "found", "end"),
    [
        (b"[]", [], 1), (b"[ \r\n\t]", [], 5), (b"[1]x", [b"1"], 2), (b'["]"]', [b'"]"'], 4),
        (rb'["\"]","\\"]', [rb'"\"]"', rb'"\\"'], 11), (b"[{},[]]", [b"{}", b"[]"], 6),
        (b"[1,]", [b"1", b""], 3), (b"[,1]", [b"", b"1"], 3), (b"[{}1]", [b"{}"], -1), (b"[{}", [b"{}"], -1),
        (b"[1", [b"1"], -1), (b'["a', [b'"a'], -1), (b'["a\\', [b'"a\\'], -1),
        (b"[{]]", [b"{]"], 3), (b"[1,2,3]", [b"1", b"2"], -1),
    ],
)  # fmt: skip
def test_what_is_no_array_has_no_end(text: bytes, found: list[bytes], end: int) -> None:
    assert items(text, most=2) == (found, end)


@given(st.binary(min_size=1, max_size=60), st.integers(1, 5))
def test_any_bytes_are_split_within_bounds(text: bytes, most: int) -> None:
    found, end = array_items(text, 0, most)
    assert len(found) <= 2 * most
    assert list(found) == sorted(found)
    assert all(0 <= offset <= len(text) for offset in found)
    assert -1 <= end < len(text)


@pytest.mark.parametrize(("start", "most"), [(-1, 1), (3, 1), (0, 0), (0, -1)])
def test_arguments_outside_are_refused(start: int, most: int) -> None:
    with pytest.raises(ValueError, match="expected a start inside the text and room for items"):
        array_items(b"[1]", start, most)

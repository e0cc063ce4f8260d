"""Expositions of other programs: what is passed on is valid, and has the labels that were added."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymon.exposition.families import ExpositionError, parse_text
from pymon.exposition.foreign import checked, with_labels
from tests.oracle import parse

FRONT = (("id", '/docker/a"b'), ("name", "web"))


def labelled(text: str) -> str:
    return with_labels(checked(text.encode(), 1000), FRONT).decode()


def test_labels_come_first_and_families_are_together() -> None:
    text = (
        '# HELP a One.\n# TYPE a counter\na_total 1\nb{x="1",} 2\n\n#comment\nc{ } +Inf\nb{x="2"} NaN\n'
    )  # fmt: skip
    front = 'id="/docker/a\\"b",name="web"'
    found = labelled(text)
    assert [line for line in found.splitlines() if not line.startswith("#")] == [
        f"a_total{{{front}}} 1", f'b{{{front},x="1",}} 2', f'b{{{front},x="2"}} NaN', f"c{{{front}}} +Inf",
    ]  # fmt: skip
    parse(found.encode())


def test_own_labels_with_a_taken_name_are_renamed() -> None:
    found = labelled('a{id="x",exported_id="y",other="name"} 1\na{name="id"} 2\n')
    assert 'exported_exported_id="x",exported_id="y",other="name"} 1' in found
    assert 'name="web",exported_name="id"} 2' in found
    spaced = labelled('a{ id = "x" ,\ty= "a,id=\\"b" , } 1\n')
    assert ',exported_id="x",y="a,id=\\"b"} 1' in spaced
    parse(found.encode())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a", "line 1:"),
        ("a 1", "line 1: expected a newline at its end"),
        ("a 1\na 2\n", "a: the same labels twice"),
        ('a{x="1",y=""} 1\na{x="1"} 2\n', "a: the same labels twice"),
        ("<html>\n", "line 1: expected the name of a metric, got '<html>'"),
        ("a 1 1700000000000\n", "line 1: a: expected the end of the line"),
        ("a\x00 1\n", "line 1:"),
        ("".join(f"a{n} 1\n" for n in range(1001)), "expected at most 1000 samples"),
    ],
)
def test_what_is_not_valid_is_not_passed_on(text: str, why: str) -> None:
    with pytest.raises(ExpositionError) as caught:
        checked(text.encode(), 1000)
    assert str(caught.value).startswith(why)


def test_too_many_samples_cost_little() -> None:
    data = b"".join(b"a%d 1\n" % number for number in range(600_000))
    tracemalloc.start()
    began = time.monotonic()
    with pytest.raises(ExpositionError):
        checked(data, 50_000)
    assert time.monotonic() - began < 20
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()


NAMES = st.sampled_from(["a", "b_total", "id", "name"])
LABELS = st.dictionaries(st.sampled_from(["x", "id", "name", "exported_id", "exported_name"]), st.text(max_size=4))


@given(st.lists(st.tuples(NAMES, LABELS, st.integers()), max_size=12))
def test_whatever_is_valid_stays_valid(samples: list[tuple[str, dict[str, str], int]]) -> None:
    def quoted(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    def block(labels: dict[str, str]) -> str:
        return ",".join(f'{key}="{quoted(value)}"' for key, value in labels.items())

    lines = (f"{name}{{{block(labels)}}} {value}\n" for name, labels, value in samples)
    try:
        text = checked("".join(lines).encode("utf-8", "replace"), 1000)
    except ExpositionError:
        return
    found = checked(with_labels(text, FRONT), 1000)
    assert found.sample_count == text.sample_count
    parse_text(with_labels(text, FRONT))

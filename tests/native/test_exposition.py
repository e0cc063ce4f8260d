"""The reader of others' expositions: what it takes is what the format's definition takes, and it takes little time."""

import math
import re
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pymon._native.exposition import Exposition, number, read_labels, unescaped

STEPS_PER_BYTE = 40


def read(data, **options):
    made = Exposition(data, **options)
    assert made.run()
    assert made.steps <= STEPS_PER_BYTE * len(data) + 2000
    return made


def test_families_and_samples_are_told_as_text_and_as_they_are_written():
    body = (
        b"# HELP a A \\\\ \\n.\n# TYPE a histogram\n"
        b'a_bucket{x="\\"\\n\\\\n",le="1"} 1\na_bucket{le="+Inf"} 2\na_sum{x="\xc3\xa4"} 1e5\n# TYPE b gauge\nb -Inf\n'
    )
    found = read(body, strict=True)
    assert found.problem is None
    assert (found.family_count, found.sample_count) == (2, 4)
    assert found.families() == [
        (b"a", b"histogram", b"A \\\\ \\n.", 0, 3, False),
        (b"b", b"gauge", None, 3, 1, False),
    ]
    assert found.rows(1) == [
        (b"_bucket", b'le="+Inf"', b"2"),
        (b"_sum", 'x="ä"'.encode(), b"1e5"),
        (b"", b"", b"-Inf"),
    ]
    assert found.samples(0, 3) == [
        (0, "_bucket", (("x", '"\n\\n'), ("le", "1")), "1", False),
        (0, "_bucket", (("le", "+Inf"),), "2", False),
        (0, "_sum", (("x", "ä"),), "1e5", False),
    ]
    assert read(b"c infinity\n").samples() == [(0, "", (), "+Inf", False)]


def test_a_problem_says_where_it_is():
    found = read(b'a 1\n b{c="1",c="2"} 1\n')
    assert found.problem == ("label_twice", 2, 4, b' b{c="1",c="2"} 1', b"c", b"")
    assert found.run()
    assert found.problem[0] == "label_twice"


def test_labels_and_numbers_alone():
    assert read_labels(b'a{b="1", c="\\n"}d', 2) == ((("b", "1"), ("c", "\n")), 16, None)
    assert read_labels(b"a{b=1}", 2) == ((), 2, ("label", b"b=1}"))
    assert read_labels(b"a{", 2) == ((), 2, ("label", b""))
    with pytest.raises(IndexError):
        read_labels(b"a{", 3)
    assert unescaped(b'\\\\n\\n\\"\\\\') == '\\n\n"\\'


def test_samples_of_a_loose_text_cannot_be_labelled():
    for made in (read(b"a 1\n"), read(b"a", strict=True), Exposition(b"# TYPE a gauge\na 1\n", strict=True)):
        with pytest.raises(ValueError, match="strict"):
            made.labelled(0, b'b="1"', ())


@given(
    st.one_of(
        st.from_regex(r"\A[+-]?[0-9]{0,4}\.?[0-9]{0,4}([eE][+-]?[0-9]{0,4})?\Z"),
        st.floats().map(repr),
        st.integers(-(10**310), 10**310).map(str),
        st.text("+-.eE01_ xinfatyINFNA", max_size=8),
    )
)
@settings(max_examples=1000, deadline=None)
def test_a_number_is_what_python_and_go_both_take_and_a_float_can_hold(text):
    spelled = re.fullmatch(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", text, re.ASCII)
    if spelled:
        assert number(text.encode()) == (text if math.isfinite(float(text)) else None)
    else:
        infinity = re.fullmatch(r"([+-]?)inf(?:inity)?", text, re.IGNORECASE)
        expected = "NaN" if text.lower() == "nan" else f"{infinity[1] or '+'}Inf" if infinity else None
        assert number(text.encode()) == expected


NAMES = st.sampled_from(["a", "b", "a_sum", "h", "h_sum", "h_count", "h_bucket", "s", "s_sum"])
LABELS = st.lists(
    st.tuples(st.sampled_from(["x", "y", "le", "quantile"]), st.sampled_from(["", "1", "+Inf", "x", "\\n"])), max_size=3
)


def sample(name, labels, value):
    inside = ",".join(f'{label}="{text}"' for label, text in labels)
    return f"{name}{{{inside}}} {value}"


LINES = st.one_of(
    st.builds("# TYPE {} {}".format, NAMES, st.sampled_from(["gauge", "counter", "histogram", "summary", "untyped"])),
    st.builds("# HELP {} {}".format, NAMES, st.sampled_from(["", "x", "\\\\"])),
    st.builds(sample, NAMES, LABELS, st.sampled_from(["1", "1.5", "NaN", "x", "1 2"])),
)


@given(st.lists(LINES, max_size=8))
@settings(max_examples=1000, deadline=None)
def test_what_is_taken_has_no_series_twice_and_only_valid_bounds(lines):
    body = "".join(f"{line}\n" for line in lines).encode()
    for strict in (False, True):
        found = read(body, strict=strict)
        if found.problem:
            continue
        kinds = [family[1] for family in found.families()]
        seen = set()
        for family, suffix, labels, _, _ in found.samples():
            series = (family, suffix, frozenset((name, text) for name, text in labels if text))
            assert series not in seen
            seen.add(series)
            assert len({name for name, _ in labels}) == len(labels)
            bound = {b"histogram": "le", b"summary": "quantile"}.get(kinds[family])
            wanted = (kinds[family], suffix) in {(b"histogram", "_bucket"), (b"summary", "")}
            assert not bound or (bound in dict(labels)) == wanted
            assert not wanted or number(dict(labels)[bound].encode())
        list(text_string_to_metric_families(body.decode()))


@given(st.binary(max_size=200) | st.text(alphabet='ab{}="\\,# \n\t1.eTYPEHL_', max_size=200).map(str.encode))
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_read_or_refused(data):
    for strict in (False, True):
        found = read(data, strict=strict)
        if found.problem:
            assert found.problem[1] <= data.count(b"\n") + 1


@pytest.mark.parametrize("strict", [False, True])
def test_others_run_while_it_reads_and_it_can_be_stopped_between_slices(strict):
    body = b"# TYPE a gauge\n" + b"".join(b'a{x="%d"} 1\n' % number for number in range(1_000_000))
    made = Exposition(body, strict=strict)
    assert not made.run(1000)
    assert 40 < made.sample_count < 100
    turns = []
    over = threading.Event()

    def count():
        while not over.is_set():
            turns.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    started = time.perf_counter()
    assert made.run()
    ended = time.perf_counter()
    over.set()
    thread.join()
    inside = [at for at in turns if started < at < ended]
    assert len(inside) >= min(5, (ended - started) / 0.02), "the interpreter is held"
    assert made.sample_count == 1_000_000


def test_the_file_that_stopped_the_agent_is_refused_at_once():
    found = read(b"a 1 x" + b" " * 40_000 + b"y\n")
    assert found.problem[:2] == ("trailing", 1)

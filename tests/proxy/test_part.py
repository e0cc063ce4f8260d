"""Parts of hostile nodes: refused, or what comes out is an exposition that Prometheus takes."""

import contextlib
import gc
import itertools
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pymon.proxy.aggregate import Adder, Merger
from pymon.proxy.part import MAX_NAME_BYTES, InvalidPartError, Part, Reading
from tests.exposition.prometheus_rules import broken_rules
from tests.oracle import parse
from tests.proxy.aggregated import merge, one

GAUGE = "# TYPE a gauge\n"
HISTOGRAM = "# TYPE h histogram\n"


def nothing():
    pass


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GAUGE + "a 1\na 2\n", "a series comes twice in its exposition, again as b'a 2'"),
        (GAUGE + 'a{x="1",y="2"} 1\na{y="2",x="1"} 1\n', "a series comes twice"),
        (GAUGE + 'a{x=""} 1\na{} 1\n', "a series comes twice"),
        (HISTOGRAM + 'h_sum{le="1"} 3\n', "expected no label le in"),
        (HISTOGRAM + 'h_bucket{le="1"} 1\nh_count{le="1"} 3\n', "expected no label le in"),
        ('# TYPE s summary\ns_sum{quantile="1"} 3\n', "expected no label quantile in"),
        ("# TYPE pymon_container_scrape_success gauge\npymon_container_scrape_success 1\n", "called as pymon's"),
        ("# HELP pymon_x X.\n# TYPE pymon_x counter\npymon_x 1\n", "called as pymon's"),
        (GAUGE + "a 1\n# TYPE a counter\n", "a family comes twice in its exposition: b'a'"),
        (f"# TYPE {'a' * (MAX_NAME_BYTES + 1)} gauge\n{'a' * (MAX_NAME_BYTES + 1)} 1\n", "expected a shorter name"),
        (GAUGE + 'a{%sx="1"} 1\n' % ("exported_" * 8), "expected a family at byte"),
    ],
)
def test_what_would_make_a_second_series_or_family_is_refused(text, expected):
    with pytest.raises(InvalidPartError) as caught:
        Reading(one(text.encode()), nothing)
    assert expected in str(caught.value)
    assert str(caught.value).startswith("container u1: ")


def test_the_proxy_s_own_family_stays_alone():
    good, bad = one(b"# TYPE a gauge\na 1\n"), one(b"# TYPE pymon_a gauge\npymon_a 1\n", "u2")
    for whole in (Merger(), Adder("node")):
        whole.add(good)
        with pytest.raises(InvalidPartError, match="u2"):
            whole.add(bad)
        assert b"pymon_a" not in whole.body()


def test_a_series_of_families_that_clash_is_there_once_whatever_the_order_of_its_labels():
    body = (
        b'# TYPE a histogram\na_bucket{le="+Inf",x="1",y="2"} 2\na_sum{x="1",y="2"} 1\na_count{x="1",y="2"} 2\n'
        b'# TYPE a_count gauge\na_count{y="2",x="1",z=""} 7\n'
    )
    merged = merge([one(body)])
    assert broken_rules(merged) == []
    assert merged.count(b"\na_count{") == 1


def test_lines_of_a_histogram_are_one_whatever_the_order_of_their_labels():
    adder = Adder("node")
    body = b'# TYPE h histogram\nh_bucket{x="1",y="2",le="+Inf"} 2\nh_sum{y="2",x="1"} 1\nh_count{z="",x="1",y="2"} 2\n'
    adder.add(one(body))
    assert adder.body().count(b"\n") == 4
    assert {name for name, _ in parse(adder.body())} == {"h_bucket", "h_sum", "h_count"}


class StopError(Exception):
    pass


@pytest.mark.parametrize("make", [Merger, lambda between: Adder("node", between)])
def test_reading_can_be_stopped_at_any_time(make):
    body = GAUGE.encode() + b"".join(b'a{x="%d"} 1\n' % number for number in range(100_000))
    calls = []

    def count():
        calls.append(time.monotonic())

    make(count).add(one(body))
    assert len(calls) > len(body) >> 18

    def stop_after(turns):
        left = iter(range(turns))

        def between():
            if next(left, None) is None:
                raise StopError

        return between

    for turns in (0, 1, len(calls) // 2, len(calls) - 1):
        whole = make(stop_after(turns))
        with pytest.raises(StopError):
            whole.add(one(body))


@pytest.mark.parametrize("make", [Merger, lambda: Adder("node")])
def test_others_have_their_turn_while_a_large_part_is_taken_in(make):
    """8 MB is the most that a node may send. The longest that others wait was 0.8 s."""
    lines = b"".join(b'a{x="%d",node="%d",long="%s"} 1\n' % (number, number, b"y" * 20) for number in range(150_000))
    body = b"# HELP a A.\n" + GAUGE.encode() + lines
    assert len(body) > 7_500_000

    def longest_gap():
        turns = []
        over = threading.Event()

        def count():
            while not over.wait(0.001):
                turns.append(time.perf_counter())

        thread = threading.Thread(target=count)
        thread.start()
        try:
            make().add(one(body))
        finally:
            over.set()
            thread.join()
        gaps = [later - before for before, later in itertools.pairwise(turns)]
        assert len(gaps) > 10
        return max(gaps)

    # What else the machine does makes a gap longer, never shorter. So does what the garbage collector has to look at,
    # which are the objects of all tests.
    gc.freeze()
    try:
        assert min(longest_gap() for _ in range(3)) < 0.25
    finally:
        gc.unfreeze()


# Whatever a node writes, what is sent is valid.

NAMES = st.sampled_from(["a", "a_sum", "a_count", "a_bucket", "a_total", "b", "a:b"])
SUFFIXES = {"histogram": ["_bucket", "_bucket", "_sum", "_count"], "summary": ["", "_sum", "_count"]}
LABELS = st.lists(
    st.tuples(
        st.sampled_from(["x", "node", "uuid", "exported_node", "id", "service", "y", "le", "quantile"]),
        st.sampled_from(["", "1", "+Inf", "0.5", "\\n", '\\"', "ä", "x}"]),
    ),
    max_size=3,
    unique_by=lambda pair: pair[0],
)
VALUES = st.sampled_from(["1", "0.5", "1e+06", "NaN", "+Inf"])


@st.composite
def hostile(draw):
    """Mostly in order, else nothing would come through."""
    lines = []
    for name in draw(st.lists(NAMES, max_size=3, unique=True)):
        kind = draw(st.sampled_from(["gauge", "counter", "histogram", "summary", "untyped"]))
        if draw(st.booleans()):
            lines.append(f"# HELP {name} {draw(st.sampled_from(['', 'x', 'a b']))}")
        lines.append(f"# TYPE {name} {kind}")
        for _ in range(draw(st.integers(1, 3))):
            suffix = draw(st.sampled_from(SUFFIXES.get(kind, [""])))
            labels = draw(LABELS)
            bound = {"histogram": "le", "summary": "quantile"}.get(kind)
            labels = [pair for pair in labels if pair[0] != bound or not draw(st.integers(0, 5))]
            if (kind, suffix) in {("histogram", "_bucket"), ("summary", "")}:
                labels.append((bound, draw(st.sampled_from(["1", "+Inf"]))))
            inside = ",".join(f'{label}="{text}"' for label, text in labels)
            lines.append(f"{name}{suffix}{{{inside}}} {draw(VALUES)}")
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(lines)))
        lines.insert(at, draw(st.sampled_from(["# TYPE pymon_a gauge", "a 1", "b 1e999", "#", "", "# EOF", "a 1 2"])))
    return "".join(f"{line}\n" for line in lines).encode()


@settings(max_examples=400, deadline=None)
@given(st.lists(hostile(), min_size=1, max_size=4), st.sampled_from(["node", "service"]))
def test_what_is_sent_is_valid_whatever_nodes_write(bodies, by):
    merger, adder = Merger(), Adder(by)
    for number, body in enumerate(bodies):
        for whole in (merger, adder):
            with contextlib.suppress(InvalidPartError):
                whole.add(Part(f"u{number}", "n1", body, ("web",)))
    assert broken_rules(merger.body()) == []
    assert broken_rules(adder.body()) == []


def test_most_of_what_the_property_tries_comes_through():
    """Or it would show nothing."""
    taken = []

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(hostile())
    def count(body):
        with contextlib.suppress(InvalidPartError):
            taken.append(bool(Reading(one(body), nothing).families))

    count()
    assert sum(taken) > 50

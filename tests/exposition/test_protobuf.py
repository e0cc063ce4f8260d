"""Protocol buffers say what the text says: the same series with the same numbers, read by a compiled schema."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pymon._native.exposition import Exposition
from pymon._native.renderer import Body, FamilyLines, Labels, Renderer, SampleLine
from pymon._native.table import Table
from pymon.catalogue import latency, model
from pymon.catalogue.model import Column, Creation, Kind, Metric, Sample
from pymon.exposition.compile import compile_catalogue
from pymon.exposition.families import Family, parse_text, write
from pymon.exposition.families import Sample as Line
from pymon.exposition.negotiation import Format
from pymon.exposition.own_text import in_format
from pymon.exposition.protobuf import native_buckets
from tests.exposition.messages import families, schema, series
from tests.exposition.worlds import label_values, worlds

BOUND = {"histogram": "le", "summary": "quantile"}


def from_text(text):
    return in_format(text, Format.PROTOBUF)


def text_series(text, kinds):
    """What prometheus_client reads in a text, with the names as written and bounds as floats. kinds: by family."""
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            name = sample.name
            if family.type == "counter" and name not in kinds and name.removesuffix("_total") in kinds:
                name = name.removesuffix("_total")  # the parser gives it to every counter
            labels = dict(sample.labels)
            bound = BOUND.get(family.type, "")
            if bound in labels:
                labels[bound] = repr(float(labels[bound]))
            found[name, frozenset(labels.items())] = float(sample.value)
    return found


def same(one, other):
    assert one.keys() == other.keys()
    differing = {
        key: (value, other[key])
        for key, value in one.items()
        if value != other[key] and not (math.isnan(value) and math.isnan(other[key]))
    }
    assert not differing


def rendered(compiled, tables, labels=None):
    text, messages = Body(), Body()
    lines = compiled.renderer.render(text, tables, labels)
    assert compiled.renderer.render(messages, tables, labels, protobuf=True) == lines
    return bytes(text), bytes(messages)


@given(worlds())
def test_tables_give_the_samples_of_the_text(world):
    compiled = compile_catalogue(world.metrics, {table.name: table.columns for table in world.tables})
    text, messages = rendered(compiled, world.tables, Labels(world.blocks))
    kinds = {metric.name: metric.kind for metric in world.metrics}
    same(series(messages), text_series(text, kinds))
    told = [(family.name, schema().MetricType.Name(family.type), family.help) for family in families(messages)]
    types = {Kind.COUNTER: "COUNTER", Kind.GAUGE: "GAUGE", Kind.INFO: "GAUGE", Kind.UNKNOWN: "UNTYPED"}
    written = {name for name, *_ in told}
    assert told == [
        (metric.name, types[metric.kind], metric.help) for metric in world.metrics if metric.name in written
    ]


@given(st.lists(st.lists(st.none() | st.integers(0, 2**53), min_size=4, max_size=4), max_size=4))
def test_histograms_of_tables(rows):
    columns = ["low", "mid", "all", "sum"]
    metric = Metric(
        "wait_seconds",
        Kind.HISTOGRAM,
        "Of waiting.",
        "c",
        (
            *(
                Sample((Column("t", key),), labels=(("le", bound), ("of", 'x"')), suffix="_bucket")
                for key, bound in (("low", "0.5"), ("mid", "1e+06"), ("all", "+Inf"))
            ),
            Sample((Column("t", "sum", model.NSEC),), labels=(("of", 'x"'),), suffix="_sum"),
            Sample((Column("t", "all"),), labels=(("of", 'x"'),), suffix="_count"),
        ),
    )
    compiled = compile_catalogue([metric], {"t": columns})
    table, whole = Table("t", columns), Table("t", columns)
    for number, cells in enumerate(rows):
        table.fill(table.add_row([("row", str(number))]), cells)
        if None not in cells[2:]:
            whole.fill(whole.add_row([("row", str(number))]), cells)
    # One without its sum or its count is left out.
    text, messages = Body(), Body()
    compiled.renderer.render(text, [whole])
    compiled.renderer.render(messages, [table], protobuf=True)
    same(series(bytes(messages)), text_series(bytes(text), {"wait_seconds": "histogram"}))


def test_what_a_histogram_must_have():
    bad = SampleLine(0, 0, model.NSEC, b"", b"", part="bucket")
    with pytest.raises(ValueError, match="the counts of a histogram have no unit"):
        Renderer([FamilyLines(b"", b"", [bad], by_row=True)], 1)
    with pytest.raises(ValueError, match="not in tuple"):
        Renderer([FamilyLines(b"", b"", [SampleLine(0, 0, model.ONE, b"", b"", part="x")], by_row=True)], 1)
    with pytest.raises(IndexError, match="no table 1"):
        Renderer([], 1, (1, 0))


def test_counters_say_since_when_they_count():
    made = Creation(Column("container", "creation"), frozenset({"cpu"}))
    metrics = [
        model.counter("a_total", "h", "c", Column("cpu", "x")),
        model.gauge("b", "h", "c", Column("cpu", "x")),
        model.counter("c_total", "h", "c", Column("net", "x")),
    ]
    layout = {"container": ("creation",), "cpu": ("x",), "net": ("x",)}
    tables = [Table(name, keys) for name, keys in layout.items()]
    for table in tables:
        table.grow(3)
    tables[0].set(0, "creation", 1_700_000_000)
    for row in range(3):
        tables[1].set(row, "x", row)
        tables[2].set(row, "x", row)
    tables[1].set(tables[1].add_row([("of", "nobody")]), "x", 9)
    compiled = compile_catalogue(metrics, layout, made)
    body = Body()
    compiled.renderer.render(body, tables, Labels([b'id="0"', b'id="1"', b'id="2"']), protobuf=True)
    a, b, c = families(bytes(body))
    assert [metric.counter.HasField("created_timestamp") for metric in a.metric] == [True, False, False, False]
    assert a.metric[0].counter.created_timestamp.ToSeconds() == 1_700_000_000
    assert [metric.gauge.value for metric in b.metric] == [0, 1, 2, 9]
    assert not any(metric.counter.HasField("created_timestamp") for metric in c.metric)
    body.clear()
    compiled.renderer.render(body, [None, *tables[1:]], Labels([b"", b"", b""]), protobuf=True)
    assert len(list(families(bytes(body)))) == 3, "without the table of creations too"


# --- from text ---

numbers = st.sampled_from(
    [
        *"0 -0 1 0.1 -1.5 1e-300 5e-324 1.7976931348623157e308 9007199254740993 +Inf -Inf NaN".split(),
        "18446744073709551616",
        "0." + "3" * 400,
        "1" + "0" * 300,
    ]
) | st.floats().map(lambda value: repr(value).replace("inf", "Inf").replace("nan", "NaN"))


@st.composite
def texts(draw):
    made = []
    for number, kind in enumerate(draw(st.lists(st.sampled_from(["counter", "gauge", "untyped", *BOUND]), max_size=5))):
        lines = []
        groups = draw(
            st.lists(
                st.dictionaries(st.sampled_from("xyz"), label_values.filter(lambda text: "\0" not in text), max_size=2),
                max_size=3,
            )
        )
        for labels in groups:
            shown = tuple(labels.items())
            if kind in BOUND:
                bounds = ["0.5", "1", "+Inf"] if kind == "histogram" else draw(st.sampled_from([[], ["0.5", "0.99"]]))
                counts = st.integers(0, 2**53).map(str)
                suffix = "_bucket" if kind == "histogram" else ""
                value = counts if kind == "histogram" else numbers
                lines += [Line(suffix, (*shown, (BOUND[kind], bound)), draw(value)) for bound in bounds]
                lines += [Line("_sum", shown, draw(numbers)), Line("_count", shown, draw(counts))]
            else:
                lines.append(Line("", shown, draw(numbers)))
        if lines:
            help = draw(st.none() | st.just('of \\ and "\n"'))
            made.append(Family(f"m{number}", kind, help, tuple(lines)))
    return write(made, openmetrics=False)


@given(texts())
def test_text_gives_the_same_samples(text):
    repeated = []
    parsed = parse_text(text, repeated)
    kinds = {family.name: family.kind for family in parsed}
    if repeated:  # which the oracle does not see
        text = write(parsed, openmetrics=False)
    messages = from_text(text)
    same(series(messages), text_series(text, kinds))
    assert [(family.name, family.help) for family in families(messages)] == [
        (family.name, family.help or "") for family in parsed
    ]


def test_parts_of_a_histogram_that_are_apart_and_those_that_are_repeated():
    text = (
        b"# TYPE h histogram\n"
        b'h_bucket{x="1",le="1"} 1\nh_bucket{le="+Inf",x="1"} 2\nh_sum{x="1",y=""} 3.5\nh_count{x="1"} 2\n'
        b'h_bucket{x="2",le="+Inf"} 1\nh_sum{x="2"} 1\nh_count{x="2"} 1.5\n'
        b'h_bucket{x="1",le="7"} 2\n'
        b"# TYPE c counter\nc 1\n"
        b'h_bucket{x="3",le="+Inf"} 1\nh_sum{x="3"} 1\nh_count{x="3"} 1\n'
        b"c 2\n"
    )
    h, c = families(from_text(text))
    assert [{label.name: label.value for label in metric.label} for metric in h.metric] == [
        {"x": "1"},
        {"x": "2"},
        {"x": "3"},
    ]
    assert [metric.histogram.sample_count for metric in h.metric] == [2, 0, 1]
    assert h.metric[1].histogram.sample_count_float == 1.5
    assert [metric.counter.value for metric in c.metric] == [1]


@pytest.mark.parametrize("count", ["1.5", "-1", "NaN", "+Inf", "18446744073709551616"])
def test_a_summary_whose_count_no_message_has_is_left_out(count):
    lost = f"# TYPE s summary\ns_sum 1\ns_count {count}\n".encode()
    assert from_text(lost) == b""
    assert series(from_text(lost + b's_sum{a="1"} 2\ns_count{a="1"} 18446744073709549568\n')) == {
        ("s_sum", frozenset({("a", "1")})): 2.0,
        ("s_count", frozenset({("a", "1")})): 2.0**64 - 2**11,
    }


def test_a_text_that_is_malformed_or_not_read():
    with pytest.raises(ValueError, match="line 2 of an exposition: number"):
        from_text(b"a 1\nb x\n")
    with pytest.raises(ValueError, match="read to its end"):
        Exposition(b"a 1\n").protobuf()
    assert from_text(b"") == b""
    assert series(from_text(b'a{b="\0"} 1\n')) == {("a", frozenset({("b", "\ufffd")})): 1.0}


# --- native histograms ---


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ([1.0, 2.0, 4.0], (0, 0)),
        ([0.25, 0.5], (0, -2)),
        ([4.0**power for power in range(-10, 4)], (-1, -10)),
        ([16.0, 256.0], (-2, 1)),
        ([2.0**16, 2.0**32], (-4, 1)),
        ([2.0, 8.0, 32.0], None),  # no powers of four
        ([1.0, 2.0, 8.0], None),
        ([2.0, 1.0], None),
        ([1.0, 2.0**32], None),
        ([1.0, 2.5], None),
        ([0.0, 1.0], None),
        ([1.0], None),
        ([], None),
    ],
)
def test_bounds_that_a_native_histogram_has(bounds, expected):
    assert native_buckets(bounds) == expected


def native_counts(told):
    """The counts of a native histogram by the upper bounds of its buckets, as the public data model defines them."""
    base = 2.0**2.0**-told.schema
    counts, index, at, count = {told.zero_threshold: told.zero_count}, 0, 0, 0
    for span in told.positive_span:
        index += span.offset
        for _ in range(span.length):
            count += told.positive_delta[at]
            counts[base**index] = count
            index += 1
            at += 1
    assert at == len(told.positive_delta)
    return counts


@given(st.lists(st.sampled_from([0, 0, 1, 7, 2**40]), min_size=latency.BUCKETS, max_size=latency.BUCKETS))
def test_a_native_histogram_has_the_counts_of_the_buckets(counts):
    (metric,) = (one for one in latency.METRICS if one.name == "container_cpu_run_delay_seconds")
    columns = latency.COLUMNS[latency.TASKS]
    table = Table(latency.TASKS, columns)
    table.fill(table.add_row(), [*itertools.accumulate(counts), 5, *[0] * (len(columns) - len(counts) - 1)])
    compiled = compile_catalogue([metric], {latency.TASKS: columns})
    text, messages = rendered(compiled, [table])
    same(series(messages), text_series(text, {metric.name: "histogram"}))
    (family,) = families(messages)
    told = family.metric[0].histogram
    bounds = [4.0**power for power in range(-10, 5)]  # the last one stands for those without a bound
    assert (told.schema, told.zero_threshold, told.sample_count) == (-1, bounds[0], sum(counts))
    found = native_counts(told)
    assert sum(found.values()) == told.sample_count
    assert {bound: count for bound, count in found.items() if count} == {
        bound: count for bound, count in zip(bounds, counts, strict=True) if count
    }
    shown = [count for bound, count in found.items() if bound != told.zero_threshold]
    assert shown == [] or (shown[0] > 0 and shown[-1] > 0), "no empty bucket at the ends"


def test_what_is_no_native_histogram():
    (metric,) = (one for one in latency.METRICS if one.name == "container_cpu_run_delay_seconds")
    columns = latency.COLUMNS[latency.TASKS]
    compiled = compile_catalogue([metric], {latency.TASKS: columns})
    for counts in ([3, 2, *[3] * 13], [None, *[1] * 14]):
        table = Table(latency.TASKS, columns)
        table.fill(table.add_row(), [*counts, 5])
        (family,) = families(rendered(compiled, [table])[1])
        told = family.metric[0].histogram
        assert not told.HasField("schema"), "buckets that decrease, or lack"
        assert told.sample_count == counts[-1]
    many = [SampleLine(0, 0, model.ONE, b"", b"", part="bucket") for _ in range(65)]
    with pytest.raises(ValueError, match="more than 64 buckets"):
        Renderer([FamilyLines(b"", b"", many, by_row=True, native=(0, 0))], 1)

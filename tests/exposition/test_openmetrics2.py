"""OpenMetrics 2.0 says what the text format 0.0.4 and protocol buffers say, in the grammar of its text."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymon._native.exposition import Exposition
from pymon._native.renderer import Body, Labels
from pymon._native.table import Table
from pymon.catalogue import latency, model
from pymon.catalogue.model import Column, Creation, Kind
from pymon.exposition.compile import compile_catalogue
from pymon.exposition.families import Family, Sample, parse_text, write
from pymon.exposition.header import openmetrics2_header
from pymon.exposition.negotiation import Format
from pymon.exposition.own_text import in_format
from tests.exposition.messages import families as messages_of
from tests.exposition.openmetrics2 import read
from tests.exposition.test_protobuf import native_counts, same, text_series, texts
from tests.exposition.worlds import worlds

OM2 = Format.OPENMETRICS_2_0_0


def rendered(compiled, tables, labels=None, **form):
    body = Body()
    lines = compiled.renderer.render(body, tables, labels, **form)
    return bytes(body), lines


def all_series(families):
    return {key: value for family in families.values() for key, value in family.series.items()}


@given(worlds())
def test_tables_give_the_samples_of_the_text(world):
    compiled = compile_catalogue(world.metrics, {table.name: table.columns for table in world.tables})
    text, lines = rendered(compiled, world.tables, Labels(world.blocks))
    body, lines_too = rendered(compiled, world.tables, Labels(world.blocks), openmetrics2=True)
    assert lines == lines_too
    families = read(body + OM2.end)
    same(all_series(families), text_series(text, {metric.name: metric.kind for metric in world.metrics}))
    for metric in world.metrics:
        if metric.name in families:
            kind = metric.kind
            if kind is Kind.INFO and not metric.name.endswith("_info"):
                kind = Kind.UNKNOWN
            assert (families[metric.name].kind, families[metric.name].help) == (kind, metric.help)


@pytest.mark.parametrize(
    ("name", "kind", "lines"),
    [
        ("a_seconds_total", "counter", "# TYPE a_seconds_total counter|# UNIT a_seconds_total seconds|# HELP"),
        ("a_bytes", "gauge", "# TYPE a_bytes gauge|# UNIT a_bytes bytes|# HELP"),
        ("a_total", "counter", "# TYPE a_total counter|# HELP"),
        ("a_seconds", "histogram", "# TYPE a_seconds histogram|# UNIT a_seconds seconds|# HELP"),
        ("a_info", "info", "# TYPE a_info info|# HELP"),
        ("a", "info", "# TYPE a unknown|# HELP"),
        ("a_volts", "untyped", "# TYPE a_volts unknown|# UNIT a_volts volts|# HELP"),
        ("seconds", "gauge", "# TYPE seconds gauge|# HELP"),
    ],
)
def test_metadata(name, kind, lines):
    made = openmetrics2_header(name, kind, 'a "b" \\ c\nd').decode()
    assert made == lines.replace("|", "\n") + f' {name} a \\"b\\" \\\\ c\\nd\n'


def test_counters_say_since_when_they_count():
    made = Creation(Column("container", "creation"), frozenset({"cpu"}))
    metrics = [
        model.counter("a_seconds_total", "h", "c", Column("cpu", "x", model.MILLI)),
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
    body, _ = rendered(compiled, tables, Labels([b'id="0"', b"", b'id="2"']), openmetrics2=True)
    assert body.decode().splitlines()[3:7] == [
        'a_seconds_total{id="0"} 0 st@1700000000',
        "a_seconds_total 0.001",
        'a_seconds_total{id="2"} 0.002',
        'a_seconds_total{of="nobody"} 0.009',
    ]
    families = read(body + OM2.end)
    assert families["a_seconds_total"].starts == {frozenset({("id", "0")}): 1.7e9}
    assert families["b"].starts == families["c_total"].starts == {}
    body, _ = rendered(compiled, [None, *tables[1:]], Labels([b'id="0"', None, b'id="2"']), openmetrics2=True)
    assert b"st@" not in body, "without the table of creations"
    assert [len(family.series) for family in read(body + OM2.end).values()] == [3, 3, 2], "without a parent no sample"


@given(st.lists(st.sampled_from([0, 0, 0, 1, 7, 2**40]), min_size=latency.BUCKETS, max_size=latency.BUCKETS))
def test_a_histogram_has_the_buckets_of_the_text_and_the_native_ones_of_messages(counts):
    (metric,) = (one for one in latency.METRICS if one.name == "container_cpu_run_delay_seconds")
    columns = latency.COLUMNS[latency.TASKS]
    table = Table(latency.TASKS, columns)
    table.fill(
        table.add_row([("a", 'x"')]), [*itertools.accumulate(counts), 5, *[0] * (len(columns) - len(counts) - 1)]
    )
    compiled = compile_catalogue([metric], {latency.TASKS: columns})
    text, lines = rendered(compiled, [table])
    body, lines_too = rendered(compiled, [table], openmetrics2=True)
    assert lines == lines_too
    family = read(body + OM2.end)[metric.name]
    assert (family.kind, family.unit) == ("histogram", "seconds")
    same(family.series, text_series(text, {metric.name: "histogram"}))
    (found,) = family.native.values()
    (message,) = messages_of(rendered(compiled, [table], protobuf=True)[0])
    told = message.metric[0].histogram
    assert (found.schema, found.zero_threshold, found.zero_count) == (
        told.schema, told.zero_threshold, told.zero_count,
    )  # fmt: skip
    base = 2.0**2.0**-found.schema
    there = {base**index: count for index, count in found.counts.items() if count}
    assert there == {
        bound: count for bound, count in native_counts(told).items() if count and bound != told.zero_threshold
    }


def test_a_histogram_that_is_not_whole_is_left_out():
    (metric,) = (one for one in latency.METRICS if one.name == "container_cpu_run_delay_seconds")
    columns = latency.COLUMNS[latency.TASKS]
    compiled = compile_catalogue([metric], {latency.TASKS: columns})
    for cells in ([None, *[1] * 14, 5], [*[1] * 15, None], [*[1] * 14, None, 5]):
        table = Table(latency.TASKS, columns)
        table.fill(table.add_row(), cells)
        assert rendered(compiled, [table], openmetrics2=True) == (b"", 0)
    table.fill(0, [3, 2, *[3] * 13, 5])
    body, _ = rendered(compiled, [table], openmetrics2=True)
    assert read(body + OM2.end)[metric.name].native == {}, "buckets that decrease are no native ones"


# --- from text ---


def kept(families):
    """The series of a text that OpenMetrics 2.0 can have, as its rules for values say."""
    found = {}
    for family in families:
        groups = {}
        for sample in family.samples:
            labels = dict(sample.labels)
            value = float(sample.value)
            if family.kind == "histogram":
                labels.pop("le", None)
            if family.kind == "summary":
                labels.pop("quantile", None)
            group = groups.setdefault(frozenset(labels.items()), [True, {}])
            key = (
                family.name + sample.suffix,
                frozenset(
                    (name, repr(float(text)) if name in {"le", "quantile"} else text) for name, text in sample.labels
                ),
            )
            if family.kind == "counter":
                group[0] = not math.isnan(value)
            if family.kind == "summary" and sample.suffix == "_sum":
                group[0] &= not sample.value.startswith("-") and not math.isnan(value)
            if family.kind != "summary" or sample.suffix or not sample.value.startswith("-"):
                group[1][key] = value
        found |= {key: value for good, series in groups.values() if good for key, value in series.items()}
    return found


@given(texts(), st.sampled_from([0, 1, 1_700_000_000_123]))
def test_text_gives_the_same_samples(text, start_ms):
    repeated = []
    parsed = parse_text(text, repeated)
    if repeated:  # which are left out
        text = write(parsed, openmetrics=False)
    families = read(in_format(text, OM2, start_ms) + OM2.end)
    found, expected = all_series(families), kept(parsed)
    # The bucket of all has the count, whatever the text says.
    for (name, labels), value in list(expected.items()):
        if name.endswith("_bucket") and ("le", "inf") in labels:
            count = expected[name.removesuffix("_bucket") + "_count", labels - {("le", "inf")}]
            assert found[name, labels] == count
            expected[name, labels] = count
        else:
            assert name, value
    same(found, expected)
    for family in parsed:
        if family.name in families:
            told = families[family.name]
            assert told.kind == {"untyped": "unknown"}.get(family.kind, family.kind)
            assert told.help == (family.help or "")
            samples = {
                frozenset(pair for pair in labels if pair[0] not in {"le", "quantile"}) for _, labels in told.series
            }
            counts = start_ms and family.kind in {"counter", "histogram", "summary"}
            assert told.starts == dict.fromkeys(samples if counts else (), start_ms / 1000)


def om2(text, start_ms=0):
    return in_format(text.encode(), OM2, start_ms).decode()


def test_parts_that_are_apart_out_of_order_and_repeated():
    text = (
        "# TYPE h histogram\n"
        'h_bucket{x="1",le="2"} 2.0\nh_bucket{le="1.0",x="1"} 1\n'
        'h_bucket{le="1",x="1"} 7\nh_bucket{le="+Inf",x="1"} 2\n'
        'h_sum{x="1",y=""} 3.5\nh_count{x="1"} 2.0\n'
        'h_sum{x="2"} 1\nh_bucket{x="2",le="+inf"} 1.5\nh_bucket{x="2",le="-inf"} 0\nh_bucket{x="2",le="nan"} 0\n'
        'h_bucket{x="1",le="7"} 2\n'
        "# TYPE c counter\nc 1\n"
        'h_count{x="3"} 1\nh_sum{x="3"} 1\n'
        "c 2\n"
    )
    assert om2(text) == (
        "# TYPE h histogram\n"
        'h{x="1"} {count:2,sum:3.5,bucket:[1.0:1,2:2,+Inf:2]}\n'
        'h{x="2"} {count:1.5,sum:1,bucket:[-Inf:0,+Inf:1.5]}\n'
        'h{x="3"} {count:1,sum:1,bucket:[+Inf:1]}\n'
        "# TYPE c counter\nc 1\n"
    )
    read(om2(text).encode() + OM2.end)


@pytest.mark.parametrize(
    "lost",
    [
        "# TYPE h histogram\nh_count 1\n",
        "# TYPE h histogram\nh_sum 1\n",
        '# TYPE h histogram\nh_sum 1\nh_bucket{le="1"} 1\n',
        "# TYPE h histogram\nh_sum 1\nh_count -1\n",
        "# TYPE h histogram\nh_sum 1\nh_count NaN\n",
        '# TYPE h histogram\nh_sum 1\nh_count 1\nh_bucket{le="1"} -1\n',
        '# TYPE h histogram\nh_sum 1\nh_count 1\nh_bucket{le="1"} nan\n',
        "# TYPE s summary\ns_count 1\n",
        "# TYPE s summary\ns_sum 1\n",
        "# TYPE s summary\ns_sum -1\ns_count 1\n",
        "# TYPE s summary\ns_sum NaN\ns_count 1\n",
        "# TYPE s summary\ns_sum 1\ns_count 1.5\n",
        "# TYPE s summary\ns_sum 1\ns_count +Inf\n",
        '# TYPE s summary\ns{quantile="0.5"} 1\n',
        "# TYPE c counter\nc NaN\n",
        "# TYPE c counter\n",
    ],
)
def test_what_the_format_does_not_allow_is_left_out(lost):
    assert om2(lost, 1) == ""


def test_quantiles_that_the_format_does_not_allow_are_left_out():
    lines = "".join(
        f's{{quantile="{bound}"}} {value}\n'
        for bound, value in [("0.9", 1), ("1.5", 1), ("-1", 1), ("NaN", 1), ("0.5", -1), ("0.1", "NaN"), ("0.90", 2)]
    )
    assert om2(f"# TYPE s summary\n{lines}s_sum 1e2\ns_count 3.0\n", 1_500) == (
        "# TYPE s summary\ns {count:3,sum:1e2,quantile:[0.1:NaN,0.9:1]} st@1.5\n"
    )


def test_what_was_not_read_to_its_end():
    with pytest.raises(ValueError, match="line 2 of an exposition: number"):
        om2("a 1\nb x\n")
    with pytest.raises(ValueError, match="read to its end"):
        Exposition(b"a 1\n").openmetrics2([b""])
    whole = Exposition(b"a 1\n")
    whole.run()
    with pytest.raises(ValueError, match="the metadata of each"):
        whole.openmetrics2([])
    assert om2("") == ""
    assert om2('a{b="\0"} 1\n') == '# TYPE a unknown\na{b="\ufffd"} 1\n'


def test_messages_say_when_what_was_text_was_created():
    family = Family("c_total", "counter", None, (Sample("", (), "1"),))
    text = write([family], openmetrics=False) + (
        b"# TYPE h histogram\nh_sum 1\nh_count 1\n# TYPE s summary\ns_sum 1\ns_count 1\n# TYPE g gauge\ng 1\n"
    )
    c, h, s, g = messages_of(in_format(text, Format.PROTOBUF, 1_700_000_000_123))
    for told in (c.metric[0].counter, h.metric[0].histogram, s.metric[0].summary):
        assert told.created_timestamp.ToMilliseconds() == 1_700_000_000_123
    assert g.metric[0].gauge.value == 1
    c, h, s, _ = messages_of(in_format(text, Format.PROTOBUF))
    assert not c.metric[0].counter.HasField("created_timestamp")
    assert not h.metric[0].histogram.HasField("created_timestamp")
    assert not s.metric[0].summary.HasField("created_timestamp")

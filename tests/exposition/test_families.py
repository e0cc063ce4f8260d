import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from pymon.exposition.families import ExpositionError, Family, Sample, parse_text, parse_value, write, written


def gauge(name, *samples, help=None):
    return Family(name, "gauge", help, tuple(Sample("", labels, value) for labels, value in samples))


def text(*families, **options):
    return write(families, openmetrics=False, **options).decode()


def openmetrics(*families, **options):
    return write(families, openmetrics=True, **options).decode()


def test_families_samples_labels_and_help_are_read():
    families = parse_text(
        b"# HELP requests_total Requests \\\\ answered,\\nby code.\n"
        b"# TYPE requests_total counter\n"
        b'requests_total{code="200",path="a\\"b\\\\c\\nd"} 17\n'
        b"\n"
        b"# a comment\n"
        b'  \trequests_total { code = "500" , } 18446744073709551615\t\n'
        b"plain +.5e3\n"
    )
    assert families == [
        Family(
            "requests_total",
            "counter",
            "Requests \\ answered,\nby code.",
            (
                Sample("", (("code", "200"), ("path", 'a"b\\c\nd')), "17"),
                Sample("", (("code", "500"),), "18446744073709551615"),
            ),
        ),
        Family("plain", "untyped", None, (Sample("", (), "+.5e3"),)),
    ]


def test_a_family_without_samples_is_none():
    assert parse_text(b"# HELP a text\n# TYPE a gauge\n# TYPE\n# HELP b\n") == []
    assert parse_text(b"") == []


def test_samples_of_a_family_may_stand_apart():
    families = parse_text(b'# TYPE a gauge\na 1\nb 2\na{x="1"} 3\n')
    assert [(family.name, [sample.value for sample in family.samples]) for family in families] == [
        ("a", ["1", "3"]),
        ("b", ["2"]),
    ]


def test_a_histogram_comes_out_whole_with_its_bounds_in_order_and_in_one_spelling():
    families = parse_text(
        b"# TYPE h histogram\n"
        b'h_bucket{le="1000000",a="x"} 5\nh_bucket{a="x",le="0.50"} 1\nh_count{a="x"} 7\nh_sum{a="x"} 2.5\n'
        b'h_bucket{le="+Inf"} 3\n'
    )
    assert text(*families) == (
        "# TYPE h histogram\n"
        'h_bucket{a="x",le="0.5"} 1\nh_bucket{a="x",le="1e+06"} 5\nh_bucket{a="x",le="+Inf"} 7\n'
        'h_sum{a="x"} 2.5\nh_count{a="x"} 7\n'
        'h_bucket{le="+Inf"} 3\nh_sum 0\nh_count 3\n'
    )


def test_a_summary_comes_out_whole():
    families = parse_text(b'# TYPE s summary\ns{quantile="0.9"} 4\ns{quantile="0.5"} 2\ns_count 9\n')
    assert text(*families) == ('# TYPE s summary\ns{quantile="0.5"} 2\ns{quantile="0.9"} 4\ns_sum 0\ns_count 9\n')


def test_a_name_that_ends_like_a_histogram_is_its_own_family_without_one():
    families = parse_text(b"# TYPE a_count counter\na_count 1\nb_sum 2\n# TYPE c gauge\nc 1\nc_bucket 3\n")
    assert [(family.name, family.kind) for family in families] == [
        ("a_count", "counter"),
        ("b_sum", "untyped"),
        ("c", "gauge"),
        ("c_bucket", "untyped"),
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"a 1", "line 1: expected a newline"),
        (b"a\n", "a: expected a number, got nothing"),
        (b"a one\n", "expected a number, got 'one'"),
        (b"a 1_0\n", "expected a number"),
        (b"a 0x10\n", "expected a number"),
        (b"a 1e999\n", "expected a number"),
        (b"a 1\r\n", "expected a number"),
        (b"a 1 1500000000000\n", "no time stamps"),
        (b"a 1 # {}\n", "expected the end of the line"),
        (b"5a 1\n", "expected the name of a metric"),
        (b'{"a"} 1\n', "expected the name of a metric"),
        (b"\xc3\xa4 1\n", "expected the name of a metric"),
        (b'a{b="\xff"} 1\n', "line 1: expected UTF-8, got byte 0xff"),
        (b'a 1\na{b="\0"} 1\n', "line 2: expected text, got a NUL"),
        (b"a{b} 1\n", "expected label"),
        (b"a{b=1} 1\n", "expected label"),
        (b'a{b="1} 1\n', "expected label"),
        (b'a{b="\\x"} 1\n', "expected label"),
        (b'a{b="1" c="2"} 1\n', "expected label"),
        (b"a{,} 1\n", "expected label"),
        (b"a{ 1\n", "expected label"),
        (b'a{b="1",b="2"} 1\n', "label b: given twice"),
        (b'a{__b="1"} 1\n', "label __b: the name is reserved"),
        (b"a 1\n# TYPE a gauge\n", "line 2: a: a second TYPE, or one after samples"),
        (b"# TYPE a gauge\n# TYPE a gauge\n", "line 2: a: a second TYPE"),
        (b"# HELP a x\n# HELP a x\n", "line 2: a: a second HELP"),
        (b"# HELP a \\d\n", "behind a backslash"),
        (b"# TYPE a stateset\n", "expected a type of counter, gauge, histogram"),
        (b"# TYPE a-b gauge\n", "expected the name of a metric after TYPE"),
        (b"# TYPE h histogram\nh 1\n", "line 2: h: expected _bucket, _sum or _count"),
        (b"# TYPE h histogram\nh_bucket 1\n", "expected a label le"),
        (b'# TYPE h histogram\nh_bucket{le="x"} 1\n', "expected a label le"),
        (b"# TYPE s summary\ns 1\n", "expected a label quantile"),
    ],
)
def test_a_bad_line_costs_the_text_and_is_named(line, expected):
    with pytest.raises(ExpositionError) as caught:
        parse_text(line)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("line ")


def test_infinities_and_nan_have_one_spelling():
    assert [parse_value(word) for word in ("inf", "+Infinity", "-INF", "nan")] == ["+Inf", "+Inf", "-Inf", "NaN"]


def test_families_of_one_name_become_one_and_stand_together():
    first = gauge("a", ((("x", "1"),), "1"), help="first")
    other = gauge("b", ((), "2"))
    later = gauge("a", ((("x", "2"),), "3"), ((("x", "1"),), "9"), help="later")
    kind = Family("a", "counter", None, (Sample("", (("x", "3"),), "4"),))
    assert text(first, other, later, kind) == (
        '# HELP a first\n# TYPE a gauge\na{x="1"} 1\na{x="2"} 3\n# TYPE b gauge\nb 2\n'
    )


def test_names_narrow():
    families = [gauge(name, ((), "1")) for name in ("a", "b", "c")]
    assert text(*families, names=frozenset("a")) == "# TYPE a gauge\na 1\n"
    assert text(Family("empty", "gauge", "x", ())) == ""


def test_openmetrics_names_and_types():
    families = [
        Family("a_total", "counter", 'say "x"\n', (Sample("", (), "1"),)),
        Family("b", "counter", None, (Sample("", (), "1"),)),
        Family("c_count", "gauge", None, (Sample("", (), "1"),)),
        Family("d", "untyped", None, (Sample("", (), "1"),)),
        Family("e", "gauge", None, (Sample("", (), "1"),)),
    ]
    assert openmetrics(*families) == (
        '# TYPE a counter\n# HELP a say \\"x\\"\\n\na_total 1\n'
        "# TYPE b unknown\nb 1\n# TYPE c_count unknown\nc_count 1\n# TYPE d unknown\nd 1\n# TYPE e gauge\ne 1\n"
    )


def test_openmetrics_writes_bounds_as_floats():
    families = parse_text(b'# TYPE h histogram\nh_bucket{le="1"} 1\nh_count 2\nh_sum 3\n')
    written = openmetrics(*families)
    assert 'h_bucket{le="1.0"} 1\n' in written
    (family,) = parse_openmetrics(written + "# EOF\n")
    assert [sample.value for sample in family.samples] == [1, 2, 3, 2]


def test_what_the_prometheus_client_writes_is_read_as_its_own_parser_reads_it():
    registry = CollectorRegistry()
    Counter("requests", 'By "code".\n', ["code"], registry=registry).labels('2"00\\').inc(3)
    Histogram("seconds", "Durations.", ["path"], registry=registry).labels("/").observe(0.3)
    Summary("bytes", "Sizes.", registry=registry).observe(5)
    Gauge("temperature", "", registry=registry).set(float("-inf"))
    data = generate_latest(registry)
    families = parse_text(data)
    ours = {
        (family.name + sample.suffix, frozenset(sample.labels), float(sample.value))
        for family in parse_text(write(families, openmetrics=False))
        for sample in family.samples
    }
    theirs = {
        (sample.name, frozenset(float_bounds(sample.labels)), sample.value)
        for family in parse_prometheus(data.decode())
        for sample in family.samples
    }
    assert ours == theirs
    assert {family.kind for family in families} == {"counter", "histogram", "summary", "gauge"}


def float_bounds(labels):
    return [(name, value.removesuffix(".0") if name == "le" else value) for name, value in labels.items()]


names = st.from_regex(r"[a-z_:][a-z0-9_:]{0,8}", fullmatch=True).filter(
    lambda name: not name.endswith(("_sum", "_count", "_bucket"))
)
labels = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9_]{0,4}", fullmatch=True),
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8),
    max_size=3,
)
values = st.one_of(st.integers().map(str), st.floats().map(lambda value: parse_value(repr(value))))


@pytest.mark.parametrize("openmetrics", [False, True])
def test_families_that_were_written_before_are_merged_with_others(openmetrics):
    histogram = (
        b'# HELP h Help.\n# TYPE h histogram\nh_bucket{q="a b\r",le="1"} 1\nh_bucket{q="a b\r",le="+Inf"} 2\n'
        b'h_sum{q="a b\r"} 3\nh_count{q="a b\r"} 2\n'
    )
    families = [*parse_text(histogram), Family("c_total", "counter", None, (Sample("", (("q", "1"),), "1"),))]
    again = [written(family) for family in families]
    assert write(again, openmetrics=openmetrics) == write(families, openmetrics=openmetrics)
    assert write([*families, *again], openmetrics=openmetrics) == write(families, openmetrics=openmetrics)
    assert write([*again, *families], openmetrics=openmetrics) == write(families, openmetrics=openmetrics)
    assert write(again, openmetrics=openmetrics, names=frozenset({"h"})) == write(families[:1], openmetrics=openmetrics)
    other = Family("h", "gauge", None, (Sample("", (), "1"),))
    assert write([*again, other], openmetrics=openmetrics) == write(families, openmetrics=openmetrics)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(names, st.tuples(st.sampled_from(("counter", "gauge", "untyped")), st.text(
    st.characters(exclude_categories=("Cs", "Zs", "Cc")), max_size=8) | st.just("a\n\\ b"),
    st.lists(st.tuples(labels, values), min_size=1, max_size=3,
             unique_by=lambda sample: frozenset(sample[0].items())))))  # fmt: skip
def test_what_is_written_is_read_back(drawn):
    families = [
        Family(name, kind, help or None, tuple(Sample("", tuple(pairs.items()), value) for pairs, value in samples))
        for name, (kind, help, samples) in drawn.items()
    ]
    assert parse_text(write(families, openmetrics=False)) == families


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet='ab{}="\\,# \n\t1.eTYPEHL_', max_size=60).map(str.encode))
def test_any_bytes_are_families_or_an_error_on_one_line(data):
    families = []
    said = ""
    try:
        families = parse_text(data)
    except ExpositionError as error:
        said = str(error)
    assert "\n" not in said
    assert all(math.isfinite(float(s.value)) or s.value[-3:] in ("Inf", "NaN") for f in families for s in f.samples)

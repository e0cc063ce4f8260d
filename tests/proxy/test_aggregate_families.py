import math
import re

import pytest

from pymon.exposition.families import Family, Sample, parse_text, write
from tests.oracle import parse
from tests.proxy.aggregated import aggregate, families_of, histogram, is_valid, merge, one, plain, written


def summary(name="plugin_s", labels=()):
    quantile = Sample("", (*labels, ("quantile", "0.5")), "NaN")
    return Family(name, "summary", None, (quantile, Sample("_sum", labels, "1e+06"), Sample("_count", labels, "3")))


def test_histograms_and_summaries_are_merged_whole_and_as_they_are_written():
    body = written(
        histogram({"0.5": 1, "1e+06": 2, "+Inf": 3}, labels=(("x", 'a,le="b'),)),
        summary(),
        plain("plugin_g", "gauge", "1e+06", "-Inf", "NaN", "1.5e-05", help=None),
    )
    merged = merge([one(body), one(body, "u2")])
    lines = [line for line in merged.decode().split("\n") if 'uuid="u2"' not in line]
    front = 'uuid="u1",node="n1"'
    x = 'x="a,le=\\"b"'
    assert lines == [
        "# HELP plugin_h Seconds.",
        "# TYPE plugin_h histogram",
        f'plugin_h_bucket{{{front},{x},le="0.5"}} 1',
        f'plugin_h_bucket{{{front},{x},le="1e+06"}} 2',
        f'plugin_h_bucket{{{front},{x},le="+Inf"}} 3',
        f"plugin_h_sum{{{front},{x}}} 1.5e-05",
        f"plugin_h_count{{{front},{x}}} 3",
        "# TYPE plugin_s summary",
        f'plugin_s{{{front},quantile="0.5"}} NaN',
        f"plugin_s_sum{{{front}}} 1e+06",
        f"plugin_s_count{{{front}}} 3",
        "# TYPE plugin_g gauge",
        f'plugin_g{{{front},n="0"}} 1e+06',
        f'plugin_g{{{front},n="1"}} -Inf',
        f'plugin_g{{{front},n="2"}} NaN',
        f'plugin_g{{{front},n="3"}} 1.5e-05',
        "",
    ]
    is_valid(merged)
    assert merged.count(b'uuid="u2"') == merged.count(b'uuid="u1"') == 12


def test_a_family_has_the_first_help_that_there_is():
    bodies = [written(plain("a", "gauge", "1", help=help)) for help in (None, "First.", "Second.")]
    assert merge([one(body, f"u{n}") for n, body in enumerate(bodies)]).startswith(b"# HELP a First.\n# TYPE a gauge\n")


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("families", "names"),
    [
        pytest.param(
            (histogram({"1": 1, "+Inf": 2}, name="a"), plain("a", "gauge", "7")),
            {"a", "a_bucket", "a_sum", "a_count"},
            id="of one name",
        ),
        pytest.param(
            (histogram({"1": 1, "+Inf": 2}, name="a"), summary(name="a")),
            {"a", "a_bucket", "a_sum", "a_count"},
            id="a histogram and a summary",
        ),
        pytest.param(
            (histogram({"1": 1, "+Inf": 2}, name="a"), plain("a_count", "counter", "7")),
            {"a_bucket", "a_sum", "a_count"},
            id="called as a sample",
        ),
        pytest.param(
            (histogram({"1": 1, "+Inf": 2}, name="a"), summary(name="a_sum")),
            {"a_bucket", "a_sum", "a_count", "a_sum_sum", "a_sum_count"},
            id="a summary called as a sample",
        ),
    ],
)
def test_families_that_clash_are_untyped_by_sample_name_and_have_no_sums(families, names, order):
    other = plain("b_total", "counter", "1")
    bodies = [written(family, other) for family in families][::order]
    parts = [one(body, f"u{n}") for n, body in enumerate(bodies)]
    merged = merge(parts)
    is_valid(merged)
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", merged.decode(), re.MULTILINE))
    assert types == {"b_total": "counter", **dict.fromkeys(names, "untyped")}
    assert merged.count(b"uuid=") == sum(body.count(b"\n") - body.count(b"#") for body in bodies)
    assert re.findall(rb"^[^#{]+", aggregate(parts, "node"), re.MULTILINE) == [b"b_total"]


def test_a_series_that_two_families_of_a_part_give_is_there_once():
    body = written(histogram({"+Inf": 2}, name="a"), Family("a_count", "gauge", None, (Sample("", (), "7"),)))
    merged = merge([one(body)])
    is_valid(merged)
    assert parse(merged)["a_count", frozenset({("uuid", "u1"), ("node", "n1")})] == 2


def test_a_summary_may_stand_beside_a_family_that_is_called_as_a_bucket():
    body = written(summary(name="a"), plain("a_bucket", "gauge", "1"))
    assert re.findall(rb"# TYPE (.*)", merge([one(body)])) == [b"a summary", b"a_bucket gauge"]
    is_valid(merge([one(body)]))


def test_histograms_with_the_same_bounds_add_up_bucket_by_bucket():
    buckets = {"0.5": 1, "1e+06": 2, "+Inf": 3}
    bodies = [
        written(histogram(buckets, total, labels=(("id", name), ("code", "200"))))
        for name, total in (("/a", "0.1"), ("/b", "0.2"))
    ]
    body = aggregate([one(bodies[0], services=("web", "db")), one(bodies[1], "u2", services=("web",))], "service")
    assert body.decode().split("\n") == [
        "# HELP plugin_h Seconds.",
        "# TYPE plugin_h histogram",
        'plugin_h_bucket{service="web",code="200",le="0.5"} 2',
        'plugin_h_bucket{service="web",code="200",le="1e+06"} 4',
        'plugin_h_bucket{service="web",code="200",le="+Inf"} 6',
        'plugin_h_sum{service="web",code="200"} 0.3',
        'plugin_h_count{service="web",code="200"} 6',
        'plugin_h_bucket{service="db",code="200",le="0.5"} 1',
        'plugin_h_bucket{service="db",code="200",le="1e+06"} 2',
        'plugin_h_bucket{service="db",code="200",le="+Inf"} 3',
        'plugin_h_sum{service="db",code="200"} 0.1',
        'plugin_h_count{service="db",code="200"} 3',
        "",
    ]
    is_valid(body)


def test_of_histograms_with_other_bounds_the_buckets_add_up_that_all_have():
    first, second = histogram({"1": 1, "2": 5, "5": 6, "+Inf": 7}), histogram({"0.5": 1, "2": 2, "+Inf": 20})
    third = histogram({"+Inf": 100})
    parts = [one(written(family), f"u{n}") for n, family in enumerate((first, second, third))]
    buckets = {"2": 7, "+Inf": 27}
    assert aggregate(parts[:2], "service") == written(histogram(buckets, total="0.00003"))
    assert aggregate(parts, "service") == written(histogram({"+Inf": 127}, total="0.000045"))


def test_a_histogram_without_labels_and_one_without_a_group_have_their_bound_alone():
    assert b'\nplugin_h_bucket{le="+Inf"} 1\nplugin_h_sum 1\nplugin_h_count 1\n' in aggregate(
        [one(written(histogram({"+Inf": 1}, "1")))], "group"
    )


def test_of_summaries_only_sums_and_counts_add_up():
    body = written(summary(labels=(("x", "1"),)))
    assert aggregate([one(body), one(body, "u2")], "node") == (
        b'# TYPE plugin_s summary\nplugin_s_sum{node="n1",x="1"} 2000000\nplugin_s_count{node="n1",x="1"} 6\n'
    )


@pytest.mark.parametrize(
    ("values", "total"),
    [
        (("1e+06", "1.5e-05"), b"1000000.000015"),
        (("+Inf", "1"), b"+Inf"),
        (("1", "-Inf"), b"-Inf"),
        (("+Inf", "-Inf"), b"NaN"),
        (("NaN", "1"), b"NaN"),
        (("NaN", "+Inf"), b"NaN"),
        (("1.7976931348623157e+308", "1.7976931348623157e+308"), b"+Inf"),
        (("-1.7976931348623157e+308", "-1e+308"), b"-Inf"),
        (("1e+308", "-1e+308"), b"0"),
        (("1e+308", "1"), b"1e+308"),
        (("5e-324", "5e-324"), b"1e-323"),
        (("1E5", "+.5"), b"100000.5"),
        (("1.", "007"), b"8"),
        (("1e-999999999999999999999", "1"), b"1"),
        (("0." + "1" * 100, "0"), b"0.1111111111111111"),
        (("18446744073709551615", "1e+00"), b"18446744073709551616"),
        (("18446744073709551615", "1e300"), b"1e+300"),
    ],
)
def test_sums_of_floats(values, total):
    parts = [one(written(plain("a_total", "counter", value)), f"u{n}") for n, value in enumerate(values)]
    body = aggregate(parts, "node")
    assert body.splitlines()[-1] == b'a_total{node="n1",n="0"} ' + total
    assert float(total) == pytest.approx(sum(map(float, values)), rel=1e-15, nan_ok=True) or math.isinf(float(total))
    families_of(body)


def test_what_a_plugin_prints_is_read():
    """The text format goes through the parser of the agent, which spells bounds in one way."""
    text = (
        b'# TYPE h histogram\nh_bucket{le="0.10",x="1"} 1\nh_bucket{x="1",le="1000000.0"} 2\n'
        b'h_count{x="1"} 3\nh_sum{x="1"} +1.5E-5\n'
        b'# TYPE s summary\ns{quantile="0.50"} nan\n# TYPE g gauge\ng{le="x"} -inf\nu{quantile="y"} .5e+300\n'
    )
    body = write(parse_text(text), openmetrics=False)
    merged = merge([one(body)])
    is_valid(merged)
    assert b'h_bucket{uuid="u1",node="n1",x="1",le="1e+06"} 2\n' in merged
    assert merged.count(b"uuid=") == 5 + 3 + 1 + 1
    assert b'h_bucket{node="n1",x="1",le="0.1"} 1\n' in aggregate([one(body)], "node")

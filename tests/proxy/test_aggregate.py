import re
from collections import Counter

import pytest

from pymon.proxy.aggregate import Adder, Merger
from pymon.proxy.part import InvalidPartError
from tests.e2e.prometheus import check_metrics
from tests.oracle import parse
from tests.proxy.aggregated import aggregate, exposition, families_of, merge, one


def test_the_parts_are_what_agents_write(parts):
    for part in parts:
        series = parse(part.body)
        assert len(series) > 30
        assert {name for name, _ in series} >= {"container_cpu_usage_seconds_total", "container_memory_usage_bytes"}
    assert any(b'{node="' in part.body or b',node="' in part.body for part in parts), "no label that is in the way"


def test_every_sample_of_every_part_is_there_once_with_its_labels(parts):
    merged = parse(merge(parts))
    expected = {}
    for part in parts:
        for (name, labels), value in parse(part.body).items():
            renamed = {("exported_node" if label == "node" else label, text) for label, text in labels}
            expected[name, frozenset(renamed | {("uuid", part.uuid), ("node", part.node)})] = value
    assert merged == expected


def test_what_is_merged_is_one_valid_exposition(parts):
    body = merge(parts)
    checked = check_metrics(body)
    assert "error" not in checked.output.lower()
    assert checked.status in {0, 3}, checked.output
    names = re.findall(rb"^# TYPE (\S+)", body, re.MULTILINE)
    assert len(names) == len(set(names))
    assert Counter(re.findall(rb"^# HELP (\S+)", body, re.MULTILINE)) == Counter(names)
    samples = re.findall(rb"^([^#{ ]+)", body, re.MULTILINE)
    runs = [name for name, before in zip(samples, [b"", *samples], strict=False) if name != before]
    assert runs == names
    read = families_of(body)
    for part in parts:
        for name, (kind, help, _) in families_of(part.body).items():
            assert read[name][:2] == (kind, help)


def test_the_labels_come_in_front_and_the_lines_stay_as_they_are():
    body = (
        b"# HELP a_total A \\\\ \\n.\n# TYPE a_total counter\n"
        b'a_total{x="1"} 0.100\na_total{} 2\n'
        b"# HELP b B\n# TYPE b gauge\nb -7\n"
    )
    assert merge([one(body), one(b"# HELP b Another.\n# TYPE b gauge\nb 8\n", 'u"2', "n\\2")]) == (
        b"# HELP a_total A \\\\ \\n.\n# TYPE a_total counter\n"
        b'a_total{uuid="u1",node="n1",x="1"} 0.100\na_total{uuid="u1",node="n1"} 2\n'
        b'# HELP b B\n# TYPE b gauge\nb{uuid="u1",node="n1"} -7\nb{uuid="u\\"2",node="n\\\\2"} 8\n'
    )


def test_nothing_merged_is_nothing():
    assert merge([]) == merge([one(b"")]) == aggregate([], "node") == aggregate([one(b"")], "node") == b""


@pytest.mark.parametrize(
    ("labels", "renamed"),
    [
        ({"node": "0"}, {"exported_node": "0"}),
        ({"uuid": "0", "node": "1"}, {"exported_uuid": "0", "exported_node": "1"}),
        ({"node": "0", "exported_node": "1"}, {"exported_exported_node": "0", "exported_node": "1"}),
        ({"x": ',node="', "y": "{node="}, {"x": ',node="', "y": "{node="}),
        ({"x": ',node="', "node": 'node="', "z": "node="}, {"x": ',node="', "exported_node": 'node="', "z": "node="}),
        ({"x": "node=", "y": "b"}, {"x": "node=", "y": "b"}),
        ({"xnode": "1"}, {"xnode": "1"}),
    ],
)
def test_a_label_that_is_in_the_way_is_called_exported(labels, renamed):
    body = exposition(("a", "gauge", [({"k": "1"}, 1), (labels, 2)]))
    ((_, _, samples),) = families_of(merge([one(body)])).values()
    assert samples == [
        ({"uuid": "u1", "node": "n1", "k": "1"}, 1),
        ({"uuid": "u1", "node": "n1", **renamed}, 2),
    ]


def test_text_in_values_is_never_taken_for_a_line():
    text = '\na 1\n# TYPE a gauge\na{x="'
    body = exposition(("a", "gauge", [({"x": text, "y": "} 5"}, 1)]))
    ((_, _, samples),) = families_of(merge([one(body)])).values()
    assert samples == [({"uuid": "u1", "node": "n1", "x": text, "y": "} 5"}, 1)]
    ((_, _, samples),) = families_of(aggregate([one(body)], "node")).values()
    assert samples == [({"node": "n1", "x": text, "y": "} 5"}, 1)]


def test_a_family_that_parts_give_different_types_is_untyped():
    bodies = [exposition(("a", kind, [({}, 1)])) for kind in ("gauge", "counter")]
    assert b"# TYPE a untyped\n" in merge([one(bodies[0]), one(bodies[1], "u2")])
    assert check_metrics(merge([one(bodies[0]), one(bodies[1], "u2")])).status in {0, 3}


GOOD = b'# HELP a A.\n# TYPE a gauge\na{x="1"} 1\n'


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(GOOD[:-1], id="no line end"),
        pytest.param(GOOD[:-5], id="cut off"),
        pytest.param(GOOD + b"a", id="cut off later"),
        pytest.param(GOOD + b"\n", id="empty line"),
        pytest.param(b"\n" + GOOD, id="empty line first"),
        pytest.param(GOOD + b"# EOF\n", id="OpenMetrics"),
        pytest.param(GOOD + GOOD, id="a family twice"),
        pytest.param(b"<html>not found</html>\n", id="HTML"),
        pytest.param(b"a 1\n", id="no metadata"),
        pytest.param(b"# HELP a A.\n# TYPE a gauge\n", id="no sample"),
        pytest.param(b"# HELP a A.\n# TYPE b gauge\na 1\n", id="type of another family"),
        pytest.param(b"# HELP a A.\n# TYPE a gauge\nb 1\n", id="sample of another family"),
        pytest.param(b"# HELP a A.\n# TYPE a gauge\nab 1\n", id="sample of a longer name"),
        pytest.param(b"# HELP b A.\n# TYPE a gauge\na 1\n", id="help of another family"),
        pytest.param(b"# TYPE a gauge\n# HELP a A.\na 1\n", id="help behind the type"),
        pytest.param(b"# HELP a A.\n# HELP a A.\n# TYPE a gauge\na 1\n", id="help twice"),
        pytest.param(b"# TYPE a gauge\n# TYPE a gauge\na 1\n", id="type twice"),
        pytest.param(b"# TYPE a info\na 1\n", id="another type"),
        pytest.param(b"# TYPE a gaugehistogram\na_count 1\n", id="type that begins as another"),
        pytest.param(b"# TYPE a gauge\na_count 1\n", id="count of a gauge"),
        pytest.param(b"# TYPE a counter\na 1\na_sum 1\n", id="sum of a counter"),
        pytest.param(b'# TYPE a untyped\na_bucket{le="1"} 1\n', id="bucket of nothing"),
        pytest.param(b'# TYPE a summary\na_bucket{le="1"} 1\n', id="bucket of a summary"),
        pytest.param(b"# HELP a A.\n# TYPE a histogram\na 1\n", id="histogram without buckets"),
        pytest.param(b"# HELP a A.\n# TYPE a histogram\na_bucket 1\n", id="bucket without labels"),
        pytest.param(b'# HELP a A.\n# TYPE a histogram\na_bucket{l="1"} 1\n', id="bucket without a bound"),
        pytest.param(b'# HELP a A.\n# TYPE a histogram\na_bucket{le="x"} 1\n', id="bound that is no number"),
        pytest.param(b'# HELP a A.\n# TYPE a histogram\na_bucket{le=""} 1\n', id="bound that is empty"),
        pytest.param(b'# HELP a A.\n# TYPE a histogram\na_bucket{le="1e999"} 1\n', id="bound too large"),
        pytest.param(b'# HELP a A.\n# TYPE a histogram\na_bucket{le="1",le="2"} 1\n', id="two bounds"),
        pytest.param(b'# HELP a A.\n# TYPE a histogram\na_bucket{le="1",x="2",le="1"} 1\n', id="two bounds apart"),
        pytest.param(b'# HELP a A.\n# TYPE a histogram\na_buckets{le="1"} 1\n', id="another suffix"),
        pytest.param(b"# HELP a A.\n# TYPE a histogram\na_created 1\n", id="suffix of OpenMetrics"),
        pytest.param(b"# HELP a A.\n# TYPE a histogram\nb_count 1\n", id="count of another histogram"),
        pytest.param(b"# HELP a A.\n# TYPE a summary\na 1\n", id="no quantile"),
        pytest.param(b'# HELP a A.\n# TYPE a summary\na{quantile="x"} 1\n', id="quantile that is no number"),
        pytest.param(b"# HELP a A.\n# TYPE a gauge\na 1 1700000000000\n", id="time stamp"),
        pytest.param(b"# HELP a \\x\n# TYPE a gauge\na 1\n", id="escape in help"),
        pytest.param(GOOD.replace(b" 1\n", b" x\n"), id="no number"),
        pytest.param(GOOD.replace(b" 1\n", b" 1e999\n"), id="exponent"),
        pytest.param(GOOD.replace(b" 1\n", b" " + b"1" * 400 + b"\n"), id="endless number"),
        pytest.param(GOOD.replace(b" 1\n", b" 1e309\n"), id="too large for a float"),
        pytest.param(GOOD.replace(b" 1\n", b" -2e308\n"), id="too small for a float"),
        pytest.param(GOOD + GOOD.replace(b" a", b" b").replace(b"\na", b"\nb1e999 1\nb"), id="exponent as a name"),
        pytest.param(GOOD.replace(b" 1\n", b" 1e999\na 1\n"), id="exponent before a number"),
        pytest.param(GOOD.replace(b" 1\n", b" 1e+\n"), id="no exponent"),
        pytest.param(GOOD.replace(b" 1\n", b" e5\n"), id="only an exponent"),
        pytest.param(GOOD.replace(b" 1\n", b" .\n"), id="only a point"),
        pytest.param(GOOD.replace(b" 1\n", b" -\n"), id="only a sign"),
        pytest.param(GOOD.replace(b" 1\n", b" +-1\n"), id="two signs"),
        pytest.param(GOOD.replace(b" 1\n", b" 1_0\n"), id="underscore"),
        pytest.param(GOOD.replace(b" 1\n", b" 0x1p3\n"), id="hexadecimal"),
        pytest.param(GOOD.replace(b" 1\n", b" nan\n"), id="NaN in small letters"),
        pytest.param(GOOD.replace(b" 1\n", b" -NaN\n"), id="NaN with a sign"),
        pytest.param(GOOD.replace(b" 1\n", b" Inf\n"), id="infinity without a sign"),
        pytest.param(GOOD.replace(b" 1\n", b" +Infinity\n"), id="infinity in full"),
        pytest.param(GOOD.replace(b'x="1"', b","), id="only a comma"),
        pytest.param(GOOD.replace(b" 1\n", b"  1\n"), id="two spaces"),
        pytest.param(GOOD.replace(b" 1\n", b" 1\r\n"), id="CR"),
        pytest.param(GOOD.replace(b'x="1"', b'x="1",x="2"'), id="a label twice"),
        pytest.param(GOOD.replace(b'x="1"', b'x="1",y="\\"",z="",x="2"'), id="a label twice, others between"),
        pytest.param(GOOD.replace(b'x="1"', b'__name__="b"'), id="reserved label"),
        pytest.param(GOOD.replace(b'x="1"', b'x="\\t"'), id="escape in a value"),
        pytest.param(GOOD.replace(b'x="1"', b'x="\xff"'), id="no UTF-8"),
        pytest.param(GOOD.replace(b'x="1"', b'x="\0"'), id="NUL"),
        pytest.param(GOOD.replace(b'x="1"', b'x="1'), id="open quote"),
        pytest.param(GOOD.replace(b'x="1"', b"x=1"), id="no quotes"),
        pytest.param(GOOD.replace(b'x="1"', b'x="1" y="2"'), id="no comma"),
        pytest.param(GOOD.replace(b'x="1"', b'x="1",,'), id="two commas"),
        pytest.param(GOOD.replace(b'x="1"', b'1x="1"'), id="label name"),
        pytest.param(bytes(range(256)), id="bytes"),
    ],
)
def test_a_part_that_is_no_exposition_is_refused_by_its_uuid(body):
    good = one(GOOD, "the-good-one")
    for call in (merge, lambda parts: aggregate(parts, "service")):
        with pytest.raises(InvalidPartError, match="the-bad-one") as caught:
            call([good, one(body, "the-bad-one")])
        assert caught.value.uuid == "the-bad-one"
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("line", "shown"),
    [("b x", "b x"), ("a 1", "a 1"), ("b 1 2", "b 1 2"), ("b 1e999", "1e999"), ("b_count 5", "b_count"), ("#", "#")],
)
def test_the_message_of_a_refusal_shows_what_is_wrong(line, shown):
    body = GOOD + f"# TYPE b gauge\nb 2\nb 1e-06\n{line}\n".encode()
    with pytest.raises(InvalidPartError, match="container u1: expected ") as caught:
        merge([one(body)])
    assert f"b'{shown}'" in str(caught.value)


@pytest.mark.parametrize("make", [Merger, lambda: Adder("node")])
def test_a_part_that_was_refused_leaves_nothing_behind(make):
    with_, without = make(), make()
    for number, name in enumerate("ab"):
        body = exposition((name, "gauge", [({}, 1)]))
        with_.add(one(body, f"u{number}"))
        without.add(one(body, f"u{number}"))
        for bad in (one(exposition(("c", "gauge", [({}, 1)])) + b"x", "u9"), one(GOOD, "u0")):
            with pytest.raises(InvalidPartError):
                with_.add(bad)
        assert with_.body() == without.body()
    with_.add(one(GOOD, "u9"))


def test_a_container_that_is_given_twice_is_refused():
    for call in (merge, lambda parts: aggregate(parts, "service")):
        with pytest.raises(InvalidPartError, match="u1"):
            call([one(GOOD), one(GOOD)])


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"a{" + b'x="1",' * 100_000, id="labels without an end"),
        pytest.param(b'a{x="' + b"\\\\" * 500_000, id="a value without an end"),
        pytest.param(b"a " + b"1" * 1_000_000, id="digits without an end"),
        pytest.param(b"a 1\n" * 100_000 + b"a x", id="a bad line after many"),
        pytest.param(b"a 1\n" * 50_000 + b"a 1e5", id="a float after many"),
        pytest.param(b"a 1e" + b"1" * 1_000_000, id="an exponent without an end"),
        pytest.param(b"a 0." + b"1" * 1_000_000, id="a long fraction"),
        pytest.param(b"a 1e-" + b"9" * 1_000_000, id="a long exponent"),
        pytest.param(b"a{" + b",".join(b'x%d="1"' % label for label in range(100_000)) + b"} 1", id="labels"),
    ],
)
def test_reading_takes_time_in_proportion_to_the_length(line):
    for kind, suffix in ((b"gauge", b""), (b"histogram", b"_sum"), (b"summary", b"_count")):
        samples = re.sub(rb"^a", b"a" + suffix, line, flags=re.MULTILINE)
        body = b"# HELP a A.\n# TYPE a " + kind + b"\n" + samples + b"\n"
        try:
            merge([one(body)])
            aggregate([one(body)], "node")
        except InvalidPartError:
            pass


def test_a_bucket_with_many_labels_takes_time_in_proportion_to_its_length():
    labels = b",".join(b'x%d="1"' % label for label in range(100_000))
    body = b"# HELP a A.\n# TYPE a histogram\na_bucket{" + labels + b"} 1\n"
    with pytest.raises(InvalidPartError):
        merge([one(body)])
    body = body.replace(b"} 1", b',le="1"} 1')
    assert merge([one(body)]).endswith(b',le="1"} 1\n')
    assert aggregate([one(body)], "node").endswith(b',le="1"} 1\n')

import asyncio
import math
import re
from collections import Counter, defaultdict
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

import pymon
from pymon.agent.build import build_agent
from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import load_agent_options
from pymon.exposition.families import Family, Sample, parse_text, write
from pymon.exposition.negotiation import Format
from pymon.proxy.aggregate import Adder, InvalidPartError, Merger, Part
from tests.agent.fixture_host import HOSTS, REPOSITORY, copy_host
from tests.e2e.prometheus import check_metrics
from tests.oracle import escaped, parse

IDENTITY = re.compile(r"id|image|name|container_label_.*")


def merge(parts):
    merger = Merger()
    for part in parts:
        merger.add(part)
    return merger.body()


def aggregate(parts, by):
    adder = Adder(by)
    for part in parts:
        adder.add(part)
    return adder.body()


def families_of(body):
    """What Prometheus's own client reads: name -> (type, help, [(labels, value)])."""
    found = {}
    for metric in text_string_to_metric_families(body.decode()):
        for sample in metric.samples:
            found.setdefault(sample.name, (metric.type, metric.documentation, []))[2].append(
                (sample.labels, sample.value)
            )
    return found


def exposition(*families):
    """Families given as (name, type, [(labels, value)])."""
    lines = []
    for name, kind, samples in families:
        lines += [f"# HELP {name} Help of {name}.", f"# TYPE {name} {kind}"]
        for labels, value in samples:
            inside = ",".join(f'{label}="{escaped(text)}"' for label, text in labels.items())
            lines.append(f"{name}{{{inside}}} {value}" if inside else f"{name} {value}")
    return "".join(f"{line}\n" for line in lines).encode()


def one(body, uuid="u1", node="n1", services=(), groups=()):
    return Part(uuid, node, body, services, groups)


async def _scrape_each(agent):
    agent.collection.start()
    try:
        bodies = {}
        for uuid in sorted(agent.registry._by_text):
            lent = await agent.collection.scrape_container(
                uuid,
                collectors=None,
                names=None,
                format=Format.TEXT_0_0_4,
                gzip=False,
                timeout_seconds=None,
            )
            bodies[uuid] = bytes(lent.data)
            lent.release()
        return bodies
    finally:
        await agent.collection.stop()


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """What real agents say of the containers of the fixture hosts, with all collectors of containers."""
    found = []
    everything = [f"--collector.{one.name}" for one in COLLECTORS if one.name.startswith("container")]
    for host in HOSTS:
        copy = copy_host(host, tmp_path_factory.mktemp("aggregate"))
        argv = [*copy.flags(), *everything]
        agent = build_agent(load_agent_options(argv, {}, COLLECTORS, version=pymon.__version__))
        for number, (uuid, body) in enumerate(asyncio.run(_scrape_each(agent)).items()):
            services = (("web",), ("web", "db"), ())[number % 3]
            found.append(Part(uuid, host, body, services, tuple(reversed(services))))
    assert len(found) == 15
    return found


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


# The slow model of a sum over containers.


def adds_up(name, kind):
    """By name, each one said; the catalogue's metrics of containers are the only ones that are asked."""
    if kind == "counter":
        return name != "time_of_day"
    left_out = {
        "container_last_seen",
        "container_start_time_seconds",
        "container_creation_time_seconds",
        "container_health_state",
        "container_memory_max_usage_bytes",
        "container_memory_migrate",
        "container_hugetlb_max_usage_bytes",
        "container_threads_max",
        "container_ulimits_soft",
        "container_spec_cpu_period",
        "container_spec_cpu_quota",
        "container_spec_cpu_shares",
        "container_spec_memory_limit_bytes",
        "container_spec_memory_swap_limit_bytes",
        "container_spec_memory_reservation_limit_bytes",
        "cpucap_baseline_percentage",
        "cpucap_burst_limit_seconds",
        "cpucap_cur_usage_percentage",
        "cpucap_effective_percentage",
        "cpucap_limit_percentage",
        "cpucap_max_usage_percentage",
        "mem_limit",
        "mem_swap_limit",
        "zfs_available",
        "zfs_compressratio",
        "zfs_refcompressratio",
        "zfs_recordsize",
        "zfs_quota",
    }
    of_collector = name.endswith(("_metrics_available_boolean", "_metrics_cached_boolean", "_metrics_timer_seconds"))
    return kind == "gauge" and name not in left_out and not of_collector


def model(parts, by):
    sums = defaultdict(Fraction)
    for part in parts:
        kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", part.body.decode(), re.MULTILINE))
        for (name, labels), value in parse(part.body).items():
            if not adds_up(name, kinds[name]):
                continue
            if {text for label, text in labels if label == "tcp_state"} & {
                "rtoalgorithm",
                "rtomin",
                "rtomax",
                "maxconn",
            }:
                continue
            kept = {
                (f"exported_{by}" if label == by else label, text)
                for label, text in labels
                if not IDENTITY.fullmatch(label)
            }
            for key in {"service": part.services, "group": part.groups, "node": (part.node,)}[by] or ("",):
                sums[name, frozenset(kept | ({(by, key)} if key else set()))] += value
    return dict(sums)


@pytest.mark.parametrize("by", ["service", "group", "node"])
def test_sums_of_real_containers_are_those_of_the_slow_model(parts, by):
    body = aggregate(parts, by)
    assert parse(body) == model(parts, by)
    assert len(parse(body)) > 100
    checked = check_metrics(body)
    assert checked.status in {0, 3}, checked.output
    assert len(list(text_string_to_metric_families(body.decode()))) == body.count(b"# TYPE ")


def test_every_metric_of_the_catalogue_is_summed_or_left_out_as_the_model_says(parts):
    """A new metric has to be thought of here."""
    from pymon.catalogue import cadvisor, cmon  # noqa: PLC0415  # the catalogues, for this test only

    for metric in (*cadvisor.METRICS, *cmon.CONTAINER, *cmon.TIME):
        body = exposition((metric.name, metric.kind.value, [({"id": "/a"}, 1)]))
        assert bool(aggregate([one(body)], "node")) is adds_up(metric.name, metric.kind.value), metric.name


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mem_limit", "gauge"),
        ("mem_swap_limit", "gauge"),
        ("cpucap_limit_percentage", "gauge"),
        ("cpucap_burst_limit_seconds", "gauge"),
        ("cpucap_max_usage_percentage", "gauge"),
        ("time_of_day", "counter"),
        ("container_info", "gauge"),
        ("cache_hit_ratio", "gauge"),
        ("plugin_x_metrics_available_boolean", "gauge"),
        ("plugin_x_metrics_cached_boolean", "gauge"),
        ("plugin_x_metrics_timer_seconds", "gauge"),
        ("anything", "untyped"),
    ],
)
def test_what_does_not_add_up_is_left_out(name, kind):
    assert aggregate([one(exposition((name, kind, [({}, 1)])))], "node") == b""


@pytest.mark.parametrize("name", ["mem_agg_usage", "mem_swap", "vfs_elements_wait_state", "load_average", "minutes"])
def test_gauges_that_add_up_are_summed(name):
    body = exposition((name, "gauge", [({}, 1)]))
    assert parse(aggregate([one(body), one(body, "u2")], "node")) == {(name, frozenset({("node", "n1")})): 2}


def test_sums_are_exact_and_written_as_agents_write():
    values = ("0.1", "0.2", "18446744073709551615.000000001", "-0.300000001", "9" * 40)
    bodies = [exposition(("a_total", "counter", [({}, value)])) for value in values]
    body = aggregate([one(body, f"u{number}") for number, body in enumerate(bodies)], "node")
    total = sum(Fraction(value) for value in values)
    assert body.splitlines()[-1] == b'a_total{node="n1"} %d' % total
    assert total.denominator == 1
    body = aggregate([one(body, f"u{number}") for number, body in enumerate(bodies[:2])], "node")
    assert body.splitlines()[-1] == b'a_total{node="n1"} 0.3'


def test_a_container_counts_in_each_of_its_services_once_and_without_one_under_no_label():
    body = exposition(("a", "gauge", [({"id": "/x", "cpu": "total", "container_label_y": "z"}, 1)]))
    parts = [
        one(body, "u1", services=("web", "db", "web")),
        one(body, "u2", services=("db",)),
        one(body, "u3"),
        one(body, "u4", services=("",)),
    ]
    assert aggregate(parts, "service") == (
        b"# HELP a Help of a.\n# TYPE a gauge\n"
        b'a{service="web",cpu="total"} 1\na{service="db",cpu="total"} 2\na{cpu="total"} 2\n'
    )


def test_labels_in_another_order_or_empty_are_the_same_labels():
    bodies = [
        b'# HELP a A\n# TYPE a gauge\na{x="1",y="2",z=""} 1\n',
        b'# HELP a A\n# TYPE a gauge\na{y="2",x="1",} 1\n',
    ]
    body = aggregate([one(body, f"u{number}") for number, body in enumerate(bodies)], "group")
    assert body == b'# HELP a A\n# TYPE a gauge\na{x="1",y="2"} 2\n'


# Histograms, summaries and floats: what plugins say.


def histogram(buckets, total="1.5e-05", labels=(), name="plugin_h"):
    """Family with one histogram. buckets: bound -> count, the last is all."""
    *_, count = buckets.values()
    samples = [Sample("_bucket", (*labels, ("le", bound)), str(number)) for bound, number in buckets.items()]
    samples += [Sample("_sum", labels, total), Sample("_count", labels, str(count))]
    return Family(name, "histogram", "Seconds.", tuple(samples))


def summary(name="plugin_s", labels=()):
    quantile = Sample("", (*labels, ("quantile", "0.5")), "NaN")
    return Family(name, "summary", None, (quantile, Sample("_sum", labels, "1e+06"), Sample("_count", labels, "3")))


def plain(name, kind, *values, help="Help."):
    return Family(name, kind, help, tuple(Sample("", (("n", str(n)),), value) for n, value in enumerate(values)))


def written(*families):
    return write(families, openmetrics=False)


def is_valid(body):
    checked = check_metrics(body)
    assert "error" not in checked.output.lower()
    assert checked.status in {0, 3}, checked.output
    families_of(body)


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


# Any expositions, not only those of the catalogue.

names = st.sampled_from(["a", "ab", "a_total", "container_x", "b:c"])
label_names = st.sampled_from(
    ["x", "node", "uuid", "exported_node", "service", "id", "image", "container_label_a", "node_"]
)
texts = st.text(st.sampled_from(' ,={}"\\\nnode#é1'), max_size=8)
numbers = st.decimals(-(10**20), 10**20, allow_nan=False, places=9).map(lambda value: format(value, "f"))


@st.composite
def bodies(draw):
    found = []
    for name in draw(st.lists(names, unique=True, max_size=4)):
        labels = st.dictionaries(label_names, texts, max_size=4)
        key = lambda labels: frozenset((label, text) for label, text in labels.items() if text)  # noqa: E731
        series = draw(st.lists(labels, min_size=1, max_size=4, unique_by=key))
        found.append((name, "counter", [(one, draw(numbers)) for one in series]))
    return exposition(*found)


@st.composite
def any_parts(draw):
    found = []
    for number in range(draw(st.integers(0, 4))):
        services = tuple(draw(st.lists(texts.filter(bool), max_size=3, unique=True)))
        found.append(Part(f"u{number}", draw(st.sampled_from(["n1", 'n"2'])), draw(bodies()), services))
    return found


@settings(max_examples=50, deadline=None)
@given(any_parts())
def test_merging_keeps_every_sample(parts):
    counted = Counter()
    for part in parts:
        for name, (_, _, samples) in families_of(part.body).items():
            for labels, value in samples:
                counted[
                    name,
                    part.uuid,
                    part.node,
                    frozenset(Counter(text for text in labels.values() if text).items()),
                    value,
                ] += 1
    merged = Counter()
    for name, (_, _, samples) in families_of(merge(parts)).items():
        for labels, value in samples:
            uuid, node = labels.pop("uuid"), labels.pop("node")
            merged[name, uuid, node, frozenset(Counter(text for text in labels.values() if text).items()), value] += 1
    assert merged == counted
    parse(merge(parts))  # asserts that no series is given twice


# What `write` writes.

bounds = st.lists(st.sampled_from(["-1", "0.5", "1", "2.5", "1e+06", "1e-05", "1e+300"]), unique=True, max_size=4)
floats = st.one_of(
    numbers,
    st.floats().map(lambda value: {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(repr(value), repr(value))),
    st.sampled_from(["+1", "1.", ".5", "1E5", "1e-400", "0" * 100, "1.7976931348623157e+308"]),
)
counts = st.integers(0, 10**6)


@st.composite
def families(draw, name):
    kind = draw(st.sampled_from(["counter", "gauge", "histogram", "summary", "untyped"]))
    help = draw(st.none() | texts)
    labels = st.dictionaries(label_names.filter(lambda name: name != "exported_node"), texts, max_size=3)
    key = lambda labels: frozenset((label, text) for label, text in labels.items() if text)  # noqa: E731
    samples = []
    for one in draw(st.lists(labels, min_size=1, max_size=3, unique_by=key)):
        pairs = tuple(one.items())
        if kind in ("histogram", "summary"):
            suffix, bound = ("_bucket", "le") if kind == "histogram" else ("", "quantile")
            at = [*draw(bounds), *(["+Inf"] if kind == "histogram" else [])]
            samples += [Sample(suffix, (*pairs, (bound, text)), draw(counts.map(str) | floats)) for text in at]
            samples += [Sample("_sum", pairs, draw(floats)), Sample("_count", pairs, str(draw(counts)))]
        else:
            samples.append(Sample("", pairs, draw(floats)))
    return Family(name, kind, help, tuple(samples))


def claimed(family):
    return {family.name, *(family.name + sample.suffix for sample in family.samples)}


@st.composite
def any_families(draw):
    """Of a part: no two with a sample of the same name."""
    found, taken = [], set()
    for name in draw(st.lists(st.sampled_from(["a", "a_sum", "a_count", "a_bucket", "a_sum_count", "b_total", "c:d"]),
                              unique=True, max_size=4)):  # fmt: skip
        family = draw(families(name))
        if not claimed(family) & taken:
            found.append(family)
            taken |= claimed(family)
    return found


def bare_name(name):
    """Prometheus's client calls every counter ..._total."""
    return name.removesuffix("_total")


def read_all(body):
    """The samples that Prometheus's own client reads, each under the name and of the type of its own family."""
    allowed = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}
    found, types, name = Counter(), {}, ""
    for line in body.decode().split("\n")[:-1]:
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types
            types[name] = kind
        elif not line.startswith("#"):
            sample = re.match(r"[^{ ]+", line)[0]
            assert sample.startswith(name)
            assert sample.removeprefix(name) in allowed.get(types[name], ("",))
    for metric in text_string_to_metric_families(body.decode()):
        for sample in metric.samples:
            found[bare_name(sample.name), frozenset(sample.labels.items()), repr(float(sample.value) + 0.0)] += 1
    for name, kind in types.items():
        for suffix in allowed.get(kind, ()):
            assert not suffix or name + suffix not in types
    return found


@settings(max_examples=50, deadline=None)
@given(st.lists(any_families(), max_size=4))
def test_what_agents_write_is_merged_sample_by_sample(written_families):
    merged = merge([one(written(*said), f"u{n}") for n, said in enumerate(written_families)])
    expected = Counter()
    for n, said in enumerate(written_families):
        for family in said:
            for sample in family.samples:
                labels = {f"exported_{label}" if label in ("uuid", "node") else label: text
                          for label, text in sample.labels}  # fmt: skip
                whole = frozenset({**labels, "uuid": f"u{n}", "node": "n1"}.items())
                expected[bare_name(family.name + sample.suffix), whole, repr(float(sample.value) + 0.0)] += 1
    assert read_all(merged) == expected


def added_up(values):
    """Exactly, as a float."""
    found = [float(value) for value in values]
    if not all(map(math.isfinite, found)):
        return sum(value for value in found if not math.isfinite(value))
    total = sum((Fraction(value) for value in values), Fraction(0))
    try:
        return float(total)
    except OverflowError:
        return math.inf if total > 0 else -math.inf


def summed_families_by_hand(written_families):
    """Under the label node, of families that do not clash."""
    kept = [[family for family in said if family.kind != "untyped"] for said in written_families]
    together = [family for said in kept for family in said]
    clashing = set()
    for family in together:
        if family.kind in ("histogram", "summary"):
            suffixes = ("_sum", "_count", "_bucket")[: 3 if family.kind == "histogram" else 2]
            for other in together:
                of_another_type = other.name == family.name and other.kind != family.kind
                if of_another_type or other.name in [family.name + suffix for suffix in suffixes]:
                    clashing |= {family.name, other.name}
    addends = defaultdict(list)
    for family in together:
        if family.name in clashing:
            continue
        lines = defaultdict(dict)
        for sample in family.samples:
            bound = [text for label, text in sample.labels if label == "le"] if sample.suffix == "_bucket" else []
            own = frozenset(pair for pair in sample.labels if not (bound and pair[0] == "le"))
            if sample.suffix or family.kind != "summary":
                lines[own][sample.suffix, *bound] = sample.value
        for own, numbers in lines.items():
            block = {label: text for label, text in own if text and not IDENTITY.fullmatch(label)}
            if "node" in block:
                renamed = "exported_node"
                while renamed in block:
                    renamed = f"exported_{renamed}"
                block[renamed] = block.pop("node")
            addends[family.name, frozenset({**block, "node": "n1"}.items())].append(numbers)
    sums = Counter()
    for (name, block), found in addends.items():
        for suffix, *bound in set.intersection(*(set(numbers) for numbers in found)):
            labels = block | ({("le", *bound)} if bound else set())
            sums[
                bare_name(name + suffix), labels, repr(added_up([numbers[(suffix, *bound)] for numbers in found]))
            ] += 1
    return sums


@settings(max_examples=50, deadline=None)
@given(st.lists(any_families(), max_size=4))
def test_what_agents_write_is_summed_as_by_hand(written_families):
    summed = aggregate([one(written(*said), f"u{n}") for n, said in enumerate(written_families)], "node")
    assert read_all(summed) == summed_families_by_hand(written_families)


def summed_by_hand(parts, by):
    """With the names that labels get out of the way of `by`, and text read back."""
    sums = defaultdict(Fraction)
    for part in parts:
        values = {"service": part.services, "node": (part.node,)}[by] or ("",)
        line = re.compile(r"^([a-z_:]+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
        for name, labels, value in line.findall(part.body.decode()):
            found = re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', labels)
            kept = {label: text for label, text in found if text and not IDENTITY.fullmatch(label)}
            if by in kept:
                renamed = f"exported_{by}"
                while renamed in kept:
                    renamed = f"exported_{renamed}"
                kept[renamed] = kept.pop(by)
            for key in values:
                block = frozenset((kept | ({by: escaped(key)} if key else {})).items())
                sums[name, block] += Fraction(value)
    return dict(sums)


@settings(max_examples=50, deadline=None)
@given(any_parts(), st.sampled_from(["service", "node"]))
def test_sums_are_those_of_the_slow_model(parts, by):
    assert parse(aggregate(parts, by)) == summed_by_hand(parts, by)


@settings(max_examples=50, deadline=None)
@given(any_parts(), st.lists(any_families(), max_size=2), st.data())
def test_what_is_accepted_is_read_by_others_whatever_was_damaged(parts, written_families, data):
    """Bytes of a part are changed at will: it is refused, or what comes out is an exposition."""
    damaged = []
    for part in (*parts, *(one(written(*said), f"w{number}") for number, said in enumerate(written_families))):
        body = bytearray(part.body)
        for at, byte in data.draw(
            st.lists(st.tuples(st.integers(0, 400), st.sampled_from(b'\n "{},=#\\a1\xff')), max_size=3)
        ):
            if at < len(body):
                body[at] = byte
        damaged.append(part._replace(body=bytes(body)))
    try:
        merged, summed = merge(damaged), aggregate(damaged, "service")
    except InvalidPartError:
        return
    families_of(merged)
    families_of(summed)


GOLDEN = sorted((REPOSITORY / "tests" / "golden").glob("*.prom"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_the_golden_files_of_the_agent_are_read_too(path):
    """A node's whole exposition is a part as any other."""
    body = path.read_bytes()
    merged = merge([one(body, "u1", "n")])
    assert len(parse(merged)) == len(parse(body)) > 50
    assert check_metrics(merged).status in {0, 3}


def zones():
    """What an agent in the dialect cmon says of each zone: without labels that say which one it is."""
    found = defaultdict(list)
    head = []
    for line in (REPOSITORY / "tests" / "golden" / "smartos.cmon.prom").read_text().split("\n")[:-1]:
        if line.startswith("#"):
            head = [line] if line.startswith("# HELP") else [*head, line]
            continue
        zone = re.search(r'[{,]id="/([^"]+)"', line)
        if zone:
            found[zone[1]] += [one for one in head if one not in found[zone[1]]]
            name, labels, value = re.fullmatch(r"([^{]+)\{(.*)\} (\S+)", line).groups()
            kept = [f'{key}="{text}"' for key, text in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels)
                    if not IDENTITY.fullmatch(key)]  # fmt: skip
            found[zone[1]].append(f"{name}{{{','.join(kept)}}} {value}" if kept else f"{name} {value}")
    return {zone: "".join(f"{line}\n" for line in lines).encode() for zone, lines in found.items()}


@pytest.mark.parametrize("by", ["service", "group", "node"])
def test_zones_in_the_dialect_cmon_are_merged_and_summed(by):
    plugin = written(histogram({"1": 1, "+Inf": 2}), plain("plugin_x_metrics_timer_seconds", "gauge", "0.000001"))
    bare = zones()
    parts = [
        Part(zone, f"n{number % 2}", body, (("web",), ("web", "db"), ())[number % 3], ("g",))
        for number, (zone, body) in enumerate(bare.items())
    ]
    assert len(parts) == 7
    assert all(b"\nmem_limit 1073741824\n" in body for zone, body in bare.items() if zone.startswith("2fc847b3"))
    merged = merge(part._replace(body=part.body + plugin) for part in parts)
    is_valid(merged)
    assert len(parse(merged)) == sum(len(parse(part.body)) for part in parts) + 5 * len(parts)
    summed = aggregate(parts, by)
    is_valid(summed)
    assert parse(summed) == model(parts, by)
    names = {name for name, _ in parse(summed)}
    assert names >= {"load_average", "mem_agg_usage", "cpu_user_usage", "zfs_used", "net_agg_bytes_in"}
    assert not [name for name in names if "_metrics_" in name]

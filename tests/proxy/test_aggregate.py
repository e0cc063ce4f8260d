import asyncio
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
        pytest.param(b"# HELP a A.\n# TYPE a histogram\na_count 1\n", id="histogram"),
        pytest.param(b"# HELP a A.\n# TYPE a gauge\na 1 1700000000000\n", id="time stamp"),
        pytest.param(b"# HELP a \\x\n# TYPE a gauge\na 1\n", id="escape in help"),
        pytest.param(GOOD.replace(b" 1\n", b" x\n"), id="no number"),
        pytest.param(GOOD.replace(b" 1\n", b" 1e999\n"), id="exponent"),
        pytest.param(GOOD.replace(b" 1\n", b" " + b"1" * 400 + b"\n"), id="endless number"),
        pytest.param(GOOD.replace(b" 1\n", b" NaN\n"), id="NaN"),
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
        pytest.param(b"a 1\n" * 250_000 + b"a x", id="a bad line after many"),
        pytest.param(b"a{" + b",".join(b'x%d="1"' % label for label in range(100_000)) + b"} 1", id="labels"),
    ],
)
def test_reading_takes_time_in_proportion_to_the_length(line):
    body = b"# HELP a A.\n# TYPE a gauge\n" + line + b"\n"
    try:
        merge([one(body)])
        aggregate([one(body)], "node")
    except InvalidPartError:
        pass


# The slow model of a sum over containers.


def adds_up(name, kind):
    """By name, each one said; the catalogue's metrics of containers are the only ones that are asked."""
    if kind == "counter":
        return True
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
    }
    return kind == "gauge" and name not in left_out


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
    from pymon.catalogue.cadvisor import METRICS  # noqa: PLC0415  # the catalogue, for this test only

    for metric in METRICS:
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
@given(any_parts(), st.data())
def test_what_is_accepted_is_read_by_others_whatever_was_damaged(parts, data):
    """Bytes of a part are changed at will: it is refused, or what comes out is an exposition."""
    damaged = []
    for part in parts:
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


def test_the_golden_files_of_the_agent_are_read_too():
    """A node's whole exposition is a part as any other."""
    for host in HOSTS:
        body = (REPOSITORY / "tests" / "golden" / f"{host}.prom").read_bytes()
        merged = merge([one(body, "u1", host)])
        assert len(parse(merged)) == len(parse(body))
        assert check_metrics(merged).status in {0, 3}

import math
import re
from collections import Counter, defaultdict
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pymon.proxy.part import InvalidPartError, Part
from tests.agent.fixture_host import REPOSITORY
from tests.e2e.prometheus import check_metrics
from tests.oracle import escaped, parse
from tests.proxy.aggregated import (
    IDENTITY,
    aggregate,
    bodies,
    families,
    families_of,
    histogram,
    is_valid,
    merge,
    model,
    one,
    plain,
    texts,
    written,
)


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
    """Exactly, as a float. What is too small for a double counts as 0, as it does in Prometheus."""
    found = [float(value) for value in values]
    if not all(map(math.isfinite, found)):
        return sum(value for value in found if not math.isfinite(value))
    total = sum((Fraction(value) for value in values if float(value)), Fraction(0))
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

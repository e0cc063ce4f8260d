"""Expositions of containers, and slow models of what becomes of them."""

import asyncio
import re
from collections import defaultdict
from fractions import Fraction

from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

import pymon
from pymon.agent.build import build_agent
from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import load_agent_options
from pymon.agent.scrape import Scrape
from pymon.exposition.families import Family, Sample, write
from pymon.proxy.aggregate import Adder, Merger
from pymon.proxy.part import Part
from tests.agent.fixture_host import HOSTS, copy_host
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
            lent = await agent.collection.scrape(Scrape("container", uuid))
            bodies[uuid] = bytes(lent.data)
            lent.release()
        return bodies
    finally:
        await agent.collection.stop()


def scraped(tmp_path_factory):
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


# The slow model of a sum over containers.


def adds_up(name, kind):
    """By name, each one said; the catalogue's metrics of containers are the only ones that are asked."""
    if kind == "counter":
        return name != "time_of_day"
    left_out = {
        "container_last_seen",
        "container_start_time_seconds",
        "container_creation_time_seconds",
        "container_end_time_seconds",
        "container_health_state",
        "container_last_exit_code",
        "pymon_container_last_numbers_exact",
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
        "container_spec_memory_low_bytes",
        "container_spec_memory_high_bytes",
        "pymon_container_effective_memory_limit_bytes",
        "pymon_container_effective_cpu_limit_cores",
        "pymon_container_effective_threads_max",
        "container_memory_swap_max_usage_bytes",
        "container_spec_memory_swap_high_bytes",
        "container_spec_memory_zswap_limit_bytes",
        "container_misc_max_usage",
        "container_misc_limit",
        "container_rdma_hca_handles_limit",
        "container_rdma_hca_objects_limit",
        "container_dmem_limit_bytes",
        "container_dmem_min_bytes",
        "cpucap_baseline_percentage",
        "cpucap_burst_limit_seconds",
        "cpucap_cur_usage_percentage",
        "cpucap_effective_percentage",
        "cpucap_limit_percentage",
        "cpucap_max_usage_percentage",
        "mem_limit",
        "mem_swap_limit",
        "nprocs_limit_count",
        "swapresv_limit_bytes",
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


# Histograms, summaries and floats: what plugins say.


def histogram(buckets, total="1.5e-05", labels=(), name="plugin_h"):
    """Family with one histogram. buckets: bound -> count, the last is all."""
    *_, count = buckets.values()
    samples = [Sample("_bucket", (*labels, ("le", bound)), str(number)) for bound, number in buckets.items()]
    samples += [Sample("_sum", labels, total), Sample("_count", labels, str(count))]
    return Family(name, "histogram", "Seconds.", tuple(samples))


def plain(name, kind, *values, help="Help."):
    return Family(name, kind, help, tuple(Sample("", (("n", str(n)),), value) for n, value in enumerate(values)))


def written(*families):
    return write(families, openmetrics=False)


def is_valid(body):
    checked = check_metrics(body)
    assert "error" not in checked.output.lower()
    assert checked.status in {0, 3}, checked.output
    families_of(body)


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

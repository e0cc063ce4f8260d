"""Whether two expositions say the same, before the programs that wrote them are timed.

A number of the peer agrees if it lies between ours before and after it, in one of several rounds: counters grow and
gauges move while the programs are asked one after the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping

from prometheus_client.parser import text_string_to_metric_families

Series = tuple[str, frozenset[tuple[str, str]]]
Exposition = Mapping[Series, float]

ROUNDS = 10
LEAST = 0.95
"""The part of the series in both that has to agree. The rest is named in the result."""

NAMES = {"name", "image"}
"""Labels that describe a container, where others only have its id."""


ABOUT_ITSELF = ("process_", "go_", "promhttp_", "python_", "node_scrape_collector_", "node_exporter_")
"""What an exporter says of itself."""


class DisagreementError(RuntimeError):
    """The peer says something else."""


def parse(body: bytes) -> dict[Series, float]:
    """The series of a text, without labels that are empty or describe a container."""
    return {
        (
            sample.name,
            frozenset(item for item in sample.labels.items() if item[1] and item[0] not in NAMES),
        ): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if not sample.name.startswith(ABOUT_ITSELF)
    }


def only(body: bytes, names: Collection[str]) -> bytes:
    """A text without the samples of other names: with thousands of containers these are most of it, slow to parse."""
    wanted = {name.encode() for name in names}
    kept = (
        line
        for line in body.split(b"\n")
        if line.startswith(b"#") or line.partition(b"{")[0].partition(b" ")[0] in wanted
    )
    return b"\n".join(kept) + b"\n"


def of_processes(body: bytes, parent: str) -> dict[Series, float]:
    """What process-exporter counts in each group, as pymon names it."""
    names = {
        "namedprocess_namegroup_num_procs": "container_processes",
        "namedprocess_namegroup_num_threads": "container_threads",
    }
    found = {}
    for (name, labels), value in parse(body).items():
        group = re.search(rf"/{re.escape(parent)}/\w+", dict(labels).get("groupname", ""))
        if group and name in names:
            found[names[name], frozenset({("id", group[0])})] = value
    return found


def of_netdata(body: bytes, parent: str) -> dict[Series, float]:
    """What netdata has collected of the memory of each group, in bytes, as pymon names it."""
    names = dict.fromkeys((b"rss", b"anon"), "container_memory_rss")
    names |= dict.fromkeys((b"cache", b"file"), "container_memory_cache")
    chart = rf'chart="cgroup_{re.escape(parent)}_(\w+)\.mem"'
    pattern = rf'^netdata_cgroup_mem\{{{chart},.*dimension="(rss|anon|cache|file)"\}} (\d+)'
    found = re.findall(pattern.encode(), body, re.MULTILINE)
    return {
        (names[what], frozenset({("id", f"/{parent}/{name.decode()}")})): float(value) for name, what, value in found
    }


_OF_COLLECTD = re.compile(rb'^collectd_cgroups_cpu_total\{cgroups="(\w+)",type="(user|system)".*\} (\d+)', re.MULTILINE)
USER_HZ = 100
"""Of all architectures that Debian has; collectd exports the kernel's numbers as they are."""


def of_collectd(body: bytes, parent: str) -> dict[Series, float]:
    """What collectd has read of the CPU time of each group, in seconds, as pymon names it.

    It labels a group by the last part of its path: that of another parent is taken for one of this.
    """
    return {
        (f"container_cpu_{what.decode()}_seconds_total", frozenset({("id", f"/{parent}/{name.decode()}")})): int(value)
        / USER_HZ
        for name, what, value in _OF_COLLECTD.findall(body)
    }


PCP = {
    "cgroup_memory_usage": "container_memory_usage_bytes",
    "cgroup_memory_current": "container_memory_usage_bytes",
    "cgroup_memory_stat_rss": "container_memory_rss",
    "cgroup_memory_stat_anon": "container_memory_rss",
}
"""Names of pcp's metrics with version 1 and version 2 of control groups, and pymon's."""


def of_pcp(body: bytes, parent: str) -> dict[Series, float]:
    """What pcp has read of the memory of each group, as pymon names it."""
    group = re.escape(parent).encode()
    pattern = rb'^(cgroup_memory_\w+)\{.*instname="(/' + group + rb'/\w+)".*\} (\d+)$'
    return {
        (PCP[name.decode()], frozenset({("id", path.decode())})): float(value)
        for name, path, value in re.findall(pattern, body, re.MULTILINE)
        if name.decode() in PCP
    }


def ids(series: Iterable[Series]) -> set[str]:
    """The containers that series are of."""
    return {dict(labels)["id"] for _, labels in series if "id" in dict(labels)}


def between(low: float, value: float, high: float) -> bool:
    """Whether a value is within two others, give or take the last digit of a double."""
    low, high = min(low, high), max(low, high)
    return low - abs(low) * 1e-12 <= value <= high + abs(high) * 1e-12


def agree(
    ours: Callable[[], Exposition], theirs: Callable[[], Exposition], *, containers: int = 0, known: bool = True
) -> str:
    """One line about what was compared. DisagreementError if too much differs.

    containers: so many ids the series in both must have. known: the peer is known to have series that pymon has; of
    another that has none, the line says so.
    """
    common: set[Series] = set()
    differing: set[Series] = set()
    for turn in range(ROUNDS):
        before, peer, after = ours(), theirs(), ours()
        both = before.keys() & peer.keys() & after.keys()
        wrong = {series for series in both if not between(before[series], peer[series], after[series])}
        common, differing = (common | both, differing & wrong) if turn else (set(both), wrong)
        if not differing:
            break
    if not common and known:
        raise DisagreementError("has nothing that pymon has")
    if not common:
        return f"nothing that pymon has under the same name; {len(peer)} series"
    found = len(ids(common))
    if containers and found != containers:
        raise DisagreementError(f"has {found} of {containers} containers")
    names = sorted({name for name, _ in differing})
    text = f"{len(common) - len(differing)} of {len(common)} series in both agree"
    if len(common) - len(differing) < LEAST * len(common):
        raise DisagreementError(f"{text}; not {', '.join(names[:5])}")
    return f"{text}; not {', '.join(names)}" if names else text


def cgroups_alone(exposition: Mapping[Series, float], parent: str) -> dict[Series, float]:
    """The series of the containers below a cgroup."""
    prefix = f"/{parent}/"
    return {item: value for item, value in exposition.items() if dict(item[1]).get("id", "").startswith(prefix)}

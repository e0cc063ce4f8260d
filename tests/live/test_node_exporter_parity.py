"""Everything that Debian's node_exporter says of this machine, we say too: names, types, help, labels and values.

A counter lies between our values before and after; a gauge does in one of several rounds, since it may come and go.
"""

import re
import shutil
import subprocess
import urllib.request
from contextlib import contextmanager

import pytest

from pymon.sources.errors import SourceError
from pymon.sources.node import NODE_COLLECTORS, NODE_METRICS, NodeContext
from tests.oracle import TEXT_TYPES, parse, render

PROGRAM = shutil.which("prometheus-node-exporter") or shutil.which("node_exporter")
ROUNDS = 20

EXCLUDES = {
    "netdev.device": "^$",
    "diskstats.device": r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$",
    "filesystem.mount-points": (
        "^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)"
    ),
    "filesystem.fs-types": (
        "^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs"
        "|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs)$"
    ),
}
"""Upstream's defaults of 1.12: those of Debian's 1.5 differ."""

NOT_OURS = {
    r"node_(scrape_collector|exporter)_": "about node_exporter itself",
    r"(go|process|promhttp)_": "about node_exporter itself",
    r"node_processes_": "processes come and go, and with them the states that there are",
}
NOT_THEIRS = {"cgroups", "kernel_hung", "machine", "machine_topology"}
"""Collectors that came after 1.5, and cAdvisor's."""

VALUE_DIFFERS = {
    "node_procs_running": "each sees itself running",
    "node_filefd_allocated": "the files of the scrape",
    "node_netstat_Tcp_CurrEstab": "the connection of the scrape",
    "node_sockstat_TCP_alloc": "the connection of the scrape",
    "node_sockstat_TCP_inuse": "the connection of the scrape",
    "node_sockstat_TCP_mem": "the connection of the scrape",
    "node_sockstat_TCP_mem_bytes": "the connection of the scrape",
    "node_sockstat_sockets_used": "the connection of the scrape",
    "node_tcp_connection_states": "the connection of the scrape; a listener's limit is no bytes in a queue",
}
LABELS_SINCE = {
    "node_disk_info": {"rotational"},
    "node_network_info": {"adminstate"},
}
"""Labels that came after 1.5."""


@contextmanager
def exporter():
    collectors = [f"--collector.{collector.name}" for collector in NODE_COLLECTORS if collector.name not in NOT_THEIRS]
    excludes = [f"--collector.{name}-exclude={pattern}" for name, pattern in EXCLUDES.items()]
    process = subprocess.Popen(
        [PROGRAM, "--web.listen-address=127.0.0.1:0", "--collector.disable-defaults", *collectors, *excludes],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stderr:
            listening = re.search(r"Listening on.* address=(127\.0\.0\.1:\d+)", line)
            if listening:
                yield f"http://{listening[1]}/metrics"
                return
        pytest.fail("node_exporter ended before it listened")
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def collect(sources):
    tables = []
    for source in sources:
        try:
            source.collect()
        except SourceError as error:
            assert error.reason in {"nodata", "eopnotsupp", "enoent"}, error  # noqa: PT017
        tables += source.tables
    found = render(NODE_METRICS, tables)
    return {
        (name, frozenset(pair for pair in labels if pair[0] not in LABELS_SINCE.get(name, ()))): value
        for (name, labels), value in found.items()
    }


def scrape(url):
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310
        return answer.read()


def ours(name):
    return not any(re.match(pattern, name) for pattern in NOT_OURS)


def visible(series, theirs):
    """A mount that another hides is not ours: node_exporter gives it the sizes of the one that hides it."""
    place = dict(series[1]).get("mountpoint")
    same = [other for other in theirs if other[0] == series[0] and dict(other[1]).get("mountpoint") == place]
    return place is None or len(same) == 1


def monotonic(series):
    """Whether the kernel never lets it go back: idle and iowait are estimates, and ours are held up where they fall."""
    return series[0].endswith("_total") and dict(series[1]).get("mode") not in {"idle", "iowait"}


def between(low, value, high):
    """Theirs are doubles: the exact number's nearest, give or take the last digit."""
    low, value, high = map(float, (min(low, high), value, max(low, high)))
    return low - abs(low) * 1e-12 <= value <= high + abs(high) * 1e-12


@pytest.mark.skipif(PROGRAM is None, reason="prometheus-node-exporter is not installed")
def test_parity():
    sources = [collector.make(NodeContext()) for collector in NODE_COLLECTORS]
    unmatched: dict = {}
    with exporter() as url:
        for round_number in range(ROUNDS):
            before = collect(sources)
            exposition = scrape(url)
            theirs = {series: value for series, value in parse(exposition).items() if ours(series[0])}
            theirs = {series: value for series, value in theirs.items() if visible(series, theirs)}
            after = collect(sources)
            assert theirs.keys() <= before.keys() & after.keys(), sorted(map(str, theirs.keys() - before.keys()))
            wrong = {
                series: (before[series], value, after[series])
                for series, value in theirs.items()
                if series[0] not in VALUE_DIFFERS and not between(before[series], value, after[series])
            }
            assert not [series for series in wrong if monotonic(series)], wrong
            unmatched = {series: wrong[series] for series in (unmatched if round_number else wrong) if series in wrong}
            if not unmatched:
                break
    for source in sources:
        source.close()
    assert unmatched == {}
    assert len(theirs) > 100, "it was compared"
    check_headers(exposition.decode())


def check_headers(exposition):
    ours_by_name = {metric.name: metric for metric in NODE_METRICS}
    helps = {name: text for name, text in re.findall(r"^# HELP (\S+) (.*)$", exposition, re.MULTILINE) if ours(name)}
    types = {name: kind for name, kind in re.findall(r"^# TYPE (\S+) (.*)$", exposition, re.MULTILINE) if ours(name)}
    assert helps == {name: ours_by_name[name].help for name in helps}
    assert types == {name: TEXT_TYPES[ours_by_name[name].kind] for name in types}

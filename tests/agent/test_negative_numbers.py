"""Numbers that a kernel prints negative are absent and counted where they cannot be so, and never near 2^64."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest

from tests.agent.fixture_host import FixtureHost, copy_host, stable
from tests.agent.test_bad_input import UNITS, failures
from tests.oracle import Series, parse

FILES = (
    ("v1", f"sys/fs/cgroup/memory/{UNITS['v1']}/memory.stat", "container_memory", rb"(total_inactive_file )\d+"),
    ("v1", f"sys/fs/cgroup/memory/{UNITS['v1']}/memory.usage_in_bytes", "container_memory", rb"()\d+"),
    ("v1", f"sys/fs/cgroup/cpu,cpuacct/{UNITS['v1']}/cpuacct.stat", "container_cpu", rb"(user )\d+"),
    ("v2", f"sys/fs/cgroup/{UNITS['v2']}/memory.stat", "container_memory", rb"(inactive_file )\d+"),
    ("v2", f"sys/fs/cgroup/{UNITS['v2']}/io.stat", "container_io", rb"(rbytes=)\d+"),
    ("v2", f"sys/fs/cgroup/{UNITS['v2']}/io.pressure", "container_pressure", rb"(total=)\d+"),
    ("v2", f"sys/fs/cgroup/{UNITS['v2']}/cpu.max", "container_cpu", rb"()100000$"),
    ("v2", "proc/meminfo", "meminfo", rb"(Cached: +)\d+"),
    ("v2", "proc/vmstat", "vmstat", rb"(pgfault )\d+"),
    ("v2", "proc/stat", "cpu", rb"(cpu0 +)\d+"),
    ("v2", "proc/net/dev", "netdev", rb"(eth0: +)\d+"),
    ("v2", "proc/diskstats", "diskstats", rb"(vda +)\d+"),
    ("v2", "proc/pressure/io", "pressure", rb"(total=)\d+"),
)


@pytest.mark.parametrize(("name", "file", "collector", "pattern"), FILES, ids=lambda part: Path(str(part)).name)
def test_absent_and_counted(name: str, file: str, collector: str, pattern: bytes, tmp_path: Path) -> None:
    host = copy_host(name, tmp_path)
    before = host.collect()
    path = host.root / file
    data = path.read_bytes()
    changed = re.sub(pattern, rb"\1-4096", data)
    assert changed != data
    path.write_bytes(changed)
    after = host.collect()
    old, new = stable(before), stable(after)
    assert old.keys() - new.keys(), "nothing is absent"
    assert {key: old[key] for key in new} == new, "something has another value"
    assert sum(failures(after, collector).values()) > sum(failures(before, collector).values())


def test_the_working_set_is_absent_without_the_inactive_files(tmp_path: Path) -> None:
    host = copy_host("v1", tmp_path)
    path = host.cgroups / "memory" / UNITS["v1"] / "memory.stat"
    path.write_bytes(re.sub(rb"total_inactive_file \d+", b"total_inactive_file -8192", path.read_bytes()))

    def of_container(found: dict[Series, Fraction], name: str) -> list[Fraction]:
        return [value for (metric, labels), value in found.items() if metric == name and UNITS["v1"] in str(labels)]

    found = host.collect()
    assert of_container(found, "container_memory_usage_bytes")
    assert not of_container(found, "container_memory_working_set_bytes")


def test_signed_where_the_kernel_prints_signed(tmp_path: Path) -> None:
    host = copy_host("v1", tmp_path)
    done = FixtureHost(host.root).run("--collector.container_advtcp")
    limits = [
        value
        for (name, labels), value in parse(done.stdout).items()
        if name == "container_network_advance_tcp_stats_total" and ("tcp_state", "maxconn") in labels
    ]
    assert limits
    assert set(limits) == {-1}

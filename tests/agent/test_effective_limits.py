"""The tightest limits of a container and of the groups above it, on fixture hosts with limits at each level."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from tests.agent.fixture_host import FixtureHost, copy_host

MEMORY = "pymon_container_effective_memory_limit_bytes"
CPU = "pymon_container_effective_cpu_limit_cores"
THREADS = "pymon_container_effective_threads_max"
CONTAINER = "b7d1e5a9c3f70824d6b8f0a2c4e6d8b0f2a4c6e8d0b2f4a6c8e0d2b4f6a8c0e1"
"""A container of a pod. Its own limits, and those of the pod, are as tests write them."""

FILES = {
    "v2": {"memory": ("", "memory.max"), "cpu": ("", "cpu.max"), "pids": ("", "pids.max")},
    "v1": {
        "memory": ("memory", "memory.limit_in_bytes"),
        "cpu": ("cpu,cpuacct", "cpu.cfs_quota_us"),
        "pids": ("pids", "pids.max"),
    },
}
NONE = {
    ("v2", "memory"): "max", ("v2", "cpu"): "max 100000", ("v2", "pids"): "max",
    ("v1", "memory"): "9223372036854771712", ("v1", "cpu"): "-1", ("v1", "pids"): "max",
}  # fmt: skip


def levels(host: FixtureHost, version: str, controller: str) -> list[Path]:
    """The file of a limit at each level: of the container, of its pod and so on, without that of the root."""
    root, name = FILES[version][controller]
    top = host.cgroups / root
    group = next(path for path in top.rglob(f"*{CONTAINER}*") if path.is_dir())
    above = [group, *group.parents]
    return [path / name for path in above[: above.index(top)]]


def limits(host: FixtureHost) -> dict[str, Fraction]:
    return {
        name: value
        for (name, labels), value in host.collect().items()
        if name in (MEMORY, CPU, THREADS) and dict(labels)["id"].find(CONTAINER) >= 0
    }


@pytest.mark.parametrize("version", FILES)
def test_without_any_limit_there_is_no_series(tmp_path: Path, version: str) -> None:
    host = copy_host(version, tmp_path)
    for controller in FILES[version]:
        for file in levels(host, version, controller):
            file.write_text(f"{NONE[version, controller]}\n")
    assert limits(host) == {}


@pytest.mark.parametrize("version", FILES)
@pytest.mark.parametrize("tight", [0, 1, 2], ids=["own", "of the pod", "of the slice"])
def test_the_tightest_limit_counts(tmp_path: Path, version: str, tight: int) -> None:
    host = copy_host(version, tmp_path)
    for controller, low, high in (("memory", "4096", "8192"), ("pids", "11", "12")):
        for level, file in enumerate(levels(host, version, controller)):
            file.write_text(f"{low if level == tight else high}\n")
    for level, file in enumerate(levels(host, version, "cpu")):
        quota, period = (30000, 200000) if level == tight else (20000, 100000)
        file.write_text(f"{quota} {period}\n" if version == "v2" else f"{quota}\n")
        if version == "v1":
            file.with_name("cpu.cfs_period_us").write_text(f"{period}\n")
    assert limits(host) == {MEMORY: 4096, THREADS: 11, CPU: Fraction(15, 100)}


def test_a_group_without_the_controller_has_no_limit(tmp_path: Path) -> None:
    host = copy_host("v2", tmp_path)
    own, pod, *above = levels(host, "v2", "memory")
    own.write_text("8192\n")
    pod.unlink()
    for file in above:
        file.write_text("16384\n")
    assert limits(host)[MEMORY] == 8192


def test_where_one_cannot_be_read_none_is_said(tmp_path: Path) -> None:
    """The one that cannot be read may be the tightest."""
    host = copy_host("v2", tmp_path)
    own, pod, *_ = levels(host, "v2", "memory")
    own.write_text("8192\n")
    pod.write_text("many\n")
    assert MEMORY not in limits(host)


def test_deeper_than_is_looked_at(tmp_path: Path) -> None:
    host = copy_host("v2", tmp_path)
    own, *_ = levels(host, "v2", "memory")
    deep = host.cgroups.joinpath(*("d" for _ in range(64)))
    deep.mkdir(parents=True)
    own.parent.rename(deep / own.parent.name)
    assert limits(host) == {}

"""Kernel files that are missing, broken or refuse: the cells they hold are absent, the failure is counted with its
reason, and nothing else changes.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.agent.fixture_host import FixtureHost, copy_host, stable
from tests.oracle import Series, parse

HERE = Path(__file__).parent
DOCKER = "4c01db0b339c7d1cf1b7c5c9a4e6d1f0e8b2a3957d64c8f1b0a9e7d6c5b4a392"
UNITS = {"v2": f"system.slice/docker-{DOCKER}.scope", "v1": f"docker/{DOCKER}"}


class Case(NamedTuple):
    """A file, the collector that reads it, and the metrics that come from it. empty: no lines are a value too."""

    host: str
    file: str
    collector: str
    metrics: str
    keyed: bool = True
    empty: bool = False
    label: str = ""


def v2(file: str, collector: str, metrics: str, *, keyed: bool = True, empty: bool = False) -> Case:
    return Case("v2", f"sys/fs/cgroup/{UNITS['v2']}/{file}", f"container_{collector}", metrics, keyed, empty)


def v1(controller: str, file: str, collector: str, metrics: str, *, keyed: bool = True, empty: bool = False) -> Case:
    return Case(
        "v1", f"sys/fs/cgroup/{controller}/{UNITS['v1']}/{file}", f"container_{collector}", metrics, keyed, empty
    )


MEMORY_STAT = (
    "container_memory_((in)?active_anon_bytes|anon_thp_bytes|secondary_pagetables_bytes|cache|rss|swap|mapped_file|kernel_usage|working_set_bytes|total_.*|failures_total|file_.*"
    "|pgscan_total|pgsteal_total|workingset_.*)"
)
IO = "container_fs_.*|container_blkio_device_usage_total"

CASES = (
    v2("memory.stat", "memory", MEMORY_STAT),
    v2("memory.current", "memory", "container_memory_(usage|working_set)_bytes", keyed=False),
    v2("memory.peak", "memory", "container_memory_max_usage_bytes", keyed=False),
    v2("memory.max", "memory", "container_spec_memory_limit_bytes|pymon_.*_memory_.*", keyed=False),
    v2("memory.events", "memory", "container_(oom_events|memory_events_.*)_total"),
    v2("cpu.stat", "cpu", "container_cpu_.*"),
    v2("cpu.max", "cpu", "container_spec_cpu_(quota|period)|container_cpu_cfs_.*|pymon_.*_cpu_.*", keyed=False),
    v2("io.stat", "io", IO, empty=True),
    v2("io.pressure", "pressure", "container_pressure_io_.*"),
    v2("pids.current", "pids", "container_threads", keyed=False),
    v2("hugetlb.2MB.current", "hugetlb", "container_hugetlb_usage_bytes", keyed=False)._replace(label="2MB"),
    v1("memory", "memory.stat", "memory", MEMORY_STAT),
    v1("memory", "memory.usage_in_bytes", "memory", "container_memory_(usage|working_set)_bytes", keyed=False),
    v1("memory", "memory.oom_control", "memory", "container_oom_events_total"),
    v1("cpu,cpuacct", "cpuacct.usage_percpu", "cpu", "container_cpu_usage_seconds_total", keyed=False),
    v1("cpu,cpuacct", "cpuacct.stat", "cpu", "container_cpu_(user|system)_seconds_total"),
    v1("cpu,cpuacct", "cpu.stat", "cpu", "container_cpu_cfs_.*"),
    v1("blkio", "blkio.throttle.io_service_bytes_recursive", "io", IO, empty=True),
    Case("v2", "proc/meminfo", "meminfo", "node_memory_.*|machine_.*"),
    Case("v2", "proc/loadavg", "loadavg", "node_load.*", keyed=False),
    Case("v2", "proc/vmstat", "vmstat", "node_vmstat_.*"),
    Case("v2", "proc/self/net/netstat", "netstat", "node_netstat_(Tcp|Ip)Ext_.*", keyed=False),
    Case("v2", "proc/self/net/sockstat", "sockstat", "node_sockstat_([A-Z]+|sockets)_.*", keyed=False),
    Case("v2", "proc/self/net/softnet_stat", "softnet", "node_softnet_.*", keyed=False),
    Case("v2", "proc/sys/fs/file-nr", "filefd", "node_filefd_.*", keyed=False),
    Case("v2", "proc/diskstats", "diskstats", "node_disk_.*", empty=True),
    Case("v2", "proc/pressure/memory", "pressure", "node_pressure_memory_.*"),
)  # fmt: skip


def missing(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    """In the middle of a line half way through, or of the disk's."""
    lines = path.read_bytes().splitlines()
    line = next((line for line in lines if b" vda " in line), lines[len(lines) // 2])
    path.write_bytes(b"".join(b"%s\n" % before for before in lines[: lines.index(line)]) + line[:-1])


def letters(path: Path) -> None:
    path.write_bytes(re.sub(rb"(?<![\w.])-?\d+(\.\d+)?(?![\w:])", b"x", path.read_bytes()))


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


BREAKS: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "missing": (missing, {"enoent"}),
    "empty": (empty, {"empty", "parse", "nodata"}),
    "cut": (cut, {"truncated", "parse"}),
    "letters": (letters, {"malformed", "parse"}),
    "directory": (directory, {"errno", "eisdir"}),
}
"""How a file is broken, and the words that may say so: native readers and node collectors have their own."""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FixtureHost]:
    root = tmp_path_factory.mktemp("hosts")
    found = {name: copy_host(name, root) for name in ("v1", "v2")}
    for file in found["v1"].cgroups.rglob("blkio.bfq.*"):  # which would say the same
        file.unlink()
    return found


@pytest.fixture(scope="module")
def whole(hosts: dict[str, FixtureHost]) -> dict[str, dict[Series, Fraction]]:
    """What the hosts say when nothing is wrong with them."""
    return {name: host.collect() for name, host in hosts.items()}


def failures(series: Mapping[Series, Fraction], collector: str) -> dict[str, Fraction]:
    return {
        dict(labels)["reason"]: value
        for (name, labels), value in series.items()
        if name == "pymon_collector_failures_total" and ("collector", collector) in labels
    }


def check(
    before: Mapping[Series, Fraction], after: Mapping[Series, Fraction], case: Case, reasons: set[str], *, some: bool
) -> None:
    """Only cells of the file are lost, all of them unless `some`; the reason is one of those, or it is no failure."""
    old, new = stable(before), stable(after)
    of_file = {
        key
        for key in old
        if re.fullmatch(case.metrics, key[0])
        and (DOCKER in str(key[1]) or not key[0].startswith(("container_", "pymon_")))
        and case.label in str(key[1])
    }
    assert of_file, "the case names no metric"
    lost = old.keys() - new.keys()
    assert lost <= of_file, f"lost as well: {sorted(lost - of_file, key=str)[:5]}"
    assert not new.keys() - old.keys(), "something new"
    assert lost, "nothing was lost"
    assert {key: old[key] for key in new} == new
    assert some or lost == of_file or case.keyed
    then, now = failures(before, case.collector), failures(after, case.collector)
    more = {reason for reason in now if now[reason] > then.get(reason, 0)}
    assert more & reasons if reasons else not more, (more, reasons)


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.host}-{Path(case.file).name}")
def test_broken_files(
    case: Case, how: str, hosts: dict[str, FixtureHost], whole: dict[str, dict[Series, Fraction]]
) -> None:
    host = hosts[case.host]
    path = host.root / case.file
    assert path.is_file()
    if how == "empty" and case.empty:
        pytest.skip("an empty file is a good one here: no device")
    if how == "cut" and path.name == "cpu.max":
        pytest.skip("of two numbers, the second may be missing")
    saved = path.read_bytes()
    break_it, reasons = BREAKS[how]
    try:
        break_it(path)
        after = host.collect()
    finally:
        if path.is_dir():
            path.rmdir()
        path.write_bytes(saved)
    check(whole[case.host], after, case, reasons, some=how in ("cut", "letters"))


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.keyed], ids=lambda case: f"{case.host}-{Path(case.file).name}"
)
def test_unknown_keys_change_nothing(
    case: Case, hosts: dict[str, FixtureHost], whole: dict[str, dict[Series, Fraction]]
) -> None:
    host = hosts[case.host]
    path = host.root / case.file
    saved = path.read_bytes()
    extra = {
        "io.stat": b" new.key=17\n",
        "blkio.throttle.io_service_bytes_recursive": b"\n254:0 Novelty 17\n",
        "io.pressure": b"\nnovel avg10=0.00 avg60=0.00 avg300=0.00 total=17\n",
        "memory": b"\nnovel avg10=0.00 avg60=0.00 avg300=0.00 total=17\n",
        "meminfo": b"\nNovelty:  17 kB\n",
        "diskstats": b" 17 17\n",
    }.get(path.name, b"\na_new_key 17\n")
    try:
        path.write_bytes(saved.removesuffix(b"\n") + extra)
        after = host.collect()
    finally:
        path.write_bytes(saved)
    old, new = stable(whole[case.host]), stable(after)
    if path.name == "meminfo":  # every key is a metric there
        new = {key: value for key, value in new.items() if key[0] != "node_memory_Novelty_bytes"}
    assert new == old
    assert failures(after, case.collector) == failures(whole[case.host], case.collector)


def test_procs_that_cannot_be_read_cost_processes_and_network(
    hosts: dict[str, FixtureHost], whole: dict[str, dict[Series, Fraction]]
) -> None:
    host = hosts["v2"]
    path = host.cgroups / UNITS["v2"] / "cgroup.procs"
    saved = path.read_bytes()
    path.unlink()
    try:
        after = host.collect()
    finally:
        path.write_bytes(saved)
    metrics = "container_processes|container_network_.*|container_sockstat_.*"
    case = Case("v2", "", "container_process", metrics, keyed=False)
    check(whole["v2"], after, case, {"enoent"}, some=False)


def test_a_process_that_has_gone_costs_its_network(
    hosts: dict[str, FixtureHost], whole: dict[str, dict[Series, Fraction]]
) -> None:
    """It ended after the list of processes was read, as they do: no failure."""
    host = hosts["v2"]
    pid = (host.cgroups / UNITS["v2"] / "cgroup.procs").read_text().split()[0]
    directory, aside = host.root / "proc" / pid, host.root / "aside"
    directory.rename(aside)
    try:
        after = host.collect()
    finally:
        aside.rename(directory)
    case = Case("v2", "", "container_network", "container_network_.*|container_sockstat_.*", keyed=False)
    check(whole["v2"], after, case, set(), some=False)


# Errors that no file of a copy gives: a library in front of the C library's.


@pytest.fixture(scope="session")
def preload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    library = tmp_path_factory.mktemp("preload") / "preload.so"
    command = [
        compiler,
        "-O1",
        "-Wall",
        "-Werror",
        "-shared",
        "-fPIC",
        "-o",
        str(library),
        str(HERE / "preload.c"),
        "-ldl",
    ]
    subprocess.run(command, check=True)
    return library


@pytest.mark.parametrize("call", ["open", "read"])
@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.EIO, "eio"), (errno.ENODEV, "enodev"), (errno.EOPNOTSUPP, "eopnotsupp"), (errno.EACCES, "eacces")],
    ids=str,
)
@pytest.mark.parametrize(
    "case",
    [
        case
        for case in CASES
        if Path(case.file).name in ("memory.stat", "memory.max", "io.pressure") and case.host == "v2"
    ]
    + [case for case in CASES if case.file == "proc/vmstat"],
    ids=lambda case: Path(case.file).name,
)
def test_errors_of_the_kernel(
    case: Case,
    number: int,
    reason: str,
    call: str,
    preload: Path,
    hosts: dict[str, FixtureHost],
    whole: dict[str, dict[Series, Fraction]],
) -> None:
    end = case.file if case.file.startswith("proc/") else f"{UNITS['v2']}/{Path(case.file).name}"
    done = hosts["v2"].run(env={"LD_PRELOAD": str(preload), "FAIL_READS": f"{end}:{number}:{call}"})
    assert (done.returncode, done.stderr) == (0, b"")
    check(whole["v2"], parse(done.stdout), case, {reason}, some=False)


# What keeps an agent from starting.


def refused(*argv: str) -> str:
    """Standard error of a command that must end with 2 and one line."""
    done = subprocess.run(
        [".venv/bin/python" if Path(".venv/bin/python").exists() else "python3", "-m", "pymon", *argv],
        capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "PYMON_LOG_LEVEL": "info"},
    )  # fmt: skip
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.startswith("pymon: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("command", ["agent", "collect"])
def test_roots_that_cannot_be_read(command: str, tmp_path: Path) -> None:
    assert "path.procfs" in refused(command, f"--path.procfs={tmp_path}/nowhere")
    assert "path.cgroupfs" in refused(command, f"--path.cgroupfs={tmp_path}/nowhere")
    assert f"{tmp_path}" in refused(command, f"--path.cgroupfs={tmp_path}")
    (tmp_path / "file").write_text("")
    assert "path.cgroupfs" in refused(command, f"--path.cgroupfs={tmp_path}/file")
    (tmp_path / "cgroup.controllers").write_text("memory\n")
    line = refused(command, f"--path.cgroupfs={tmp_path}", "--source=bpf")
    assert f"source: expected BPF to be usable with bpf, but {tmp_path} is not of a cgroup file system" in line


@pytest.mark.parametrize("command", ["agent", "collect"])
def test_unknown_words(command: str, tmp_path: Path) -> None:
    assert "--nonsense" in refused(command, "--nonsense")
    assert "nope" in refused(command, "--collector.nope")
    config = tmp_path / "pymon.yml"
    config.write_text("nonsense: 1\n")
    line = refused(command, f"--config.file={config}")
    assert "nonsense" in line
    assert str(config) in line
    assert "container.pattern" in refused(command, "--container.pattern=(")
    assert "source" in refused(command, "--source=kstat")
    assert "source" in refused(command, "--source=ebpf")
    assert "kstat.library" in refused(command, "--kstat.library=/lib/libkstat.so.1")

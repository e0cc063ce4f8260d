"""Processes by which the network namespaces of containers can be entered."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pymon.sources.net_process import NetProcess, NetProcesses


@pytest.fixture
def host(tmp_path: Path) -> Path:
    (tmp_path / "group").mkdir()
    process(tmp_path, "1", 1)
    return tmp_path


def process(root: Path, pid: str, ticks: int, namespace: Path | None = None) -> Path:
    folder = root / "proc" / pid
    (folder / "ns").mkdir(parents=True)
    fields = " ".join(["S", *map(str, range(4, 22)), str(ticks), "0"])
    (folder / "stat").write_text(f"{pid} (a) 7 b) {fields}\n")
    if namespace is None:
        (folder / "ns/net").touch()
    else:
        os.link(namespace, folder / "ns/net")
    return folder


def find(root: Path, pids: str) -> NetProcess | None:
    (root / "group/cgroup.procs").write_text(pids)
    return NetProcesses(root / "proc", root).find("/group")


def test_the_first_that_is_there_with_its_start_and_namespace(host: Path) -> None:
    folder = process(host, "12", 4711)
    expected = NetProcess(12, 4711, (folder / "ns/net").stat().st_ino, on_host=False)
    assert find(host, "11\n12\n") == expected


def test_one_on_the_hosts_network_is_told(host: Path) -> None:
    process(host, "12", 4711, host / "proc/1/ns/net")
    found = find(host, "12\n")
    assert found is not None
    assert found.on_host


def test_without_a_process_there_is_none(host: Path) -> None:
    assert find(host, "") is None
    assert find(host, "12\n13\n") is None
    folder = process(host, "14", 1)
    (folder / "stat").write_text("14 (a")
    assert find(host, "14\n") is None
    assert NetProcesses(host / "proc", host).find("/other") is None


@pytest.mark.root
def test_of_a_real_process_it_is_what_the_kernel_says(tmp_path: Path) -> None:
    (tmp_path / "group").mkdir()
    (tmp_path / "group/cgroup.procs").write_text(f"{os.getpid()}\n")
    found = NetProcesses(Path("/proc"), tmp_path).find("/group")
    assert found is not None
    assert found.namespace == Path("/proc/self/ns/net").stat().st_ino
    assert found.start_ticks == int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])

"""A collector succeeds if it read its files without an error."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import pytest

from tests.agent.fixture_host import FixtureHost, copy_host
from tests.agent.test_bad_input import UNITS, failures, preload  # noqa: F401 - a fixture
from tests.oracle import Series, parse


@pytest.fixture
def host(tmp_path: Path) -> FixtureHost:
    return copy_host("v2", tmp_path)


def success(found: Mapping[Series, Fraction]) -> dict[str, int]:
    return {
        dict(labels)["collector"]: int(value)
        for (name, labels), value in found.items()
        if name == "pymon_collector_success"
    }


def scrape_error(found: Mapping[Series, Fraction]) -> int:
    return int(found["container_scrape_error", frozenset()])


def failed(before: Mapping[Series, Fraction], after: Mapping[Series, Fraction]) -> set[str]:
    """Collectors that succeeded before and do not now."""
    then, now = success(before), success(after)
    assert then.keys() == now.keys()
    return {name for name in then if then[name] > now[name]}


def with_errors(host: FixtureHost, library: Path, file: str, number: int, call: str) -> dict[Series, Fraction]:
    done = host.run(env={"LD_PRELOAD": str(library), "FAIL_READS": f"{file}:{number}:{call}"})
    assert (done.returncode, done.stderr) == (0, b"")
    return parse(done.stdout)


@pytest.mark.parametrize("call", ["open", "read"])
@pytest.mark.parametrize(
    ("file", "collectors"),
    [
        ("memory.stat", {"container_memory"}),
        ("io.stat", {"container_io"}),
        ("pids.current", {"container_pids"}),
        ("proc/pressure/io", {"pressure"}),
        ("net/sockstat", {"container_sockstat", "sockstat"}),
    ],
)
def test_a_read_in_time_with_an_error_is_none(
    host: FixtureHost,
    preload: Path,  # noqa: F811
    file: str,
    collectors: set[str],
    call: str,
) -> None:
    whole = host.collect()
    broken = with_errors(host, preload, file, errno.EIO, call)
    assert failed(whole, broken) == collectors
    assert scrape_error(whole) == 0
    # One of the containers has the network of another.
    assert scrape_error(broken) == (file in ("memory.stat", "io.stat", "pids.current"))


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EOPNOTSUPP])
def test_what_the_kernel_does_not_offer_is_no_error(host: FixtureHost, preload: Path, number: int) -> None:  # noqa: F811
    absent = with_errors(host, preload, "io.pressure", number, "open")
    assert not failed(host.collect(), absent)
    assert scrape_error(absent) == 0


def test_all_files_are_cut(host: FixtureHost) -> None:
    whole = host.collect()
    for path in host.cgroups.rglob("memory.stat"):
        path.write_bytes(path.read_bytes()[:-1])
    cut = host.collect()
    assert failed(whole, cut) == {"container_memory"}
    assert scrape_error(cut) == 1
    assert set(failures(cut, "container_memory")) == {"truncated"}
    assert not failures(cut, "container_io")


def test_files_of_a_controller_that_is_not_enabled_cannot_be_there(host: FixtureHost) -> None:
    group = host.cgroups / UNITS["v2"]
    for path in group.glob("hugetlb.*"):
        path.unlink()
    assert failures(host.collect(), "container_hugetlb").keys() == {"enoent"}
    controllers = group / "cgroup.controllers"
    controllers.write_text(controllers.read_text().replace("hugetlb ", ""))
    found = host.collect()
    assert not failures(found, "container_hugetlb")
    assert success(found)["container_hugetlb"] == 1


def test_a_list_of_processes_that_cannot_be_read(host: FixtureHost, preload: Path) -> None:  # noqa: F811
    broken = with_errors(host, preload, "cgroup.procs", errno.EIO, "read")
    assert failed(host.collect(), broken) == {"container_network", "container_process", "container_sockstat"}

"""The fixture hosts: no two values of one host are alike, and what the sources rely on holds."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from tests.fixtures.values import RULES, values

FIXTURES = Path(__file__).parent / "fixtures"
HOSTS = ("hybrid", "v1", "v2")
LEAST_VALUES = 3000
MOST_BYTES = 1_500_000


def files(host: str) -> list[Path]:
    root = FIXTURES / host
    return sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink() and path.suffix != ".md")


def cgroups(host: str, name: str) -> list[Path]:
    return sorted(path.parent for path in (FIXTURES / host / "sys/fs/cgroup").rglob(name))


@pytest.mark.parametrize("host", HOSTS)
def test_every_value_is_unique(host: str) -> None:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in files(host):
        relative = str(path.relative_to(FIXTURES / host))
        for value in values(relative, path.read_text()):
            if float(value.text) >= 10:
                places[value.text].append(relative)
    assert len(places) >= LEAST_VALUES
    assert {number: where for number, where in places.items() if len(where) > 1} == {}


@pytest.mark.parametrize("host", HOSTS)
def test_no_value_is_zero(host: str) -> None:
    small = Counter[str]()
    for path in files(host):
        relative = str(path.relative_to(FIXTURES / host))
        small.update({relative: sum(float(value.text) < 10 for value in values(relative, path.read_text()))})
    assert {path: count for path, count in small.items() if count} == {}


def test_every_rule_excludes_something() -> None:
    def applies(host: str, path: Path, text: str) -> set[int]:
        relative = str(path.relative_to(FIXTURES / host))
        return {number for number, rule in enumerate(RULES) if rule.excludes(relative, text)}

    used: set[int] = set()
    for host in HOSTS:
        for path in files(host):
            used |= applies(host, path, path.read_text())
    assert [rule for number, rule in enumerate(RULES) if number not in used] == []


@pytest.mark.parametrize("host", HOSTS)
def test_usage_is_above_what_is_in_it(host: str) -> None:
    groups = cgroups(host, "memory.stat")
    assert len(groups) >= 5
    for group in groups:
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        inactive = int(stat.get("total_inactive_file", stat["inactive_file"]))
        usage = group / ("memory.current" if host == "v2" else "memory.usage_in_bytes")
        peak = group / ("memory.peak" if host == "v2" else "memory.max_usage_in_bytes")
        if usage.exists():
            assert inactive < int(usage.read_text()) < int(peak.read_text())


@pytest.mark.parametrize("host", HOSTS)
def test_processes_of_the_containers_are_there(host: str) -> None:
    root = FIXTURES / host
    own = (root / "proc/1/ns/net").readlink()
    separate = set()
    for process in root.glob("proc/[0-9]*"):
        link = (process / "ns/net").readlink()
        assert re.fullmatch(r"net:\[\d+\]", str(link))
        assert (process / "net").is_dir() == (link != own)
        if link != own:
            separate.add(link)
    assert len(separate) == 3


@pytest.mark.parametrize("host", HOSTS)
def test_devices_of_io_statistics_can_be_named(host: str) -> None:
    root = FIXTURES / host
    name = "io.stat" if host == "v2" else "blkio.throttle.io_service_bytes"
    numbers = {
        match[0]
        for group in cgroups(host, name)
        for match in re.finditer(r"^\d+:\d+", (group / name).read_text(), re.MULTILINE)
    }
    assert numbers
    for number in numbers:
        assert (root / "sys/dev/block" / number / "uevent").is_file()


def test_the_fixtures_are_small() -> None:
    assert sum(path.stat().st_size for host in HOSTS for path in files(host)) < MOST_BYTES

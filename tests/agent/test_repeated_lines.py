"""No exposition has a series twice, whatever a kernel file repeats."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.agent.fixture_host import HOSTS, FixtureHost, copy_host
from tests.oracle import parse

PLACES = ("proc", "sys/fs/cgroup", "run/udev/data")
LARGEST_BYTES = 1 << 20
EVERYTHING = tuple(
    f"--collector.{name}"
    for name in (
        "container_memory_numa",
        "container_tcp",
        "container_udp",
        "container_advtcp",
        "container_sched",
        "container_file_descriptors",
        "container_ulimits",
        "container_tasks",
    )
)

DOUBLED = {
    "each line": lambda data: b"".join(line * 2 for line in data.splitlines(keepends=True)),
    "all lines": lambda data: data * 2,
    "each line with another end": lambda data: b"".join(
        line + line[:-1] + b" 1\n" for line in data.splitlines(keepends=True) if line.endswith(b"\n")
    ),
}


@pytest.fixture(scope="module", params=HOSTS)
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FixtureHost:
    return copy_host(request.param, tmp_path_factory.mktemp("doubled"))


def files(host: FixtureHost) -> list[Path]:
    return sorted(
        path
        for place in PLACES
        for path in (host.root / place).rglob("*")
        if path.is_file() and not path.is_symlink() and 0 < path.stat().st_size < LARGEST_BYTES
    )


def scraped(host: FixtureHost, changed: dict[Path, bytes]) -> bytes:
    """A collection in a process of its own while files have another content."""
    saved = {path: path.read_bytes() for path in changed}
    try:
        for path, data in changed.items():
            path.write_bytes(data)
        done = host.run(*EVERYTHING)
    finally:
        for path, data in saved.items():
            path.write_bytes(data)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


@pytest.mark.parametrize("how", DOUBLED)
def test_all_files_with_their_lines_doubled(host: FixtureHost, how: str) -> None:
    text = scraped(host, {path: DOUBLED[how](path.read_bytes()) for path in files(host)})
    names = {name for name, _ in parse(text)}  # which fails for a series that is there twice
    assert names >= {"node_network_receive_bytes_total", "node_disk_reads_completed_total"}


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_some_files_with_their_lines_doubled(host: FixtureHost, data: st.DataObject) -> None:
    some = data.draw(st.lists(st.sampled_from(files(host)), min_size=1, max_size=40, unique=True))
    changed = {path: DOUBLED[data.draw(st.sampled_from(sorted(DOUBLED)))](path.read_bytes()) for path in some}
    assert parse(scraped(host, changed))

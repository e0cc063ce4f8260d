"""Threads of containers by state, over files of a made-up host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.native.test_processes import Host, running

NONE = dict.fromkeys(("sleeping", "running", "stopped", "uninterruptible"))
NUMBERS = "1 12 12 34816 -1 4194304 0 0 0 0 1 2 3 4 20 0"
"""Fields 4 to 19 of a stat file."""


def stat(state: str, threads: int = 1, name: str = "sh") -> str:
    return f"12 ({name}) {state} {NUMBERS} {threads} 0 1234 5678 90\n"


def counts(sleeping: int = 0, running: int = 0, stopped: int = 0, uninterruptible: int = 0) -> dict[str, int]:
    return {"sleeping": sleeping, "running": running, "stopped": stopped, "uninterruptible": uninterruptible}


def task(host: Host, pid: int, states: str, name: str = "sh") -> None:
    """A process whose threads have these states."""
    directory = host.process(pid)
    (directory / "stat").write_text(stat(states[0], len(states), name))
    for number, state in enumerate(states):
        thread = directory / "task" / str(pid + number)
        thread.mkdir(parents=True)
        (thread / "stat").write_text(stat(state, len(states), name))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with running(tmp_path, "container_tasks") as host:
        yield host


@pytest.mark.parametrize("row", [None, 0])
def test_states(host: Host, row: int | None) -> None:
    task(host, 10, "S")
    task(host, 20, "RSSDt", name=") R 1 (")
    task(host, 30, "T")
    task(host, 40, "ZIX")
    host.list(10, 20, 30, 40)
    assert host.collect(row=row)["tasks"] == counts(sleeping=3, running=1, stopped=2, uninterruptible=1)
    assert host.failures == {}


def test_no_processes(host: Host) -> None:
    assert host.collect()["tasks"] == counts()


def test_processes_of_groups_below_are_counted_once(host: Host) -> None:
    for pid in (10, 20):
        task(host, pid, "SS")
    host.list(10, 20, group="init")
    host.list(20, group="other")
    assert host.collect()["tasks"] == counts(sleeping=4)


def test_what_has_gone_is_no_failure(host: Host) -> None:
    task(host, 10, "RRR")
    (host.proc / "10/task/11/stat").unlink()
    host.list(10, 99)
    assert host.collect()["tasks"] == counts(running=2)
    host.list(99)
    assert host.collect()["tasks"] == NONE, "processes of other users are hidden"
    assert host.failures == {}


def test_a_process_that_goes_before_its_threads_are_listed(host: Host) -> None:
    (host.process(10) / "stat").write_text(stat("S", 2))
    task(host, 20, "S")
    host.list(10, 20)
    assert host.collect()["tasks"] == counts(sleeping=1)
    assert host.failures == {}


def test_more_threads_than_a_listing_holds(host: Host) -> None:
    task(host, 10, "S" * 3000)
    host.list(10)
    assert host.collect()["tasks"] == counts(sleeping=3000)


@pytest.mark.parametrize("threads", [(4097,), (2000, 2097)])
def test_a_container_of_too_many_threads_takes_no_time_from_others(host: Host, threads: tuple[int, ...]) -> None:
    """What is too many by itself is not listed."""
    pids = range(10_000, 10_000 + len(threads))
    for pid, number in zip(pids, threads, strict=True):
        if number == 2000:
            task(host, pid, "S" * number)
        else:
            (host.process(pid) / "stat").write_text(stat("S", number))
    host.list(*pids)
    assert host.collect()["tasks"] == NONE
    assert host.failures == {"toomany": 1}


def test_too_many_processes_are_not_looked_at(host: Host) -> None:
    host.list(*range(10_000, 14_097))
    assert host.collect()["tasks"] == NONE
    assert host.failures == {"toomany": 1}


def test_as_many_threads_as_are_allowed_are_counted(host: Host) -> None:
    task(host, 10_000, "S" * 4096)
    host.list(10_000)
    assert host.collect()["tasks"] == counts(sleeping=4096)


def test_threads_that_come_while_they_are_counted_are_bounded(host: Host) -> None:
    task(host, 10_000, "S" * 4097)
    (host.proc / "10000/stat").write_text(stat("S", 2))
    host.list(10_000)
    assert host.collect()["tasks"] == NONE
    assert host.failures == {"toomany": 1}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "empty"),
        (stat("S")[:-1], "truncated"),
        ("12 (sh\n", "malformed"),
        ("12 (sh)\n", "malformed"),
        ("12 (sh) S\n", "malformed"),
        ("12 (sh) S 1 2 3\n", "malformed"),
        (f"12 (sh) S {NUMBERS}\n", "malformed"),
        (f"12 (sh) S {NUMBERS} \n", "malformed"),
        (f"12 (sh) S {NUMBERS} -1 0\n", "malformed"),
        (f"12 (sh) S {NUMBERS} 1x 0\n", "malformed"),
        (f"12 (sh) SS {NUMBERS} 1 0\n", "malformed"),
        (f"12 (sh) S {NUMBERS} {10**30} 0\n", "malformed"),
        (")" * 1000 + "\n", "malformed"),
        (" " * 1000 + "\n", "malformed"),
    ],
)
@pytest.mark.parametrize("of_thread", [False, True])
def test_a_malformed_stat(host: Host, content: str, reason: str, *, of_thread: bool) -> None:
    """A count that lacks a process is none."""
    task(host, 10, "SS")
    task(host, 20, "SS")
    (host.proc / ("20/task/21/stat" if of_thread else "20/stat")).write_text(content)
    host.list(10, 20)
    assert host.collect()["tasks"] == NONE
    assert host.failures == {reason: 1}


def test_the_deadline(host: Host) -> None:
    for pid in range(1000, 1300):
        task(host, pid, "S")
    host.list(*range(1000, 1300))
    assert host.collect(deadline=10**6)["tasks"] in (NONE, counts(sleeping=300))
    if host.failures:
        assert set(host.failures) == {"deadline"}
    assert host.collect()["tasks"] == counts(sleeping=300)

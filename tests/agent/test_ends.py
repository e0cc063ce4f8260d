"""Waiting for the ends of containers: real processes, and files in the place of their cgroups."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pymon.agent import ends
from pymon.agent.ends import End, EndWatch, Watched
from pymon.sources.cgroup import Hierarchies
from pymon.sources.exit_status import exit_code
from pymon.sources.last_numbers import LastNumbers, Numbers
from tests.live.world import until

AT = 1234.5


class Tree:
    """A version 2 tree of files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.source = LastNumbers(Hierarchies({}, root, frozenset(("memory",))))
        self.processes: list[subprocess.Popen[bytes]] = []

    def group(self, *processes: subprocess.Popen[bytes], usec: int = 7) -> str:
        """A cgroup with processes."""
        (self.root / "g").mkdir(exist_ok=True)
        self.write(*processes, usec=usec)
        return "/g"

    def write(self, *processes: subprocess.Popen[bytes], usec: int) -> None:
        """Write the files of the cgroup."""
        files = {
            "cpu.stat": f"usage_usec {usec}\nuser_usec {usec - 2}\nsystem_usec 2\nnr_periods 0\n",
            "memory.peak": "4096\n",
            "memory.events": "low 0\noom 1\noom_kill 1\n",
            "cgroup.events": f"populated {int(bool(processes))}\nfrozen 0\n",
            "cgroup.procs": "".join(f"{process.pid}\n" for process in processes),
        }
        for name, text in files.items():
            (self.root / f"g/{name}.new").write_text(text)
            (self.root / f"g/{name}.new").rename(self.root / f"g/{name}")

    def process(self, status: int = 0) -> subprocess.Popen[bytes]:
        """A process that ends with its input."""
        self.processes.append(subprocess.Popen(["sh", "-c", f"read x; exit {status}"], stdin=subprocess.PIPE))
        return self.processes[-1]


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    tree = Tree(tmp_path)
    yield tree
    for process in tree.processes:
        process.kill()
        process.communicate()


@pytest.fixture
def start(tree: Tree) -> Iterator[Callable[[], EndWatch]]:
    watches = []

    def started() -> EndWatch:
        watches.append(EndWatch(tree.source, clock=lambda: AT))
        watches[-1].start()
        return watches[-1]

    yield started
    for watch in watches:
        watch.close()


def numbers(usec: int) -> Numbers:
    return Numbers(usec * 1000, (usec - 2) * 1000, 2000, 4096, 1)


def seen(watched: Watched, usec: int) -> None:
    until(f"{usec} µs are read", lambda: watched.numbers == numbers(usec))


def followed(watched: Watched) -> None:
    until("its process is followed", lambda: watched.pidfd >= 0)


def test_it_is_read_after_its_last_process(tree: Tree, start: Callable[[], EndWatch]) -> None:
    process = tree.process(status=5)
    watch = start()
    watched = watch.add(tree.group(process), young=False)
    followed(watched)
    tree.write(usec=99)
    process.communicate()
    until("its end is noticed", lambda: watched.exact)
    shutil.rmtree(tree.root / "g")
    end = watch.leave(watched)
    assert end._replace(code=None) == End(numbers(99), True, AT, None)
    assert end.code in (5, None)
    until("nothing of it is left", lambda: watched.pidfd == -1)


def test_one_whose_group_is_gone_at_once_has_what_was_read_before(tree: Tree, start: Callable[[], EndWatch]) -> None:
    process = tree.process()
    watch = start()
    watched = watch.add(tree.group(process, usec=50), young=True)
    seen(watched, 50)
    followed(watched)
    shutil.rmtree(tree.root / "g")
    process.communicate()
    until("its end is noticed", lambda: watched.over)
    assert watch.leave(watched)._replace(code=None) == End(numbers(50), False, None, None)


def test_another_process_is_followed_when_the_first_ends(
    tree: Tree, start: Callable[[], EndWatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ends, "AGAIN_SECONDS", (0.01, 0.02))
    first, second = tree.process(), tree.process(status=6)
    watch = start()
    watched = watch.add(tree.group(first, second), young=False)
    followed(watched)
    tree.write(second, usec=20)
    first.communicate()
    seen(watched, 20)
    until("the second is followed", lambda: not watched.over and watched.pidfd >= 0)
    assert not watched.exact
    tree.write(usec=30)
    second.communicate()
    until("its end is noticed", lambda: watched.exact)
    end = watch.leave(watched)
    assert end.numbers == numbers(30)
    assert end.code in (6, None)


def test_one_that_gets_processes_again_has_not_ended(
    tree: Tree, start: Callable[[], EndWatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ends, "IDLE_SECONDS", 0.02)
    first, second = tree.process(), tree.process()
    watch = start()
    watched = watch.add(tree.group(first), young=False)
    followed(watched)
    tree.write(usec=20)
    first.communicate()
    until("its end is noticed", lambda: watched.exact)
    tree.write(second, usec=30)
    until("the second is followed", lambda: not watched.over and watched.pidfd >= 0)
    end = watch.leave(watched)
    assert (end.exact, end.at) == (False, None)


def test_one_that_had_no_process_yet_is_not_over(tree: Tree, start: Callable[[], EndWatch]) -> None:
    watch = start()
    watched = watch.add(tree.group(), young=True)
    seen(watched, 7)
    assert not watched.exact
    process = tree.process()
    tree.write(process, usec=8)
    followed(watched)
    assert watch.leave(watched).code is None


def test_a_number_that_another_process_has_by_now_is_not_followed(
    tree: Tree, start: Callable[[], EndWatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = tree.process()
    path = tree.group(process)
    open_process = os.pidfd_open

    def too_late(pid: int) -> int:
        tree.write(usec=9)
        return open_process(pid)

    monkeypatch.setattr(os, "pidfd_open", too_late)
    watch = start()
    watched = watch.add(path, young=False)
    until("its end is noticed", lambda: watched.exact)
    assert watched.pidfd == -1
    assert watched.numbers == numbers(9)


def test_a_process_that_cannot_be_waited_for_ends_nothing(
    tree: Tree, start: Callable[[], EndWatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = tree.process()
    path = tree.group(process)
    file = tree.root / "file"
    file.touch()
    # epoll(7) takes no plain file.
    monkeypatch.setattr(os, "pidfd_open", lambda _: os.open(file, os.O_RDONLY))
    watch = start()
    first = watch.add(path, young=False)
    seen(first, 7)
    monkeypatch.undo()
    second = watch.add(path, young=False)
    followed(second)
    assert first.pidfd == -1


def test_no_more_processes_are_followed_than_allowed(
    tree: Tree, start: Callable[[], EndWatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ends, "MAX_PROCESSES", 1)
    process = tree.process()
    path = tree.group(process)
    watch = start()
    first = watch.add(path, young=False)
    followed(first)
    second = watch.add(path, young=False)
    seen(second, 7)
    assert second.pidfd == -1
    assert watch.leave(second).exact is False


def test_nothing_is_read_of_what_is_no_number(tree: Tree) -> None:
    path = tree.group()
    (tree.root / "g/cpu.stat").write_bytes(b"usage_usec -1\nuser_usec\nsystem_usec 1e9\n\xff 3")
    (tree.root / "g/memory.peak").write_text("max\n")
    (tree.root / "g/memory.events").unlink()
    assert tree.source.read(path) == Numbers()
    (tree.root / "g/cgroup.procs").write_text("0\n")
    assert tree.source.first_process(path) is None
    assert tree.source.read("/other") == Numbers()
    assert tree.source.first_process("/other") is None


def test_a_process_in_a_group_below_is_followed_too(tree: Tree) -> None:
    path = tree.group()
    for name, procs in (("a.slice", ""), ("init.scope", "77\n78\n"), ("z.slice", "5\n")):
        (tree.root / "g" / name).mkdir()
        (tree.root / "g" / name / "cgroup.procs").write_text(procs)
    assert tree.source.first_process(path) == 77
    (tree.root / "g/cgroup.procs").write_text("12\n")
    assert tree.source.first_process(path) == 12


def test_version_1_has_files_of_its_own(tmp_path: Path) -> None:
    for name in ("cpuacct", "memory"):
        (tmp_path / name / "g").mkdir(parents=True)
    (tmp_path / "cpuacct/g/cpuacct.usage").write_text("123456789\n")
    (tmp_path / "cpuacct/g/cpuacct.stat").write_text("user 3\nsystem 4\n")
    (tmp_path / "memory/g/memory.max_usage_in_bytes").write_text("8192\n")
    (tmp_path / "memory/g/memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    v1 = {name: tmp_path / name for name in ("cpuacct", "memory")}
    found = LastNumbers(Hierarchies(v1, None, frozenset())).read("/g")
    assert found == Numbers(123456789, 30_000_000, 40_000_000, 8192, 2)


@pytest.mark.parametrize(("script", "code"), [("exit 9", 9), ("kill -TERM $$", 143)])
def test_an_exit_code_is_that_of_a_process_that_was_waited_for(script: str, code: int) -> None:
    """None before Linux 6.15."""
    process = subprocess.Popen(["sh", "-c", f"read x; {script}"], stdin=subprocess.PIPE)
    descriptor = os.pidfd_open(process.pid)
    try:
        assert exit_code(descriptor) is None
        process.communicate()
        assert exit_code(descriptor) in (code, None)
    finally:
        os.close(descriptor)


def test_what_is_no_descriptor_of_a_process_has_no_exit_code(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        assert exit_code(file.fileno()) is None

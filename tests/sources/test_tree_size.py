"""What trees of files take, against du(1), and what ends a walk."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pymon.sources import tree_size
from pymon.sources.tree_size import TreeError, measure, of_quota


def du(path: Path) -> int:
    done = subprocess.run(
        ["du", "--summarize", "--one-file-system", "--block-size=1", path], stdout=subprocess.PIPE, check=True
    )
    return int(done.stdout.split()[0])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files, directories, names of the same file, links, a hole, and names that are no text."""
    top = tmp_path / "tree"
    for number in range(30):
        directory = top / f"d{number % 3}" / f"e{number}"
        directory.mkdir(parents=True)
        (directory / "file").write_bytes(bytes(number * 5000))
        os.link(directory / "file", directory / "again")
    (top / "outside").symlink_to("/usr")
    with (top / "hole").open("wb") as file:
        file.truncate(1 << 30)
    (top / os.fsdecode(b"\xff\n")).write_bytes(bytes(70_000))
    os.mkfifo(top / "pipe")
    return top


def test_as_du_counts(tree: Path) -> None:
    found = measure(str(tree))
    assert found["used"] == du(tree)
    file_system = os.statvfs(tree)
    assert found["limit"] == file_system.f_blocks * file_system.f_frsize
    assert found["inodes"] == file_system.f_files
    number = tree.stat().st_dev
    assert found["device"] == f"{os.major(number)}:{os.minor(number)}"


def test_the_program(tree: Path) -> None:
    """It runs without site-packages, and tells of each directory in order."""
    argv = [sys.executable, "-I", "-S", tree_size.__file__, str(tree), str(tree / "hole"), str(tree / "none")]
    argv += [str(tree / "outside"), str(tree)]
    done = subprocess.run(argv, capture_output=True, timeout=60, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (0, b"")
    assert [line.get("error", "") for line in lines] == ["", "enotdir", "enoent", "enotdir", ""]
    assert lines[0]["used"] == lines[-1]["used"] == du(tree)


def test_it_is_idle() -> None:
    code = (
        "import os, subprocess\n"
        "from pymon.sources.tree_size import be_idle\n"
        "be_idle()\n"
        "print(os.nice(0), subprocess.run(['ionice'], capture_output=True, text=True).stdout.strip())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "19 idle", done.stderr


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("ENTRIES_MAX", 20, "toomany"),
        ("LINKED_MAX", 5, "toomany"),
        ("DEPTH_MAX", 2, "depth"),
        ("SECONDS", -1, "deadline"),
    ],
)
def test_bounds(tree: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: int, reason: str) -> None:
    for number in range(300):
        (tree / f"f{number}").touch()
    monkeypatch.setattr(tree_size, name, value)
    before = descriptors()
    with pytest.raises(TreeError, match=reason):
        measure(str(tree))
    assert descriptors() == before


def test_a_tree_deeper_than_a_path_may_be_long(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    directory = os.open(top, os.O_RDONLY)
    try:
        for _ in range(1000):
            os.mkdir("d" * 200, dir_fd=directory)
            child = os.open("d" * 200, os.O_RDONLY, dir_fd=directory)
            os.close(directory)
            directory = child
    finally:
        os.close(directory)
    with pytest.raises(TreeError, match="depth"):
        measure(str(top))
    subprocess.run(["rm", "-rf", top], check=True)


def test_files_that_come_and_go(tree: Path) -> None:
    end = threading.Event()

    def churn() -> None:
        while not end.is_set():
            directory = tree / "come"
            directory.mkdir()
            (directory / "file").write_bytes(bytes(100_000))
            (directory / "file").unlink()
            directory.rmdir()
            directory.symlink_to("/usr")
            directory.unlink()

    thread = threading.Thread(target=churn)
    before = du(tree)
    thread.start()
    try:
        for _ in range(200):
            assert before <= int(measure(str(tree))["used"]) <= before + 1_000_000
    finally:
        end.set()
        thread.join(60)


def quota(*numbers: int) -> bytes:
    return struct.pack("=8QI4x", *numbers, 0, 0, 63)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (quota(1024, 512, 5000, 100, 50, 30), (5000, 1 << 20, 100, 70)),
        (quota(0, 512, 5000, 0, 50, 60), (5000, 512 << 10, 50, 0)),
        (quota(0, 0, 5000, 0, 0, 60), (5000, 0, 0, 0)),
    ],
)
def test_quotas(answer: bytes, expected: tuple[int, ...]) -> None:
    assert of_quota(answer) == expected


def test_a_quota_needs_no_walk(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_size, "project_quota", lambda _: (5000, 1 << 20, 0, 0))
    monkeypatch.delattr(tree_size, "walk")
    found = measure(str(tree))
    file_system = os.statvfs(tree)
    assert (found["used"], found["limit"], found["inodes"]) == (5000, 1 << 20, file_system.f_files)

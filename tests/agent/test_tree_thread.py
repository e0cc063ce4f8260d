"""The thread that follows the cgroup trees, over ordinary directories."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pymon.agent import tree_thread
from pymon.agent.tree_thread import TreeThread
from pymon.sources.tree import CgroupTree, Change, News, Verdict
from tests.live.world import until


def judge(path: str) -> Verdict:
    return Verdict.GROUP if path.rpartition("/")[2].startswith("x") else Verdict.PASS


class Following:
    """A thread on a tree, and what it has told on the loop.

    hold: while it is cleared, the thread hangs. failing: whether a path is an internal error.
    """

    def __init__(self, root: Path) -> None:
        self.told: list[str] = []
        self.threads: set[str] = set()
        self.hold = threading.Event()
        self.hold.set()
        self.hanging = threading.Event()
        self.failing: Callable[[str], bool] = lambda _: False
        self.thread = TreeThread(lambda: CgroupTree([root], self.judge), self.prepare)

    def judge(self, path: str) -> Verdict:
        if not self.hold.is_set():
            self.hanging.set()
            self.hold.wait(30)
        if self.failing(path):
            raise LookupError(path)
        return judge(path)

    def prepare(self, change: Change) -> str:
        self.threads.add(threading.current_thread().name)
        return {News.CAME: "+", News.SPREAD: "~", News.WENT: "-"}[change.news] + change.group.path

    def start(self, apply: Callable[[str], None] | None = None) -> None:
        self.thread.start(asyncio.get_running_loop(), apply or self.told.append)


@pytest.fixture
def following(tmp_path: Path) -> Iterator[Following]:
    made = Following(tmp_path)
    yield made
    made.hold.set()
    made.thread.close()
    until("the thread has ended", lambda: "pymon-tree" not in {thread.name for thread in threading.enumerate()})


async def caught_up(following: Following, seconds: float = 30.0) -> None:
    """Wait as long as a slow machine needs."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        await following.thread.catch_up()
        if time.monotonic() - began < tree_thread.CATCH_UP_SECONDS:
            return
    raise AssertionError("not caught up")


def test_what_happened_before_is_known_after_catching_up(following: Following, tmp_path: Path) -> None:
    async def run() -> None:
        following.start()
        for number in range(20):
            (tmp_path / f"x{number}").mkdir()
            await caught_up(following)
            assert following.told.pop() == f"+/x{number}"
            (tmp_path / f"x{number}").rmdir()
            await caught_up(following)
            assert following.told.pop() == f"-/x{number}"
        assert following.told == []
        assert following.threads == {"pymon-tree"}

    asyncio.run(run())


def test_it_tells_without_being_asked(following: Following, tmp_path: Path) -> None:
    async def run() -> None:
        following.start()
        (tmp_path / "y/z").mkdir(parents=True)
        (tmp_path / "y/z/x").mkdir()
        end = time.monotonic() + 30
        while not following.told:
            assert time.monotonic() < end
            await asyncio.sleep(0.01)
        assert following.told == ["+/y/z/x"]

    asyncio.run(run())


def test_the_loop_goes_on_between_slices(following: Following, tmp_path: Path) -> None:
    """50 changes of 1 ms each are not applied in one iteration of the loop."""
    iterations: set[int] = set()

    async def run() -> None:
        turn = 0

        def apply(change: str) -> None:
            iterations.add(turn)
            following.told.append(change)
            end = time.monotonic() + 0.001
            while time.monotonic() < end:
                pass

        following.hold.clear()
        following.start(apply)
        for number in range(50):
            (tmp_path / f"x{number:02}").mkdir()
        await asyncio.to_thread(following.hanging.wait)
        following.hold.set()
        while len(following.told) < 50:
            turn += 1
            await asyncio.sleep(0)
        assert sorted(following.told) == [f"+/x{number:02}" for number in range(50)]

    asyncio.run(asyncio.wait_for(run(), 60))
    assert len(iterations) >= 10


def test_a_tree_that_hangs_delays_the_loop_for_no_more_than_the_limit(following: Following, tmp_path: Path) -> None:
    async def run() -> None:
        following.hold.clear()
        following.start()
        (tmp_path / "x").mkdir()
        await asyncio.to_thread(following.hanging.wait)
        await asyncio.wait_for(following.thread.catch_up(), 10)
        assert following.told == []
        following.hold.set()
        await caught_up(following)
        assert following.told == ["+/x"]

    asyncio.run(run())


def test_after_the_end_nothing_is_told(following: Following, tmp_path: Path) -> None:
    async def run() -> None:
        following.start()
        following.thread.close()
        (tmp_path / "x").mkdir()
        await following.thread.catch_up()
        await asyncio.sleep(0.05)
        assert following.told == []

    asyncio.run(run())


def test_closed_before_it_started_it_gives_its_descriptor_back(tmp_path: Path) -> None:
    gc.collect()  # what tests before have left
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        Following(tmp_path).thread.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_an_error_in_one_change_does_not_keep_back_the_others(following: Following, tmp_path: Path) -> None:
    errors: list[object] = []

    async def run() -> None:
        def apply(change: str) -> None:
            if change == "+/x1":
                raise ValueError(change)
            following.told.append(change)

        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
        following.hold.clear()
        following.start(apply)
        for number in range(3):
            (tmp_path / f"x{number}").mkdir()
        await asyncio.to_thread(following.hanging.wait)
        following.hold.set()
        await caught_up(following)
        assert sorted(following.told) == ["+/x0", "+/x2"]
        (tmp_path / "x3").mkdir()
        await caught_up(following)
        assert following.told[-1] == "+/x3"

    asyncio.run(run())
    assert [str(error) for error in errors] == ["+/x1"]


async def eventually(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.01)


def test_after_an_internal_error_the_tree_is_walked_anew(
    following: Following, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tree_thread, "RETRY_SECONDS", (0.05, 0.1))
    caplog.set_level(logging.INFO)
    fails = threading.Event()
    fails.set()

    async def run() -> None:
        (tmp_path / "x-stays").mkdir()
        (tmp_path / "x-goes").mkdir()
        following.start()
        await eventually(lambda: len(following.told) == 2, "two came")
        following.told.clear()
        following.failing = lambda path: fails.is_set() and path in {"/", "/y"}
        (tmp_path / "y").mkdir()
        await eventually(lambda: following.thread.errors >= 3, "it tries again")
        assert following.thread.error == "LookupError('/')"
        (tmp_path / "x-goes").rmdir()
        (tmp_path / "y/x-new").mkdir()
        began = time.monotonic()
        await following.thread.catch_up()
        assert time.monotonic() - began < tree_thread.CATCH_UP_SECONDS, "nobody waits for it"
        fails.clear()
        await eventually(lambda: not following.thread.error, "it is followed again")
        await eventually(lambda: len(following.told) == 3, "what differs is told")
        assert following.told == ["-/x-goes", "~/x-stays", "+/y/x-new"]
        (tmp_path / "y/x-late").mkdir()
        await caught_up(following)
        assert following.told[-1] == "+/y/x-late"

    asyncio.run(run())
    lines = [record.getMessage() for record in caplog.records]
    assert lines[:2] == [
        "internal error: pymon-tree: LookupError('/y')",
        "internal error: pymon-tree: LookupError('/')",
    ]
    assert lines[-1] == "control groups are followed again"
    assert not any(record.exc_info for record in caplog.records)


def test_it_ends_while_it_waits_after_an_internal_error(following: Following, tmp_path: Path) -> None:
    async def run() -> None:
        following.start()
        following.failing = lambda _: True
        (tmp_path / "x").mkdir()
        await eventually(lambda: following.thread.error, "it failed")
        following.thread.close()
        await eventually(lambda: "pymon-tree" not in {item.name for item in threading.enumerate()}, "it ends")

    asyncio.run(run())


def test_an_error_while_one_change_is_prepared_does_not_keep_back_the_others(
    following: Following, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        for name in ("x1", "x2", "x3"):
            (tmp_path / name).mkdir()
        prepare = following.prepare

        def prepared(change: Change) -> str:
            if change.group.path == "/x2":
                raise LookupError(change.group.path)
            return prepare(change)

        monkeypatch.setattr(following.thread, "_prepare", prepared)
        following.start()
        await eventually(lambda: len(following.told) == 2, "the others are told")
        assert sorted(following.told) == ["+/x1", "+/x3"]
        assert (following.thread.errors, following.thread.error) == (1, "")

    asyncio.run(run())


def test_after_its_end_it_gives_its_descriptors_back(tmp_path: Path) -> None:
    async def run() -> None:
        following = Following(tmp_path)
        following.start()
        following.thread.close()

    def descriptors() -> int:
        gc.collect()  # the loop and the thread may still refer to each other
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    for _ in range(5):
        asyncio.run(run())
    until("no descriptor is left", lambda: descriptors() == before)

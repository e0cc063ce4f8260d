"""The thread that follows the cgroup trees, over ordinary directories."""

from __future__ import annotations

import asyncio
import gc
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
    """A thread on a tree, and what it has told on the loop. hold: while it is cleared, the thread hangs."""

    def __init__(self, root: Path) -> None:
        self.told: list[str] = []
        self.threads: set[str] = set()
        self.hold = threading.Event()
        self.hold.set()
        self.hanging = threading.Event()
        self.tree = CgroupTree([root], self.judge)
        self.thread = TreeThread(self.tree, self.prepare)

    def judge(self, path: str) -> Verdict:
        if not self.hold.is_set():
            self.hanging.set()
            self.hold.wait(30)
        return judge(path)

    def prepare(self, change: Change) -> str:
        self.threads.add(threading.current_thread().name)
        return ("+" if change.news is News.CAME else "-") + change.group.path

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

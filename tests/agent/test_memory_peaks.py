"""Peaks of memory in windows: whose they are, and what costs a container its numbers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pymon.agent.memory_peaks import MemoryPeakSampler
from pymon.catalogue.peaks import MEMORY_COLUMNS
from pymon.sources.errors import SourceError
from pymon.sources.memory_peaks import MemoryPeaks

SECOND = 10**9


class Watch:
    """Stands for MemoryPeaks, with uses that the test sets by the name of the group."""

    uses: dict[str, list[int | None]]
    errors: dict[str, str]
    open: list[str]
    taking: threading.Event
    may_take: threading.Event

    def __init__(self) -> None:
        self.uses, self.errors, self.open = {}, {}, []
        self.taking, self.may_take = threading.Event(), threading.Event()
        self.may_take.set()

    def __call__(self, group: Path) -> MemoryPeaks:
        if group.name in self.errors:
            raise SourceError(self.errors[group.name], group.name)
        self.open.append(group.name)
        watch = self

        class Peaks(MemoryPeaks):
            def __init__(self) -> None:
                self._descriptors = []

            def take(self) -> list[int | None]:
                watch.taking.set()
                assert watch.may_take.wait(60)
                assert group.name in watch.open, "closed under a reader"
                if group.name not in watch.uses:
                    raise SourceError("enodev", group.name)
                return watch.uses[group.name]

            def close(self) -> None:
                watch.open.remove(group.name)

        return Peaks()


class Rig:
    def __init__(self, most: int = 10) -> None:
        self.now_ns = 1000 * SECOND
        self.watch = Watch()
        self.listed: list[tuple[int, str, float]] = []
        self.sampler = MemoryPeakSampler(
            Path("/cgroup"), lambda: self.listed, lambda: 3, most, watch=self.watch, clock_ns=lambda: self.now_ns
        )

    def sample(self) -> list[dict[str, int | None]]:
        self.sampler._listed = self.listed
        self.sampler.take({})
        table = self.sampler.table
        assert table is not None
        found = [{column: table.get(row, column) for column in MEMORY_COLUMNS} for row in range(len(table))]
        self.now_ns += SECOND
        return found


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_the_highest_of_each_window(rig: Rig) -> None:
    rig.listed = [(1, "/a/web", 1.0)]
    rig.watch.uses["web"] = [100, None]
    assert rig.sample()[1] == dict.fromkeys(MEMORY_COLUMNS), "the first sample begins"
    rig.watch.uses["web"] = [900, 7]
    rig.sample()
    rig.watch.uses["web"] = [2**40 + 1, None]
    assert rig.sample()[1] == {"memory:15": 2**40 + 1, "memory:60": 2**40 + 1, "swap:15": 7, "swap:60": 7}
    rig.watch.uses["web"] = [100, 0]
    for _ in range(15):
        last = rig.sample()
    assert last[1] == {"memory:15": 100, "memory:60": 2**40 + 1, "swap:15": 0, "swap:60": 7}
    for _ in range(60):
        last = rig.sample()
    assert last[1] == {"memory:15": 100, "memory:60": 100, "swap:15": 0, "swap:60": 0}
    assert last[0] == dict.fromkeys(MEMORY_COLUMNS), "nobody's row"


def test_another_container_in_a_row_begins_anew(rig: Rig) -> None:
    rig.listed = [(0, "/web", 1.0)]
    rig.watch.uses |= {"web": [100, 0], "db": [5, 0]}
    for _ in range(2):
        rig.sample()
    rig.listed = [(0, "/db", 2.0)]
    assert rig.sample()[0]["memory:60"] is None
    assert rig.watch.open == ["db"]
    assert rig.sample()[0]["memory:60"] == 5
    rig.sampler.forget(0)
    assert rig.sample()[0]["memory:60"] is None
    rig.listed = []
    rig.sample()
    assert rig.watch.open == []


def test_a_group_that_has_gone_costs_its_numbers(rig: Rig) -> None:
    rig.listed = [(0, "/web", 1.0), (1, "/db", 1.0)]
    rig.watch.uses |= {"web": [100, 0], "db": [5, 0]}
    for _ in range(2):
        rig.sample()
    del rig.watch.uses["web"]
    found = rig.sample()
    assert (found[0]["memory:60"], found[1]["memory:60"]) == (None, 5)
    assert rig.watch.open == ["db"]


@pytest.mark.parametrize(("reason", "counted"), [("enoent", {}), ("eopnotsupp", {}), ("emfile", {"emfile": 1})])
def test_what_cannot_be_opened_is_tried_again_after_a_minute(rig: Rig, reason: str, counted: dict[str, int]) -> None:
    rig.listed = [(0, "/web", 1.0)]
    rig.watch.errors["web"] = reason
    rig.sample()
    assert rig.sampler.failures == counted
    rig.watch.errors.clear()
    rig.watch.uses["web"] = [100, 0]
    for _ in range(59):
        rig.sample()
    assert rig.watch.open == []
    assert rig.sampler.failures == counted
    for _ in range(3):
        last = rig.sample()
    assert last[0]["memory:15"] == 100
    assert rig.sampler.failures == {}


def test_no_more_descriptors_than_may_be() -> None:
    rig = Rig(most=1)
    rig.listed = [(0, "/web", 1.0), (1, "/db", 1.0)]
    rig.watch.uses |= {"web": [100, 0], "db": [5, 0]}
    for _ in range(2):
        last = rig.sample()
    assert (last[0]["memory:15"], last[1]["memory:15"]) == (100, None)
    assert rig.sampler.failures == {"enospc": 1}


@pytest.mark.parametrize("is_taking", [False, True])
async def test_at_the_end_files_are_closed_when_no_sample_uses_them(rig: Rig, is_taking: bool) -> None:
    async def read(*_: object) -> None:
        raise AssertionError("nothing is read of the readers")

    async def until(is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not is_so():  # noqa: ASYNC110  # it is another thread's
                await asyncio.sleep(0.01)

    rig.listed = [(1, "/a/web", 1.0)]
    rig.watch.uses["web"] = [100, None]
    rig.sample()
    if is_taking:
        rig.watch.may_take.clear()
    running = asyncio.create_task(rig.sampler.run(read))
    await until(rig.watch.taking.is_set)
    if not is_taking:
        await until(lambda: not rig.sampler._in_use.locked())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert rig.watch.open == (["web"] if is_taking else [])
    rig.watch.may_take.set()
    await until(lambda: rig.watch.open == [])


def test_a_copy_of_a_kernels_file_is_not_written_to(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as missing:
        MemoryPeaks(tmp_path)
    assert missing.value.reason == "enoent"
    (tmp_path / "memory.peak").write_text("4096\n")
    with pytest.raises(SourceError) as refused:
        MemoryPeaks(tmp_path)
    assert refused.value.reason == "eopnotsupp"
    assert (tmp_path / "memory.peak").read_text() == "4096\n"

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from pymon.agent import addresses as module
from pymon.agent.addresses import AddressSchedule, AddressWatch, Followed
from pymon.sources.addresses import Look

NOBODY, HOST, BARE = Look(None), Look(""), Look("net:[7]")
SET = Look("net:[7]", ("10.0.0.1",))
OTHER = Look("net:[7]", ("10.0.0.2",))


class Containers:
    """What is to be found of containers, by path, and when each was looked at; time passes only here."""

    def __init__(self, **looks: Look) -> None:
        self.looks = {f"/{name}": look for name, look in looks.items()}
        self.at: dict[str, list[float]] = {path: [] for path in self.looks}
        self.now = 1000.0
        self.cost_seconds = 0.0
        self.spent_seconds = 0.0
        self.schedule = AddressSchedule(self, clock=lambda: self.now, cost_clock=lambda: self.spent_seconds)
        self.followed = {path: Followed(path) for path in self.looks}
        for followed in self.followed.values():
            self.schedule.add(followed)

    def look(self, path: str, known: dict[str, Look], /) -> Look:
        self.at[path].append(self.now)
        self.spent_seconds += self.cost_seconds
        return self.looks[path]

    def run(self, seconds: float) -> list[tuple[str, tuple[str, ...]]]:
        """What changed in so much time."""
        changed = []
        end = self.now + seconds
        while (wait := self.schedule.wait_seconds()) is not None and self.now + wait <= end:
            self.now += wait
            changed += [(followed.path, addresses) for followed, addresses in self.schedule.look()]
        self.now = end
        return changed

    def gaps(self, path: str = "/a") -> list[float]:
        """Return the seconds between each two looks at a container."""
        return [later - earlier for earlier, later in zip(self.at[path], self.at[path][1:], strict=False)]


def test_one_that_just_came_is_looked_at_often_and_then_seldom() -> None:
    containers = Containers(a=SET)
    assert containers.run(100) == [("/a", ("10.0.0.1",))]
    assert containers.at["/a"][0] == 1000.0
    assert max(containers.gaps()[:10]) <= 1.5
    assert 5 <= len([at for at in containers.at["/a"] if at < 1010]) <= 15
    assert containers.gaps()[-5:] == [10.0] * 5


def test_addresses_set_after_the_start_are_found_within_two_seconds() -> None:
    for late in (0.05, 0.5, 3.0, 7.0, 9.0, 30.0, 55.0):
        containers = Containers(a=BARE)
        assert containers.run(late) == []
        containers.looks["/a"] = SET
        assert containers.run(2) == [("/a", ("10.0.0.1",))], late


def test_a_namespace_without_an_address_is_waited_for_a_minute() -> None:
    containers = Containers(a=BARE)
    containers.run(200)
    assert max(gap for at, gap in zip(containers.at["/a"], containers.gaps(), strict=False) if at < 1058) <= 1.5
    assert containers.gaps()[-3:] == [10.0] * 3


def test_after_a_change_it_is_looked_at_often_again() -> None:
    containers = Containers(a=SET)
    containers.run(60)
    containers.looks["/a"] = OTHER
    assert containers.run(10) == [("/a", ("10.0.0.2",))]
    found = containers.now
    containers.looks["/a"] = SET
    assert containers.run(2) == [("/a", ("10.0.0.1",))], found


def test_one_on_the_hosts_network_is_looked_at_more_seldom() -> None:
    containers = Containers(a=HOST)
    assert containers.run(200) == []
    assert containers.gaps()[-3:] == [30.0] * 3


def test_addresses_outlive_the_last_process_for_a_moment() -> None:
    containers = Containers(a=SET)
    containers.run(60)
    containers.looks["/a"] = NOBODY
    looks = len(containers.at["/a"])
    while len(containers.at["/a"]) == looks:
        assert containers.run(0.5) == []
    assert containers.run(1.9) == []
    assert containers.run(2) == [("/a", ())]
    containers.looks["/a"] = SET
    assert containers.run(2) == [("/a", ("10.0.0.1",))]


def test_a_process_that_comes_back_in_time_changes_nothing() -> None:
    containers = Containers(a=SET)
    containers.run(60)
    for _ in range(3):
        containers.looks["/a"] = NOBODY
        looks = len(containers.at["/a"])
        while len(containers.at["/a"]) == looks:
            assert containers.run(0.5) == []
        containers.looks["/a"] = SET
        assert containers.run(11) == []


def test_one_that_went_is_not_looked_at() -> None:
    containers = Containers(a=SET, b=SET)
    containers.run(60)
    containers.schedule.remove(containers.followed["/a"])
    looks = len(containers.at["/a"])
    containers.run(60)
    assert len(containers.at["/a"]) == looks
    assert len(containers.at["/b"]) > looks
    containers.schedule.remove(containers.followed["/b"])
    assert containers.schedule.wait_seconds() is None
    assert containers.schedule.look() == []


def test_looks_take_a_bounded_part_of_a_processor() -> None:
    containers = Containers(**{f"c{number}": Look(f"net:[{number}]", ("10.0.0.1",)) for number in range(100)})
    containers.cost_seconds = 0.02
    containers.run(100)
    before = containers.spent_seconds
    containers.run(20_000)
    assert (containers.spent_seconds - before) / 20_000 < 1.1 * module.SHARE
    for path in list(containers.followed)[1:]:
        containers.schedule.remove(containers.followed[path])
    containers.run(1000)
    assert containers.gaps("/c0")[-3:] == [10.0] * 3


def test_the_thread_tells_the_loop_and_ends() -> None:
    async def follow() -> None:
        containers = Containers(a=BARE)
        told: asyncio.Queue[list[tuple[Followed, tuple[str, ...]]]] = asyncio.Queue()
        watch = AddressWatch(containers)
        first = watch.add("/a")
        assert watch.look() == []
        containers.looks["/a"] = SET
        watch.start(asyncio.get_running_loop(), told.put_nowait)
        assert await asyncio.wait_for(told.get(), 20) == [(first, ("10.0.0.1",))]
        second = watch.add("/a")
        assert await asyncio.wait_for(told.get(), 20) == [(second, ("10.0.0.1",))]
        watch.remove(first)
        containers.looks["/a"] = OTHER
        assert await asyncio.wait_for(told.get(), 20) == [(second, ("10.0.0.2",))]
        watch.close()

    asyncio.run(follow())
    deadline = time.monotonic() + 20
    while any(thread.name == "pymon-addresses" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_watch_that_was_never_started_is_closed() -> None:
    watch = AddressWatch(Containers(a=SET))
    watch.add("/a")
    assert [addresses for _, addresses in watch.look()] == [("10.0.0.1",)]
    watch.close()


def test_an_internal_error_at_one_container_leaves_its_addresses_and_those_of_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    containers = Containers(a=SET, b=BARE)
    containers.run(30)
    containers.looks["/b"] = OTHER
    del containers.looks["/a"]
    assert containers.run(60) == [("/b", OTHER.addresses)]
    assert containers.followed["/a"].look == SET
    assert {record.getMessage() for record in caplog.records} == {"internal error: addresses: KeyError('/a')"}
    containers.looks["/a"] = OTHER
    assert containers.run(60) == [("/a", OTHER.addresses)]

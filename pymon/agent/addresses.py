"""Keeping the addresses of containers up to date: which is looked at when, on a thread of its own.

Nothing tells when an address is set in another network namespace. So a container is looked at often while it is young
or has just changed, and seldom afterwards.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Protocol

from pymon.sources.addresses import Look

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

YOUNG_SECONDS = 10.0
"""After its start, and after a change, a container is looked at often for so long."""

BARE_SECONDS = 60.0
"""The same while it has a network namespace without an address, which DHCP may take a while to bring."""

FIRST_SECONDS, OFTEN_SECONDS, SELDOM_SECONDS, HOST_SECONDS = 0.1, 1.5, 10.0, 30.0
"""Time between looks: it grows with the age from the first to the second. The others are for those no longer young; the
last for those on the host's network.
"""

SHARE = 0.01
"""Part of a processor that looks at those no longer young may take; where it is not enough they become more seldom."""

_TOGETHER_SECONDS = 0.05
"""What is due within this time is looked at in one go."""


class Reader(Protocol):
    """Looks at a container; see `pymon.sources.addresses.AddressReader`."""

    def look(self, path: str, known: dict[str, Look], /) -> Look: ...  # noqa: D102


@dataclass(slots=True, eq=False)
class Followed:
    """A container whose addresses are followed. since: when it came or last changed, on the schedule's clock."""

    path: str
    look: Look = field(default=Look(None))
    since: float = 0.0
    cost_seconds: float = 0.0
    missed: bool = False
    gone: bool = False


class AddressSchedule:
    """Decides who is looked at when. For one thread at a time."""

    def __init__(
        self,
        reader: Reader,
        *,
        clock: Callable[[], float] = time.monotonic,
        cost_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._cost_clock = cost_clock
        self._due: list[tuple[float, int, Followed]] = []
        self._serial = itertools.count()
        self._cost_seconds = 0.0

    def add(self, followed: Followed) -> None:
        """Follow one from now on; it is due at once."""
        followed.since = self._clock()
        heapq.heappush(self._due, (followed.since, next(self._serial), followed))

    def remove(self, followed: Followed) -> None:
        """Follow it no longer."""
        followed.gone = True
        self._cost_seconds -= followed.cost_seconds

    def wait_seconds(self) -> float | None:
        """Time until somebody is due, None when there is nobody."""
        while self._due and self._due[0][2].gone:
            heapq.heappop(self._due)
        return max(0.0, self._due[0][0] - self._clock()) if self._due else None

    def look(self) -> list[tuple[Followed, tuple[str, ...]]]:
        """Look at those who are due; those who have other addresses than before, with these."""
        begin = self._clock()
        due: list[Followed] = []
        while self._due and self._due[0][0] <= begin + _TOGETHER_SECONDS:
            _, _, followed = heapq.heappop(self._due)
            if not followed.gone:
                due.append(followed)
        changed = []
        known: dict[str, Look] = {}
        for followed in due:
            before = followed.look.addresses
            self._look_at(followed, known, begin)
            if followed.look.addresses != before:
                changed.append((followed, followed.look.addresses))
            heapq.heappush(self._due, (self._clock() + self._pause(followed, begin), next(self._serial), followed))
        return changed

    def _look_at(self, followed: Followed, known: dict[str, Look], now: float) -> None:
        started = self._cost_clock()
        found = self._reader.look(followed.path, known)
        cost_seconds = self._cost_clock() - started
        self._cost_seconds += cost_seconds - followed.cost_seconds
        followed.cost_seconds = cost_seconds
        # Between the end of a container's last process and that of its group it has not lost its addresses: who is told
        # that it has gone is to know them.
        followed.missed = found.namespace is None and bool(followed.look.addresses) and not followed.missed
        if not followed.missed and found != followed.look:
            followed.look = found
            followed.since = now

    def _pause(self, followed: Followed, now: float) -> float:
        age = now - followed.since
        bare = followed.look.namespace and not followed.look.addresses
        if followed.missed or age < (BARE_SECONDS if bare else YOUNG_SECONDS):
            return min(max(age, FIRST_SECONDS), OFTEN_SECONDS)
        return max(HOST_SECONDS if followed.look.namespace == "" else SELDOM_SECONDS, self._cost_seconds / SHARE)


class AddressWatch:
    """Follows containers: until `start` where it is asked to, then on a thread."""

    def __init__(self, reader: Reader) -> None:
        self._schedule = AddressSchedule(reader)
        self._jobs: SimpleQueue[tuple[Callable[[Followed], None], Followed] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def add(self, path: str) -> Followed:
        """Follow a container by the path of its group."""
        followed = Followed(path)
        self._jobs.put((self._schedule.add, followed))
        return followed

    def remove(self, followed: Followed) -> None:
        """Follow it no longer."""
        self._jobs.put((self._schedule.remove, followed))

    def look(self) -> list[tuple[Followed, tuple[str, ...]]]:
        """Look at those who are due now, before there is a thread: those whose addresses have changed, with these."""
        self._take(wait_seconds=0)
        return self._schedule.look()

    def start(
        self,
        loop: asyncio.AbstractEventLoop,
        changed: Callable[[list[tuple[Followed, tuple[str, ...]]]], None],
    ) -> None:
        """Start the thread; `changed` is called on the loop with what `look` returns."""
        # A daemon: a thread that hangs in the kernel must not hold up the end of the process.
        self._thread = threading.Thread(target=self._run, args=(loop, changed), name="pymon-addresses", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let the thread end after what it is at."""
        self._jobs.put(None)

    def _run(
        self,
        loop: asyncio.AbstractEventLoop,
        changed: Callable[[list[tuple[Followed, tuple[str, ...]]]], None],
    ) -> None:
        while self._take(self._schedule.wait_seconds()):
            found = self._schedule.look()
            if found:
                try:
                    loop.call_soon_threadsafe(changed, found)
                except RuntimeError:
                    break  # the loop has closed

    def _take(self, wait_seconds: float | None) -> bool:
        """Do the jobs that are there or come within the time; False after the end."""
        try:
            job = self._jobs.get(timeout=wait_seconds)
            while job is not None:
                job[0](job[1])
                job = self._jobs.get_nowait()
        except Empty:
            return True
        return False

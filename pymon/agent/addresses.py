"""The schedule by which the IP addresses of containers are read, and the thread that reads them.

The kernel sends no notification when an address changes in another network namespace, so addresses are polled. A
container is polled often after it starts and after its addresses change, and seldom otherwise.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
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
"""A container is polled often for this long after it starts and after each change."""

BARE_SECONDS = 60.0
"""The same, for a container whose network namespace has no address: DHCP may take a while to assign one."""

FIRST_SECONDS, OFTEN_SECONDS, SELDOM_SECONDS, HOST_SECONDS = 0.1, 1.5, 10.0, 30.0
"""Polling intervals. While a container is polled often, its interval grows with the time since the last change, from
`FIRST_SECONDS` to `OFTEN_SECONDS`. Afterwards it is at least `SELDOM_SECONDS`, or `HOST_SECONDS` for a container that
uses the host's network namespace.
"""

MISSED_SECONDS = 2.0
"""How long a container without a process keeps its addresses."""

SHARE = 0.01
"""Fraction of one CPU that the seldom polls may use. If they would use more, their interval grows."""

_log = logging.getLogger(__name__)

_TOGETHER_SECONDS = 0.05
"""Containers that are due within this time of each other are polled in the same pass."""


class Reader(Protocol):
    """Reads the addresses of a container; see `pymon.sources.addresses.AddressReader`."""

    def look(self, path: str, known: dict[str, Look], /) -> Look: ...  # noqa: D102


@dataclass(slots=True, eq=False)
class Followed:
    """A container whose addresses are polled.

    path: of its cgroup. look: the last result. since: when the container was added or last changed, in seconds on the
    schedule's clock. cost_seconds: CPU time of the last poll. missed: the last poll found no process, and its result
    was ignored. missed_since: when the first of such polls was. gone: the container was removed.
    """

    path: str
    look: Look = field(default=Look(None))
    since: float = 0.0
    cost_seconds: float = 0.0
    missed: bool = False
    missed_since: float = math.inf
    gone: bool = False


class AddressSchedule:
    """Decides which container is polled when. Not thread-safe."""

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
        """Start to poll a container. It is due at once."""
        followed.since = self._clock()
        heapq.heappush(self._due, (followed.since, next(self._serial), followed))

    def remove(self, followed: Followed) -> None:
        """Never poll a container again, and no longer count the cost of its polls."""
        followed.gone = True
        self._cost_seconds -= followed.cost_seconds

    def wait_seconds(self) -> float | None:
        """Return the seconds until the next container is due, or None if there are no containers."""
        while self._due and self._due[0][2].gone:
            heapq.heappop(self._due)
        return max(0.0, self._due[0][0] - self._clock()) if self._due else None

    def look(self) -> list[tuple[Followed, tuple[str, ...]]]:
        """Poll the containers that are due. Return those whose addresses changed, each with its new addresses."""
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
        try:
            found = self._reader.look(followed.path, known)
        except Exception as error:  # noqa: BLE001  # it must affect the addresses of one container only
            _log.error("internal error: addresses: %r", error, exc_info=_log.isEnabledFor(logging.DEBUG))
            found = followed.look
        cost_seconds = self._cost_clock() - started
        self._cost_seconds += cost_seconds - followed.cost_seconds
        followed.cost_seconds = cost_seconds
        # No namespace can be read between the exit of a container's last process and the removal of its cgroup. Ignore
        # such results for a while: whoever is told that the container has gone must still know its addresses.
        missing = found.namespace is None and bool(followed.look.addresses)
        followed.missed_since = min(followed.missed_since, now) if missing else math.inf
        followed.missed = missing and now - followed.missed_since < MISSED_SECONDS
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
    """Polls the addresses of containers: before `start` in the caller of `look`, afterwards on a thread."""

    def __init__(self, reader: Reader) -> None:
        self._schedule = AddressSchedule(reader)
        self._jobs: SimpleQueue[tuple[Callable[[Followed], None], Followed] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def add(self, path: str) -> Followed:
        """Start to poll the container with this cgroup path. Return its entry, for `remove`."""
        followed = Followed(path)
        self._jobs.put((self._schedule.add, followed))
        return followed

    def remove(self, followed: Followed) -> None:
        """Have the thread remove a container from the schedule."""
        self._jobs.put((self._schedule.remove, followed))

    def look(self) -> list[tuple[Followed, tuple[str, ...]]]:
        """Poll the containers that are due now. Return those whose addresses changed, each with its new addresses.

        Only to be called before `start`.
        """
        self._take(wait_seconds=0)
        return self._schedule.look()

    def start(
        self,
        loop: asyncio.AbstractEventLoop,
        changed: Callable[[list[tuple[Followed, tuple[str, ...]]]], None],
    ) -> None:
        """Start the thread. `changed` is called on the loop with each result of `look` that is not empty."""
        # A daemon thread: if it hangs in the kernel, it must not keep the process from exiting.
        self._thread = threading.Thread(target=self._run, args=(loop, changed), name="pymon-addresses", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Tell the thread to end after its current pass. Does not wait for it."""
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
        """Run the queued jobs, after waiting up to `wait_seconds` for the first. Return False after `close`."""
        try:
            job = self._jobs.get(timeout=wait_seconds)
            while job is not None:
                job[0](job[1])
                job = self._jobs.get_nowait()
        except Empty:
            return True
        return False

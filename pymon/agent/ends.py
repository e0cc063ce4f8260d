"""Reads the last numbers of containers at their end, on a thread.

A descriptor of the container's first process says when it ends. The runtime removes the cgroup soon after, so a new
container is also read a few times in its first seconds: what was read last counts if the end is noticed too late. A
container that goes on costs nothing.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import resource
import select
import threading
import time
import weakref
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from pymon.sources.exit_status import exit_code
from pymon.sources.last_numbers import Numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymon.sources.last_numbers import LastNumbers

YOUNG_SECONDS = (0.0, 0.02, 0.1, 0.4, 1.0)
"""Delays before each reading of a new container."""

AGAIN_SECONDS = (0.05, 30.0)
"""Shortest and longest delay before the next look for a process to follow, after one has ended and others run on."""

IDLE_SECONDS = 30.0
"""Interval at which a container without a process is looked at."""

MAX_PROCESSES = 4096
DESCRIPTOR_SHARE = 0.125
"""Most processes that are followed, also as a share of the descriptors that this process may have. The ends of other
containers are noticed when their cgroups are removed."""

_BUSY_SECONDS, _PAUSE_SECONDS = 0.002, 0.002


class End(NamedTuple):
    """How a container has ended.

    numbers: read last. exact: whether that was after the last process was gone. at: when the end was noticed, in
    seconds since the epoch, None if it was not. code: exit code of the first process, None if it is not known.
    """

    numbers: Numbers
    exact: bool
    at: float | None
    code: int | None


@dataclass(slots=True, eq=False)
class Watched:
    """A container whose end is waited for.

    numbers, exact, at: as in `End`. pidfd: descriptor of the process that is followed, -1 without one. had: whether it
    ever had a process. over: whether the process that is followed has ended. looks: number of looks so far. waits:
    whether another one is due. delay: before the next look for another process. left: whether it was forgotten.
    """

    path: str
    young: bool
    numbers: Numbers = field(default_factory=Numbers)
    exact: bool = False
    at: float | None = None
    pidfd: int = -1
    had: bool = False
    over: bool = False
    looks: int = 0
    waits: bool = False
    delay: float = AGAIN_SECONDS[0]
    left: bool = False


class EndWatch:
    """Waits for the ends of containers, from `start` to `close`."""

    def __init__(self, source: LastNumbers, *, clock: Callable[[], float] = time.time) -> None:
        """clock: seconds since the epoch."""
        self._source = source
        self._clock = clock
        self._lock = threading.Lock()
        self._news: deque[Watched] = deque()
        self._due: list[tuple[float, int, Watched]] = []
        self._numbers = count()
        self._followed: dict[int, Watched] = {}
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = min(MAX_PROCESSES, int(soft * DESCRIPTOR_SHARE))
        self._closing = False
        self._wake_descriptor: int | None = None

    def start(self) -> None:
        """Start the thread that waits for the ends. It is a daemon thread, and runs until `close`."""
        self._wake_descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # The callers and the thread use it until both have let go of this object.
        weakref.finalize(self, os.close, self._wake_descriptor).atexit = False
        # A daemon thread: if it hangs in the kernel, it must not keep the process from exiting.
        threading.Thread(target=self._run, name="pymon-ends", daemon=True).start()

    def add(self, path: str, *, young: bool) -> Watched:
        """Wait for the end of the container of a cgroup. young: it has just come."""
        watched = Watched(path, young)
        self._news.append(watched)
        self._wake()
        return watched

    def leave(self, watched: Watched) -> End:
        """Return how a container has ended whose cgroup was removed. It is forgotten."""
        with self._lock:
            watched.left = True
            code = exit_code(watched.pidfd) if watched.pidfd >= 0 else None
            end = End(watched.numbers, watched.exact, watched.at, code)
        self._news.append(watched)
        self._wake()
        return end

    def close(self) -> None:
        """Tell the thread to end. Does not wait for it."""
        self._closing = True
        self._wake()

    def _wake(self) -> None:
        if self._wake_descriptor is not None:
            with contextlib.suppress(BlockingIOError):  # it is awake
                os.eventfd_write(self._wake_descriptor, 1)

    # On the thread.

    def _run(self) -> None:
        poll = select.epoll()
        wake = self._wake_descriptor
        if wake is None:
            raise AssertionError
        poll.register(wake, select.EPOLLIN)
        try:
            while not self._closing:
                seconds = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
                ready = poll.poll(seconds)
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(wake)
                began = time.monotonic()
                for descriptor, _ in ready:
                    if descriptor in self._followed:
                        self._ended(poll, self._followed[descriptor])
                self._take_news(poll)
                while self._due and self._due[0][0] <= time.monotonic() and not self._closing:
                    self._look(poll, heapq.heappop(self._due)[2])
                    if time.monotonic() - began > _BUSY_SECONDS:
                        time.sleep(_PAUSE_SECONDS)  # Python runs one thread at a time
                        break
        finally:
            for watched in list(self._followed.values()):
                self._unfollow(poll, watched)
            poll.close()

    def _take_news(self, poll: select.epoll) -> None:
        while self._news:
            watched = self._news.popleft()
            if watched.left:
                self._unfollow(poll, watched)
            else:
                self._look_in(watched, YOUNG_SECONDS[0])

    def _look_in(self, watched: Watched, seconds: float) -> None:
        if not watched.waits:
            watched.waits = True
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._numbers), watched))

    def _look(self, poll: select.epoll, watched: Watched) -> None:
        """Read a container that is new or that has no process which is followed, and follow its first process."""
        watched.waits = False
        if watched.left:
            return
        if watched.pidfd < 0 or watched.over:
            self._follow(poll, watched)
        alone = watched.pidfd < 0 or watched.over
        if watched.young or alone:
            self._read(watched)
        watched.looks += 1
        watched.young &= watched.looks < len(YOUNG_SECONDS)
        if watched.young:
            self._look_in(watched, YOUNG_SECONDS[watched.looks])
        elif alone:
            self._look_in(watched, IDLE_SECONDS)

    def _read(self, watched: Watched) -> None:
        """Read the numbers of a container. They are exact if it has had processes and had none before that."""
        over = watched.had and not self._source.populated(watched.path)
        numbers = self._source.read(watched.path)
        if numbers == Numbers():
            return  # the cgroup is gone
        with self._lock:
            watched.numbers = numbers.most(watched.numbers)
            watched.at = (watched.at or self._clock()) if over else None
            watched.exact = over

    def _follow(self, poll: select.epoll, watched: Watched) -> None:
        """Follow the first process of a container, if it has one, instead of one that has ended."""
        pid = self._source.first_process(watched.path)
        if pid is None:
            watched.had |= self._source.populated(watched.path)
            return
        watched.had = True
        self._unfollow(poll, watched)
        with self._lock:
            watched.exact, watched.at = False, None  # it has not ended, or has come back to life
        if len(self._followed) >= self._most:
            return
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:  # it has ended, or there is no descriptor left
            return
        if self._source.first_process(watched.path) != pid:  # it has ended, and its number may be another's by now
            os.close(pidfd)
            return
        try:
            poll.register(pidfd, select.EPOLLIN)
        except OSError:  # the kernel has no more room for what is waited for
            os.close(pidfd)
            return
        self._followed[pidfd] = watched
        with self._lock:
            watched.pidfd = pidfd

    def _unfollow(self, poll: select.epoll, watched: Watched) -> None:
        if watched.pidfd < 0:
            return
        del self._followed[watched.pidfd]
        if not watched.over:
            poll.unregister(watched.pidfd)
        with self._lock:
            os.close(watched.pidfd)
            watched.pidfd, watched.over = -1, False

    def _ended(self, poll: select.epoll, watched: Watched) -> None:
        """Read a container whose followed process has ended. If others run on, follow one of them a little later."""
        poll.unregister(watched.pidfd)
        watched.over = True  # its descriptor stays open for the exit code
        self._read(watched)
        if self._source.populated(watched.path):
            self._unfollow(poll, watched)
            self._look_in(watched, watched.delay)
            watched.delay = min(2 * watched.delay, AGAIN_SECONDS[1])
        else:
            self._look_in(watched, IDLE_SECONDS)

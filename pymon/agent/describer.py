"""Threads that read the files in which runtimes describe containers, so that a hung file system delays no other reads.

An origin is a runtime, or a runtime and a user if it is rootless. Reads of one origin run one after the other. A read
that takes longer than its deadline is overdue: another thread then continues with the origin's queue. The number of
threads is limited for each origin, and for all users together. At the limit, the queue waits until an overdue read
ends. A thread cannot be stopped, so an overdue read keeps its thread until the kernel answers. A thread of the system's
runtimes waits a while for the next read, because to start one takes longer than many reads.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_T = TypeVar("_T")

DEADLINE_SECONDS = 1.0
"""A read that takes longer than this is overdue."""

ORIGIN_THREADS = 3
"""Most threads for one origin. Its containers are still described while all but one of them hang."""

USER_THREADS = 16
"""Most threads for all rootless users together, because any user can make a home directory hang."""


LINGER_SECONDS = 1.0
"""How long a thread of one of the system's runtimes waits for the next read."""


class Origin(NamedTuple):
    """The runtime whose files describe a container. uid: the user who runs it rootless, None for the system's."""

    runtime: str
    uid: int | None


@dataclass(slots=True, eq=False)
class Job:
    """A submitted read.

    begun: when it started, on the clock of time.monotonic(), 0 before. Set when the read ends: late: True if it was
    overdue; cpu_seconds: CPU time that it took.
    """

    origin: Origin
    read: Callable[[], Any]
    done: Callable[[Job, Any], None]
    begun: float = 0.0
    late: bool = False
    cpu_seconds: float = 0.0
    cancelled: bool = False


@dataclass(slots=True, eq=False)
class _Queue:
    """The jobs of one origin, in order.

    wake: tells the thread that waits of a job. threads: how many threads it has, including those that hang. idle: the
    last job of the thread that waits, None if none does. given: the job that it was told of, until it takes it.
    """

    wake: threading.Condition
    waiting: dict[Job, None] = field(default_factory=dict)
    running: dict[Job, None] = field(default_factory=dict)
    threads: int = 0
    idle: Job | None = None
    given: Job | None = None


class Describer:
    """Runs reads on threads and passes their results to callbacks: in `wait` before `start`, afterwards on the loop."""

    def __init__(self, *, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        self._deadline_seconds = deadline_seconds
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._queues: dict[Origin, _Queue] = {}
        self._ended: deque[tuple[Job, Any]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told = False  # that `hand_on` is to be called

    @property
    def overdue(self) -> int:
        """Number of running reads that have taken longer than the deadline."""
        with self._changed:
            now = time.monotonic()
            return sum(self._is_overdue(job, now) for queue in self._queues.values() for job in queue.running)

    def submit(self, origin: Origin, read: Callable[[], _T], done: Callable[[Job, _T], None]) -> Job:
        """Queue a read. Return its job, for `cancel`.

        `read` is called on a thread and must not raise. `done` is called with its result on the loop, or in `wait`.
        """
        job = Job(origin, read, done)
        with self._changed:
            if origin not in self._queues:
                self._queues[origin] = _Queue(threading.Condition(self._lock))
            self._queues[origin].waiting[job] = None
            self._start_threads()
        return job

    def cancel(self, job: Job) -> None:
        """Cancel a job: its `done` is not called. A read that is running goes on."""
        with self._changed:
            job.cancelled = True
            queue = self._queues.get(job.origin)
            if queue is not None:
                queue.waiting.pop(job, None)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Pass results to callbacks on this loop from now on. The caller must call `check` regularly."""
        with self._changed:
            self._loop = loop
        self.hand_on()

    def check(self) -> None:
        """Start threads for jobs that wait behind overdue reads, within the limits."""
        with self._changed:
            self._start_threads()

    def wait(self, seconds: float) -> None:
        """Pass results to callbacks until only overdue reads are running, or for at most `seconds`."""
        end = time.monotonic() + seconds
        while True:
            self.hand_on()
            with self._changed:
                self._start_threads()
                now = time.monotonic()
                if self._ended:
                    continue
                begun = [
                    job.begun
                    for queue in self._queues.values()
                    for job in queue.running
                    if not self._is_overdue(job, now)
                ]
                if not begun or now >= end:
                    return
                self._changed.wait(max(0.001, min(end, min(begun) + self._deadline_seconds) - now))

    def hand_on(self) -> None:
        """Call `done` for each read that has ended."""
        self._told = False
        while self._ended:
            job, result = self._ended.popleft()
            if not job.cancelled:
                job.done(job, result)

    def close(self) -> None:
        """Drop queued jobs and results. Threads end after their current read; this does not wait for them."""
        with self._changed:
            self._loop = None
            self._ended.clear()
            for queue in self._queues.values():
                queue.waiting.clear()

    def is_overdue(self, job: Job) -> bool:
        """Return whether a job whose `done` has not been called has run for longer than the deadline."""
        return job.begun > 0 and self._is_overdue(job, time.monotonic())

    def _is_overdue(self, job: Job, now: float) -> bool:
        return now - job.begun > self._deadline_seconds

    # The following methods need the lock held.

    def _start_threads(self) -> None:
        now = time.monotonic()
        of_users = sum(queue.threads for origin, queue in self._queues.items() if origin.uid is not None)
        for origin, queue in self._queues.items():
            if not queue.waiting or any(not self._is_overdue(job, now) for job in queue.running):
                continue
            if queue.idle is not None and queue.given is None:
                queue.idle, queue.given = None, self._next(queue, now)
                queue.wake.notify()
                continue
            if queue.threads >= ORIGIN_THREADS:
                continue
            if origin.uid is not None:
                if of_users >= USER_THREADS:
                    continue
                of_users += 1
            queue.threads += 1
            self._begin(queue, now)

    def _begin(self, queue: _Queue, now: float) -> None:
        job = self._next(queue, now)
        name = f"pymon-{job.origin.runtime}"
        # A daemon thread: if it hangs in the kernel, it must not keep the process from exiting.
        threading.Thread(target=self._run, args=(queue, job), name=name, daemon=True).start()

    @staticmethod
    def _next(queue: _Queue, now: float) -> Job:
        job = next(iter(queue.waiting))
        del queue.waiting[job]
        job.begun = now
        queue.running[job] = None
        return job

    def _end(self, queue: _Queue, job: Job, result: object) -> Job | None:
        """Record that a job has ended. Return the next job for its thread, or None if the thread should end."""
        now = time.monotonic()
        job.late = self._is_overdue(job, now)
        del queue.running[job]
        self._ended.append((job, result))
        self._changed.notify_all()
        if self._loop is not None and not self._told:
            self._told = True
            try:
                self._loop.call_soon_threadsafe(self.hand_on)
            except RuntimeError:
                self._loop = None  # the loop has closed
        if queue.waiting and not any(not self._is_overdue(other, now) for other in queue.running):
            return self._next(queue, now)
        if job.origin.uid is None and not queue.waiting and queue.idle is None:
            queue.idle = job
            queue.wake.wait(LINGER_SECONDS)
            if queue.idle is not job:
                given, queue.given = queue.given, None
                return given
            queue.idle = None
        queue.threads -= 1
        if not queue.threads and not queue.waiting:
            self._queues.pop(job.origin, None)
        self._start_threads()
        return None

    # On a worker thread.

    def _run(self, queue: _Queue, job: Job | None) -> None:
        while job is not None:
            began = time.thread_time()
            result = job.read()
            job.cpu_seconds = time.thread_time() - began
            with self._changed:
                job = self._end(queue, job, result)

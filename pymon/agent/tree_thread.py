"""The thread that follows the cgroup trees, so that foreign cgroups cost the event loop nothing.

It works in batches and pauses after each, because Python runs one thread at a time. The loop gets only the changes of
containers, and applies them in slices. After an internal error the trees are walked anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from pymon.sources.tree import differences

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pymon.sources.tree import CgroupTree, Change

CATCH_UP_SECONDS = 0.1
"""The longest that `TreeThread.catch_up` waits."""

SLICE_SECONDS = 0.002
"""After this long, the loop puts off the rest of the changes to its next iteration."""

RETRY_SECONDS = (1.0, 60.0)
"""Shortest and longest time between an internal error and the next walk through the trees."""

_log = logging.getLogger(__name__)

_BATCH = 64
_BUSY_SECONDS = 0.001
_PAUSE_SHARE = 0.5
_MAX_READY = 4096
_FULL_PAUSE_SECONDS = 0.01

_T = TypeVar("_T")


class TreeThread(Generic[_T]):
    """Follows a tree on a thread and passes its changes to a callback on the loop.

    tree: what is followed now. error: the internal error because of which it is not followed, "" if it is. errors: how
    many there were.
    """

    def __init__(self, make: Callable[[], CgroupTree], prepare: Callable[[Change], _T]) -> None:
        """make: returns the tree, here and after each error, then on the thread.

        prepare: called on the thread with each change; its result is passed on. Raises what `make` raises.
        """
        self._make = make
        self.tree = make()
        self.error = ""
        self.errors = 0
        self._prepare = prepare
        self._ready: deque[_T | asyncio.Future[None]] = deque()
        self._asked: deque[asyncio.Future[None]] = deque()
        self._handing_on = False
        self._closing = False
        self._busy = True
        self._events = self._poll()
        self._wake_descriptor: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._apply: Callable[[_T], None] | None = None

    def start(self, loop: asyncio.AbstractEventLoop, apply: Callable[[_T], None]) -> None:
        """Start the thread. `apply` is called on the loop with what `prepare` has returned, in order."""
        self._loop, self._apply = loop, apply
        self._wake_descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # The loop and the thread use it until both have let go of this object.
        weakref.finalize(self, os.close, self._wake_descriptor).atexit = False
        # A daemon thread: if it hangs in the kernel, it must not keep the process from exiting.
        threading.Thread(target=self._run, name="pymon-tree", daemon=True).start()

    async def catch_up(self) -> None:
        """Wait until the changes that happened before are applied, for at most `CATCH_UP_SECONDS`.

        Directories that cannot be watched are not waited for, nor is a tree that is not followed.
        """
        if self._loop is None or self._closing or self.error or self._is_idle:
            return
        future: asyncio.Future[None] = self._loop.create_future()
        self._asked.append(future)
        self._wake()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CATCH_UP_SECONDS):
                await future

    @property
    def _is_idle(self) -> bool:
        """Whether all that has happened is applied. The thread is busy before it takes the events of the kernel."""
        return not (self._events.poll(0) or self._busy or self._ready or self.tree.lingering)

    def close(self) -> None:
        """Tell the thread to end and close the tree. Does not wait for it."""
        if self._closing:
            return
        self._closing = True
        if self._wake_descriptor is None:
            self.tree.close()
        else:
            self._wake()

    def _wake(self) -> None:
        if self._wake_descriptor is not None:
            with contextlib.suppress(BlockingIOError):  # it is awake
                os.eventfd_write(self._wake_descriptor, 1)

    # On the loop.

    def _told(self) -> None:
        if not self._handing_on:
            self._handing_on = True
            self._hand_on()

    def _hand_on(self) -> None:
        end = time.monotonic() + SLICE_SECONDS
        try:
            while self._ready and not self._closing and time.monotonic() <= end:
                item = self._ready.popleft()
                if isinstance(item, asyncio.Future):
                    if not item.done():
                        item.set_result(None)
                elif self._apply is not None:
                    self._apply(item)
        finally:  # also after an error, or no later change would be applied
            self._handing_on = bool(self._ready) and not self._closing
            if self._handing_on and self._loop is not None:
                self._loop.call_soon(self._hand_on)

    # On the thread.

    def _run(self) -> None:
        shortest, longest = RETRY_SECONDS
        delay = shortest
        while not self._closing:
            began = time.monotonic()
            try:
                if self.error:
                    self._walk_anew()
                self._follow()
            except Exception as error:  # noqa: BLE001 - without this thread no container comes or goes
                self.error = repr(error)
                self._count(error)
                if time.monotonic() - began > longest:
                    delay = shortest
                self._pause(delay)
                delay = min(2 * delay, longest)
        self.tree.close()

    def _follow(self) -> None:
        """Handle what happens until the end. Raises whatever goes wrong."""
        events = self._poll(self._wake_descriptor)
        while not self._closing:
            seconds = self.tree.wait_seconds()
            self._busy = False
            events.poll(None if seconds is None else seconds * 1000)
            self._busy = True
            if self._wake_descriptor is not None:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wake_descriptor)
            self._turn()

    def _walk_anew(self) -> None:
        """Replace the tree by one that has just been walked, and pass on what differs."""
        before = self.tree
        before.close()
        tree = self._make()
        tree.take()
        changes = [*before.take(), *differences(before.groups, tree.groups)]
        self.tree = tree
        self._events = self._poll()
        self._hand_over(changes)
        self._turn()
        self.error = ""
        _log.info("control groups are followed again")

    def _count(self, error: Exception) -> None:
        self.errors += 1
        _log.error("internal error: pymon-tree: %r", error, exc_info=_log.isEnabledFor(logging.DEBUG))

    def _pause(self, seconds: float) -> None:
        """Wait, until `close` at most."""
        end = time.monotonic() + seconds
        woken = select.poll()
        if self._wake_descriptor is not None:
            woken.register(self._wake_descriptor, select.POLLIN)
        while not self._closing and (left := end - time.monotonic()) > 0:
            woken.poll(left * 1000)
            if self._wake_descriptor is not None:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wake_descriptor)

    def _poll(self, *more: int | None) -> select.poll:
        """Return what waits for the tree's events, and for more descriptors."""
        events = select.poll()
        for descriptor in (self.tree.fileno(), *more):
            if descriptor is not None:
                events.register(descriptor, select.POLLIN)
        return events

    def _turn(self) -> None:
        """Handle what has happened, and do a part of what is due."""
        asked = [self._asked.popleft() for _ in range(len(self._asked))]
        began = time.monotonic()
        while self.tree.follow(_BATCH) and not self._closing:
            self._hand_over(self.tree.take())
            began = _paused(began)
        if asked or self.tree.lingering_is_due:
            self.tree.look_for_lingering()
        self._hand_over(self.tree.take(), asked)
        began = time.monotonic()
        self.tree.look_again(_BATCH)
        self._hand_over(self.tree.take())
        _paused(began)

    def _hand_over(self, changes: Iterable[Change], asked: Iterable[asyncio.Future[None]] = ()) -> None:
        """Give the loop changes, and after them those who have asked for them."""
        items: list[_T | asyncio.Future[None]] = []
        for change in changes:
            try:
                items.append(self._prepare(change))
            except Exception as error:  # noqa: BLE001 - it must not keep back the others
                self._count(error)
        items += asked
        if not items or self._loop is None:
            return
        self._ready.extend(items)
        try:
            self._loop.call_soon_threadsafe(self._told)
        except RuntimeError:  # the loop has closed
            self._closing = True
        while len(self._ready) > _MAX_READY and not self._closing:
            time.sleep(_FULL_PAUSE_SECONDS)


def _paused(began: float) -> float:
    """Sleep for a share of the time since `began`, if that was long enough to delay other threads. Return the time."""
    busy = time.monotonic() - began
    if busy > _BUSY_SECONDS:
        time.sleep(busy * _PAUSE_SHARE)
    return time.monotonic()

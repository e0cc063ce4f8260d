"""Calls statfs(2) with a timeout. statfs can hang, for example on a network file system whose server is down.

The calls run in helper threads. When a helper hangs in a call, another helper takes over the queue. A hanging mount
delays one collection by the timeout. Later collections skip it until the call has returned. A file system has at most
one call at a time, so a thousand mounts of one dead file system hold one thread. Helpers exit when the queue is empty,
so between collections only hanging helpers exist.
"""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from time import monotonic

Answer = os.statvfs_result | OSError

_HANDOVER_SECONDS = 0.05


class _Errand:
    """A job of a helper: the paths of one file system, and the answers so far."""

    def __init__(self, key: str, paths: Iterable[str]) -> None:
        self.key = key
        self.paths = tuple(paths)
        self.answers: dict[str, Answer] = {}
        self.done = False
        self.abandoned = False


class StatfsProbe:
    """Calls statfs for many mount points in parallel. `probe` is not safe for concurrent use."""

    def __init__(
        self,
        statvfs: Callable[[str], os.statvfs_result] = os.statvfs,
        timeout_seconds: float = 5.0,
        helpers_max: int = 32,
    ) -> None:
        self._statvfs = statvfs
        self._timeout_seconds = timeout_seconds
        self._helpers_max = helpers_max
        self._helpers = 0
        self._queue: deque[_Errand] = deque()
        self._stuck: set[str] = set()
        self._changed = threading.Condition()

    def probe(self, paths: Mapping[str, Iterable[str]], seconds: float = math.inf) -> dict[str, Answer]:
        """Return the answers by path, within the timeout and `seconds`. A path whose call hangs has no answer.

        paths: lists of paths by file system. The key is any string that all mounts of a file system share.
        """
        deadline = monotonic() + min(self._timeout_seconds, seconds)
        with self._changed:
            errands = [_Errand(key, paths[key]) for key in paths if key not in self._stuck]
            self._queue.extend(errands)
            if errands and not self._start_helper():
                self._queue.clear()
                return {}
            progress = -1
            while not all(errand.done for errand in errands) and (left := deadline - monotonic()) > 0:
                before, progress = progress, sum(len(errand.answers) for errand in errands)
                if progress == before and self._queue:
                    self._start_helper()
                self._changed.wait(min(left, _HANDOVER_SECONDS) if self._queue else left)
            self._queue.clear()
            for errand in errands:
                errand.abandoned = True
            return {path: answer for errand in errands for path, answer in errand.answers.items()}

    def _start_helper(self) -> bool:
        if self._helpers >= self._helpers_max:
            return False
        self._helpers += 1
        threading.Thread(target=self._help, name="statfs", daemon=True).start()
        return True

    def _help(self) -> None:
        with self._changed:
            while self._queue:
                errand = self._queue.popleft()
                self._stuck.add(errand.key)
                for path in errand.paths:
                    if errand.abandoned:
                        break
                    self._changed.release()
                    try:
                        answer: Answer = self._statvfs(path)
                    except OSError as error:
                        answer = error
                    finally:
                        self._changed.acquire()
                    errand.answers[path] = answer
                errand.done = True
                self._stuck.discard(errand.key)
                if not self._queue:
                    self._changed.notify_all()
            self._helpers -= 1

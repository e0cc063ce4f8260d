"""Memory that the worker processes of a proxy have in common, so that their limits are those of one proxy.

Each account and each node has a number, which the parent process assigns. Under it are times, which every worker reads
and writes, and counts of requests in progress, of which a worker writes its own and reads the others'. A count is
written before the others are read, so that two workers never both take the last place. There are no locks, so no
worker can stop the others. If two workers take a token of one bucket within the same microsecond, one of the two is not
counted. The counts of a worker that died are set to zero by the parent.
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

ACCOUNTS: Final = 1 << 18
NODES: Final = 1 << 16
"""Limits of the numbers. Only pages that are used take memory."""

_DOUBLE, _INT = 8, 4
_VALUES = 4


class Numbers:
    """Assigns numbers below `bound` to keys. The number of a key that is gone is used again as late as possible."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._next = 0
        self._free: deque[int] = deque()
        self.by_key: dict[object, int] = {}

    def keep(self, keys: Iterable[object]) -> list[int]:
        """Assign numbers to these keys and to no others. Return the numbers that were assigned now.

        Keys above the bound have no number.
        """
        wanted = dict.fromkeys(keys)
        for key in [key for key in self.by_key if key not in wanted]:
            self._free.append(self.by_key.pop(key))
        new = []
        for key in wanted:
            if key in self.by_key:
                continue
            if self._next < self._bound:
                number, self._next = self._next, self._next + 1
            elif self._free:
                number = self._free.popleft()
            else:
                break
            self.by_key[key] = number
            new.append(number)
        return new


class Cells:
    """The memory. descriptor: of its file, which the parent creates and workers inherit.

    full_at: when the bucket of an account is full, in seconds of the monotonic clock, which is one for all processes.
    rates, bursts: of the bucket; zero before its first use. passed_at: as full_at, for `PassLimits`. requests: counts
    by worker and account. scrapes, waiting: by worker and node.
    """

    def __init__(self, workers: int, descriptor: int | None = None) -> None:
        self.workers = workers
        self.descriptor = os.memfd_create("pymon-cells") if descriptor is None else descriptor
        sizes = [ACCOUNTS * _DOUBLE] * _VALUES + [ACCOUNTS * _INT] * workers + [NODES * _INT] * (2 * workers)
        if descriptor is None:
            os.ftruncate(self.descriptor, sum(sizes))
        memory = memoryview(mmap.mmap(self.descriptor, sum(sizes)))
        parts, end = [], 0
        for size in sizes:
            parts.append(memory[end : end + size])
            end += size
        self.full_at, self.rates, self.bursts, self.passed_at = (part.cast("d") for part in parts[:_VALUES])
        counts = [part.cast("i") for part in parts[_VALUES:]]
        self.requests, self.scrapes, self.waiting = (
            counts[:workers], counts[workers : 2 * workers], counts[2 * workers :],
        )  # fmt: skip

    def clear_account(self, number: int) -> None:
        """Set all of an account to zero."""
        for values in (self.full_at, self.rates, self.bursts, self.passed_at):
            values[number] = 0.0
        for counts in self.requests:
            counts[number] = 0

    def clear_worker(self, worker: int) -> None:
        """Set the counts of a worker that ended to zero."""
        for counts in (self.requests[worker], self.scrapes[worker], self.waiting[worker]):
            # Only what is not zero is written, because a page that is written takes memory.
            for start in range(0, len(counts), mmap.PAGESIZE):
                page = counts[start : start + mmap.PAGESIZE]
                if any(page):
                    page[:] = memoryview(bytes(page.nbytes)).cast("i")

    def close(self) -> None:
        """Close the descriptor. The memory stays until the process ends."""
        os.close(self.descriptor)

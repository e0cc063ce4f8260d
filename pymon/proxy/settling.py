"""Decides claims again that are not granted, and forgets what expired, from time to time; logs refused claims."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from pymon.proxy.fleet import Fleet

EXPIRE_SECONDS = 60.0
"""How often what is too old is removed, see `Fleet.expire`."""

SETTLE_SECONDS = 0.25
SETTLE_CLAIMS = 500
"""How often claims that are not granted are decided again, and how many at a time."""

SAY_AGAIN_SECONDS = 3600.0
"""Minimum time between two log lines about claims of one node that are refused for the same reason."""

_log = logging.getLogger(__name__)


class Settling:
    """Settles the claims of a fleet. Use one object for one event loop. clock: returns seconds since the epoch."""

    def __init__(self, fleet: Fleet, clock: Callable[[], float]) -> None:
        self._fleet = fleet
        self._clock = clock
        self._said: dict[tuple[str, str], float] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to settle, unless that was done before."""
        self._task = self._task or asyncio.get_running_loop().create_task(self._settle())

    async def stop(self) -> None:
        """Return when nothing is settled any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def forget(self, names: Container[str]) -> None:
        """Forget which claims of these nodes were logged."""
        for key in [key for key in self._said if key[0] in names]:
            del self._said[key]

    def tell(self) -> None:
        """Log newly refused claims, at most one line per node and reason in `SAY_AGAIN_SECONDS`."""
        found = self._fleet.claims.news
        now = time.monotonic()
        for key in list(found):
            if now - self._said.get(key, -math.inf) < SAY_AGAIN_SECONDS:
                del found[key]
                continue
            self._said[key] = now
            news = found.pop(key)
            fields = {"node": key[0], "reason": key[1], "containers": news.containers, "uuid": news.uuid}
            _log.warning("claims refused", extra={"fields": fields | ({"holder": news.other} if news.other else {})})

    async def _settle(self) -> None:
        expire_at = 0.0
        while True:
            now = time.monotonic()
            self._fleet.settle(self._clock(), now, SETTLE_CLAIMS)
            self.tell()
            if now >= expire_at:
                self._fleet.expire(self._clock())
                expire_at = now + EXPIRE_SECONDS
            await asyncio.sleep(SETTLE_SECONDS)

"""Tells the other proxies how much each account asks of this one, and reads the same of them.

Each proxy has a row of its own among the leases. It is renewed while the proxy lives, so the valid rows also say how
many proxies there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from uuid import UUID

from pymon.directory.directory import Directory
from pymon.directory.model import DirectoryError
from pymon.directory.worker import Worker

TELL_SECONDS = 1.0
RENEW_SECONDS = 5.0
"""How often a row is written: the first while there are demands and other proxies, the second otherwise."""

ALIVE_SECONDS = 15.0
"""A proxy whose row was not written for this long counts as dead."""

STALE_SECONDS = 3.0
"""Demands that were not written again for this long count as none."""

MAX_PROXIES = 256
MAX_ROW_CHARACTERS = 65536
"""Limits of what is read. Further proxies, and rows that are longer, are ignored."""

_PREFIX = "demand "

_log = logging.getLogger(__name__)

Demands = Mapping[int, float]
"""Demand from 0 to 1, by the integer of the account's UUID."""


def encode(number: int, demands: Demands) -> str:
    """Return the text of a row. number: of the writing, so that a row that is written again differs."""
    return json.dumps([number, {UUID(int=account).hex: round(demand, 3) for account, demand in demands.items()}])


def decode(text: str) -> Demands:
    """Return the demands of a row. Raises ValueError for another text."""
    if len(text) > MAX_ROW_CHARACTERS:
        raise ValueError(f"expected at most {MAX_ROW_CHARACTERS} characters")
    try:
        _, found = json.loads(text)
        return {UUID(hex=account).int: min(1.0, max(0.0, float(demand))) for account, demand in found.items()}
    except (TypeError, AttributeError, RecursionError, OverflowError):
        raise ValueError("expected a number and demands by account") from None


class DemandExchange:
    """Exchanges demands with the other proxies, in a thread of its own.

    name: of this proxy, unique among all proxies. changed: called on the event loop after each look with the demands at
    each of the other living proxies. It is not called while the directory is unavailable.
    """

    def __init__(self, url: str, name: str, changed: Callable[[list[Demands]], None]) -> None:
        self._worker = Worker(url, "demand")
        self._name = name
        self._changed = changed
        self._own: Demands = {}
        self._number = 0
        self._written_at = float("-inf")
        self._written = False
        self._others: dict[str, tuple[str, float]] = {}  # the row of each other proxy, and since when it is this one
        self._loop: asyncio.AbstractEventLoop | None = None
        self.error = ""
        """The reason why the last exchange failed, one line, "" if it succeeded."""

    def start(self) -> None:
        """Start the thread. Must be called on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._worker.start(self._run)

    def tell(self, demands: Demands) -> None:
        """Set the demands at this proxy, which the next writing tells. The caller must not change them later."""
        self._own = demands

    async def stop(self) -> None:
        """Remove the row and stop the thread, within seconds although the directory hangs."""
        await self._worker.stop()

    # --- in the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while True:
                self._exchange()
                if self._worker.stopping.wait(TELL_SECONDS):
                    break
            if self._worker.directory is not None:
                with contextlib.suppress(DirectoryError):  # the row expires by itself
                    self._worker.directory.remove_lease(_PREFIX + self._name)
        finally:
            self._worker.close()

    def _exchange(self) -> None:
        before = self.error
        try:
            directory = self._worker.open()
            self._write(directory)
            found = directory.leases(_PREFIX, ALIVE_SECONDS)
            self.error = ""
        except Exception as error:  # noqa: BLE001  # the thread must survive any error
            self._worker.close()
            self.error = str(error) if isinstance(error, DirectoryError) else f"{type(error).__name__}: {error}"
            if self.error != before:
                _log.warning("quotas stay divided as they are: %s", self.error)
            return
        if before:
            _log.info("quotas are divided by demand again")
        others = self._read(found)
        if self._loop is not None and not self._worker.stopping.is_set():
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._take, others)

    def _write(self, directory: Directory) -> None:
        """Write the row if it is due: often while others have to know of demands, or of their end."""
        own = self._own if self._others else {}
        now = time.monotonic()
        if not own and not self._written and now - self._written_at < RENEW_SECONDS:
            return
        self._number += 1
        directory.put_lease(_PREFIX + self._name, encode(self._number, own), ALIVE_SECONDS)
        self._written_at, self._written = now, bool(own)

    def _read(self, found: Mapping[str, str]) -> list[Demands]:
        """Return the demands at each of the other proxies. Those that are stale or cannot be read are empty."""
        now = time.monotonic()
        rows = [(name, text) for name, text in found.items() if name != _PREFIX + self._name][: MAX_PROXIES - 1]
        known, self._others = self._others, {}
        others: list[Demands] = []
        for name, text in rows:
            before, since = known.get(name, ("", now))
            since = since if text == before else now
            self._others[name] = text, since
            demands: Demands = {}
            if now - since < STALE_SECONDS:
                with contextlib.suppress(ValueError):  # a proxy of another version may use another format
                    demands = decode(text)
            others.append(demands)
        return others

    def _take(self, others: list[Demands]) -> None:
        if not self._worker.stopping.is_set():
            self._changed(others)

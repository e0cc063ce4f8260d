"""Loads the copies of inventories on disk into the fleet of a proxy that starts, many at a time."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

from pymon.proxy.inventory_copy import restoring

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from pymon.directory.model import Snapshot
    from pymon.proxy.fleet import Fleet
    from pymon.proxy.inventory_store import InventoryStore, KeptCopy
    from pymon.proxy.slices import Slices

_log = logging.getLogger(__name__)


class Loader:
    """Loads the copies of nodes that `add` names. Files are read and decoded in a thread.

    restored: called with a node's name and its copy after the copy was taken over. spent: CPU seconds of the loop.
    """

    def __init__(
        self,
        store: InventoryStore,
        fleet: Fleet,
        accounts: Callable[[], Snapshot],
        slices: Slices,
        max_containers: int,
        clock: Callable[[], float],
        restored: Callable[[str, KeptCopy], None],
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._accounts = accounts
        self._slices = slices
        self._max_containers = max_containers
        self._clock = clock
        self._restored = restored
        self._waiting: dict[str, asyncio.Event] = {}
        self._task: asyncio.Task[None] | None = None
        self.spent = 0.0

    def add(self, name: str) -> None:
        """Load a node's copy."""
        self._waiting.setdefault(name, asyncio.Event())
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._load())

    def drop(self, name: str) -> None:
        """Do not load a node's copy any more."""
        loaded = self._waiting.pop(name, None)
        if loaded is not None:
            loaded.set()

    async def wait(self, name: str) -> None:
        """Return when a node's copy is loaded, or is not to be loaded any more."""
        loaded = self._waiting.get(name)
        if loaded is not None:
            await loaded.wait()

    async def wait_all(self) -> None:
        """Return when all copies are loaded."""
        for loaded in tuple(self._waiting.values()):
            await loaded.wait()

    async def stop(self) -> None:
        """Stop loading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _load(self) -> None:
        try:
            while self._waiting:
                names = deque(self._waiting)
                while names:
                    copies = await asyncio.to_thread(self._store.load_some, names, self._max_containers)
                    await self._slices.run(self, self._taking(copies))
        except Exception:  # noqa: BLE001  # the agents tell everything again
            _log.exception("internal error: copies of inventories")
            for name in tuple(self._waiting):
                self.drop(name)

    def _taking(self, copies: dict[str, KeptCopy | None]) -> Generator[None, None, None]:
        for name, copy in copies.items():
            if name in self._waiting:
                try:
                    yield from self._taking_one(name, copy)
                except Exception:  # noqa: BLE001  # the agent tells everything again
                    _log.exception("internal error: copy of %s", name)
            self.drop(name)
            yield

    def _taking_one(self, name: str, copy: KeptCopy | None) -> Generator[None, None, None]:
        if copy is None:
            return
        if (yield from restoring(self._fleet, name, copy, self._accounts(), self._clock())):
            self._restored(name, copy)

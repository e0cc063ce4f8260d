"""Which proxies are alive: each renews a lease of its own in the directory and reads those of the others."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
from collections.abc import Callable, Mapping

from pymon.directory.directory import Directory, open_directory
from pymon.directory.model import DirectoryError

ALIVE_SECONDS = 20.0
"""A proxy that has not renewed its lease for so long is gone."""

RENEW_SECONDS = 5.0
_STOP_SECONDS = 10.0
_PREFIX = "proxy "

_log = logging.getLogger(__name__)

Addresses = tuple[str, ...]


def present(directory: Directory) -> dict[str, Addresses]:
    """The proxies that are alive: their addresses by name."""
    found = {}
    for name, holder in directory.leases(_PREFIX, ALIVE_SECONDS).items():
        with contextlib.suppress(ValueError, RecursionError):  # of a proxy that tells of itself in another way
            addresses = json.loads(holder)
            if isinstance(addresses, list) and all(isinstance(address, str) for address in addresses):
                found[name.removeprefix(_PREFIX)] = tuple(addresses)
    return found


class Presence:
    """This proxy among the others, in a thread of its own.

    name: of this proxy, another than any other's. changed: called on the loop with the addresses of all that are alive,
    by name, when they are others. While the directory cannot be written or read, the last ones and this one count.
    """

    def __init__(
        self, url: str, name: str, addresses: Addresses, changed: Callable[[Mapping[str, Addresses]], None]
    ) -> None:
        self._url = url
        self._name = name
        self._addresses = addresses
        self._changed = changed
        self._directory: Directory | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.error = ""
        """Why the last look failed, one line; empty when it went well."""
        self.alive: dict[str, Addresses] = {name: addresses}

    def start(self) -> None:
        """Begin, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Give up the lease and stop."""
        self._stopping.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, _STOP_SECONDS)
            self._thread = None

    # --- in the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while True:
                self._look()
                if self._stopping.wait(RENEW_SECONDS):
                    break
            self._release()
        finally:
            self._close()

    def _look(self) -> None:
        before = self.error
        try:
            if self._directory is None:
                self._directory = open_directory(self._url)
            holder = json.dumps(self._addresses)
            self._directory.acquire_lease(_PREFIX + self._name, holder, ALIVE_SECONDS)
            alive = present(self._directory)
            self.error = ""
        except Exception as error:  # noqa: BLE001  # the thread goes on, whatever comes
            self._close()
            self.error = str(error) if isinstance(error, DirectoryError) else f"{type(error).__name__}: {error}"
            if self.error != before:
                _log.warning("other proxies are not known: %s", self.error)
            return
        if self._loop is not None and not self._stopping.is_set():
            self._loop.call_soon_threadsafe(self._take, alive)

    def _release(self) -> None:
        if self._directory is None:
            return
        try:
            self._directory.release_lease(_PREFIX + self._name, json.dumps(self._addresses))
        except DirectoryError as error:
            _log.warning("lease of this proxy is not released: %s", error)

    def _close(self) -> None:
        if self._directory is not None:
            self._directory.close()
            self._directory = None

    def _take(self, alive: dict[str, Addresses]) -> None:
        if alive != self.alive and not self._stopping.is_set():
            self.alive = alive
            self._changed(alive)

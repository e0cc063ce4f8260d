"""The last good inventory of each node on disk, so that a proxy that starts knows at once what runs where."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import msgspec

from pymon.proxy.agent_document import Container

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

SAVE_SECONDS = 1.0
"""A node's copy is written at most once in this time."""

MAX_FILE_BYTES = 96 << 20

_SUFFIX = ".json"

_log = logging.getLogger(__name__)


class Stop(msgspec.Struct, frozen=True, gc=False):
    """A container that stopped, and when, in seconds since the epoch."""

    since: float
    container: Container


class Copy(msgspec.Struct, frozen=True):
    """What is known of a node. document: as the agent sent it, with its ETag. saved_at: seconds since the epoch."""

    saved_at: float
    etag: str
    document: msgspec.Raw
    stopped: list[Stop]


class InventoryStore:
    """A file for each node in a directory, which is made when it is missing. Belongs to one loop.

    Whatever goes wrong with the disk is one line in the log and costs nothing else.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pending: dict[str, Callable[[], Copy] | None] = {}
        self._writer: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._failed = False

    def load(self, name: str) -> Copy | None:
        """The copy of a node; None when there is none or it is damaged."""
        file = self._file(name)
        try:
            with file.open("rb") as stream:
                data = stream.read(MAX_FILE_BYTES + 1)
            if len(data) > MAX_FILE_BYTES:
                raise ValueError(f"more than {MAX_FILE_BYTES} bytes")  # noqa: TRY301
            return msgspec.json.decode(data, type=Copy)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            _log.warning("copy of an inventory ignored", extra={"fields": {"file": str(file), "problem": str(error)}})
            return None

    def save(self, name: str, copy: Callable[[], Copy]) -> None:
        """Write a copy soon. It is asked for then, on the loop."""
        self._pending[name] = copy
        self._start()

    def remove(self, name: str) -> None:
        """Remove the copy of a node soon."""
        self._pending[name] = None
        self._start()

    def keep_only(self, names: Collection[str]) -> None:
        """Remove the copies of all other nodes soon."""
        try:
            files = os.listdir(self._directory)  # noqa: PTH208  # names, and no more
        except OSError:
            return
        for file in files:
            name = unquote(file.removesuffix(_SUFFIX))
            if file == self._file(name).name and name not in names:
                self.remove(name)

    async def close(self) -> None:
        """Write what waits."""
        self._closing.set()
        if self._writer is not None:
            await self._writer

    def _file(self, name: str) -> Path:
        """Any text makes the name of a file in the directory, and a different one for each."""
        return self._directory / (quote(name, safe="@", errors="surrogatepass") + _SUFFIX)

    def _start(self) -> None:
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write_all())

    async def _write_all(self) -> None:
        while self._pending:
            await self._flush()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), SAVE_SECONDS)

    async def _flush(self) -> None:
        pending, self._pending = self._pending, {}
        copies = {name: copy and copy() for name, copy in pending.items()}
        problem = await asyncio.to_thread(self._write, copies)
        if problem and not self._failed:
            _log.warning("inventories cannot be kept on disk", extra={"fields": {"problem": problem}})
        self._failed = bool(problem)

    def _write(self, copies: dict[str, Copy | None]) -> str:
        """Write copies, in a thread. The last problem."""
        problem = ""
        for name, copy in copies.items():
            file = self._file(name)
            try:
                if copy is None:
                    file.unlink(missing_ok=True)
                    continue
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                # Not synced: a copy that a power failure cuts short is found damaged and made again.
                temporary = file.with_suffix(".tmp")
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                with open(descriptor, "wb") as stream:  # noqa: PTH123  # of a descriptor
                    stream.write(msgspec.json.encode(copy))
                temporary.replace(file)
            except OSError as error:
                problem = str(error)
        return problem

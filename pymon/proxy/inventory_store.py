"""Stores the last good inventory of each node on disk, so that a starting proxy knows the containers at once.

A copy is one JSON document in lines: the first has everything before the containers, each further one some containers,
and the last everything after them. So a copy is written and read in short steps. Containers in a copy of the current
`VERSION` were checked before they were written, and only the user of the proxy can write there, so they are not checked
again. A copy of another form, which an earlier version wrote, is checked like a document of an agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from urllib.parse import quote, unquote

import msgspec

from pymon.inventory_document import Container
from pymon.proxy.agent_document import (
    CONTAINER_FIELDS,
    Document,
    Inventory,
    decode_inventory,
    most_text_bytes,
)
from pymon.whole_file import remove_leftovers, replace_file

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

SAVE_SECONDS = 1.0
MAX_SAVE_SECONDS = 60.0
WRITING_PART = 0.03
"""Time between two writes of a node's copy: at least `SAVE_SECONDS`, and so much more, up to `MAX_SAVE_SECONDS`, that
writing takes at most this part of the time. Copies are whole, so with thousands of nodes that change they would
otherwise cost more than everything else.
"""

AGAIN_SECONDS = 5.0
"""The pause after copies could not be written, before they are written again."""

MAX_FILE_BYTES = 96 << 20

VERSION = 1
"""Number of the form of copies. It increases when `pymon.inventory_document.checked` comes to accept less."""

LINE_CONTAINERS = 100
"""Containers in one line of a copy."""

LOAD_BYTES = 4 << 20
"""Copies are read together until they have this size."""

_SUFFIX = ".json"

_log = logging.getLogger(__name__)


class Stop(msgspec.Struct, frozen=True, gc=False):
    """A stopped container. since: when it stopped, in seconds since the epoch."""

    since: float
    container: Container


class Copy(msgspec.Struct, frozen=True):
    """The state of a node as another proxy, or an earlier version of this one, tells of it.

    saved_at: seconds since the epoch. document, etag: the agent's document and its ETag. fields: comma-separated
    container fields when the document was rebuilt from known containers, "" when it is as the agent sent it.
    """

    saved_at: float
    etag: str
    document: msgspec.Raw
    stopped: list[Stop]
    fields: str = ""


class KeptCopy(NamedTuple):
    """A copy that was read. The fields are those of `Copy`."""

    saved_at: float
    etag: str
    inventory: Inventory
    stopped: list[Stop]
    fields: str


class _Lines(msgspec.Struct):
    """A copy without the lines of its containers. total: their number."""

    saved_at: float
    etag: str
    fields: str
    total: int
    document: Document
    stopped: list[Stop]


class MadeCopy(msgspec.Struct, frozen=True):
    """A copy to be written, with a document made of known containers."""

    saved_at: float
    etag: str
    document: Document
    stopped: list[Stop]
    fields: str = CONTAINER_FIELDS


_Make: TypeAlias = "Callable[[], MadeCopy]"

_HEAD = b'{"version":%d,' % VERSION
_copy = msgspec.json.Decoder(Copy)
_lines = msgspec.json.Decoder(_Lines)
_containers = msgspec.json.Decoder(list[Container])


class InventoryStore:
    """Keeps one file per node in a directory, which is created when missing. Use one object for one event loop.

    Disk errors are logged and not raised. A copy that could not be written is tried again until it is written.
    unwritten: the names of the nodes whose copies could not be written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pending: dict[str, _Make | None] = {}
        self._writer: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self.unwritten: frozenset[str] = frozenset()

    def load(self, name: str, max_containers: int) -> KeptCopy | None:
        """Return the copy of a node, or None when it is missing or damaged."""
        return self.load_some(deque([name]), max_containers)[name]

    def load_some(self, names: deque[str], max_containers: int) -> dict[str, KeptCopy | None]:
        """Return the copies of the first nodes of `names`, which are removed from it: at least one, and no more than
        `LOAD_BYTES` but for the last. A missing or damaged copy is None. Other threads may run meanwhile.
        """
        found: dict[str, KeptCopy | None] = {}
        size = 0
        while names and size < LOAD_BYTES:
            name = names.popleft()
            found[name] = None
            file = self._file(name)
            try:
                with file.open("rb") as stream:
                    data = stream.read(MAX_FILE_BYTES + 1)
                size += len(data)
                found[name] = _read(data, max_containers)
            except FileNotFoundError:
                continue
            except (OSError, ValueError, RecursionError) as error:
                fields = {"file": str(file), "problem": " ".join(str(error).split())}
                _log.warning("copy of an inventory ignored", extra={"fields": fields})
        return found

    def save(self, name: str, copy: _Make) -> None:
        """Schedule a write of a node's copy. `copy` is called on the event loop just before the write.

        It should hold no document, because a full disk may last.
        """
        self._pending[name] = copy
        self._start()

    def remove(self, name: str) -> None:
        """Schedule the removal of a node's copy."""
        self._pending[name] = None
        self._start()

    def keep_only(self, names: Collection[str]) -> None:
        """Schedule the removal of the copies of all other nodes, and remove temporary files of a killed proxy.

        Call this before the first `save`.
        """
        remove_leftovers(self._directory)
        try:
            files = os.listdir(self._directory)  # noqa: PTH208  # only names are needed
        except OSError:
            return
        for file in files:
            name = unquote(file.removesuffix(_SUFFIX))
            if file == self._file(name).name and name not in names:
                self.remove(name)

    async def close(self) -> None:
        """Perform all scheduled writes."""
        self._closing.set()
        if self._writer is not None:
            await self._writer

    def _file(self, name: str) -> Path:
        """Return the file of a node. Every name maps to a different file inside the directory."""
        return self._directory / (quote(name, safe="@", errors="surrogatepass") + _SUFFIX)

    def _start(self) -> None:
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write_all())

    async def _write_all(self) -> None:
        loop = asyncio.get_running_loop()
        while self._pending:
            begun = loop.time()
            await self._flush()
            if self._closing.is_set() and self._pending.keys() <= self.unwritten:
                return
            pause = min(MAX_SAVE_SECONDS, max(SAVE_SECONDS, (loop.time() - begun) / WRITING_PART))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), AGAIN_SECONDS if self.unwritten else pause)

    async def _flush(self) -> None:
        pending, self._pending = self._pending, {}
        copies: dict[str, MadeCopy | None] = {}
        for name, copy in pending.items():
            copies[name] = copy and copy()
            await asyncio.sleep(0)  # copies of thousands of nodes at once would block the event loop
        problems = await asyncio.to_thread(self._write, copies)
        if problems and not self.unwritten:
            fields = {"problem": next(iter(problems.values())), "nodes": len(problems)}
            _log.warning("inventories cannot be kept on disk", extra={"fields": fields})
        if self.unwritten and not problems:
            _log.info("inventories are kept on disk again")
        self.unwritten = frozenset(problems)
        self._pending = {name: pending[name] for name in problems} | self._pending

    def _write(self, copies: dict[str, MadeCopy | None]) -> dict[str, str]:
        """Write copies, in a thread. Return the problem of each that could not be written, by name."""
        problems = {}
        for name, copy in copies.items():
            file = self._file(name)
            try:
                if copy is None:
                    file.unlink(missing_ok=True)
                    continue
                # No fsync: a copy truncated by a power failure is detected as damaged and ignored.
                replace_file(file, *_encoded(copy), sync=False)
            except OSError as error:
                problems[name] = str(error)
        return problems


def _encoded(copy: MadeCopy) -> Iterator[bytes]:
    """Yield a copy as JSON in lines, so that a large one does not keep other threads waiting."""
    document, encode = copy.document, msgspec.json.encode
    containers = document.containers
    head = {"version": VERSION, "saved_at": copy.saved_at, "etag": copy.etag, "fields": copy.fields,
            "total": len(containers)}  # fmt: skip
    yield encode(head)[:-1] + b',"document":{"node":' + encode(document.node) + b',"containers":['
    for first in range(0, len(containers), LINE_CONTAINERS):
        yield (b",\n" if first else b"\n") + encode(containers[first : first + LINE_CONTAINERS])[1:-1]
    yield b'\n]},"stopped":' + encode(copy.stopped) + b"}"


def _read(data: bytes, max_containers: int) -> KeptCopy:
    """Return the copy in a file. Raises ValueError, and RecursionError for JSON that is nested too deeply."""
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"more than {MAX_FILE_BYTES} bytes")
    first, *lines = data.split(b"\n")
    # With other limits than when it was written, the copy is checked again.
    if lines and first.startswith(_HEAD) and len(data) <= most_text_bytes(max_containers):
        last = lines.pop()
        kept = _lines.decode(first + last)
        if kept.total <= max_containers:
            return KeptCopy(kept.saved_at, kept.etag, _joined(kept, lines), kept.stopped, kept.fields)
    copy = _copy.decode(data)
    inventory = decode_inventory(bytes(copy.document), limit=max_containers)
    return KeptCopy(copy.saved_at, copy.etag, inventory._replace(document=b""), copy.stopped, copy.fields)


def _joined(kept: _Lines, lines: list[bytes]) -> Inventory:
    containers = {}
    for line in lines:
        for container in _containers.decode(b"[" + line.removesuffix(b",") + b"]"):
            containers[container.uuid] = container
    if len(containers) != kept.total:
        raise ValueError(f"expected {kept.total} containers, got {len(containers)}")
    return Inventory(kept.document.node.uuid, kept.document.node.hostname, containers)

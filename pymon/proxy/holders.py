"""Synchronizes the holders of container UUIDs, and the UUIDs of nodes, between the fleet and the directory.

Directory access runs in a thread. A copy of the rows is kept in a file and used when the directory is unavailable at
the start. There is no unbounded write queue: `Claims` offers pending writes, this module takes one batch at a time, and
`Claims` offers a failed write again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from uuid import UUID

from pymon.directory.directory import Directory, open_directory
from pymon.directory.model import DirectoryError, Holder, NotUpgradedError, UnavailableError
from pymon.directory.url import identity
from pymon.directory.worker import BUSY_SECONDS, END_SECONDS, LEAVE_SECONDS
from pymon.proxy.holder_rows import Row, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from pymon.proxy.fleet import Fleet

POLL_SECONDS = 0.25
SAVE_SECONDS = 10.0
CHECK_SECONDS = 60.0
"""Time between two checks of what the directory supports."""

BATCH = 500
CHANGED_BATCH = 50
"""Maximum number of new rows, and of changed rows, in one exchange. Each changed row takes a transaction."""

_SLICE = 100
"""Rows that the fleet applies at a time before other tasks run."""

_COPY_VERSION = 1

_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)


class PinError(Exception):
    """A node's UUID could not be pinned. The text is one line. away: whether the directory was unavailable."""

    def __init__(self, text: str, *, away: bool = False) -> None:
        super().__init__(text)
        self.away = away


class _Changes(NamedTuple):
    """The result of an exchange with the directory.

    rows: changed rows by container UUID. released: UUIDs whose rows were deleted. whole: `rows` are all rows.
    off: features that the directory lacks, None when unchanged. pins: the UUID of each node asked for, None without
    one.
    """

    rows: dict[str, Row]
    released: list[str]
    whole: bool
    off: list[str] | None
    pins: dict[str, str | None]


class Holders:
    """Follows and writes the rows of one fleet. Call `start`, `stop` and `pin` on one event loop.

    url: of the directory. copy: file for the copy of the rows, None for none. clock: returns seconds since the epoch.
    """

    def __init__(self, url: str, copy: Path | None, fleet: Fleet, *, clock: Callable[[], float] = time.time) -> None:
        self._url = url
        self._copy = copy
        self._fleet = fleet
        self._clock = clock
        self._directory: Directory | None = None
        self._since = 0
        self._pins_in_memory = False
        self._pins: dict[str, tuple[str, asyncio.Future[str | None]]] = {}
        self._offers: dict[str, str] = {}
        self._offered: dict[str, str] = {}
        self._carried: dict[str, Row] = {}
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "holders")
        self._following: asyncio.Task[None] | None = None
        self._stopped = False
        self._off: list[str] | None = None
        self._check_at = -math.inf
        self._unsaved = False
        self._save_at = -math.inf
        self.error = ""
        """Why the last exchange with the directory failed, one line; empty when it succeeded."""
        self.copy_error = ""
        """Why the copy on disk could not be written, one line; empty when it is written."""

    def start(self) -> None:
        """Load the rows, from the directory or else from the copy, and start following them on the running loop."""
        claims = self._fleet.claims
        claims.durable = True
        now = self._clock()
        rows, returns = read_copy(self._copy, self._url)
        try:
            found = self._exchanged({}, {}, {}, {})
        except DirectoryError as error:
            self._failed(error)
            self._fleet.learn(rows, (), now)
        else:
            self._fleet.learn(found.rows, (), now)
            self._allow(found.off)
            self._unsaved = True
        claims.returns = {uuid: node for uuid, node in returns.items() if uuid in claims.rows}
        self._following = asyncio.get_running_loop().create_task(self._follow(), name="holders")

    async def stop(self) -> None:
        """Stop following, write the copy, and close the directory. Further calls do nothing.

        A query that takes longer than `LEAVE_SECONDS` is interrupted.
        """
        if self._stopped:
            return
        self._stopped = True
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
            self._following = None
        for _, waiting in self._pins.values():
            waiting.cancel()
        self._pins.clear()
        last = asyncio.ensure_future(self._in_thread(self._last(self._saving() if self._unsaved else None)))
        await asyncio.wait([last], timeout=LEAVE_SECONDS)
        directory = self._directory
        if not last.done() and directory is not None:
            directory.interrupt()
        await asyncio.wait([last], timeout=END_SECONDS)
        self._thread.shutdown(wait=False)

    def _last(self, save: Callable[[], None] | None) -> Callable[[], None]:
        """Return the last step of the thread: write the copy, and close the directory."""

        def step() -> None:
            if save is not None:
                save()
            self._close()

        return step

    async def pin(self, name: str, uuid: str) -> None:
        """Assign a UUID to a node permanently.

        Raises PinError when the node or the UUID is already assigned otherwise, or the directory cannot be written.
        """
        if self._pins_in_memory:
            self._fleet.pin(name, uuid)
            return
        waiting: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        before = self._pins.get(name)
        if before is not None:
            before[1].cancel()
        self._pins[name] = uuid, waiting
        self._wake.set()
        pinned = await waiting
        if pinned != uuid:
            raise PinError(
                f"expected the node {pinned}, got {uuid}"
                if pinned
                else f"the node {uuid} is another's in the directory"
            )
        self._fleet.pin(name, uuid)

    def offer(self, name: str, uuid: str) -> None:
        """Record a refused UUID for the operator, who may accept it with ``pymon node accept``."""
        if self._offered.get(name) != uuid:
            self._offers[name] = uuid

    def wake(self) -> None:
        """Start the next exchange now, to write pending rows."""
        self._wake.set()

    # --- on the loop ---

    async def _follow(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._exchange()
                if self._fleet.claims.durable and self._fleet.claims.wanted:
                    continue
            except Exception as error:  # noqa: BLE001  # following must survive every error
                self._failed(error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), POLL_SECONDS)

    async def _exchange(self) -> None:
        claims = self._fleet.claims
        wanted = claims.take(BATCH, CHANGED_BATCH) if claims.durable else {}
        wanted |= {uuid: Wanted(None, self._carried[uuid]) for uuid in list(self._carried)[:BATCH]}
        unneeded, claims.unneeded = claims.unneeded, {}
        pins, self._pins = self._pins, {}
        offers, self._offers = self._offers if claims.durable else {}, {}
        known = {name: uuid for name, (uuid, _) in pins.items()}
        try:
            changes = await self._in_thread(lambda: self._exchanged(wanted, unneeded, known, offers))
        except BaseException as error:
            claims.failed(wanted)
            for _, waiting in pins.values():
                _fail(waiting, f"the directory is unavailable, and the UUID of the node is not known: {error}")
            raise
        if self.error:
            _log.info("holders of UUIDs are followed again")
        self.error = ""
        claims.away = False
        self._offered |= offers
        self._unsaved = self._unsaved or bool(changes.rows or changes.released)
        await self._learn(changes)
        claims.failed(wanted)
        for uuid in wanted:
            self._carried.pop(uuid, None)
        for name, (_, waiting) in pins.items():
            _answer(waiting, changes.pins.get(name))
        self._allow(changes.off)
        if self._unsaved and time.monotonic() >= self._save_at:
            await self._in_thread(self._saving())
            self._unsaved = bool(self.copy_error)

    async def _learn(self, changes: _Changes) -> None:
        claims = self._fleet.claims
        released = changes.released
        if changes.whole and claims.durable:
            released = [uuid for uuid in claims.rows if uuid not in changes.rows and uuid not in self._carried]
        self._fleet.learn({}, released, self._clock())
        rows = list(changes.rows.items())
        for first in range(0, len(rows), _SLICE):
            self._fleet.learn(dict(rows[first : first + _SLICE]), (), self._clock())
            await asyncio.sleep(0)

    def _allow(self, off: list[str] | None) -> None:
        """Switch between rows in the directory and rows in memory by what the directory lacks. None: no change."""
        if off is None:
            return
        claims = self._fleet.claims
        if off and claims.durable:  # the reason is logged with the directory
            _log.warning("this proxy alone remembers who holds a UUID, and forgets it when it ends")
        if not off and not claims.durable:
            _log.info("holders of UUIDs are kept in the directory from now on")
            self._carried = dict(claims.rows)
        claims.durable = not off
        self._pins_in_memory = bool(off)

    def _failed(self, error: Exception) -> None:
        text = str(error) if isinstance(error, DirectoryError) else f"{type(error).__name__}: {error}"
        if text != self.error:
            # The reader of the directory already logs a warning when it is unavailable.
            level = logging.INFO if isinstance(error, UnavailableError) else logging.ERROR
            _log.log(level, "holders of UUIDs cannot be read or written: %s", text)
        self.error = text
        self._fleet.claims.away = True

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # --- in the thread ---

    def _open(self) -> Directory:
        if self._directory is None:
            try:
                self._directory = open_directory(self._url, busy_seconds=BUSY_SECONDS)
            except UnavailableError:
                raise
            except DirectoryError:
                self._directory = open_directory(self._url, read_only=True, busy_seconds=BUSY_SECONDS)
        return self._directory

    def _exchanged(
        self,
        wanted: Mapping[str, Wanted],
        unneeded: Mapping[str, list[str]],
        pins: Mapping[str, str],
        offers: Mapping[str, str],
    ) -> _Changes:
        """Write pending rows, deletions, pins and offers, and read the changes since the last exchange.

        Closes the directory and raises when anything fails.
        """
        try:
            directory = self._open()
            off = self._cannot(directory)
            pinned = {name: directory.pin_node(name, UUID(uuid)) for name, uuid in pins.items()}
            held = self._write(directory, wanted)
            for node, uuids in unneeded.items():
                directory.forget_holders(UUID(node), [UUID(uuid) for uuid in uuids])
            whole, rows, released = not self._since, list[Holder](), list[UUID]()
            with contextlib.suppress(NotUpgradedError):
                for name, uuid in offers.items():
                    directory.offer_node(name, UUID(uuid))
                version, rows, released = directory.holders(self._since)
                if not version:
                    whole = True
                    version, rows, released = directory.holders(0)
                self._since = version
        except Exception:
            self._close()
            raise
        # `rows` and `released` were read after `held` was written, so they win over it.
        gone = [str(uuid) for uuid in released]
        changed = {str(holder.uuid): _row(holder) for holder in held} | {str(one.uuid): _row(one) for one in rows}
        for uuid in set(gone).difference(str(holder.uuid) for holder in rows):
            changed.pop(uuid, None)
        return _Changes(changed, gone, whole, off, {name: str(uuid) if uuid else None for name, uuid in pinned.items()})

    def _cannot(self, directory: Directory) -> list[str] | None:
        """Return the features that the directory lacks, or None when unchanged or not checked now."""
        if time.monotonic() < self._check_at:
            return None
        self._check_at = time.monotonic() + CHECK_SECONDS
        before, self._off = self._off, directory.off()
        return self._off if self._off != before else None

    @staticmethod
    def _write(directory: Directory, wanted: Mapping[str, Wanted]) -> list[Holder]:
        """Write the rows and return them as they are in the directory afterwards."""
        new = [_holder(uuid, after) for uuid, (before, after) in wanted.items() if before is None]
        held = directory.hold(new) if new else []
        for uuid, (before, after) in wanted.items():
            if before is not None:
                found = directory.pass_on(_holder(uuid, before), _holder(uuid, after))
                held += [found] if found is not None else []
        return held

    def _close(self) -> None:
        if self._directory is not None:
            self._directory.close()
            self._directory = None

    # --- the copy ---

    def _saving(self) -> Callable[[], None]:
        """Return a function that writes the current rows to the copy. It runs in the thread."""
        claims = self._fleet.claims
        rows, returns = dict(claims.rows), dict(claims.returns)
        self._save_at = time.monotonic() + SAVE_SECONDS
        return lambda: self._save(rows, returns)

    def _save(self, rows: Mapping[str, Row], returns: Mapping[str, str]) -> None:
        if self._copy is None:
            return
        temporary = self._copy.with_suffix(".tmp")
        try:
            self._copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "w", encoding="ascii") as stream:  # noqa: PTH123  # opens a descriptor
                stream.writelines(line + "\n" for line in self._lines(rows, returns))
            temporary.replace(self._copy)
            if self.copy_error:
                _log.info("copy of the holders is written again")
            self.copy_error = ""
        except OSError as error:
            problem = f"{self._copy}: {error.strerror}"
            if problem != self.copy_error:
                _log.warning("copy of the holders cannot be written: %s", problem)
            self.copy_error = problem
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _lines(self, rows: Mapping[str, Row], returns: Mapping[str, str]) -> Iterator[str]:
        yield json.dumps({"pymon_holders_copy": _COPY_VERSION, "directory": identity(self._url), "returns": returns})
        for uuid, row in rows.items():
            yield json.dumps([uuid, row.node, str(row.owner) if row.owner else None, row.start, row.changed_at])


def read_copy(file: Path | None, url: str) -> tuple[dict[str, Row], dict[str, str]]:
    """Read a copy and return its rows and its `Claims.returns`.

    Both are empty when the file is missing, damaged, or the copy of another directory than that of `url`.
    """
    if file is None:
        return {}, {}
    try:
        with file.open(encoding="ascii") as stream:
            head = json.loads(next(stream))
            if head["pymon_holders_copy"] != _COPY_VERSION or head["directory"] != identity(url):
                raise ValueError("it is the copy of another directory")  # noqa: TRY301
            return dict(_copied(json.loads(line)) for line in stream), dict(head["returns"])
    except FileNotFoundError:
        return {}, {}
    except (OSError, ValueError, TypeError, KeyError, StopIteration, RecursionError) as error:
        _log.warning("copy of the holders ignored: %s: %s", file, error)
        return {}, {}


def _copied(line: list[object]) -> tuple[str, Row]:
    uuid, node, owner, start, changed_at = line
    account = _same(UUID(str(owner)) if owner else None)
    row = Row(str(UUID(str(node))), account, float(start), float(changed_at))  # type: ignore[arg-type]
    return str(UUID(str(uuid))), row


def _row(holder: Holder) -> Row:
    return Row(str(holder.node), _same(holder.owner), holder.start, holder.changed_at)


@lru_cache(16384)
def _same(owner: UUID | None) -> UUID | None:
    """Return one object for equal UUIDs, so that rows do not keep one each."""
    return owner


def _holder(uuid: str, row: Row) -> Holder:
    return Holder(UUID(uuid), UUID(row.node), row.owner, row.start, row.changed_at)


def _answer(waiting: asyncio.Future[str | None], uuid: str | None) -> None:
    if not waiting.done():
        waiting.set_result(uuid)


def _fail(waiting: asyncio.Future[str | None], text: str) -> None:
    if not waiting.done():
        waiting.set_exception(PinError(text, away=True))

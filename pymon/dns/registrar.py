"""Registration of our records in other servers (RFC 2136). One proxy at a time registers.

The proxy that holds the directory's lease writes its own name into each zone. That record is called the term. Each
update has the term as a prerequisite. So the server itself refuses late updates of a previous holder, regardless of its
clock or of pauses of its process. While the directory is unreachable, the holder therefore continues until another
proxy has written its term.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import NamedTuple, TypeAlias

import dns.tsig

from pymon.config import Address, ConfigError, shown
from pymon.directory.lease import HeldLease, Standing
from pymon.dns.exchange import ExchangeError, Peer
from pymon.dns.names import inside
from pymon.dns.remote_zone import RemoteZone
from pymon.dns.rrsets import Content
from pymon.dns.update_plan import Rrsets

BATCH_SECONDS = 0.2
"""The least time between two turns of a worker. Changes that arrive within it are sent together."""

CHECK_SECONDS = 15.0
"""The time between two checks of a server to which nothing is sent."""

RECONCILE_SECONDS = 900.0
"""The time between two complete comparisons. It grows so that comparisons take at most 1/`_REST` of the time."""

REFUSED_SECONDS = 20.0
"""The time until the next comparison if the server has newly refused names. It doubles up to `RECONCILE_SECONDS`.

A frozen zone refuses all names for a while.
"""

RETRY_SECONDS = (0.5, 30.0)
"""The first and the longest pause after a failure. The pause doubles; a random part of up to half is cut off."""

RECENT_SECONDS = 60.0
"""How long a changed name is remembered. When this proxy takes over, the name may still exist at the server."""

_REST = 20.0
_MAX_RECENT = 20_000
_STOP_SECONDS = 10.0
_CONTENT_SECONDS = 30.0
_PART_SECONDS = 0.005

_Copy: TypeAlias = tuple[dict[str, Rrsets], list[str]]

_OF_THE_SERVER = frozenset({"timeout", "unreachable"})
"""Reasons of failures that concern all zones of a server. Other failures concern one zone."""

_is_owner = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?").fullmatch

_log = logging.getLogger(__name__)


class Server(NamedTuple):
    """A primary server. zones: absolute names of our zones that are registered there."""

    address: Address
    key: dns.tsig.Key
    zones: tuple[str, ...]


class ZoneStatus(NamedTuple):
    """The state of a zone at a server, as the registering proxy knows it.

    age_seconds: time since the zone was last known to be correct. names: number of our names there. foreign: wanted
    names that belong to another owner. refused: name -> reason, of names that the server does not accept. by_transfer:
    whether the zone is read by AXFR, None before the first read. error: the current failure as one line, "" for none.
    """

    server: str
    zone: str
    age_seconds: float
    names: int
    foreign: frozenset[str]
    refused: dict[str, str]
    by_transfer: bool | None
    error: str


class Registrar:
    """Registration in all servers. Each server has its own thread, so an unreachable one does not delay the others.

    owner: a label in lower case that all proxies of this installation share and no other installation uses in these
    zones. holder: a readable name of this proxy, which is made unique. directory: URL of the directory. content:
    returns the wanted content of a zone; it is called on the loop that runs `start`, and its result is read in parts
    between which it may change. complete: returns whether the content has all names, and is called in threads. While
    it has not, names and records are added and none are removed. Raises ConfigError if the owner is not a label.
    """

    def __init__(
        self,
        servers: Iterable[Server],
        *,
        owner: str,
        holder: str,
        directory: str,
        content: Callable[[str], Content],
        complete: Callable[[], bool] = lambda: True,
    ) -> None:
        if not _is_owner(owner):
            raise ConfigError(f"owner: expected letters in lower case, digits and hyphens, got {shown(owner)}")
        name = re.sub(r"[^A-Za-z0-9.-]", "-", holder)[:64]
        self.holder = f"{name}-{secrets.token_hex(4)}"
        self.lease = HeldLease(directory, f"dns-registration {owner}", self.holder, self._wake)
        self._content = content
        self._workers = [_Worker(server, owner, self.holder, self.lease, content, complete) for server in servers]

    def start(self) -> None:
        """Start the threads and the lease. Must be called on the event loop that changes the records."""
        loop = asyncio.get_running_loop()
        for worker in self._workers:
            worker.start(loop)
        self.lease.start()

    async def stop(self) -> None:
        """Stop all threads and release the lease. The registered records stay."""
        await asyncio.gather(*(worker.stop() for worker in self._workers))
        await self.lease.stop()

    def changed(self, names: Iterable[str]) -> None:
        """Report that the records of these names have changed. To be called on the loop of `start`.

        It costs little while another proxy registers.
        """
        names = tuple(names)
        for worker in self._workers:
            worker.changed(names)

    def leads(self) -> bool:
        """Return whether this proxy is the one that registers."""
        return self.lease.standing() is not Standing.LOST

    def status(self) -> list[ZoneStatus]:
        """Return the state of all zones at all servers, [] if another proxy registers."""
        return [status for worker in self._workers for status in worker.status()] if self.leads() else []

    def updates(self) -> dict[tuple[str, ...], int]:
        """Return (server, zone) -> the number of UPDATE messages that were carried out."""
        return {key: count for worker in self._workers for key, count in worker.updates().items()}

    def failures(self) -> dict[tuple[str, ...], int]:
        """Return (server, reason) -> the number of failures."""
        return {key: count for worker in self._workers for key, count in worker.failures.copy().items()}

    def _wake(self) -> None:
        for worker in self._workers:
            worker.wake()


class _StopError(Exception):
    """Raised in a worker when nothing more may be sent."""


class _Zone:
    """The schedule of one zone of a worker. Times are on the monotonic clock, in seconds.

    in_step_at: when the zone was last known to be correct. retry_at: after a failure, nothing is sent before this time.
    """

    def __init__(self, registered: RemoteZone, now: float) -> None:
        self.registered = registered
        self.reconcile_at = now
        self.reconcile_took = 0.0
        self.refused_pause = REFUSED_SECONDS
        self.check_at = now
        self.in_step_at = now
        self.synced = False
        self.removed = True
        """Whether what is not wanted has been removed, too."""
        self.error = ""
        self.retry_at = now
        self._pause = RETRY_SECONDS[0]

    def due_at(self) -> float:
        """Return when the next work is due if nothing changes."""
        return max(self.retry_at, min(self.reconcile_at, self.check_at) if self.synced else 0.0)

    def failed(self, error: str, now: float) -> None:
        """Record a failure and schedule a retry after a pause. error: one line."""
        self.error = error
        self.retry_at = self.check_at = now + self._pause * random.uniform(0.5, 1.0)  # noqa: S311
        self._pause = min(2 * self._pause, RETRY_SECONDS[1])

    def works(self) -> None:
        """Record a success, which resets the error and the pause."""
        self.error = ""
        self._pause, self.retry_at = RETRY_SECONDS[0], 0.0


class _Worker:
    """Registration at one server. The event loop fills `_inbox` (zone -> changed names), the thread empties it."""

    def __init__(
        self,
        server: Server,
        owner: str,
        holder: str,
        lease: HeldLease,
        content: Callable[[str], Content],
        complete: Callable[[], bool] = lambda: True,
    ) -> None:
        self._complete = complete
        self.label = str(server.address)
        self.failures: Counter[tuple[str, ...]] = Counter()
        self._lease = lease
        self._content = content
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._condition = threading.Condition()
        self._woken = False
        self._stopping = False
        self._inbox: dict[str, dict[str, Rrsets]] = {zone: {} for zone in server.zones}
        self._copied: set[str] = set()  # zones whose content is being copied
        self._recent: dict[str, float] = {}
        peer = Peer(server.address, server.key)
        now = time.monotonic()
        self._zones = {zone: _Zone(RemoteZone(peer, zone, owner, holder, self._go_on), now) for zone in server.zones}

    # --- on the loop -----------------------------------------------------------------------------

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.Thread(target=self._run, name=f"dns {self.label}", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        self._stopping = True
        self.wake()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, _STOP_SECONDS)

    def wake(self) -> None:
        with self._condition:
            self._woken = True
            self._condition.notify()

    def changed(self, names: tuple[str, ...]) -> None:
        now = time.monotonic()
        found = [(name, zone) for name in names if (zone := self._zone_of(name)) is not None]
        self._remember([name for name, _ in found], now)
        lost = self._lease.standing() is Standing.LOST
        records = [
            (zone, name, self._content(zone).get(name, ())) for name, zone in found if not lost or zone in self._copied
        ]
        if not records:
            return
        with self._condition:
            for zone, name, wanted in records:
                self._inbox[zone][name] = wanted
            self._woken = True
            self._condition.notify()

    def status(self) -> list[ZoneStatus]:
        now = time.monotonic()
        return [
            ZoneStatus(
                self.label, origin, now - zone.in_step_at, len(zone.registered.ours),
                frozenset(zone.registered.foreign.copy()), zone.registered.refused.copy(), zone.registered.by_transfer,
                zone.error,
            )
            for origin, zone in self._zones.items()
        ]  # fmt: skip

    def updates(self) -> dict[tuple[str, ...], int]:
        return {(self.label, origin): zone.registered.updates for origin, zone in self._zones.items()}

    def _zone_of(self, name: str) -> str | None:
        return next((zone for zone in self._inbox if inside(name, zone)), None)

    def _remember(self, names: list[str], now: float) -> None:
        for name in names:
            self._recent.pop(name, None)
            self._recent[name] = now
        while self._recent:
            oldest = next(iter(self._recent))
            if len(self._recent) <= _MAX_RECENT and self._recent[oldest] > now - RECENT_SECONDS:
                break
            del self._recent[oldest]

    def _copy(self, origin: str, future: Future[_Copy]) -> None:
        """Copy the content of a zone and its recently changed names into a future.

        The copy is made in parts, so that it does not block the event loop. Changes during the copy go to the inbox.
        """
        if not future.set_running_or_notify_cancel():
            return
        with self._condition:
            self._inbox[origin].clear()
        self._copied.add(origin)
        self._copy_part(origin, iter(self._content(origin).items()), {}, future)

    def _copy_part(
        self, origin: str, left: Iterator[tuple[str, Rrsets]], copy: dict[str, Rrsets], future: Future[_Copy]
    ) -> None:
        until = time.monotonic() + _PART_SECONDS
        try:
            for name, records in left:
                copy[name] = records
                if time.monotonic() > until and self._loop is not None:
                    if not self._stopping:  # otherwise nobody waits for the copy
                        self._loop.call_soon(self._copy_part, origin, left, copy, future)
                    return
            self._copied.discard(origin)
            future.set_result((copy, [name for name in self._recent if inside(name, origin)]))
        except Exception as error:  # noqa: BLE001  # raised again in the thread that waits for the copy
            self._copied.discard(origin)
            future.set_exception(error)

    # --- in the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._turn()
            except _StopError:
                self._wait(BATCH_SECONDS, 0.0)
            else:
                self._wait(BATCH_SECONDS, self._next_turn() - time.monotonic())

    def _turn(self) -> None:
        """Do all work that is due now."""
        if self._lease.standing() is Standing.LOST:
            for zone in self._zones.values():
                self._forget(zone)
            return
        for origin, zone in self._zones.items():
            if time.monotonic() < zone.retry_at:
                continue
            try:
                self._work(origin, zone)
            except _StopError:
                zone.synced = False
                raise
            except Exception as error:  # noqa: BLE001  # the thread must survive any error
                zone.synced = False
                if self._failed(zone, error):
                    return
            else:
                if zone.error:
                    _log.info("registration of %s at %s works again", origin, self.label)
                zone.works()

    def _work(self, origin: str, zone: _Zone) -> None:
        now = time.monotonic()
        refused = frozenset(zone.registered.refused)
        removes = self._complete()
        if not zone.synced or now >= zone.reconcile_at or (removes and not zone.removed):
            content, recent = self._ask_content(origin)
            with self._condition:
                changes, self._inbox[origin] = self._inbox[origin], {}
            content |= changes
            began = time.monotonic()
            zone.registered.reconcile(content, recent, removes=removes)
            zone.removed = removes
            zone.reconcile_took = time.monotonic() - began
            self._report(origin, zone.registered)
            self._reconcile_after(zone, zone.refused_pause if zone.registered.refused else RECONCILE_SECONDS)
            zone.refused_pause = min(2 * zone.refused_pause, RECONCILE_SECONDS)
            zone.synced = True
        else:
            with self._condition:
                changes, self._inbox[origin] = self._inbox[origin], {}
            if changes:
                zone.registered.apply(changes, removes=removes)
                zone.removed = zone.removed and removes
            elif now >= zone.check_at:
                zone.registered.check()
            else:
                return
        if zone.registered.refused.keys() - refused:
            zone.refused_pause = REFUSED_SECONDS
            self._reconcile_after(zone, min(REFUSED_SECONDS, zone.reconcile_at - now))
        zone.in_step_at = time.monotonic()
        zone.check_at = zone.in_step_at + CHECK_SECONDS

    def _reconcile_after(self, zone: _Zone, seconds: float) -> None:
        pause = max(seconds, _REST * zone.reconcile_took) * random.uniform(0.9, 1.1)  # noqa: S311
        zone.reconcile_at = time.monotonic() + pause

    def _report(self, origin: str, registered: RemoteZone) -> None:
        for what, names in (("are somebody else's", registered.foreign), ("are not taken", registered.refused)):
            if names:
                _log.warning("%d names in %s at %s %s, as %s", len(names), origin, self.label, what, min(names))

    def _forget(self, zone: _Zone) -> None:
        """Drop the state of a zone that another proxy registers."""
        zone.synced = zone.registered.claimed = False
        zone.registered.ours = {}
        zone.registered.foreign = set()
        zone.registered.refused = {}
        zone.in_step_at = time.monotonic()
        zone.works()

    def _go_on(self) -> None:
        if self._stopping or self._lease.standing() is Standing.LOST:
            raise _StopError

    def _ask_content(self, origin: str) -> _Copy:
        """Return a copy of the wanted content, made on the event loop. Raises _StopError after a time limit."""
        assert self._loop is not None  # noqa: S101  # set by start, which starts the thread
        future: Future[_Copy] = Future()
        try:
            self._loop.call_soon_threadsafe(self._copy, origin, future)
        except RuntimeError:  # the loop is closed
            raise _StopError from None
        deadline = time.monotonic() + _CONTENT_SECONDS
        while True:
            try:
                return future.result(BATCH_SECONDS)
            except FutureTimeoutError:
                if self._stopping or time.monotonic() > deadline:
                    future.cancel()
                    raise _StopError from None

    def _failed(self, zone: _Zone, error: Exception) -> bool:
        """Record a failure. Returns True if the other zones of the server need not be tried now."""
        reason = error.reason if isinstance(error, ExchangeError) else "internal"
        text = str(error) if isinstance(error, ExchangeError) else f"{type(error).__name__}: {error}"
        self.failures[self.label, reason] += 1
        if text not in {one.error for one in self._zones.values()}:
            _log.warning("registration at %s fails: %s", self.label, text, exc_info=reason == "internal")
        of_all = reason in _OF_THE_SERVER
        now = time.monotonic()
        for failing in self._zones.values() if of_all else (zone,):
            failing.failed(text, now)
        return of_all

    def _next_turn(self) -> float:
        return min((zone.due_at() for zone in self._zones.values()), default=float("inf"))

    def _wait(self, at_least: float, at_most: float) -> None:
        """Wait until there is work or `at_most` seconds have passed, but at least `at_least` seconds."""
        deadline = time.monotonic() + at_least
        with self._condition:
            if not self._stopping and not self._woken:
                self._condition.wait(min(max(at_most, 0.0), CHECK_SECONDS))
            self._woken = False
            while not self._stopping and (left := deadline - time.monotonic()) > 0:
                self._condition.wait(left)

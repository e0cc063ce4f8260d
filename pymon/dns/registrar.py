"""Registration of our records in other servers (RFC 2136), by one of all proxies at a time.

The proxy that has the lease of the directory writes its own name into each zone, as the term, and each of its messages
has that as a prerequisite: from that moment the server itself refuses what another still sends, whatever clocks and
pauses did to it. So the holder goes on while the directory is away, until somebody else has written there.
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
from pymon.dns.registered import RegisteredZone
from pymon.dns.registration import Rrsets
from pymon.dns.rrsets import Content

BATCH_SECONDS = 0.2
"""Between turns, so that what changes together is sent together."""

CHECK_SECONDS = 15.0
"""Between looks at a server to which nothing is sent."""

RECONCILE_SECONDS = 900.0
"""Between whole comparisons, longer where these take more than one part in `_REST` of the time."""

REFUSED_SECONDS = 20.0
"""To the next comparison where names were refused that were not before, then twice as long, as far as the one above: a
zone that is frozen refuses all names for a while.
"""

RETRY_SECONDS = (0.5, 30.0)
"""After a failure: the first pause, which doubles, and the longest; each is cut by up to half at random."""

RECENT_SECONDS = 60.0
"""Names that changed so lately may be there still, when this proxy takes over."""

_REST = 20.0
_MAX_RECENT = 20_000
_STOP_SECONDS = 10.0
_CONTENT_SECONDS = 30.0
_PART_SECONDS = 0.005

_Copy: TypeAlias = tuple[dict[str, Rrsets], list[str]]

_OF_THE_SERVER = frozenset({"timeout", "unreachable"})
"""Failures that all its zones have in common; others are of one zone."""

_is_owner = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?").fullmatch

_log = logging.getLogger(__name__)


class Server(NamedTuple):
    """A primary server. zones: absolute names of those of our zones that are to be registered there."""

    address: Address
    key: dns.tsig.Key
    zones: tuple[str, ...]


class ZoneStatus(NamedTuple):
    """A zone at a server, as the proxy that registers sees it.

    age_seconds: since it was last known to be as it should. names: of ours there. foreign: wanted names that are
    somebody else's. refused: names the server does not take, with the reason. by_transfer: how the zone is read, None
    before it was. error: why it does not work now, one line; empty when it does.
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
    """Registration in all servers, a thread for each, so that one that is away costs the others nothing.

    owner: whose the names are, a label in lower case that no other installation uses in these zones and that all
    proxies of this one share. holder: this proxy, for people; it is made unique. directory: its URL. content: what a
    zone should have, asked on the loop that calls `start`, in parts between which it may change. Raises ConfigError
    when the owner is no label.
    """

    def __init__(
        self,
        servers: Iterable[Server],
        *,
        owner: str,
        holder: str,
        directory: str,
        content: Callable[[str], Content],
    ) -> None:
        if not _is_owner(owner):
            raise ConfigError(f"owner: expected letters in lower case, digits and hyphens, got {shown(owner)}")
        name = re.sub(r"[^A-Za-z0-9.-]", "-", holder)[:64]
        self.holder = f"{name}-{secrets.token_hex(4)}"
        self.lease = HeldLease(directory, f"dns-registration {owner}", self.holder, self._wake)
        self._content = content
        self._workers = [_Worker(server, owner, self.holder, self.lease, content) for server in servers]

    def start(self) -> None:
        """Begin, on the running loop."""
        loop = asyncio.get_running_loop()
        for worker in self._workers:
            worker.start(loop)
        self.lease.start()

    async def stop(self) -> None:
        """End, and leave the registration to another. What is registered stays."""
        await asyncio.gather(*(worker.stop() for worker in self._workers))
        await self.lease.stop()

    def changed(self, names: Iterable[str]) -> None:
        """The records of these names have changed. On the loop; cheap where another proxy registers."""
        names = tuple(names)
        for worker in self._workers:
            worker.changed(names)

    def leads(self) -> bool:
        """Whether this proxy is the one that registers."""
        return self.lease.standing() is not Standing.LOST

    def status(self) -> list[ZoneStatus]:
        """All zones at all servers; none where another proxy registers."""
        return [status for worker in self._workers for status in worker.status()] if self.leads() else []

    def updates(self) -> dict[tuple[str, ...], int]:
        """Messages that servers have done, by (server, zone)."""
        return {key: count for worker in self._workers for key, count in worker.updates().items()}

    def failures(self) -> dict[tuple[str, ...], int]:
        """Failures by (server, reason)."""
        return {key: count for worker in self._workers for key, count in worker.failures.copy().items()}

    def _wake(self) -> None:
        for worker in self._workers:
            worker.wake()


class _StopError(Exception):
    """Nothing more is to be sent."""


class _Zone:
    """What a worker keeps beside the state of a zone. Times are monotonic. in_step_at: when it was last right.
    retry_at: nothing is sent before, after a failure.
    """

    def __init__(self, registered: RegisteredZone, now: float) -> None:
        self.registered = registered
        self.reconcile_at = now
        self.reconcile_took = 0.0
        self.refused_pause = REFUSED_SECONDS
        self.check_at = now
        self.in_step_at = now
        self.synced = False
        self.error = ""
        self.retry_at = now
        self._pause = RETRY_SECONDS[0]

    def due_at(self) -> float:
        """When there is something to do though nothing changes."""
        return max(self.retry_at, min(self.reconcile_at, self.check_at) if self.synced else 0.0)

    def failed(self, error: str, now: float) -> None:
        """It is to be tried again after a pause."""
        self.error = error
        self.retry_at = self.check_at = now + self._pause * random.uniform(0.5, 1.0)  # noqa: S311
        self._pause = min(2 * self._pause, RETRY_SECONDS[1])

    def works(self) -> None:
        """It has no failures behind it."""
        self.error = ""
        self._pause, self.retry_at = RETRY_SECONDS[0], 0.0


class _Worker:
    """One server. `_inbox`, by zone, is filled on the loop and emptied in the thread."""

    def __init__(
        self,
        server: Server,
        owner: str,
        holder: str,
        lease: HeldLease,
        content: Callable[[str], Content],
    ) -> None:
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
        self._zones = {
            zone: _Zone(RegisteredZone(peer, zone, owner, holder, self._go_on), now) for zone in server.zones
        }

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
        """The whole content, in parts so that others have their turns, and what may have been there a moment ago. What
        changes meanwhile comes into the inbox.
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
                    if not self._stopping:  # else nobody waits for it
                        self._loop.call_soon(self._copy_part, origin, left, copy, future)
                    return
            self._copied.discard(origin)
            future.set_result((copy, [name for name in self._recent if inside(name, origin)]))
        except Exception as error:  # noqa: BLE001  # it is raised where it was asked for
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
        """All that is to do now."""
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
            except Exception as error:  # noqa: BLE001  # the thread goes on, whatever comes
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
        if not zone.synced or now >= zone.reconcile_at:
            content, recent = self._ask_content(origin)
            with self._condition:
                changes, self._inbox[origin] = self._inbox[origin], {}
            content |= changes
            began = time.monotonic()
            zone.registered.reconcile(content, recent)
            zone.reconcile_took = time.monotonic() - began
            self._report(origin, zone.registered)
            self._reconcile_after(zone, zone.refused_pause if zone.registered.refused else RECONCILE_SECONDS)
            zone.refused_pause = min(2 * zone.refused_pause, RECONCILE_SECONDS)
            zone.synced = True
        else:
            with self._condition:
                changes, self._inbox[origin] = self._inbox[origin], {}
            if changes:
                zone.registered.apply(changes)
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

    def _report(self, origin: str, registered: RegisteredZone) -> None:
        for what, names in (("are somebody else's", registered.foreign), ("are not taken", registered.refused)):
            if names:
                _log.warning("%d names in %s at %s %s, as %s", len(names), origin, self.label, what, min(names))

    def _forget(self, zone: _Zone) -> None:
        """Another registers, and what it does is not known here."""
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
        """From the loop, where the records change."""
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
        """Whether the other zones need not be tried now."""
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
        """Until something is to do, `at_most` seconds, but never less than `at_least`."""
        deadline = time.monotonic() + at_least
        with self._condition:
            if not self._stopping and not self._woken:
                self._condition.wait(min(max(at_most, 0.0), CHECK_SECONDS))
            self._woken = False
            while not self._stopping and (left := deadline - time.monotonic()) > 0:
                self._condition.wait(left)

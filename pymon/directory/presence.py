"""Which proxies are alive. Each proxy renews leases of its own in the directory and reads those of the others.

``proxy NAME`` holds the addresses of a proxy in DNS, and ``peer NAME`` says how other proxies reach it. The others are
also in a copy on disk, from which a proxy knows them while the directory is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from pymon.directory.directory import Directory
from pymon.directory.model import DirectoryError
from pymon.directory.url import identity
from pymon.directory.worker import Worker
from pymon.whole_file import replace_file

ALIVE_SECONDS = 5.0
"""A proxy that has not renewed its lease for this long counts as dead."""

RENEW_SECONDS = 1.0
LONGEST_SECONDS = 20.0
"""The longest lease of a proxy of any version."""

MAX_PROXIES = 1000
_NAMES, _PEERS = "proxy ", "peer "
_COPY_VERSION = 1
_MAX_COPY_BYTES = 4 << 20

_is_url = re.compile(r"https://[!-~]{1,250}").fullmatch
_is_fingerprint = re.compile(r"[0-9a-f]{64}").fullmatch
_log = logging.getLogger(__name__)

Addresses = tuple[str, ...]


class Peer(NamedTuple):
    """How other proxies reach a proxy.

    url: ``https://HOST:PORT``. fingerprint: SHA-256 of its server certificate, in hexadecimal. reach: the number of
    nodes that it says it reaches.
    """

    url: str
    fingerprint: str
    reach: int = 0


class Proxies(NamedTuple):
    """Proxies that are alive. names: addresses of those in DNS, by name. peers: those that others can reach."""

    names: Mapping[str, Addresses]
    peers: Mapping[str, Peer]


def present(directory: Directory) -> dict[str, Addresses]:
    """Return name -> addresses of the proxies in DNS that are alive. Raises DirectoryError."""
    return dict(_decoded(directory.leases(_NAMES, LONGEST_SECONDS)).names)


class Presence:
    """Renews the leases of this proxy and reads those of the others, in a thread of its own.

    name: of this proxy, unique among all proxies. copy: file for the copy of the others, None for none.

    alive: this proxy and the others. A proxy is removed only after the directory has answered and does not have its
    lease. After an outage, during which nobody could renew, the others have `ALIVE_SECONDS` to renew first.
    looked: set after the first look at the directory, whether it succeeded or not. `alive` is not complete before.
    """

    def __init__(self, url: str, name: str, copy: Path | None) -> None:
        self.name = name
        self.changed: list[Callable[[], None]] = []
        """Called on the event loop when other proxies, or other addresses of them, are in `alive`."""
        self.looked = asyncio.Event()
        self.alive = Proxies({}, {})
        self.left = False
        """Whether this proxy is out of DNS because of `leave`."""
        self.error = ""
        """The reason why the last attempt failed, one line, "" if it succeeded."""
        self.copy_error = ""
        """Why the copy on disk could not be written, one line, "" if it is written."""
        self._identity = identity(url)
        self._worker = Worker(url, "presence")
        self._copy = copy
        self._addresses: Addresses = ()
        self._peer: Peer | None = None
        self._leaves: frozenset[str] = frozenset()
        self._others: dict[str, str] = {}  # lease -> holder
        self._renewed_own: dict[str, str] = {}
        self._renewed: set[str] = set()  # leases that were there since `_recovered_at`
        self._recovered_at = -math.inf
        self._failed = True
        self._saved: dict[str, str] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def say(self, addresses: Addresses, peer: Peer | None) -> None:
        """Set what this proxy tells of itself from the next renewal on. addresses: in DNS, () for none."""
        self._addresses = addresses
        self._peer = peer

    def leave(self, *, leaves: bool, why: str = "") -> None:
        """Take this proxy out of DNS, or put it back. The last one that is in DNS stays there.

        why: a name of the reason. The proxy is out of DNS while there is any.
        """
        self._leaves = self._leaves | {why} if leaves else self._leaves - {why}

    def start(self) -> None:
        """Read the copy and start the thread. Must be called on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._others = self._saved = self._read_copy()
        self.alive = _decoded(self._others | self._own())
        self._worker.start(self._run)

    async def stop(self) -> None:
        """Release the leases and stop the thread, within seconds although the directory hangs."""
        self.looked.set()
        await self._worker.stop()

    # --- in the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while True:
                self._look()
                if self._worker.stopping.wait(RENEW_SECONDS):
                    break
            self._release()
        finally:
            self._worker.close()

    def _look(self) -> None:
        before = self.error
        own = {} if self._worker.loop_hangs() else self._own()
        try:
            found = self._worker.open().renew_leases(
                own, ALIVE_SECONDS, (_NAMES, _PEERS), LONGEST_SECONDS, yields=_NAMES if self._leaves else ""
            )
            self.error = ""
        except Exception as error:  # noqa: BLE001  # the thread must survive any error
            self._worker.close()
            self.error = str(error) if isinstance(error, DirectoryError) else f"{type(error).__name__}: {error}"
            self._failed = True
            if self.error != before:
                _log.warning("other proxies are not known: %s", self.error)
            self._tell(self._others | own, left=False)
            return
        if before:
            _log.info("other proxies are known again")
        others = {name: holder for name, holder in found.items() if name not in own}
        now = time.monotonic()
        if self._failed:
            self._failed, self._recovered_at = False, now
            self._renewed.clear()
        self._renewed |= others.keys()
        if now - self._recovered_at < ALIVE_SECONDS:
            others |= {name: text for name, text in self._others.items() if name not in self._renewed}
        self._others = others
        self._renewed_own = {name: holder for name, holder in own.items() if name in found}
        left = bool(self._leaves and self._addresses) and _NAMES + self.name not in found
        self._tell(others | self._renewed_own, left=left)
        self._save(others)

    def _own(self) -> dict[str, str]:
        own = {}
        if self._addresses:
            own[_NAMES + self.name] = json.dumps(self._addresses)
        peer = self._peer
        if peer is not None:
            own[_PEERS + self.name] = json.dumps(peer._asdict())
        return own

    def _release(self) -> None:
        directory = self._worker.directory
        if directory is None:
            return
        try:
            for name, holder in self._renewed_own.items():
                directory.release_lease(name, holder)
        except DirectoryError as error:
            _log.warning("lease of this proxy is not released: %s", error)

    def _tell(self, leases: Mapping[str, str], *, left: bool) -> None:
        assert self._loop is not None  # noqa: S101  # set by start, which starts the thread
        if not self._worker.stopping.is_set():
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._take, _decoded(leases), left)

    def _take(self, alive: Proxies, left: bool) -> None:
        if self._worker.stopping.is_set():
            return
        before, self.alive, self.left = self.alive, alive, left
        self.looked.set()
        if _reached(before) != _reached(alive):
            for changed in self.changed:
                changed()

    # --- the copy --------------------------------------------------------------------------------

    def _save(self, others: dict[str, str]) -> None:
        """Write the copy if the one on disk says something else."""
        if self._copy is None:
            return
        error = ""
        if _reached(_decoded(others)) != _reached(_decoded(self._saved)):
            document = {"pymon_presence_copy": _COPY_VERSION, "directory": self._identity, "leases": others}
            try:
                replace_file(self._copy, json.dumps(document).encode() + b"\n")
                self._saved = others
            except OSError as failure:
                error = f"{self._copy}: {failure.strerror}"
        if error and not self.copy_error:
            _log.warning("copy of the proxies cannot be written: %s", error)
        if self.copy_error and not error:
            _log.info("copy of the proxies is up to date again")
        self.copy_error = error

    def _read_copy(self) -> dict[str, str]:
        """Return the leases of the copy; none if it is missing, damaged, or the copy of another directory."""
        if self._copy is None:
            return {}
        try:
            with self._copy.open("rb") as stream:
                document = json.loads(stream.read(_MAX_COPY_BYTES))
            if document["pymon_presence_copy"] != _COPY_VERSION or document["directory"] != self._identity:
                return {}
            return {str(name): str(holder) for name, holder in document["leases"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            _log.warning("copy of the proxies ignored: %s: %s", self._copy, error)
            return {}


def _decoded(leases: Mapping[str, str]) -> Proxies:
    """Return the proxies of leases. One that cannot be read is left out: another version may use another format."""
    names: dict[str, Addresses] = {}
    peers: dict[str, Peer] = {}
    for lease in sorted(leases)[: 2 * MAX_PROXIES]:
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            holder = json.loads(leases[lease])
            if lease.startswith(_NAMES) and isinstance(holder, list) and all(isinstance(one, str) for one in holder):
                names[lease.removeprefix(_NAMES)] = tuple(holder)
            elif lease.startswith(_PEERS):
                peer = Peer(str(holder["url"]), str(holder["fingerprint"]), int(holder["reach"]))
                if _is_url(peer.url) and _is_fingerprint(peer.fingerprint):
                    peers[lease.removeprefix(_PEERS)] = peer
    return Proxies(names, peers)


def _reached(proxies: Proxies) -> tuple[Mapping[str, Addresses], Mapping[str, Peer]]:
    """Return the proxies without what changes all the time."""
    return proxies.names, {name: peer._replace(reach=0) for name, peer in proxies.peers.items()}

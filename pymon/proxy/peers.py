"""The other proxies, as clients: they are asked for inventories, and what they reach.

What they answer is believed only about nodes that this proxy has never heard.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import re
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import msgspec

from pymon.directory.presence import Peer
from pymon.proxy.fleet import MAX_STOPPED
from pymon.proxy.inventory_store import Copy, Stop
from pymon.proxy.membership import Membership
from pymon.proxy.peer_clients import PeerClients
from pymon.proxy.upstream import UpstreamError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Collection

    from pymon.directory.presence import Addresses, Presence
    from pymon.proxy.peer_clients import PeerClient
    from pymon.proxy.reach import Reach

LOOK_SECONDS = 1.0
"""How often this proxy tells what it reaches, and looks at what the others reach."""

COPY_SECONDS = 3.0
"""How long a node waits for the copy of another proxy before its agent is asked."""

ASK_SECONDS = 2.0
COPIES_AT_A_TIME = 4
MAX_COPY_BYTES = 24 << 20
"""Limits of the copies of other proxies: time and number of requests at the same time, and size of one copy."""

MAX_NODES_BYTES = 4 << 20
MAX_STOPPED_BYTES = 6 << 20

_ETAG = re.compile(r'(?:W/)?"[!#-~]{0,256}"')
_NODES = "/v1/peer/nodes"
_OK, _NOT_MODIFIED = 200, 304

_names = msgspec.json.Decoder(list[str])
_stops = msgspec.json.Decoder(list[Stop])
_log = logging.getLogger(__name__)


class _Sent(msgspec.Struct):
    """The fields of `MadeCopy`. They are read one by one, so that each has its limit."""

    saved_at: float
    etag: str
    document: msgspec.Raw
    stopped: msgspec.Raw


_sent = msgspec.json.Decoder(_Sent)


class Peers(PeerClients):
    """Clients of the other proxies, and what this proxy tells them of itself by `Presence`.

    nodes: returns the names of the nodes in the directory. context: as in `PeerClients`. addresses: of this proxy in
    DNS. url, fingerprint: how others reach this proxy, "" if they cannot. told: called after they were asked what they
    reach.
    """

    def __init__(
        self,
        presence: Presence,
        reach: Reach,
        nodes: Callable[[], Collection[str]],
        context: Callable[[], ssl.SSLContext],
    ) -> None:
        super().__init__(context)
        self.addresses: Addresses = ()
        self.url = ""
        self.fingerprint: Callable[[], str] = str
        self.told: Callable[[], None] = lambda: None
        self._presence = presence
        self._reach = reach
        self._nodes = nodes
        self._copying = asyncio.Semaphore(COPIES_AT_A_TIME)
        self._membership = Membership()
        self._woken = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        reach.changed = self._lost

    def start(self) -> None:
        """Start to follow the other proxies. `Presence.start` comes afterwards."""
        self.tell()
        self._presence.changed.append(self._renew)
        self._following = asyncio.get_running_loop().create_task(self._follow(), name="peers")

    async def stop(self) -> None:
        """Stop following and close all connections."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        self.close()

    def tell(self) -> None:
        """Tell the others of this proxy."""
        fingerprint = self.fingerprint()
        peer = Peer(self.url, fingerprint, len(self._reach.reached)) if self.url and fingerprint else None
        self._presence.say(self.addresses, peer)

    def best(self) -> int:
        """Return the largest number of nodes that another proxy says it reaches."""
        own = self._presence.name
        return max((peer.reach for name, peer in self._presence.alive.peers.items() if name != own), default=0)

    # What they reach.

    def reaching(self, nodes: Collection[str]) -> tuple[bool, list[tuple[str, Peer, list[str]]]]:
        """Return whether the others were asked since the last agent was lost, and each with its name and which of these
        nodes it says it reaches.
        """
        found = [
            (name, Peer(*client.at), sorted(client.reached.intersection(nodes)))
            for name, client in self._clients.items()
        ]
        return self._asked.is_set(), found

    def _lost(self) -> None:
        """Ask the others now: an agent is out of reach."""
        self._asked.clear()
        self._woken.set()

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._woken.clear()
            try:
                self._renew()
                nodes = self._nodes()
                self._reach.keep_only(nodes)
                self.tell()
                leaves = self._membership.step(loop.time(), len(self._reach.reached), self.best(), len(nodes))
                self._presence.leave(leaves=leaves, why="reach")
                if self._reach.lost or len(self._reach.reached) < len(nodes):
                    await asyncio.gather(*map(self._ask_nodes, tuple(self._clients.values())))
            except Exception:  # noqa: BLE001  # following must survive every error
                _log.exception("internal error: peers")
            self._asked.set()
            self.told()
            try:
                await asyncio.wait_for(self._woken.wait(), LOOK_SECONDS)
            except TimeoutError:
                continue

    def _renew(self) -> None:
        """Have a client for each other proxy that presence knows."""
        self.have({name: peer for name, peer in self._presence.alive.peers.items() if name != self._presence.name})

    async def _ask_nodes(self, client: PeerClient) -> None:
        headers = (("If-None-Match", client.etag),) if client.etag else ()
        try:
            answer = await client.upstream.get(
                _NODES, headers=headers, timeout_seconds=ASK_SECONDS, max_bytes=MAX_NODES_BYTES
            )
            if answer.status == _NOT_MODIFIED:
                return
            names = await asyncio.to_thread(_names.decode, answer.body) if answer.status == _OK else []
        except (UpstreamError, ValueError, RecursionError):
            names, client.etag = [], ""
        else:
            client.etag = _etag(answer.headers.get("etag", ""))
        client.reached = frozenset(names).intersection(self._nodes())

    # Inventories.

    async def copy(self, name: str, etag: str, max_bytes: int) -> Copy | None:
        """Return a node's inventory as another proxy has heard it. None if there is none, or it still has this ETag."""
        try:
            async with asyncio.timeout(COPY_SECONDS):
                await self._presence.looked.wait()
                self._renew()
                clients = list(self._clients.values())
                random.shuffle(clients)
                clients.sort(key=lambda client: name not in client.reached)
                for client in clients:
                    async with self._copying:
                        found = await self._ask_copy(client, name, etag, min(max_bytes, MAX_COPY_BYTES))
                    if found is not None:
                        return found
        except TimeoutError:
            return None
        return None

    @staticmethod
    async def _ask_copy(client: PeerClient, name: str, etag: str, max_bytes: int) -> Copy | None:
        try:
            answer = await client.upstream.get(
                "/v1/peer/inventory?" + urlencode({"node": name}),
                headers=(("If-None-Match", etag),) if etag else (),
                timeout_seconds=ASK_SECONDS,
                max_bytes=max_bytes,
            )
            return await asyncio.to_thread(_read, answer.body) if answer.status == _OK else None
        except UpstreamError:
            return None
        except (ValueError, RecursionError) as error:
            fields = {"node": name, "peer": client.at[0], "problem": " ".join(str(error).split())}
            _log.warning("inventory of another proxy ignored", extra={"fields": fields})
            return None


def _read(body: bytes) -> Copy:
    """Return the copy in a response. Raises ValueError."""
    sent = _sent.decode(body)
    if not math.isfinite(sent.saved_at):
        raise ValueError("expected a time")
    stopped = bytes(sent.stopped)
    stops = _stops.decode(stopped)[:MAX_STOPPED] if len(stopped) <= MAX_STOPPED_BYTES else []
    return Copy(sent.saved_at, _etag(sent.etag), sent.document, stops)


def _etag(text: str) -> str:
    """Return an ETag that may be sent in a header, or ""."""
    return text if _ETAG.fullmatch(text) else ""

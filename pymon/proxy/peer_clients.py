"""Clients of the other proxies, through which scrapes go whose agent this proxy does not reach.

Presence says where they are and which server certificate they have. This proxy shows its client certificate, by which
they admit it (`peer_identity`).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pymon.proxy.relay import headers_of
from pymon.proxy.upstream import Upstream, UpstreamError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from pymon.directory.presence import Peer
    from pymon.proxy.relay import Ask
    from pymon.service.http1 import Response

KNOW_SECONDS = 0.3
"""How long a scrape waits for what the others say that they reach."""

TRIES = 2
"""How many other proxies are tried for one scrape."""


class PeerClient:
    """Another proxy. reached: names of the nodes that it says it reaches. etag: of that list."""

    def __init__(self, peer: Peer, context: ssl.SSLContext) -> None:
        self.at = (peer.url, peer.fingerprint)
        self.upstream = Upstream(peer.url, context, fingerprint=peer.fingerprint)
        self.reached: frozenset[str] = frozenset()
        self.etag = ""


class PeerClients:
    """Clients of the other proxies, for `pymon.proxy.relay`. Use one object for one event loop.

    context: returns the TLS context, with the client certificate and without verification: the server's certificate is
    compared with the one that presence names.
    """

    def __init__(self, context: Callable[[], ssl.SSLContext]) -> None:
        self._context = context
        self._clients: dict[str, PeerClient] = {}
        self._asked = asyncio.Event()

    def use(self, context: ssl.SSLContext) -> None:
        """Use this context for new connections."""
        for client in self._clients.values():
            client.upstream.use(context)

    def close(self) -> None:
        """Close the connections to all proxies. Requests in progress fail."""
        for client in self._clients.values():
            client.upstream.close()
        self._clients.clear()

    def have(self, peers: Mapping[str, Peer]) -> None:
        """Have a client for each of these proxies, by name, and for no other."""
        for name, client in tuple(self._clients.items()):
            peer = peers.get(name)
            if peer is None or client.at != (peer.url, peer.fingerprint):
                del self._clients[name]
                client.upstream.close()
        for name, peer in peers.items():
            if name not in self._clients:
                try:
                    self._clients[name] = PeerClient(peer, self._context())
                except ValueError:  # its URL is none
                    continue

    def that_reach(self, node: str) -> bool:
        """Return whether another proxy says that it reaches a node."""
        return any(node in client.reached for client in self._clients.values())

    async def asked(self) -> None:
        """Wait until the others were asked since the last agent was lost, or for `KNOW_SECONDS`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KNOW_SECONDS):
                await self._asked.wait()

    async def scrape(self, ask: Ask, deadline: float) -> Response:
        """Return the agent's response through another proxy, which asks the agent itself. Raises UpstreamError."""
        loop = asyncio.get_running_loop()
        clients = [client for client in self._clients.values() if ask.node in client.reached]
        failure = UpstreamError(502, "connect", "no other proxy reaches its node")
        target = "/v1/peer/scrape?" + urlencode({"node": ask.node, "path": ask.path})
        chosen = random.sample(clients, min(TRIES, len(clients)))
        for client in chosen:
            left = deadline - loop.time()
            if left <= 0:
                break
            try:
                response = await client.upstream.get(target, headers=headers_of(ask, left), timeout_seconds=left)
            except UpstreamError as error:
                failure = error
                continue
            if response.status in {502, 504} and client is not chosen[-1]:
                failure = UpstreamError(response.status, "peer", "another proxy did not reach its node either")
                continue
            return response
        raise failure

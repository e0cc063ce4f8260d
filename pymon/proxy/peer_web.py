"""Answers other proxies: what this proxy has heard of nodes, and scrapes of agents that they do not reach themselves.

A proxy that asks has decided about the account. Here a scrape goes to the agent and never through another proxy.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from pymon.exposition.negotiation import negotiate
from pymon.proxy.peers import MAX_COPY_BYTES
from pymon.proxy.relay import CODINGS, Ask, narrowed, relayed
from pymon.proxy.room import Room
from pymon.service.answer import Refusal, Reply
from pymon.service.coding import accepted_codings
from pymon.service.headers import entity_tags, scrape_timeout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymon.proxy.inventory_store import MadeCopy
    from pymon.proxy.peer_identity import PeerIdentity
    from pymon.proxy.reach import Reach
    from pymon.proxy.relay import Relay
    from pymon.service.server import Request

PREFIX = "/v1/peer/"
NODES, INVENTORY = "nodes", "inventory"

SCRAPE_SECONDS = 9.5
MAX_SCRAPE_SECONDS = 120.0

LEAVING_BYTES, LEAVING_PEER_BYTES = 64 << 20, 32 << 20
"""Memory limits of replies that other proxies have not received yet: in total, and for one of them."""

INVENTORIES_AT_ONCE = 2
"""Inventories that are encoded at the same time. Their size is known, and counted in these limits, afterwards."""

NODES_SECONDS = 0.5
"""How long a list of reached nodes is used."""

_CONTAINERS_AT_ONCE = 200
"""Containers that are encoded before other tasks run, in about a millisecond."""

_MAX_FIELDS = 4
_TEXT_JSON = b"Content-Type: application/json\r\n"
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_AGENT_PATH = re.compile(rf"(/v1/(?:gz|{_UUID}|{_UUID}(/app))/metrics)(?:\?([!-~]*))?")


class Told(NamedTuple):
    """What another proxy is told. status: 200, 304, 404, or 503. tag: of the body, without quotes, "" for none."""

    status: int
    tag: str = ""
    body: bytes = b""


NOT_FOUND = Told(404)

Known = Callable[[str, str, str], Awaitable[Told]]
"""Answers the question of another proxy: NODES or INVENTORY, the node of an inventory, and If-None-Match or ""."""


class Knowledge:
    """What this proxy has heard of nodes and which it reaches. heard: as `Poller.heard`."""

    def __init__(self, heard: Callable[[str], MadeCopy | None], reach: Reach) -> None:
        self._heard = heard
        self._reach = reach
        self._encoding = asyncio.Semaphore(INVENTORIES_AT_ONCE)
        self._nodes = Told(200)
        self._nodes_at = 0.0

    async def known(self, what: str, node: str, condition: str) -> Told:
        """Answer a question; the interface is `Known`."""
        return self._told_nodes(condition) if what == NODES else await self._inventory(node, condition)

    def _told_nodes(self, condition: str) -> Told:
        now = time.monotonic()
        if not self._nodes.tag or now - self._nodes_at > NODES_SECONDS:
            nodes = msgspec.json.encode(sorted(self._reach.reached))
            self._nodes = Told(200, hashlib.blake2b(nodes, digest_size=16).hexdigest(), nodes)
            self._nodes_at = now
        if condition and self._nodes.tag in entity_tags(condition):
            return self._nodes._replace(status=304, body=b"")
        return self._nodes

    async def _inventory(self, node: str, condition: str) -> Told:
        async with self._encoding:
            copy = self._heard(node)
            if copy is None:
                return NOT_FOUND
            return Told(304) if copy.etag and condition == copy.etag else Told(200, "", await encoded(copy))


class PeerWeb:
    """Answers the requests of other proxies. parts: processes that have memory limits in common."""

    def __init__(self, identity: PeerIdentity, known: Known, relay: Relay, *, parts: int = 1) -> None:
        self._identity = identity
        self._known = known
        self._relay = relay
        # Whatever its part is, a process has room for one inventory.
        total, most = (max(size // parts, MAX_COPY_BYTES) for size in (LEAVING_BYTES, LEAVING_PEER_BYTES))
        self._leaving = Room(total, most)

    def name_of(self, request: Request) -> str:
        """Return the name of the proxy that sent a request, "" if it is none of another proxy."""
        if not request.path.startswith(PREFIX):
            return ""
        return self._identity.name_of(request.client.certificate_der, time.time())

    async def answer(self, request: Request, name: str) -> Reply:
        """Answer a request of the proxy of this name. Raises Refusal and UpstreamError."""
        peer = uuid5(NAMESPACE_URL, name)
        if request.method != "GET":
            raise Refusal(405, "method not allowed: expected GET", b"Allow: GET\r\n")
        what = request.path.removeprefix(PREFIX)
        if what == "scrape":
            return await self._scrape(request, peer)
        if what not in {NODES, INVENTORY}:
            raise Refusal(404, "not found")
        (node,) = _fields(request, "node") if what == INVENTORY else ("",)
        told = await self._known(what, node, request.headers.get("if-none-match") or "")
        if told.status == 404:  # noqa: PLR2004
            raise Refusal(404, "not found")
        hold = self._leaving.take_now(peer, len(told.body))
        if hold is None or told.status == 503:  # noqa: PLR2004
            raise Refusal(503, "too many large answers are under way", b"Retry-After: 1\r\n")
        tag = f'ETag: "{told.tag}"\r\n'.encode("ascii") if told.tag else b""
        return Reply(told.status, _TEXT_JSON + tag, told.body, release=hold.release)

    async def _scrape(self, request: Request, peer: UUID) -> Reply:
        node, path = _fields(request, "node", "path")
        match = _AGENT_PATH.fullmatch(path)
        app = match is not None and match[2] is not None
        if match is None or path != match[1] + narrowed(match[3] or "", app=app):
            raise Refusal(400, "path: expected that of a scrape")
        headers = request.headers
        seconds = scrape_timeout(headers.get("x-prometheus-scrape-timeout-seconds")) or SCRAPE_SECONDS
        codings = accepted_codings(headers.get("accept-encoding"), *CODINGS)
        ask = Ask(peer, node, path, negotiate(headers.get("accept")), codings, direct=True, app=app)
        deadline = asyncio.get_running_loop().time() + min(seconds, MAX_SCRAPE_SECONDS)
        return relayed(await self._relay.scrape(ask, deadline), peer, self._leaving)


async def encoded(copy: MadeCopy) -> bytes:
    """Return a copy as JSON. Other tasks run between parts of it."""
    encode = msgspec.json.encode
    parts = [b'{"saved_at":', encode(copy.saved_at), b',"etag":', encode(copy.etag), b',"fields":', encode(copy.fields)]
    parts += [b',"document":{"node":', encode(copy.document.node), b',"containers":']
    parts += [*await _encoded_list(copy.document.containers), b'},"stopped":', *await _encoded_list(copy.stopped), b"}"]
    return b"".join(parts)


async def _encoded_list(items: Sequence[object]) -> list[bytes]:
    parts = [b"["]
    for first in range(0, len(items), _CONTAINERS_AT_ONCE):
        parts += [b"," if first else b"", msgspec.json.encode(items[first : first + _CONTAINERS_AT_ONCE])[1:-1]]
        await asyncio.sleep(0)
    return [*parts, b"]"]


def _fields(request: Request, *names: str) -> tuple[str, ...]:
    """Return these parameters of a query, each given once. Raises Refusal 400."""
    try:
        found = parse_qs(request.query, keep_blank_values=True, strict_parsing=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        found = {}
    if found.keys() != set(names) or any(len(values) != 1 for values in found.values()):
        raise Refusal(400, f"query: expected {' and '.join(names)}")
    return tuple(found[name][0] for name in names)

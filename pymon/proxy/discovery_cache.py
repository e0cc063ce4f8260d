"""Cache of discovery bodies with their entity tags and compressed forms, valid until inventory or accounts change."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from pymon.config import shown
from pymon.exposition.compression import gzip
from pymon.proxy import discovery
from pymon.proxy.authz import owners_visible_to
from pymon.service.answer import Refusal, Reply
from pymon.service.coding import accepted_codings
from pymon.service.headers import entity_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable
    from uuid import UUID

    from pymon.proxy.authn import Principal
    from pymon.proxy.places import Place, Places
    from pymon.proxy.turns import Turns
    from pymon.service.server import Request

MAX_BODIES = 512
MAX_BYTES = 64 << 20
"""Limits of the cache. The least recently used body is dropped first."""

TURN_SECONDS = 10.0
"""How long the creation of a large body may wait for the worker thread."""

_AT_ONCE = 500
"""A body of up to this many entries is created on the event loop, in one or two milliseconds; a larger one in the
worker thread."""

_COMPRESS_MIN_BYTES = 512
_JSON = b"Content-Type: application/json; charset=utf-8\r\nVary: Accept-Encoding\r\n"
_GZIP = b"Content-Encoding: gzip\r\n"


class _Entry:
    """One cached body. version: of the fleet at its creation. counted: bytes that the cache's total includes for it."""

    __slots__ = ("body", "compressed", "counted", "tag", "version")

    def __init__(self, body: bytes, version: int) -> None:
        self.body = body
        self.version = version
        self.tag = hashlib.blake2b(body, digest_size=16).hexdigest()
        self.compressed: bytes | None = None
        self.counted = 0

    def compress(self) -> None:
        """Create the compressed form if it is missing."""
        self.compressed = self.compressed or gzip(self.body)

    @property
    def size(self) -> int:
        """Total bytes of both forms."""
        return len(self.body) + len(self.compressed or b"")


class DiscoveryCache:
    """Answers the three discovery endpoints from a fleet. Invalid queries raise Refusal 400.

    port: returns the port of the proxy, for targets. stopped: always include stopped containers. parts: processes that
    have the memory limit in common; each has its part.
    """

    def __init__(
        self, fleet: Places, turns: Turns, *, zone: str, port: Callable[[], int], stopped: bool, parts: int = 1
    ) -> None:
        self._fleet = fleet
        self._turns = turns
        self._zone = zone
        self._port = port
        self._stopped = stopped
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._bytes = 0
        self._parts = parts

    async def containers(self, principal: Principal, request: Request) -> Reply:
        """Answer ``/v1/discover``: the containers visible to the principal, in the format of triton_sd."""
        asked = parsed(request.query, ("groups", "stopped"))
        return await self._reply(
            ("discover", principal.account, principal.operator, asked),
            principal.account,
            lambda: self._places(principal, stopped=asked.stopped),
            lambda places: discovery.discover(places, groups=asked.groups),
            request,
        )

    async def nodes(self, principal: Principal, request: Request) -> Reply:
        """Answer ``/v1/gz/discover``: the nodes. The parameter groups is ignored; triton_sd sends it here too."""
        parsed(request.query, ("groups",))
        return await self._reply(("nodes",), principal.account, self._fleet.nodes, discovery.discover_nodes, request)

    async def http_sd(self, principal: Principal, asked: discovery.Query, request: Request) -> Reply:
        """Answer ``/v1/sd``: containers, their services, or nodes, in the format of http_sd.

        asked: the query. The caller must have checked that the principal may use its role.
        """
        proxy = _own_address(request) if asked.via == "path" else ""

        def find() -> list[Any]:
            return self._fleet.nodes() if asked.role == "node" else self._places(principal, stopped=asked.stopped)

        def make(things: list[Any]) -> bytes:
            if asked.role == "app":
                return discovery.http_sd_apps(things, asked, proxy=proxy)
            return discovery.http_sd(things, asked, zone=self._zone, port=self._port(), proxy=proxy)

        key = ("sd", principal.account, principal.operator, asked, proxy)
        return await self._reply(key, principal.account, find, make, request)

    def _places(self, principal: Principal, *, stopped: bool) -> list[Place]:
        """Return the places visible to the principal."""
        owners = owners_visible_to(principal)
        return self._fleet.owned(*owners) + (self._fleet.stopped(*owners) if stopped or self._stopped else [])

    async def _reply(
        self,
        key: Hashable,
        account: UUID,
        find: Callable[[], list[Any]],
        make: Callable[[list[Any]], bytes],
        request: Request,
    ) -> Reply:
        codings = accepted_codings(request.headers.get("accept-encoding"), "gzip")
        compress = codings[0] == "gzip"
        entry = self._entries.get(key)
        if entry is not None and entry.version == self._fleet.version and (entry.compressed or not compress):
            self._entries.move_to_end(key)
        else:
            entry = self._keep(key, await self._make(key, account, find(), make, compress=compress))
        worth = len(entry.body) >= _COMPRESS_MIN_BYTES or "identity" not in codings
        compressed = entry.compressed if compress and worth else None
        tag = entry.tag if compressed is None else f"{entry.tag}-gzip"
        headers = _JSON + f'ETag: "{tag}"\r\n'.encode("ascii")
        condition = request.headers.get("if-none-match")
        if condition and (condition.strip() == "*" or {entry.tag, f"{entry.tag}-gzip"} & entity_tags(condition)):
            return Reply(304, headers, b"")
        if compressed is None:
            return Reply(200, headers, entry.body)
        return Reply(200, headers + _GZIP, compressed)

    async def _make(
        self,
        key: Hashable,
        account: UUID,
        things: list[Any],
        make: Callable[[list[Any]], bytes],
        *,
        compress: bool,
    ) -> _Entry:
        """Create the entry for `things`, or take a cached one that is at least as new."""
        version = self._fleet.version

        def work() -> _Entry:
            entry = self._entries.get(key)
            if entry is None or entry.version < version:
                entry = _Entry(make(things), version)
            if compress:
                entry.compress()
            return entry

        if len(things) <= _AT_ONCE:
            return work()
        return await self._turns.run(account, asyncio.get_running_loop().time() + TURN_SECONDS, work)

    def _keep(self, key: Hashable, entry: _Entry) -> _Entry:
        """Store an entry and drop the least recently used ones above the limits. Return the entry."""
        entries = self._entries
        before = entries.pop(key, None)
        if before is not None:
            self._bytes -= before.counted
        entries[key] = entry
        entry.counted = entry.size
        self._bytes += entry.counted
        while entries and (len(entries) > MAX_BODIES or self._bytes > MAX_BYTES // self._parts):
            self._bytes -= entries.popitem(last=False)[1].counted
        return entry


def parsed(query: str, allowed: Collection[str]) -> discovery.Query:
    """Parse the query of a URL. allowed: the accepted parameters. Raises Refusal 400."""
    try:
        return discovery.parse_query(query, allowed)
    except discovery.QueryError as error:
        raise Refusal(400, str(error)) from None


def _own_address(request: Request) -> str:
    """Return the Host by which the client reached the proxy, for targets by path. Raises Refusal 400."""
    host = request.host
    if not discovery.is_address(host):
        raise Refusal(400, f'invalid "via": expected a Host of the form NAME or NAME:PORT, got {shown(host)}')
    return host

"""Discovery bodies, kept until the inventory or the accounts change, with their entity tags and compressed forms."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from aiohttp import hdrs

from pymon.config import shown
from pymon.exposition.negotiation import accepts_gzip
from pymon.proxy import discovery
from pymon.proxy.authz import Decision, Kind, Resource, decide
from pymon.service.answer import Refusal, Reply
from pymon.service.headers import entity_tags, joined

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable
    from uuid import UUID

    from aiohttp import web

    from pymon.proxy.authn import Principal
    from pymon.proxy.fleet import Fleet, Place
    from pymon.proxy.turns import Turns

MAX_BODIES = 512
MAX_BYTES = 64 << 20
"""Kept at a time; the one that was used longest ago goes first."""

TURN_SECONDS = 10.0
"""A large body waits so long to be made."""

_AT_ONCE = 500
"""Things that are named at once, in a millisecond or two; more take a turn."""

_COMPRESS_MIN_BYTES = 512
_JSON = b"Content-Type: application/json; charset=utf-8\r\nVary: Accept-Encoding\r\n"
_GZIP = b"Content-Encoding: gzip\r\n"


class _Entry:
    """One body. version: the fleet's, of which it was made. counted: bytes that the cache counted for it."""

    __slots__ = ("body", "compressed", "counted", "tag", "version")

    def __init__(self, body: bytes, version: int) -> None:
        self.body = body
        self.version = version
        self.tag = hashlib.blake2b(body, digest_size=16).hexdigest()
        self.compressed: bytes | None = None
        self.counted = 0

    def compress(self) -> None:
        """Make the compressed form, if it is not there."""
        self.compressed = self.compressed or gzip.compress(self.body, 1, mtime=0)

    @property
    def size(self) -> int:
        """Bytes of both forms."""
        return len(self.body) + len(self.compressed or b"")


class DiscoveryCache:
    """Answers of the three discovery endpoints from a fleet. Raises Refusal for a query that is wrong.

    port: of the proxy, for the targets. stopped: stopped containers are named whether asked for or not.
    """

    def __init__(self, fleet: Fleet, turns: Turns, *, zone: str, port: Callable[[], int], stopped: bool) -> None:
        self._fleet = fleet
        self._turns = turns
        self._zone = zone
        self._port = port
        self._stopped = stopped
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._bytes = 0

    async def containers(self, principal: Principal, query: str, request: web.BaseRequest) -> Reply:
        """``/v1/discover``: the containers of who asks, as triton_sd reads them."""
        asked = _parsed(query, ("groups", "stopped"))
        return await self._reply(
            ("discover", principal.account, principal.operator, asked),
            principal.account,
            lambda: self._places(principal, stopped=asked.stopped),
            lambda places: discovery.discover(places, groups=asked.groups),
            request,
        )

    async def nodes(self, principal: Principal, query: str, request: web.BaseRequest) -> Reply:
        """``/v1/gz/discover``: the nodes. triton_sd sends groups here too; nodes have none."""
        _parsed(query, ("groups",))
        return await self._reply(("nodes",), principal.account, self._fleet.nodes, discovery.discover_nodes, request)

    async def http_sd(self, principal: Principal, query: str, request: web.BaseRequest) -> Reply:
        """``/v1/sd``: containers, what runs in them, or nodes for operators, as http_sd reads them."""
        asked = _parsed(query, discovery.PARAMETERS)
        if asked.role == "node" and decide(principal, Resource(Kind.SD_NODE), "GET") is not Decision.ALLOW:
            raise Refusal(404, "not found")
        proxy = _own_address(request) if asked.via == "path" else ""

        def find() -> list[Any]:
            return self._fleet.nodes() if asked.role == "node" else self._places(principal, stopped=asked.stopped)

        def make(things: list[Any]) -> bytes:
            if asked.role == "app":
                return discovery.http_sd_apps(things, asked)
            return discovery.http_sd(things, asked, zone=self._zone, port=self._port(), proxy=proxy)

        key = ("sd", principal.account, principal.operator, asked, proxy)
        return await self._reply(key, principal.account, find, make, request)

    def _places(self, principal: Principal, *, stopped: bool) -> list[Place]:
        """What `decide` lets the principal see."""
        places = [*self._fleet.owned(principal.account), *(self._fleet.unowned() if principal.operator else ())]
        if stopped or self._stopped:
            places += self._fleet.stopped(principal.account)
            places += self._fleet.stopped(None) if principal.operator else ()
        return places

    async def _reply(
        self,
        key: Hashable,
        account: UUID,
        find: Callable[[], list[Any]],
        make: Callable[[list[Any]], bytes],
        request: web.BaseRequest,
    ) -> Reply:
        compress = accepts_gzip(joined(request, hdrs.ACCEPT_ENCODING))
        entry = self._entries.get(key)
        if entry is not None and entry.version == self._fleet.version and (entry.compressed or not compress):
            self._entries.move_to_end(key)
        else:
            entry = self._keep(key, await self._make(key, account, find(), make, compress=compress))
        compressed = entry.compressed if compress and len(entry.body) >= _COMPRESS_MIN_BYTES else None
        tag = entry.tag if compressed is None else f"{entry.tag}-gzip"
        headers = _JSON + f'ETag: "{tag}"\r\n'.encode("ascii")
        condition = joined(request, hdrs.IF_NONE_MATCH)
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
        """The entry of what is there now, or of what another request has found since."""
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
        """Keep an entry in place of what was there, and drop old ones until there are no more than may be."""
        entries = self._entries
        before = entries.pop(key, None)
        if before is not None:
            self._bytes -= before.counted
        entries[key] = entry
        entry.counted = entry.size
        self._bytes += entry.counted
        while entries and (len(entries) > MAX_BODIES or self._bytes > MAX_BYTES):
            self._bytes -= entries.popitem(last=False)[1].counted
        return entry


def _parsed(query: str, allowed: Collection[str]) -> discovery.Query:
    try:
        return discovery.parse_query(query, allowed)
    except discovery.QueryError as error:
        raise Refusal(400, str(error)) from None


def _own_address(request: web.BaseRequest) -> str:
    """The name under which the client reached the proxy, for targets that it can reach the same way."""
    host = request.headers.get(hdrs.HOST, "")
    if not discovery.is_address(host):
        raise Refusal(400, f'invalid "via": expected a Host of the form NAME or NAME:PORT, got {shown(host)}')
    return host

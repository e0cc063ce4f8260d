"""The proxy's endpoints: who asks, may they, how much, and which agent answers."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from typing import TYPE_CHECKING, NamedTuple, cast
from urllib.parse import parse_qsl, urlencode

from aiohttp import hdrs

from pymon.exposition.negotiation import accepts_gzip, negotiate
from pymon.proxy.authn import AuthError
from pymon.proxy.authz import Decision, Kind, Resource, decide
from pymon.proxy.refusals import Refusals
from pymon.proxy.relay import Ask
from pymon.proxy.terminator import certificate_of, source_address
from pymon.proxy.upstream import UpstreamError
from pymon.service.answer import GONE, Refusal, Reply, send, text_reply
from pymon.service.headers import joined, scrape_timeout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from aiohttp import web
    from multidict import CIMultiDict, CIMultiDictProxy

    from pymon.directory.model import Snapshot
    from pymon.exposition.negotiation import Format
    from pymon.proxy.account_metrics import AccountMetrics
    from pymon.proxy.authn import Authenticator, Principal
    from pymon.proxy.discovery_cache import DiscoveryCache
    from pymon.proxy.fleet import Fleet
    from pymon.proxy.limits import AccountLimits, AddressLimits
    from pymon.proxy.relay import Relay
    from pymon.proxy.self_metrics import SelfMetrics
    from pymon.service.connection import Connection

_log = logging.getLogger(__name__)

SCRAPE_SECONDS = 9.5
"""A scrape may take so long when its client does not say: half a second below Prometheus's default."""

MAX_SCRAPE_SECONDS = 120.0

REPEAT_SECONDS = 60.0
"""The same trouble with the same node is one line in so long a time."""

_BODY_MAX_BYTES = 65536
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_PING = re.compile(r"/(?:v[^/]*/)?_ping")
_NARROW = frozenset(("collect[]", "exclude[]", "name[]"))
_NARROW_MAX_CHARACTERS = 4096

_ALLOW = b"Allow: GET, HEAD\r\n"
_CHALLENGE = b'WWW-Authenticate: Bearer realm="pymon"\r\nWWW-Authenticate: Basic realm="pymon", charset="UTF-8"\r\n'
_VARY = b"Vary: Accept, Accept-Encoding\r\n"
_GZIP = b"Content-Encoding: gzip\r\n"


class _Asked(NamedTuple):
    """What the headers of a scrape ask for. A connection remembers it with the headers it is of."""

    headers: CIMultiDictProxy[str] | CIMultiDict[str]
    format: Format
    gzip: bool
    seconds: float


class ProxyWeb:
    """Answers tenants. `handle` is for connections with TLS, `handle_terminated` for those of TLS terminators."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        authenticator: Authenticator,
        fleet: Fleet,
        relay: Relay,
        discovery: DiscoveryCache,
        account_metrics: AccountMetrics,
        metrics: SelfMetrics,
        *,
        accounts: AccountLimits,
        addresses: AddressLimits,
        ready: Callable[[], str | None],
        zone: str,
        terminator_header: str = "",
        terminator_trust: frozenset[str] = frozenset(),
    ) -> None:
        self._snapshot = snapshot
        self._authenticator = authenticator
        self._fleet = fleet
        self._relay = relay
        self._discovery = discovery
        self._account_metrics = account_metrics
        self._metrics = metrics
        self._accounts = accounts
        self._addresses = addresses
        self._refusals = Refusals()
        self._ready = ready
        self._suffix = f".cmon.{zone}"
        self._terminator_header = terminator_header
        self._terminator_trust = terminator_trust
        self._routes: dict[str, tuple[Kind, Callable[[web.BaseRequest, Principal, str], Awaitable[Reply]]]] = {
            "/v1/account/metrics": (Kind.ACCOUNT_METRICS, self._account),
            "/v1/discover": (Kind.DISCOVER, self._discover),
            "/v1/gz/discover": (Kind.DISCOVER_NODES, self._discover_nodes),
            "/v1/sd": (Kind.SD_CONTAINER, self._sd),
        }
        self._said: dict[tuple[str, str], float] = {}
        self._keep = True

    def stopping(self) -> None:
        """Begin the end: connections close after their answer."""
        self._keep = False

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request that came through TLS."""
        connection = cast("Connection", request.protocol)
        return await self._handle(request, connection.remote, connection.peer_certificate_der)

    async def handle_terminated(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request that a TLS terminator handed over."""
        peer = cast("Connection", request.protocol).remote
        if peer and peer not in self._terminator_trust:
            self._say("", "terminator", f"not a terminator: {peer}")
            return await self._send(request, "", "other", text_reply(403, "not a terminator"), keep=False)
        try:
            certificate = certificate_of(request.headers.getall(self._terminator_header, ()))
            forwarded = source_address(request.headers.getall("X-Forwarded-For", ()))
        except AuthError as error:
            self._metrics.authentication_failures[error.reason] += 1
            _log.info("not authenticated: %s from the terminator %s", error, peer)
            return await self._send(request, "", "other", text_reply(401, "unauthorized", _CHALLENGE))
        return await self._handle(request, forwarded or peer, certificate)

    # --- every request ---

    async def _handle(self, request: web.BaseRequest, remote: str, certificate: bytes | None) -> web.StreamResponse:
        account, route, keep = "", "other", True
        admitted: UUID | None = None
        try:
            path, _, query = request.raw_path.partition("?")
            hosts = request.headers.getall(hdrs.HOST, ())
            if len(hosts) > 1 or path[:1] != "/":
                keep = False
                raise Refusal(400, "expected a path and one Host")  # noqa: TRY301
            if request.body_exists and not 0 <= (request.content_length or -1) <= _BODY_MAX_BYTES:
                keep = False
                raise Refusal(413, "body too large: expected none")  # noqa: TRY301
            if (health := self._health(path)) is not None:
                route = "health"
                if decide(None, Resource(Kind.HEALTH), request.method) is not Decision.ALLOW:
                    raise Refusal(405, "method not allowed: expected GET or HEAD", _ALLOW)  # noqa: TRY301
                return await self._send(request, "", route, health)
            principal = await self._principal(request, remote, certificate)
            account = principal.name
            self._admit(principal)
            admitted = principal.account
            uuid = self._target(path, hosts[0] if hosts else "")
            if uuid is not None:
                route, resource, ask_path, node = self._find(uuid)
                self._decide(principal, resource, request.method)
                reply = await self._scrape(request, principal, ask_path, node, query)
            else:
                kind, answer = self._routes.get(path, (Kind.UNKNOWN, _unknown))
                route = kind.value
                self._decide(principal, Resource(kind), request.method)
                reply = await answer(request, principal, query)
            return await self._send(request, account, route, reply)
        except Refusal as refusal:
            # Who proved nothing holds no connection.
            keep = keep and refusal.reply.status != 401  # noqa: PLR2004
            return await self._send(request, account, route, refusal.reply, keep=keep)
        except UpstreamError as error:
            retry = b"Retry-After: 1\r\n" if error.status == 503 else b""  # noqa: PLR2004
            return await self._send(request, account, route, text_reply(error.status, str(error), retry))
        except asyncio.CancelledError:
            self._metrics.requests[account, route, 499] += 1
            raise
        except Exception as error:  # noqa: BLE001  # its client gets an answer, and nobody else notices
            _log.error("internal error: %s: %r", route, error, exc_info=_log.isEnabledFor(logging.DEBUG))
            return await self._send(request, account, route, text_reply(500, "internal error"), keep=False)
        finally:
            if admitted is not None:
                self._accounts.leave(admitted)

    def _health(self, path: str) -> Reply | None:
        """The answer to a path that needs no authentication."""
        if path == "/-/healthy" or _PING.fullmatch(path):
            return text_reply(200, "OK")
        if path == "/-/ready":
            reason = self._ready()
            return text_reply(200, "ready") if reason is None else text_reply(503, "not ready")
        return None

    async def _send(
        self, request: web.BaseRequest, account: str, route: str, reply: Reply, *, keep: bool = True
    ) -> web.StreamResponse:
        self._metrics.requests[account, route, reply.status] += 1
        try:
            return await send(request, reply, keep=keep and self._keep)
        except ConnectionError:
            return GONE

    # --- who and how much ---

    async def _principal(self, request: web.BaseRequest, remote: str, certificate: bytes | None) -> Principal:
        """Who asks. What has to be computed for the answer is only computed below the limit of the source address."""
        # Two of them are one that is malformed.
        authorization = joined(request, hdrs.AUTHORIZATION)
        authenticator = self._authenticator
        generation = self._snapshot().generation
        credential = certificate if authorization is None else authorization
        try:
            if credential is None:
                raise AuthError("no_credential")  # noqa: TRY301
            if authorization is not None:
                known = authenticator.known_authorization(authorization)
            else:
                known = authenticator.known(cast("bytes", certificate))
            if known is not None:
                return known
            reason = self._refusals.find(credential, generation)
            if reason is not None:
                self._metrics.authentication_failures[reason] += 1
                raise Refusal(401, "unauthorized", _CHALLENGE)
            self._not_blocked(remote)
            if authorization is not None:
                return await authenticator.authorization(authorization)
            return authenticator.certificate(cast("bytes", certificate))
        except AuthError as error:
            self._metrics.authentication_failures[error.reason] += 1
            if error.reason == "busy":
                raise Refusal(503, "too many passwords to check", b"Retry-After: 1\r\n") from None
            if credential is not None:
                self._addresses.failed(remote, time.monotonic())
                _log.info("not authenticated: %s from %s", error, remote or "a terminator")
                if self._snapshot().generation == generation:
                    self._refusals.add(credential, generation, error.reason)
            raise Refusal(401, "unauthorized", _CHALLENGE) from None

    def _not_blocked(self, remote: str) -> None:
        wait = self._addresses.blocked(remote, time.monotonic())
        if wait:
            self._metrics.throttled["", "authentication"] += 1
            raise Refusal(429, "too many failed authentications", _retry_after(wait))

    def _admit(self, principal: Principal) -> None:
        account = self._snapshot().accounts.get(principal.account)
        if account is None:
            raise Refusal(401, "unauthorized", _CHALLENGE)
        throttled = self._accounts.admit(account.uuid, account.quota, time.monotonic())
        if throttled is not None:
            self._metrics.throttled[account.name, throttled.reason] += 1
            what = "requests a second" if throttled.reason == "rate" else "requests at a time"
            raise Refusal(429, f"too many {what}", _retry_after(throttled.retry_after_seconds))

    @staticmethod
    def _decide(principal: Principal, resource: Resource, method: str) -> None:
        decision = decide(principal, resource, method)
        if decision is Decision.METHOD_NOT_ALLOWED:
            raise Refusal(405, "method not allowed: expected GET or HEAD", _ALLOW)
        if decision is not Decision.ALLOW:
            raise Refusal(404, "not found")

    # --- scrapes ---

    def _target(self, path: str, host: str) -> str | None:
        """The UUID that a request asks the metrics of: by path, or by the name in Host."""
        if path == "/metrics":
            name = host.rpartition(":")[0] if ":" in host else host
            name = name.lower().removesuffix(".")
            if not name.endswith(self._suffix):
                return ""
            return name[: -len(self._suffix)]
        if len(path) == 48 and path.startswith("/v1/") and path.endswith("/metrics"):  # noqa: PLR2004
            return path[4:40].lower()
        return None

    def _find(self, uuid: str) -> tuple[str, Resource, str, str]:
        """Route, resource, path on the agent and name of the node."""
        place = self._fleet.find(uuid)
        if place is not None:
            return "container", Resource(Kind.CONTAINER, True, place.owner), f"/v1/{uuid}/metrics", place.node.name
        node = self._fleet.node(uuid)
        if node is not None:
            return "node", Resource(Kind.NODE), "/v1/gz/metrics", node.name
        return "container", Resource(Kind.CONTAINER, False), "", ""

    async def _scrape(self, request: web.BaseRequest, principal: Principal, path: str, node: str, query: str) -> Reply:
        asked = _asked(request)
        ask = Ask(principal.account, node, path + _narrowed(query) if query else path, asked.format, asked.gzip)
        deadline = asyncio.get_running_loop().time() + asked.seconds
        try:
            response = await self._relay.scrape(ask, deadline)
        except UpstreamError as error:
            self._say(node, error.reason, f"scrape failed: node {node}: {error}")
            raise
        if response.status != 200:  # noqa: PLR2004
            # The agent's words about what it was asked for; and a container that ended between two inventories.
            text = response.body[:500].decode("utf-8", "replace") if response.status == 400 else "not found"  # noqa: PLR2004
            raise Refusal(response.status, text)
        kind = response.headers["content-type"].encode("latin-1")
        coding = _GZIP if response.headers.get("content-encoding") == "gzip" else b""
        return Reply(200, b"Content-Type: " + kind + b"\r\n" + _VARY + coding, response.body)

    def _say(self, node: str, reason: str, text: str) -> None:
        """One line about a node's trouble; not one for each of its targets."""
        now = time.monotonic()
        if now - self._said.get((node, reason), -math.inf) > REPEAT_SECONDS:
            self._said[node, reason] = now
            _log.warning("%s", text)

    async def _account(self, request: web.BaseRequest, principal: Principal, query: str) -> Reply:
        self._inventory_ready()
        asked = _asked(request)
        deadline = asyncio.get_running_loop().time() + asked.seconds
        return await self._account_metrics.answer(principal, query, deadline, gzip=asked.gzip)

    # --- discovery ---

    def _inventory_ready(self) -> None:
        """An inventory that is not known yet must not be taken for an empty one."""
        reason = self._ready()
        if reason is not None:
            raise Refusal(503, f"not ready: {reason}", b"Retry-After: 1\r\n")

    async def _discover(self, request: web.BaseRequest, principal: Principal, query: str) -> Reply:
        self._inventory_ready()
        return await self._discovery.containers(principal, query, request)

    async def _discover_nodes(self, request: web.BaseRequest, principal: Principal, query: str) -> Reply:
        self._inventory_ready()
        return await self._discovery.nodes(principal, query, request)

    async def _sd(self, request: web.BaseRequest, principal: Principal, query: str) -> Reply:
        self._inventory_ready()
        return await self._discovery.http_sd(principal, query, request)


def _asked(request: web.BaseRequest) -> _Asked:
    """What a scrape asks for."""
    connection = cast("Connection", request.protocol)
    memo = connection.memo
    if isinstance(memo, _Asked) and memo.headers is request.headers:
        return memo
    seconds = scrape_timeout(request.headers.get("X-Prometheus-Scrape-Timeout-Seconds")) or SCRAPE_SECONDS
    connection.memo = asked = _Asked(
        request.headers,
        negotiate(joined(request, hdrs.ACCEPT)),
        accepts_gzip(joined(request, hdrs.ACCEPT_ENCODING)),
        min(seconds, MAX_SCRAPE_SECONDS),
    )
    return asked


async def _unknown(*_: object) -> Reply:
    return text_reply(404, "not found")


def _retry_after(seconds: float) -> bytes:
    return b"Retry-After: %d\r\n" % max(1, math.ceil(seconds))


def _narrowed(query: str) -> str:
    """What is handed on of a scrape's query, with its question mark."""
    if len(query) > _NARROW_MAX_CHARACTERS:
        raise Refusal(414, f"query too long: expected at most {_NARROW_MAX_CHARACTERS} characters")
    pairs = [(key, value) for key, value in parse_qsl(query, keep_blank_values=True) if key in _NARROW]
    return "?" + urlencode(sorted(pairs)) if pairs else ""

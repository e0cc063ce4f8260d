"""The proxy's endpoints: authentication, authorization, limits, and dispatch to agents and discovery."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pymon.config import shown
from pymon.exposition.negotiation import TEXTS, negotiate
from pymon.proxy.authn import AuthError
from pymon.proxy.authz import Decision, Kind, Resource, decide, kind_of, methods_of, owners_visible_to
from pymon.proxy.cookie import END_COOKIE, authorization_of, set_cookie
from pymon.proxy.discovery import PARAMETERS
from pymon.proxy.discovery_cache import parsed
from pymon.proxy.refusals import Refusals, Refused
from pymon.proxy.relay import CODINGS, Ask, narrowed, relayed
from pymon.proxy.request_log import Exchange
from pymon.proxy.room import Room
from pymon.proxy.strangers import MAX_KEPT, Strangers
from pymon.proxy.terminator import certificate_of, source_address
from pymon.proxy.upstream import UpstreamError
from pymon.service.answer import HTML, Refusal, Reply, text_reply
from pymon.service.coding import accepted_codings, takes_gzip
from pymon.service.headers import scrape_timeout
from pymon.service.per_iteration import PerIteration
from pymon.web.page import SECURITY, Page

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection
    from uuid import UUID

    from pymon.directory.model import Snapshot
    from pymon.exposition.negotiation import Coding, Format
    from pymon.proxy.account_metrics import AccountMetrics
    from pymon.proxy.authn import Authenticator, Principal
    from pymon.proxy.discovery_cache import DiscoveryCache
    from pymon.proxy.last_look import LastLook
    from pymon.proxy.limits import AccountLimits, AddressLimits, PassLimits
    from pymon.proxy.peer_web import PeerWeb
    from pymon.proxy.places import Places
    from pymon.proxy.relay import Relay
    from pymon.proxy.request_log import RequestLog
    from pymon.proxy.self_metrics import SelfMetrics
    from pymon.proxy.summary import AccountSummary
    from pymon.service.server import Request

_log = logging.getLogger(__name__)

SCRAPE_SECONDS = 9.5
"""Timeout of a scrape when the client sends none: half a second below Prometheus's default."""

MAX_SCRAPE_SECONDS = 120.0

LEAVING_BYTES, LEAVING_ACCOUNT_BYTES = 64 << 20, 16 << 20
"""Memory limits of large replies that clients have not received yet: in total, and for one account."""

THROTTLED_AT_ONCE = 8
"""Requests above a limit that are answered in one iteration of the event loop, so that others do not wait for them."""

REPEAT_SECONDS = 60.0
"""Minimum time between two log lines about the same problem of the same node."""

NOTHING_SECONDS = 600.0
"""Minimum time between two log lines that an account has no containers. `NOTHING_ACCOUNTS` accounts are remembered."""

NOTHING_ACCOUNTS = 1024

JOIN_PATHS = frozenset(("/v1/join", "/v1/renew"))
"""Requests of nodes, which are authenticated by a token or a certificate of their own."""

_BEARER = b'WWW-Authenticate: Bearer realm="pymon"\r\n'
_CHALLENGE = _BEARER + b'WWW-Authenticate: Basic realm="pymon", charset="UTF-8"\r\n'
_GONE = "its account was deleted meanwhile"
_OF_THE_FORM = frozenset(("busy", "malformed"))
"""Reasons for refusing a credential that have nothing to do with the directory."""

_OF_THE_PAGE = frozenset((Kind.SUMMARY, Kind.LOGIN))
_EXPLANATION = b"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>401: not logged in</title></head>
<body><h1>Not logged in</h1>
<p>This address answers accounts of pymon only. It takes a client certificate, a token or a password.</p>
<p><a href="/">The page of your containers</a> takes a token, and keeps it for an hour.</p></body></html>
"""


class _Asked(NamedTuple):
    """The parsed headers of a scrape. Stored in `Headers.memo`, because clients repeat the same header fields."""

    format: Format
    codings: tuple[Coding, ...]
    seconds: float


class ProxyWeb:
    """Answers the requests of tenants.

    `handle` is for connections with TLS, and `handle_terminated` for connections from TLS terminators. unknown: returns
    the name of a node of which nothing is known and that may have containers of these accounts, or None. peers: answers
    other proxies, None for nobody.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        authenticator: Authenticator,
        fleet: Places,
        relay: Relay,
        discovery: DiscoveryCache,
        account_metrics: AccountMetrics,
        summary: AccountSummary,
        metrics: SelfMetrics,
        requests: RequestLog,
        join: Callable[[Request, str], Awaitable[Reply]],
        *,
        accounts: AccountLimits,
        passes: PassLimits,
        addresses: AddressLimits,
        failed: Callable[[str], None],
        look: LastLook,
        ready: Callable[[], str | None],
        unknown: Callable[[Collection[UUID | None]], str | None] = lambda _: None,
        peers: PeerWeb | None = None,
        zone: str,
        terminator_header: str = "",
        terminator_trust: Collection[str] = (),
        parts: int = 1,
    ) -> None:
        """Set up the endpoints. failed, parts: see `Tenants`."""
        self._snapshot = snapshot
        self._authenticator = authenticator
        self._fleet = fleet
        self._relay = relay
        self._discovery = discovery
        self._account_metrics = account_metrics
        self._account_summary = summary
        self._metrics = metrics
        self._requests = requests
        self._join = join
        self._accounts = accounts
        self._addresses = addresses
        self._failed = failed
        self._look = look
        self._passes = passes
        self._leaving = Room(LEAVING_BYTES // parts, min(LEAVING_ACCOUNT_BYTES, LEAVING_BYTES // parts))
        self._refusals = Refusals()
        self._throttled = PerIteration(THROTTLED_AT_ONCE)
        self._judging: set[bytes] = set()
        """Digests of passwords that are being checked."""
        self._strangers = Strangers(MAX_KEPT // parts)
        self._ready = ready
        self.ending = False
        """Whether ``/-/ready`` says no, although requests are answered."""
        self._unknown = unknown
        self._peers = peers
        self._suffix = f".cmon.{zone}"
        self._terminator_header = terminator_header.lower()
        self._terminator_trust = terminator_trust
        self._answers: dict[Kind, Callable[[Request, Principal], Awaitable[Reply]]] = {
            Kind.ACCOUNT_METRICS: self._account,
            Kind.DISCOVER: self._discover,
            Kind.DISCOVER_NODES: self._discover_nodes,
            Kind.SD_CONTAINER: self._sd,
            Kind.SUMMARY: self._summary,
            Kind.LOGIN: self._login,
        }
        self._open: dict[Kind, Callable[[Request], Reply]] = {
            Kind.HEALTH: self._health,
            Kind.PAGE: self._page,
            Kind.LOGOUT: _logout,
        }
        self._files = Page("proxy", {"/v1/sd": "discovery for Prometheus", "/v1/account/metrics": "all metrics"})
        self._said: dict[tuple[str, str], float] = {}
        self._nothing_said: dict[UUID, float] = {}

    async def handle(self, request: Request) -> Reply:
        """Answer a request that arrived over TLS."""
        client = request.client
        exchange = Exchange(client.remote, head=request.method == "HEAD")
        reply = await self._handle(request, exchange, client.certificate_der, self._peers)
        if exchange.account or exchange.route == "peer":
            self._strangers.known(client)
        elif reply.keep:
            self._strangers.answered(client)
        return reply

    async def handle_terminated(self, request: Request) -> Reply:
        """Answer a request from a TLS terminator. A peer that is not trusted gets 403."""
        peer = request.client.remote
        exchange = Exchange(peer, head=request.method == "HEAD")
        if peer and peer not in self._terminator_trust:
            self._say("", "terminator", f"not a terminator: {peer}")
            return self._requests.answered(exchange, text_reply(403, "not a terminator", keep=False))
        try:
            certificate = certificate_of(request.headers.all(self._terminator_header))
            forwarded = source_address(request.headers.all("x-forwarded-for"))
        except AuthError as error:
            self._metrics.authentication_failures[error.reason] += 1
            exchange.why = str(error)
            return self._requests.answered(exchange, text_reply(401, "unauthorized", _CHALLENGE))
        exchange.remote = forwarded or peer
        return await self._handle(request, exchange, certificate)

    # --- every request ---

    async def _handle(
        self, request: Request, exchange: Exchange, certificate: bytes | None, peers: PeerWeb | None = None
    ) -> Reply:
        """Return the reply to a request, and tell of it. peers: answers it if it is another proxy's."""
        try:
            reply = await self._answer(request, exchange, certificate, peers)
        except asyncio.CancelledError:
            self._requests.given_up(exchange)
            raise
        return self._requests.answered(exchange, reply)

    async def _answer(
        self, request: Request, exchange: Exchange, certificate: bytes | None, peers: PeerWeb | None
    ) -> Reply:
        """Return the reply to a request, and tell `exchange` what becomes known of it."""
        admitted: UUID | None = None
        kind, uuid = kind_of(request.path)
        try:
            if peers is not None and (name := peers.name_of(request)):
                exchange.route = "peer"
                return await peers.answer(request, name)
            if request.path in JOIN_PATHS:
                exchange.route = "join"
                return await self._join(request, exchange.remote)
            open_answer = self._open.get(kind)
            if open_answer is not None:
                exchange.route = kind.value
                self._decide(None, Resource(kind), request.method)
                return open_answer(request)
            principal = await self._principal(request, exchange.remote, certificate)
            exchange.account = principal.name
            self._admit(principal)
            admitted = principal.account
            if kind is Kind.APP:
                exchange.route, resource, ask_path, exchange.node = self._find_app(uuid)
                self._decide(principal, resource, request.method, uuid)
                return await self._scrape(request, principal, ask_path, exchange.node, app=True)
            if kind is not Kind.CONTAINER:
                exchange.route = kind.value
                self._decide(principal, Resource(kind), request.method)
                return await self._answers[kind](request, principal)
            uuid = uuid or self._named(request.host)
            exchange.route, resource, ask_path, exchange.node = self._find(uuid)
            self._decide(principal, resource, request.method, uuid)
            return await self._scrape(request, principal, ask_path, exchange.node)
        except Refusal as refusal:
            exchange.why = refusal.why or str(refusal)
            if refusal.reply.status == 429:  # noqa: PLR2004
                await self._throttled.turn()
            # A client without valid credentials does not keep its connection.
            return _unauthorized(request, kind) if refusal.reply.status == 401 else refusal.reply  # noqa: PLR2004
        except UpstreamError as error:
            retry = b"Retry-After: 1\r\n" if error.status == 503 else b""  # noqa: PLR2004
            return text_reply(error.status, str(error), retry)
        except Exception as error:  # noqa: BLE001  # an internal error must affect this request only
            _log.error("internal error: %s: %r", exchange.route, error, exc_info=_log.isEnabledFor(logging.DEBUG))
            return text_reply(500, "internal error", keep=False)
        finally:
            if admitted is not None:
                self._accounts.leave(admitted)

    def _health(self, request: Request) -> Reply:
        if request.path != "/-/ready":
            return text_reply(200, "OK")
        reason = "it is ending" if self.ending else self._ready()
        if reason is not None:
            raise Refusal(503, "not ready", why=f"not ready: {reason}")
        return text_reply(200, "ready")

    # --- authentication and limits ---

    async def _principal(self, request: Request, remote: str, certificate: bytes | None) -> Principal:
        """Return the principal of a request. Raises Refusal 401, 429 or 503."""
        # Several headers are joined into one value, which is malformed.
        authorization = request.headers.get("authorization")
        if authorization is None and certificate is None:
            authorization = authorization_of(request.headers.get("cookie"))
        credential = certificate if authorization is None else authorization
        try:
            if credential is None:
                raise AuthError("no_credential")  # noqa: TRY301
            return self._known(credential) or await self._checked(credential, remote)
        except AuthError as error:
            self._metrics.authentication_failures[error.reason] += 1
            if error.reason == "busy":
                raise Refusal(503, "too many passwords to check", b"Retry-After: 1\r\n") from None
            raise Refusal(401, "unauthorized", why=str(error)) from None

    def _known(self, credential: str | bytes) -> Principal | None:
        if isinstance(credential, str):
            return self._authenticator.known_authorization(credential)
        return self._authenticator.known(credential)

    async def _checked(self, credential: str | bytes, remote: str) -> Principal:
        """Return the principal of a credential. Raises AuthError and Refusal 429.

        One that the directory refuses may be newer than the last look at the directory, so it is checked again if the
        next look finds a change. That is so whatever the reason is: the time of a refusal does not tell it.
        """
        before = self._snapshot()
        try:
            return await self._checked_now(credential, remote)
        except AuthError as error:
            if error.reason in _OF_THE_FORM:
                raise
            await self._look.again(remote, self._refusals.digest(credential))
            if self._snapshot() is before:
                raise
        self._refuse_again(credential)
        principal = await self._judged(credential)
        self._addresses.forgive(remote)
        return principal

    async def _checked_now(self, credential: str | bytes, remote: str) -> Principal:
        """Return the principal of a credential by the directory as it is known. Raises AuthError and Refusal 429.

        An unknown credential is checked only if its source address is below the limit of failed authentications. A
        password counts as failed from the beginning until it is found right, since its check takes long: otherwise one
        source could take all places of those that wait.
        """
        self._refuse_again(credential)
        name = self._refusals.digest(credential) if _is_password(credential) else b""
        shared = name in self._judging
        unknown = not shared and not self._authenticator.was_good(credential)
        charged = unknown and bool(name)
        if unknown:
            self._not_blocked(remote)
        if charged:
            self._judging.add(name)
            self._addresses.failed(remote, time.monotonic())
        try:
            principal = await self._judged(credential)
        except AuthError as error:
            if error.reason != "busy" and not shared:
                if not charged:
                    self._addresses.failed(remote, time.monotonic())
                self._failed(remote)
            elif charged:
                self._addresses.forgive(remote)
            raise
        finally:
            if charged:
                self._judging.discard(name)
        if charged:
            self._addresses.forgive(remote)
        return principal

    def _refuse_again(self, credential: str | bytes) -> None:
        """Raise AuthError for a credential that was refused since the directory changed last."""
        refused = self._refusals.find(credential, self._snapshot().generation)
        if refused is not None:
            raise AuthError(*refused)

    async def _judged(self, credential: str | bytes) -> Principal:
        """Return the principal of a credential. Raises AuthError, and remembers that."""
        generation = self._snapshot().generation
        try:
            if isinstance(credential, str):
                return await self._authenticator.authorization(credential)
            return self._authenticator.certificate(credential)
        except AuthError as error:
            if self._snapshot().generation == generation:
                self._refusals.add(credential, generation, Refused(error.reason, error.detail))
            raise

    def _not_blocked(self, remote: str) -> None:
        wait = self._addresses.blocked(remote, time.monotonic())
        if wait:
            self._metrics.throttled["", "authentication"] += 1
            raise Refusal(429, "too many failed authentications", _retry_after(wait))

    def _admit(self, principal: Principal) -> None:
        account = self._snapshot().accounts.get(principal.account)
        if account is None:
            raise Refusal(401, "unauthorized", why=_GONE)
        throttled = self._accounts.admit(account.uuid, account.quota, time.monotonic())
        if throttled is not None:
            self._metrics.throttled[account.name, throttled.reason] += 1
            what = "requests a second" if throttled.reason == "rate" else "requests at a time"
            raise Refusal(429, f"too many {what}", _retry_after(throttled.retry_after_seconds))

    def _decide(self, principal: Principal | None, resource: Resource, method: str, uuid: str = "") -> None:
        """Raise Refusal unless the principal may. uuid: of the container or node, as it was asked for."""
        decision = decide(principal, resource, method)
        if decision is Decision.METHOD_NOT_ALLOWED:
            methods = sorted(methods_of(resource.kind))
            allow = f"Allow: {', '.join(methods)}\r\n".encode()
            raise Refusal(405, f"method not allowed: expected {' or '.join(methods)}", allow)
        if decision is not Decision.ALLOW:
            raise Refusal(404, "not found", why=self._why_not(resource, uuid))

    def _why_not(self, resource: Resource, uuid: str) -> str:
        """Return why a resource is not found, for the log."""
        kind, exists, owner = resource
        if kind is Kind.UNKNOWN:
            return "no such path"
        if kind not in (Kind.CONTAINER, Kind.APP):
            return "of operators only, and the account is none"
        if not uuid:
            return "neither the path nor the Host names a container"
        if not exists:
            return f"no container or node {shown(uuid)} is known"
        account = None if owner is None else self._snapshot().accounts.get(owner)
        of = "of no account" if owner is None else f"of account {account.name if account is not None else owner}"
        return f"container {shown(uuid)} is {of}"

    # --- scrapes ---

    def _named(self, host: str) -> str:
        """Return what precedes ``.cmon.ZONE`` in a Host, in lower case; "" when the name is outside the zone."""
        name = host.rpartition(":")[0] if ":" in host else host
        name = name.lower().removesuffix(".")
        return name[: -len(self._suffix)] if name.endswith(self._suffix) else ""

    def _find(self, uuid: str) -> tuple[str, Resource, str, str]:
        """Return the route, the resource, the path on the agent and the name of the node for a UUID."""
        node = self._fleet.node(uuid)
        if node is not None:
            return "node", Resource(Kind.NODE), "/v1/gz/metrics", node.name
        place = self._fleet.answering(uuid)
        if place is not None:
            return "container", Resource(Kind.CONTAINER, True, place.owner), f"/v1/{uuid}/metrics", place.node.name
        return "container", Resource(Kind.CONTAINER, False), "", ""

    def _find_app(self, uuid: str) -> tuple[str, Resource, str, str]:
        """Return the same of the application in the container with a UUID."""
        place = self._fleet.find(uuid)
        if place is None:
            return "app", Resource(Kind.APP, False), "", ""
        return "app", Resource(Kind.APP, True, place.owner), f"/v1/{uuid}/app/metrics", place.node.name

    async def _scrape(
        self, request: Request, principal: Principal, path: str, node: str, *, app: bool = False
    ) -> Reply:
        asked = _asked(request)
        narrow = narrowed(request.query, app=app) if request.query else ""
        ask = Ask(principal.account, node, path + narrow, asked.format, asked.codings, app=app)
        deadline = asyncio.get_running_loop().time() + asked.seconds
        try:
            response = await self._relay.scrape(ask, deadline)
        except UpstreamError as error:
            self._say(node, error.reason, f"scrape failed: node {node}: {error}")
            raise
        return relayed(response, principal.account, self._leaving)

    def _say(self, node: str, reason: str, text: str) -> None:
        """Log a node's problem, at most once in `REPEAT_SECONDS` for the node and the reason."""
        now = time.monotonic()
        if now - self._said.get((node, reason), -math.inf) > REPEAT_SECONDS:
            self._said[node, reason] = now
            _log.warning("%s", text)

    async def _account(self, request: Request, principal: Principal) -> Reply:
        self._inventory_ready(principal)
        gzip = takes_gzip(request.headers.get("accept-encoding"))
        form = negotiate(request.headers.get("accept"), TEXTS)
        deadline = asyncio.get_running_loop().time() + _asked(request).seconds
        charge = partial(self._charge, principal)
        return await self._account_metrics.answer(principal, request.query, deadline, charge, gzip=gzip, form=form)

    async def _summary(self, request: Request, principal: Principal) -> Reply:
        self._inventory_ready(principal)
        gzip = takes_gzip(request.headers.get("accept-encoding"))
        deadline = asyncio.get_running_loop().time() + _asked(request).seconds
        return await self._account_summary.answer(principal, deadline, gzip=gzip)

    # --- the page ---

    def _page(self, request: Request) -> Reply:
        if request.path not in self._files.paths:
            raise Refusal(404, "not found")
        return self._files.reply(request, request.path)

    async def _login(self, request: Request, principal: Principal) -> Reply:
        """Keep the token that the request has in a cookie."""
        kept = set_cookie(request.headers.get("authorization") or "", principal.expires_at, time.time())
        if not kept:
            raise Refusal(400, "login: expected Authorization: Bearer TOKEN")
        return text_reply(200, f"account {principal.name}", kept)

    def _charge(self, principal: Principal, containers: int, whole: int) -> None:
        """Charge a request that reads `containers` of the account's `whole`. Raises Refusal 429 above the limit."""
        account = self._snapshot().accounts.get(principal.account)
        if account is None:
            raise Refusal(401, "unauthorized", why=_GONE)
        wait = self._passes.admit(account.uuid, account.quota, containers, whole, time.monotonic())
        if wait:
            self._metrics.throttled[account.name, "account_metrics"] += 1
            raise Refusal(429, "too many containers a second", _retry_after(wait))

    # --- discovery ---

    def _inventory_ready(self, principal: Principal | None = None) -> None:
        """Raise Refusal 503 while the inventory is incomplete, so that it is not mistaken for an empty one.

        principal: whose containers are asked for, None for the nodes.
        """
        reason = self._ready()
        if reason is None and principal is not None:
            node = self._unknown(owners_visible_to(principal))
            reason = f"nothing is known of node {node}" if node is not None else None
        if reason is not None:
            raise Refusal(503, f"not ready: {reason}", b"Retry-After: 1\r\n")

    def _say_nothing(self, principal: Principal) -> None:
        """Log that an account has no containers, with a possible cause, at most once in `NOTHING_SECONDS`."""
        if principal.operator or self._fleet.count(principal.account):
            return
        now = time.monotonic()
        if now - self._nothing_said.get(principal.account, -math.inf) <= NOTHING_SECONDS:
            return
        if len(self._nothing_said) >= NOTHING_ACCOUNTS:
            self._nothing_said.clear()
        self._nothing_said[principal.account] = now
        _log.info(
            "discovery has nothing for account %s (%s): of %d containers on %d nodes, %d are of no account; "
            "the agents' owner rules decide (docs/owners.md, pymon containers --explain)",
            principal.name, principal.account, len(self._fleet), len(self._fleet.nodes()), self._fleet.count(None),
        )  # fmt: skip

    async def _discover(self, request: Request, principal: Principal) -> Reply:
        self._inventory_ready(principal)
        self._say_nothing(principal)
        return await self._discovery.containers(principal, request)

    async def _discover_nodes(self, request: Request, principal: Principal) -> Reply:
        self._inventory_ready()
        return await self._discovery.nodes(principal, request)

    async def _sd(self, request: Request, principal: Principal) -> Reply:
        asked = parsed(request.query, PARAMETERS)
        if asked.role == "node":
            self._decide(principal, Resource(Kind.SD_NODE), request.method)
        self._inventory_ready(None if asked.role == "node" else principal)
        self._say_nothing(principal)
        return await self._discovery.http_sd(principal, asked, request)


def _is_password(credential: str | bytes) -> bool:
    return isinstance(credential, str) and credential[:6].lower() == "basic "


def _asked(request: Request) -> _Asked:
    """Return the parsed headers of a scrape. Raises Refusal 406."""
    headers = request.headers
    if isinstance(headers.memo, _Asked):
        return headers.memo
    seconds = scrape_timeout(headers.get("x-prometheus-scrape-timeout-seconds")) or SCRAPE_SECONDS
    headers.memo = asked = _Asked(
        negotiate(headers.get("accept")),
        accepted_codings(headers.get("accept-encoding"), *CODINGS),
        min(seconds, MAX_SCRAPE_SECONDS),
    )
    return asked


def _unauthorized(request: Request, kind: Kind) -> Reply:
    """Return the reply to a request without valid credentials. It ends the connection.

    A browser asks for a password by itself when it is offered Basic, before it shows anything. So it is not offered
    where the page asks for a token, or where a person reads the reply.
    """
    if "text/html" in (request.headers.get("accept") or ""):
        return Reply(401, HTML + SECURITY + _BEARER, _EXPLANATION, keep=False)
    return text_reply(401, "unauthorized", _BEARER if kind in _OF_THE_PAGE else _CHALLENGE, keep=False)


def _logout(_: Request) -> Reply:
    return text_reply(200, "logged out", END_COOKIE)


def _retry_after(seconds: float) -> bytes:
    return b"Retry-After: %d\r\n" % max(1, math.ceil(seconds))

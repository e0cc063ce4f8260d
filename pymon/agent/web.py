"""The agent's endpoints.

Dispatch is a dictionary and one pattern instead of aiohttp's router, and answers are `answer.send`, which together
take half the CPU of an Application and a Response.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import math
import re
import time
from html import escape
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from aiohttp import hdrs
from prometheus_client import Gauge

import pymon
from pymon.agent.http_counts import HttpCounts
from pymon.config import nearest, shown
from pymon.exposition.negotiation import Format, accepts_gzip, negotiate
from pymon.service.answer import GONE, HTML, Refusal, Reply, send, text_reply
from pymon.service.headers import entity_tags, joined, scrape_timeout
from pymon.service.passwords import BusyError, Passwords
from pymon.service.serve import Server
from pymon.sources.errors import SourceError
from pymon.token_bucket import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from aiohttp import web
    from prometheus_client import CollectorRegistry

    from pymon.agent.access import LiveWebConfig
    from pymon.agent.options import AgentOptions
    from pymon.agent.ports import Body, Collection, Inventory, Scope

_log = logging.getLogger(__name__)

MAX_WAIT_SECONDS = 300.0
MAX_WAITING = 256
"""Long polls at a time; one more is refused with 503."""

_BODY_MAX_BYTES = 65536
_GONE_CHECK_SECONDS = 10.0

_VARY = b"Vary: Accept, Accept-Encoding\r\n"
_JSON = b"Content-Type: application/json\r\nVary: Accept-Encoding\r\n"
_GZIP = b"Content-Encoding: gzip\r\n"
_ALLOW = b"Allow: GET, HEAD\r\n"
_BASIC = b"WWW-Authenticate: Basic\r\n"

_UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
_CONTAINER = re.compile(r"/v1/([^/]+)/metrics")

_SCRAPE_HEADERS = {
    (form, compressed): f"Content-Type: {form.content_type}\r\n".encode() + _VARY + (_GZIP if compressed else b"")
    for form in Format
    for compressed in (False, True)
}


class AgentWeb:
    """Answers requests. Give `server` to `pymon.service.serve.serve`, and `stopping` too."""

    def __init__(
        self,
        collection: Collection,
        inventory: Inventory,
        options: AgentOptions,
        web_config: LiveWebConfig | None,
        registry: CollectorRegistry,
        counts: HttpCounts | None = None,
    ) -> None:
        self._collection = collection
        self._inventory = inventory
        self._live = web_config
        self._max_requests = options.max_requests
        self._telemetry_path = options.telemetry_path
        self._routes: Mapping[str, tuple[str, Callable[[web.BaseRequest, str], Awaitable[web.StreamResponse]]]] = {
            options.telemetry_path: ("metrics", self._metrics),
            "/v1/gz/metrics": ("node", self._node),
            "/v1/containers": ("containers", self._containers),
            "/-/healthy": ("healthy", self._healthy),
            "/-/ready": ("ready", self._ready),
            "/": ("page", self._page),
        }
        limit = web_config.config.rate_limit if web_config else None
        self._bucket = TokenBucket(1 / limit.interval_seconds, limit.burst) if limit else None
        self._passwords = Passwords()
        self._counts = HttpCounts(registry) if counts is None else counts
        Gauge("pymon_http_requests_in_flight", "Requests being answered.", registry=registry).set_function(
            lambda: self._in_flight
        )
        self._in_flight = 0
        self._scrapes = 0
        self._waiting: set[asyncio.Task[None]] = set()
        self._compressed: tuple[str, bytes] = ("", b"")
        self._keep = True

    def server(self) -> Server:
        """The protocol factory of the running loop."""
        return Server(self.handle, lambda status: self._counts.add("malformed", status), self._live)

    def stopping(self) -> None:
        """Begin the end: connections close after their answer, long polls are answered at once."""
        self._keep = False
        for task in self._waiting:
            task.cancel()
        self._passwords.close()

    # --- every request ---

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        self._in_flight += 1
        started = time.perf_counter()
        handler = "other"
        keep = True
        try:
            if self._live is not None:
                await self._admit(request, self._live)
            if request.body_exists and not 0 <= (request.content_length or -1) <= _BODY_MAX_BYTES:
                keep = False
                raise Refusal(413, "body too large: expected none")  # noqa: TRY301
            path, _, query = request.raw_path.partition("?")
            if "%" in path or path[:1] != "/":
                path = unquote(urlsplit(path).path, errors="surrogateescape") or "/"
            uuid = path[4:40]
            if len(path) == 48 and path.startswith("/v1/") and path.endswith("/metrics") and _UUID.fullmatch(uuid):  # noqa: PLR2004
                handler = "container"
                self._allow(request)
                return await self._scrape(request, query, handler, "node", uuid.lower())
            route = self._routes.get(path)
            if route is None:
                raise Refusal(404, f"{path[4:-8]}: no container UUID" if _CONTAINER.fullmatch(path) else "not found")  # noqa: TRY301
            handler, answer = route
            self._allow(request)
            return await answer(request, query)
        except Refusal as refusal:
            return await self._send(request, handler, refusal.reply, keep=keep)
        except Exception as error:  # noqa: BLE001  # whatever a collector does, its client gets an answer
            _log.error("internal error: %s: %r", handler, error, exc_info=_log.isEnabledFor(logging.DEBUG))
            return await self._send(request, handler, text_reply(500, "internal error"), keep=False)
        finally:
            self._in_flight -= 1
            self._counts.took(handler, time.perf_counter() - started)

    @staticmethod
    def _allow(request: web.BaseRequest) -> None:
        if request.method not in {"GET", "HEAD"}:
            raise Refusal(405, "method not allowed: expected GET or HEAD", _ALLOW)

    async def _send(
        self, request: web.BaseRequest, handler: str, reply: Reply, *, keep: bool = True
    ) -> web.StreamResponse:
        self._counts.add(handler, reply.status)
        extra = self._live.header_block if self._live is not None else b""
        try:
            return await send(request, reply, keep=keep and self._keep, extra=extra)
        except ConnectionError:
            return GONE

    async def _admit(self, request: web.BaseRequest, live: LiveWebConfig) -> None:
        """Refuse by the web configuration file."""
        live.refresh()
        if live.error is not None:
            raise Refusal(500, "the web configuration file is not usable, see the log")
        wait = self._bucket.take(time.monotonic()) if self._bucket else 0.0
        if wait:
            raise Refusal(429, "too many requests", b"Retry-After: %d\r\n" % max(1, math.ceil(wait)))
        users = live.config.users
        if not users:
            return
        try:
            known = await self._passwords.check(request.headers.get(hdrs.AUTHORIZATION), users)
        except BusyError:
            raise Refusal(503, "too many passwords to check", b"Retry-After: 1\r\n") from None
        if not known:
            raise Refusal(401, "unauthorized", _BASIC)

    # --- scrapes ---

    async def _metrics(self, request: web.BaseRequest, query: str) -> web.StreamResponse:
        return await self._scrape(request, query, "metrics", "all")

    async def _node(self, request: web.BaseRequest, query: str) -> web.StreamResponse:
        return await self._scrape(request, query, "node", "node")

    def _narrowed(self, query: str) -> tuple[frozenset[str] | None, frozenset[str] | None]:
        """Collectors and metric names that a query asks for."""
        if not query:
            return None, None
        asked: dict[str, set[str]] = {"collect[]": set(), "exclude[]": set(), "name[]": set()}
        for key, value in parse_qsl(query, keep_blank_values=True):
            if key in asked:
                asked[key].add(value)
        collect, exclude = asked["collect[]"], asked["exclude[]"]
        if collect and exclude:
            raise Refusal(400, "collect[] and exclude[]: expected one of them, got both")
        enabled = frozenset(self._collection.collectors)
        for name in sorted((collect | exclude) - enabled):
            known = self._collection.known_collectors
            state = "disabled" if name in known else f"unknown{nearest(name, enabled)}"
            raise Refusal(
                400, f"collector {shown(name)} is {state}; enabled are {', '.join(sorted(enabled)) or 'none'}"
            )
        collectors = frozenset(collect) if collect else enabled - exclude if exclude else None
        return collectors, frozenset(asked["name[]"]) or None

    async def _scrape(
        self, request: web.BaseRequest, query: str, handler: str, scope: Scope, uuid: str | None = None
    ) -> web.StreamResponse:
        collectors, names = self._narrowed(query)
        form = negotiate(joined(request, hdrs.ACCEPT))
        compressed = accepts_gzip(joined(request, hdrs.ACCEPT_ENCODING))
        timeout = scrape_timeout(request.headers.get("X-Prometheus-Scrape-Timeout-Seconds"))
        if self._max_requests and self._scrapes >= self._max_requests:
            raise Refusal(503, f"more than {self._max_requests} requests at a time", b"Retry-After: 1\r\n")
        self._scrapes += 1
        try:
            try:
                body: Body | None
                if uuid is None:
                    body = await self._collection.scrape(
                        scope=scope, collectors=collectors, names=names,
                        format=form, gzip=compressed, timeout_seconds=timeout,
                    )  # fmt: skip
                else:
                    body = await self._collection.scrape_container(
                        uuid, collectors=collectors, names=names,
                        format=form, gzip=compressed, timeout_seconds=timeout,
                    )  # fmt: skip
            except TimeoutError:
                raise Refusal(503, "the scrape took longer than its timeout") from None
            except SourceError as error:
                raise Refusal(503, str(error)) from None
            if body is None:
                raise Refusal(404, f"{uuid}: not there or not running")
            try:
                reply = Reply(200, _SCRAPE_HEADERS[form, compressed], body.data)
                return await self._send(request, handler, reply)
            finally:
                body.release()
        finally:
            self._scrapes -= 1

    # --- inventory ---

    async def _containers(self, request: web.BaseRequest, query: str) -> web.StreamResponse:
        wait = _wait_seconds(query)
        reason = self._inventory.ready()
        if reason is not None:
            raise Refusal(503, reason, b"Retry-After: 1\r\n")
        version = self._inventory.version
        condition = joined(request, hdrs.IF_NONE_MATCH)
        if wait and condition and version in _etag_versions(condition):
            await self._wait_change(request, version, wait)
            version = self._inventory.version
        compressed = accepts_gzip(joined(request, hdrs.ACCEPT_ENCODING))
        tag = quote(version, safe="") + ("-gzip" if compressed else "")
        headers = _JSON + f'ETag: "{tag}"\r\n'.encode()
        if condition and (condition.strip() == "*" or version in _etag_versions(condition)):
            return await self._send(request, "containers", Reply(304, headers, b""))
        document = self._inventory.document()
        if compressed:
            if self._compressed[0] != version:
                self._compressed = (version, gzip.compress(document, 1, mtime=0))
            headers, document = headers + _GZIP, self._compressed[1]
        return await self._send(request, "containers", Reply(200, headers, document))

    async def _wait_change(self, request: web.BaseRequest, version: str, seconds: float) -> None:
        """Wait for another version, as long as the client is there and the agent runs."""
        if len(self._waiting) >= MAX_WAITING:
            raise Refusal(503, f"more than {MAX_WAITING} requests wait for a change", b"Retry-After: 5\r\n")
        if not self._keep:
            return
        task = asyncio.ensure_future(self._inventory.wait_change(version, seconds))
        self._waiting.add(task)
        try:
            while not task.done() and request.transport is not None:
                await asyncio.wait((task,), timeout=_GONE_CHECK_SECONDS)
            if task.done() and not task.cancelled():
                task.result()
        finally:
            self._waiting.discard(task)
            task.cancel()

    # --- the rest ---

    async def _healthy(self, request: web.BaseRequest, query: str) -> web.StreamResponse:  # noqa: ARG002
        return await self._send(request, "healthy", text_reply(200, "healthy"))

    async def _ready(self, request: web.BaseRequest, query: str) -> web.StreamResponse:  # noqa: ARG002
        reason = self._collection.ready() or self._inventory.ready()
        reply = text_reply(200, "ready") if reason is None else text_reply(503, f"not ready: {reason}")
        return await self._send(request, "ready", reply)

    async def _page(self, request: web.BaseRequest, query: str) -> web.StreamResponse:  # noqa: ARG002
        links = (self._telemetry_path, "/v1/gz/metrics", "/v1/containers", "/-/healthy", "/-/ready")
        items = "".join(f'<li><a href="{escape(path)}">{escape(path)}</a></li>\n' for path in links)
        page = (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>pymon agent</title></head>\n'
            f"<body><h1>pymon agent</h1><p>Version {escape(pymon.__version__)}</p>\n<ul>\n{items}</ul></body></html>\n"
        )
        return await self._send(request, "page", Reply(HTTPStatus.OK, HTML, page.encode()))


def _wait_seconds(query: str) -> float:
    """Seconds of ``wait`` in a query, 0 when it is absent, at most `MAX_WAIT_SECONDS`."""
    text = dict(parse_qsl(query, keep_blank_values=True)).get("wait", "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds) or seconds < 0:
        raise Refusal(400, f"wait: expected seconds, got {shown(text)}")
    return min(seconds, MAX_WAIT_SECONDS)


def _etag_versions(condition: str) -> frozenset[str]:
    """Versions that the entity tags of an If-None-Match header stand for, compared weakly (RFC 9110 §13.1.2)."""
    return frozenset(unquote(tag.removesuffix("-gzip")) for tag in entity_tags(condition))

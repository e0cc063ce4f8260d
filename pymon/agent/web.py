"""The agent's HTTP endpoints."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, cast
from urllib.parse import parse_qsl, quote, unquote

from pymon.agent.access import ends_at
from pymon.agent.http_counts import HttpCounts
from pymon.agent.scrape import Scrape
from pymon.config import nearest, shown
from pymon.exposition.compression import CODINGS, encode, gzip
from pymon.exposition.negotiation import Format, negotiate
from pymon.exposition.reload_metrics import tell_of_reloads
from pymon.service.answer import TEXT, HangUp, Refusal, Reply, text_reply
from pymon.service.coding import accepted_codings, takes_gzip
from pymon.service.headers import entity_tags, scrape_timeout
from pymon.service.passwords import BusyError, Passwords
from pymon.service.routes import Routes, only_reads
from pymon.service.server import Server
from pymon.sources.errors import SourceError
from pymon.token_bucket import TokenBucket
from pymon.web.page import Page

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pymon.agent.access import LiveWebConfig
    from pymon.agent.options import AgentOptions
    from pymon.agent.ports import Apps, Body, Collection, Inventory, Summaries
    from pymon.agent.scrape import Scope
    from pymon.exposition.own_metrics import OwnMetrics
    from pymon.service.reload import Reload
    from pymon.service.server import Request, Times

_log = logging.getLogger(__name__)

MAX_WAIT_SECONDS = 300.0
MAX_WAITING = 256
"""Most long polls at a time. Further ones are refused with 503."""

GONE_CHECK_SECONDS = 10.0

MAX_APP_BYTES = 64 << 20
"""Most bytes of answers of applications that clients have not received yet."""

_VARY = b"Vary: Accept, Accept-Encoding\r\n"
_JSON = b"Content-Type: application/json\r\nVary: Accept-Encoding\r\n"
_GZIP = b"Content-Encoding: gzip\r\n"
_BASIC = b"WWW-Authenticate: Basic\r\n"

_CONTAINER = re.compile(r"/v1/([^/]+)(?:/app)?/metrics")

_SCRAPE_HEADERS = {
    (form, coding): f"Content-Type: {form.content_type}\r\n".encode() + _VARY + line
    for form in Format
    for coding, line in (("identity", b""), *((name, f"Content-Encoding: {name}\r\n".encode()) for name in CODINGS))
}


_Route = tuple[str, "Callable[[Request, str], Awaitable[Reply]]"]
"""A handler's name in metrics, and the handler. It is called with the request and the UUID in the path or ""."""


class AgentWeb:
    """Handles the agent's requests. Pass `server` and `stopping` to `pymon.service.serve.serve`."""

    def __init__(
        self,
        collection: Collection,
        inventory: Inventory,
        summaries: Summaries,
        options: AgentOptions,
        web_config: LiveWebConfig | None,
        own: OwnMetrics,
        counts: HttpCounts | None = None,
        *,
        apps: Apps | None = None,
        reloads: Sequence[Reload] = (),
        max_waiting: int = MAX_WAITING,
        gone_check_seconds: float = GONE_CHECK_SECONDS,
    ) -> None:
        """Answer requests with these parts of an agent.

        apps: answers for applications in containers, None for none. reloads: of files besides those of `web_config`.
        max_waiting: requests that wait for a change. gone_check_seconds: how often their clients are looked at.
        """
        self._collection = collection
        self._inventory = inventory
        self._summaries = summaries
        self._live = web_config
        self._max_requests = options.max_requests
        self._max_waiting = max_waiting
        self._gone_check_seconds = gone_check_seconds
        self._telemetry_path = options.telemetry_path
        paths: dict[str, _Route] = {
            options.telemetry_path: ("metrics", self._metrics),
            "/v1/gz/metrics": ("node", self._node),
            "/v1/containers": ("containers", self._containers),
            "/v1/refresh": ("refresh", self._refresh),
            "/-/healthy": ("healthy", self._healthy),
            "/-/ready": ("ready", self._ready),
            "/v1/summary": ("summary", self._summary),
        }
        links = (options.telemetry_path, "/v1/gz/metrics", "/v1/containers", "/v1/summary", "/-/healthy", "/-/ready")
        self._files = Page("agent", {path: path for path in links})
        paths |= dict.fromkeys(self._files.paths, ("page", self._page))
        self._routes = Routes(paths, ("container", self._container), ("app", self._app))
        self._apps = apps
        self._app_bytes = 0
        limit = web_config.config.rate_limit if web_config else None
        self._bucket = TokenBucket(1 / limit.interval_seconds, limit.burst) if limit else None
        self._passwords = Passwords()
        self._counts = HttpCounts(own) if counts is None else counts
        own.gauge("pymon_http_requests_in_flight", "Requests being answered.", lambda: self._in_flight)
        reloads = (*reloads, *(web_config.reloads if web_config else ()))
        if reloads:
            tell_of_reloads(own, reloads, lambda: web_config.ends if web_config else {})
        self._in_flight = 0
        self._scrapes = 0
        self._waiting: set[asyncio.Task[None]] = set()
        self._compressed: tuple[str, bytes] = ("", b"")
        self._running = True

    def server(self, times: Times | None = None) -> Server:
        """Return the server for `pymon.service.serve.serve`."""
        return Server(self.handle, lambda status: self._counts.add("malformed", status), self._live, times=times)

    def stopping(self) -> None:
        """Prepare to stop: answer all long polls now, and cancel password checks that are waiting."""
        self._running = False
        for task in self._waiting:
            task.cancel()
        self._passwords.close()
        if self._live is not None:
            self._live.close()

    # --- every request ---

    async def handle(self, request: Request) -> Reply:
        """Return the reply to one request. Raises HangUp to close the connection without a reply."""
        self._in_flight += 1
        started = time.perf_counter()
        handler = "other"
        try:
            if self._live is not None:
                await self._end_if_over(request, self._live)
                await self._admit(request, self._live)
            path = request.path
            if "%" in path:
                path = unquote(path, errors="surrogateescape")
            route, uuid = self._routes.find(path)
            if route is None:
                named = _CONTAINER.fullmatch(path)
                raise Refusal(404, f"{named[1]}: no container UUID" if named else "not found")  # noqa: TRY301
            handler, answer = route
            if handler != "refresh":
                only_reads(request)
            reply = await answer(request, uuid)
        except Refusal as refusal:
            reply = refusal.reply
        except HangUp:
            raise
        except Exception as error:  # noqa: BLE001  # the client gets a reply whatever fails
            _log.error("internal error: %s: %r", handler, error, exc_info=_log.isEnabledFor(logging.DEBUG))
            reply = text_reply(500, "internal error", keep=False)
        finally:
            self._in_flight -= 1
            self._counts.took(handler, time.perf_counter() - started)
        self._counts.add(handler, reply.status)
        if self._live is not None and self._live.header_block:
            reply = reply._replace(headers=reply.headers + self._live.header_block)
        return reply

    @staticmethod
    async def _end_if_over(request: Request, live: LiveWebConfig) -> None:
        """Refresh the web configuration. Raise HangUp if it no longer admits the request's connection."""
        await live.refresh()
        client = request.client
        if client.tls is None:
            return
        if client.memo is None:
            client.memo = ends_at(client.tls)
        if not live.still_admits(client.tls, cast("float", client.memo), time.time()):
            raise HangUp

    async def _admit(self, request: Request, live: LiveWebConfig) -> None:
        """Raise Refusal unless the web configuration admits the request: rate limit, user and password."""
        wait = self._bucket.take(time.monotonic()) if self._bucket else 0.0
        if wait:
            raise Refusal(429, "too many requests", b"Retry-After: %d\r\n" % max(1, math.ceil(wait)))
        users = live.config.users
        if not users:
            return
        try:
            known = await self._passwords.check(request.headers.get("authorization"), users)
        except BusyError:
            raise Refusal(503, "too many passwords to check", b"Retry-After: 1\r\n") from None
        if not known:
            raise Refusal(401, "unauthorized", _BASIC)

    # --- scrapes ---

    async def _metrics(self, request: Request, _: str) -> Reply:
        return await self._scrape(request, "all")

    async def _node(self, request: Request, _: str) -> Reply:
        return await self._scrape(request, "node")

    async def _container(self, request: Request, uuid: str) -> Reply:
        return await self._scrape(request, "container", uuid)

    def _narrowed(self, query: str) -> tuple[frozenset[str] | None, frozenset[str] | None]:
        """Return the collectors and the metric names that a query selects, None for all.

        Raises Refusal for a collector that is not enabled.
        """
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

    async def _scrape(self, request: Request, scope: Scope, uuid: str = "") -> Reply:
        collectors, names = self._narrowed(request.query)
        form = negotiate(request.headers.get("accept"))
        encoding = accepted_codings(request.headers.get("accept-encoding"), *CODINGS)[0]
        timeout = scrape_timeout(request.headers.get("x-prometheus-scrape-timeout-seconds"))
        deadline = None if timeout is None else time.monotonic() + timeout
        scrape = Scrape(scope, uuid, collectors, names, form, encoding, deadline)
        if self._max_requests and self._scrapes >= self._max_requests:
            raise Refusal(503, f"more than {self._max_requests} requests at a time", b"Retry-After: 1\r\n")
        self._scrapes += 1
        body: Body | None = None
        try:
            body = await self._collection.scrape(scrape)
        except TimeoutError:
            raise Refusal(503, "the scrape took longer than its timeout") from None
        except SourceError as error:
            raise Refusal(503, str(error)) from None
        finally:
            if body is None:
                self._scrapes -= 1
        if body is None:
            raise Refusal(404, f"{uuid}: not there or not running")
        return Reply(200, _SCRAPE_HEADERS[form, encoding], body.data, release=partial(self._sent, body))

    def _sent(self, body: Body) -> None:
        """Release a scrape's body after it was sent, or after its client disconnected."""
        self._scrapes -= 1
        body.release()

    # --- applications ---

    async def _app(self, request: Request, uuid: str) -> Reply:
        if self._apps is None:
            raise Refusal(403, "metrics of applications are off on this node: see --container.app-metrics")
        encoding = accepted_codings(request.headers.get("accept-encoding"), *CODINGS)[0]
        timeout = scrape_timeout(request.headers.get("x-prometheus-scrape-timeout-seconds"))
        data = await self._apps.answer(uuid, request.query, timeout)
        size = len(data)
        if self._app_bytes + size > MAX_APP_BYTES:
            raise Refusal(503, "too many large answers are under way", b"Retry-After: 1\r\n")
        self._app_bytes += size
        try:
            body = cast("bytes", await asyncio.to_thread(encode, data, encoding))
        except BaseException:
            self._app_sent(size)
            raise
        return Reply(200, _SCRAPE_HEADERS[Format.TEXT_0_0_4, encoding], body, release=partial(self._app_sent, size))

    def _app_sent(self, size: int) -> None:
        self._app_bytes -= size

    # --- inventory ---

    async def _containers(self, request: Request, _: str) -> Reply:
        query = dict(parse_qsl(request.query, keep_blank_values=True))
        wait = _wait_seconds(query.get("wait", "0"))
        since = query.get("since", "")
        compressed = takes_gzip(request.headers.get("accept-encoding"))
        reason = self._inventory.ready()
        if reason is not None:
            raise Refusal(503, reason, b"Retry-After: 1\r\n")
        version = self._inventory.version
        condition = request.headers.get("if-none-match") or ""
        if wait and (version == since or version in _etag_versions(condition)):
            await self._wait_change(request, version, wait)
            if self._live is not None:
                await self._end_if_over(request, self._live)
            version = self._inventory.version
        quoted = quote(version, safe="")
        tag = quoted + ("-gzip" if compressed else "")
        headers = _JSON + f'ETag: "{tag}"\r\nInventory-Version: {quoted}\r\n'.encode()
        if condition.strip() == "*" or version in _etag_versions(condition):
            return Reply(304, headers, b"")
        document = self._inventory.changes(since) if since else None
        if document is not None:
            if compressed:
                headers, document = headers + _GZIP, gzip(document)
            return Reply(200, headers, document)
        if not compressed:
            return Reply(200, headers, self._inventory.document())
        known, packed = self._compressed
        if known != version:
            packed = await asyncio.to_thread(gzip, self._inventory.document())
            self._compressed = (version, packed)
        return Reply(200, headers + _GZIP, packed)

    async def _wait_change(self, request: Request, version: str, seconds: float) -> None:
        """Wait until the version differs from this one, for at most `seconds`.

        Returns early when the client disconnects or the agent stops. Raises Refusal if too many requests wait.
        """
        if len(self._waiting) >= self._max_waiting:
            raise Refusal(503, f"more than {self._max_waiting} requests wait for a change", b"Retry-After: 5\r\n")
        if not self._running:
            return
        task = asyncio.ensure_future(self._inventory.wait_change(version, seconds))
        self._waiting.add(task)
        try:
            while not task.done() and not request.client.silent:
                await asyncio.wait((task,), timeout=self._gone_check_seconds)
            if task.done() and not task.cancelled():
                task.result()
        finally:
            self._waiting.discard(task)
            task.cancel()

    # --- the rest ---

    async def _refresh(self, request: Request, _: str) -> Reply:
        """Accept the notification of a changed zone that older proxies of Triton send. The agent does not need it."""
        if request.method != "POST":
            raise Refusal(405, "method not allowed: expected POST", b"Allow: POST\r\n")
        return Reply(HTTPStatus.OK, TEXT, b"")

    async def _healthy(self, *_: object) -> Reply:
        return text_reply(200, "healthy")

    async def _ready(self, *_: object) -> Reply:
        reason = self._collection.ready() or self._inventory.ready()
        return text_reply(200, "ready") if reason is None else text_reply(503, f"not ready: {reason}")

    async def _summary(self, request: Request, _: str) -> Reply:
        compressed = takes_gzip(request.headers.get("accept-encoding"))
        document = await self._summaries.summary()
        headers = _JSON + b"Cache-Control: no-store\r\n"
        if compressed:
            return Reply(200, headers + _GZIP, await asyncio.to_thread(gzip, document))
        return Reply(200, headers, document)

    async def _page(self, request: Request, _: str) -> Reply:
        return self._files.reply(request, request.path)


def _wait_seconds(text: str) -> float:
    """Return the value of ``wait`` in a query, in seconds, at most `MAX_WAIT_SECONDS`. Raises Refusal."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds) or seconds < 0:
        raise Refusal(400, f"wait: expected seconds, got {shown(text)}")
    return min(seconds, MAX_WAIT_SECONDS)


def _etag_versions(condition: str) -> frozenset[str]:
    """Return the inventory versions in an If-None-Match header. Tags are compared weakly (RFC 9110 §13.1.2)."""
    return frozenset(unquote(tag.removesuffix("-gzip")) for tag in entity_tags(condition))

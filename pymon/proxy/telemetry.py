"""The proxy's own metrics and health, on an address of their own and without authentication."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

from aiohttp import hdrs
from prometheus_client.exposition import generate_latest as text_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_latest

from pymon.exposition.negotiation import accepts_gzip, negotiate
from pymon.service.answer import GONE, Reply, send, text_reply
from pymon.service.headers import joined

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web
    from prometheus_client import CollectorRegistry


class TelemetryWeb:
    """Answers ``/metrics``, ``/-/healthy`` and ``/-/ready``. ready: None, or the reason why not yet."""

    def __init__(self, registry: CollectorRegistry, ready: Callable[[], str | None]) -> None:
        self._registry = registry
        self._ready = ready
        self._keep = True

    def stopping(self) -> None:
        """Begin the end: connections close after their answer."""
        self._keep = False

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        try:
            return await send(request, self._answer(request), keep=self._keep)
        except ConnectionError:
            return GONE

    def _answer(self, request: web.BaseRequest) -> Reply:
        if request.method not in {"GET", "HEAD"}:
            return text_reply(405, "method not allowed: expected GET or HEAD", b"Allow: GET, HEAD\r\n")
        match request.raw_path.partition("?")[0]:
            case "/metrics":
                return self._metrics(request)
            case "/-/healthy" | "/_ping":
                return text_reply(200, "OK")
            case "/-/ready":
                reason = self._ready()
                return text_reply(200, "ready") if reason is None else text_reply(503, f"not ready: {reason}")
            case _:
                return text_reply(404, "not found")

    def _metrics(self, request: web.BaseRequest) -> Reply:
        form = negotiate(joined(request, hdrs.ACCEPT))
        body: bytes = (openmetrics_latest if form.openmetrics else text_latest)(self._registry)
        headers = f"Content-Type: {form.content_type}\r\nVary: Accept, Accept-Encoding\r\n".encode()
        if not accepts_gzip(joined(request, hdrs.ACCEPT_ENCODING)):
            return Reply(200, headers, body)
        return Reply(200, headers + b"Content-Encoding: gzip\r\n", gzip.compress(body, 1, mtime=0))

"""Serves the proxy's own metrics and health on a separate address, without authentication.

There are few requests here, so this is an ordinary aiohttp application.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import hdrs, web

from pymon.exposition.compression import gzip
from pymon.exposition.negotiation import content_codings, negotiate
from pymon.service.listen import bound, listening

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from pymon.config import Listen
    from pymon.exposition.own_metrics import OwnMetrics

_GRACE_SECONDS = 2.0


async def serve_telemetry(
    own: OwnMetrics,
    ready: Callable[[], str | None],
    address: Listen,
    *,
    stop: asyncio.Event,
    started: Callable[[tuple[Listen, ...]], None],
    collect: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Answer ``/metrics``, ``/-/healthy``, ``/_ping`` and ``/-/ready`` until `stop` is set.

    ready: returns None, or the reason why the proxy is not ready. started: called with the bound addresses. collect:
    awaited before the metrics are read. Raises OSError when the address cannot be bound.
    """

    async def metrics(request: web.Request) -> web.Response:
        if collect is not None:
            await collect()
        return _metrics(own, request)

    async def healthy(_: web.Request) -> web.Response:
        return web.Response(text="OK\n")

    async def is_ready(_: web.Request) -> web.Response:
        reason = ready()
        if reason is not None:
            return web.Response(status=503, text=f"not ready: {reason}\n")
        return web.Response(text="ready\n")

    app = web.Application()
    app.add_routes(
        [
            web.get("/metrics", metrics),
            web.get("/-/healthy", healthy),
            web.get("/_ping", healthy),
            web.get("/-/ready", is_ready),
        ]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GRACE_SECONDS)
    await runner.setup()
    try:
        with listening(address) as sockets:
            for listener in sockets:
                await web.SockSite(runner, listener).start()
            started(tuple(bound(listener, address) for listener in sockets))
            await stop.wait()
    finally:
        await runner.cleanup()


def _metrics(own: OwnMetrics, request: web.Request) -> web.Response:
    form = negotiate(_joined(request, hdrs.ACCEPT))
    codings = content_codings(_joined(request, hdrs.ACCEPT_ENCODING), ("gzip",))
    if not codings:
        raise web.HTTPNotAcceptable(text="Accept-Encoding: expected one of gzip, identity\n")
    body = own.render(form) + form.end
    headers = {"Content-Type": form.content_type, "Vary": "Accept, Accept-Encoding"}
    if codings[0] == "gzip":
        headers["Content-Encoding"] = "gzip"
        body = gzip(body)
    return web.Response(body=body, headers=headers)


def _joined(request: web.Request, name: str) -> str | None:
    values = request.headers.getall(name, [])
    return ", ".join(values) if values else None

"""Listening: sockets, TLS with the newest certificate for each connection, malformed requests, a graceful end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import ssl
from typing import TYPE_CHECKING, Any

from aiohttp import http_exceptions, web

from pymon.agent.answer import Malformed
from pymon.agent.web_config import san_allowed
from pymon.config import Address

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pymon.agent.access import LiveWebConfig

_log = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 10.0
IDLE_SECONDS = 150.0
"""A connection that brought no whole request for so long is closed; longer than any usual scrape interval."""

_LINE_MAX_BYTES = 8190
_FIELD_MAX_BYTES = _LINE_MAX_BYTES + 1
"""Not the limit of the request line, because the parser's error says nothing but the limit."""

_ACCEPT_PAUSE_SECONDS = 0.5


def _refused(exc: BaseException | None) -> tuple[int, str]:
    """Status and text for what the parser did not take."""
    if isinstance(exc, http_exceptions.LineTooLong):
        if exc.args[1] == _LINE_MAX_BYTES:
            return 414, f"URI too long: expected at most {_LINE_MAX_BYTES} bytes"
        return 431, f"header too large: expected at most {_FIELD_MAX_BYTES} bytes"
    if isinstance(exc, http_exceptions.BadHttpMessage) and "Too many headers" in str(exc):
        return 431, "too many headers"
    return 400, "malformed request"


class _Connection(web.RequestHandler):
    """aiohttp's connection, without its tracebacks, closed at once for a client certificate with no allowed name."""

    def __init__(self, server: Server, **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Look at the client's certificate."""
        tls = transport.get_extra_info("ssl_object")
        live = self._server.live
        if tls is not None and live is not None and live.config.tls is not None:
            allowed = live.config.tls.client_allowed_sans
            if allowed and not san_allowed(tls.getpeercert(), allowed):
                _log.debug("client certificate with no allowed name from %s", transport.get_extra_info("peername"))
                self.close()
                transport.close()
                return
        super().connection_made(transport)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        """One line for the client; one line for the log, at debug level when it is the client's fault."""
        if status == 400:  # noqa: PLR2004
            status, text = _refused(exc)
            _log.debug("malformed request from %s: %s", request.remote, text)
        else:
            text = "internal error"
            _log.error("internal error: %r", exc, exc_info=exc if _log.isEnabledFor(logging.DEBUG) else None)
        self._server.count(status)
        if request.writer.output_size > 0:
            raise ConnectionResetError("an answer is out already")
        return Malformed(status, text)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """One line."""
        error = kw.get("exc_info")
        _log.error("internal error: %s %r", args[0] % args[1:] if args else "", error)


class Server(web.Server):
    """Makes the protocol of each connection. `count` is told the status of answers to malformed requests."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        count: Callable[[int], None],
        live: LiveWebConfig | None,
    ) -> None:
        super().__init__(handler)
        self.count = count
        self.live = live

    def __call__(self) -> web.RequestHandler:
        """Make one."""
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,
            logger=_log,
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=2.0,
            auto_decompress=False,
            max_line_size=_LINE_MAX_BYTES,
            max_field_size=_FIELD_MAX_BYTES,
        )


def open_sockets(address: Address) -> list[socket.socket]:
    """Listening sockets of an address; no host is every address of both families. OSError names the address."""
    try:
        if not address.host and socket.has_dualstack_ipv6():
            infos = [(socket.AF_INET6, ("::", address.port))]
        else:
            found = socket.getaddrinfo(
                address.host or "0.0.0.0", address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE  # noqa: S104
            )  # fmt: skip
            infos = [(family, where) for family, _, _, _, where in dict.fromkeys(found)]  # type: ignore[misc]
        with contextlib.ExitStack() as undo:
            sockets = []
            for family, where in infos:
                listener = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if address.host else 0)
                listener.bind(where)
                listener.listen(512)
                listener.setblocking(False)
                sockets.append(listener)
            undo.pop_all()
            return sockets
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror or error}") from None


def _bound(listener: socket.socket) -> Address:
    host, port = listener.getsockname()[:2]
    return Address("" if host == "::" else host, port)


async def _connect(server: Server, accepted: socket.socket) -> None:
    """Give an accepted socket to aiohttp, through TLS with the context of this moment."""
    loop = asyncio.get_running_loop()
    context = None
    if server.live is not None:
        server.live.refresh()
        context = server.live.context
    try:
        await loop.connect_accepted_socket(
            server, accepted, ssl=context, ssl_handshake_timeout=HANDSHAKE_SECONDS if context else None
        )
    except (OSError, TimeoutError) as error:
        _log.debug("connection was not made: %s", error.reason if isinstance(error, ssl.SSLError) else error)
        accepted.close()


async def _accept(server: Server, listener: socket.socket) -> None:
    """Accept until cancelled. Without descriptors or memory, wait for some."""
    loop = asyncio.get_running_loop()
    pending: set[asyncio.Task[None]] = set()
    try:
        while True:
            try:
                accepted, _ = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                    _log.warning("connections wait: %s", error.strerror)
                    await asyncio.sleep(_ACCEPT_PAUSE_SECONDS)
                continue
            task = loop.create_task(_connect(server, accepted))
            pending.add(task)
            task.add_done_callback(pending.discard)
    finally:
        for task in pending:
            task.cancel()


async def serve(
    server: Server,
    addresses: Sequence[Address],
    *,
    stop: asyncio.Event,
    stopping: Callable[[], None],
    grace_seconds: float = 10.0,
    started: Callable[[tuple[Address, ...]], None] | None = None,
) -> None:
    """Serve until `stop`, then close the listeners and let answers that are under way finish within the grace.

    stopping: called when the end begins. started: called with the addresses as bound. OSError when one cannot be had.
    """
    with contextlib.ExitStack() as close:
        listeners: list[socket.socket] = []
        for address in addresses:
            listeners.extend(close.enter_context(listener) for listener in open_sockets(address))
        accepting = [asyncio.create_task(_accept(server, listener)) for listener in listeners]
        try:
            if started is not None:
                started(tuple(map(_bound, listeners)))
            await stop.wait()
        finally:
            for task in accepting:
                task.cancel()
            await asyncio.gather(*accepting, return_exceptions=True)
    stopping()
    server.pre_shutdown()
    await server.shutdown(grace_seconds)


def stop_on_signals(*signals: signal.Signals) -> asyncio.Event:
    """An event of the running loop that is set by the first of these signals (SIGTERM and SIGINT by default)."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in signals or (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop

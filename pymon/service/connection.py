"""A connection of HTTP: malformed requests, how long a request head may take, and what is remembered of the client."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import http_exceptions, web

from pymon.service.answer import Malformed, closing, text_reply
from pymon.service.plain import PlainHeaders, plain_request

if TYPE_CHECKING:
    import ssl

    from pymon.service.plain import PlainRequest
    from pymon.service.serve import Server

_log = logging.getLogger(__name__)

HEAD_SECONDS = 10.0
"""The first request head of a connection must be whole so long after the handshake, a later one after its first byte.

A later head that begins while an answer is under way has until its next byte, or the end of the idle time.
"""

HEAD_MAX_BYTES = 65536
"""Of a request head that comes in pieces; one that comes at once is bounded by its lines and their number."""

LINE_MAX_BYTES = 8190
FIELD_MAX_BYTES = LINE_MAX_BYTES + 1
"""Not the limit of the request line, because the parser's error says nothing but the limit."""


class TLSSource(Protocol):
    """Where the TLS of new connections comes from."""

    @property
    def context(self) -> ssl.SSLContext | None:
        """The context of the next connection; None serves it without TLS. One or the other for good."""

    def refresh(self) -> None:
        """Look whether the files of the context changed. Called before each handshake."""

    def admits(self, tls: ssl.SSLObject) -> bool:
        """Whether to serve a connection whose handshake is done."""


class Arrival(Protocol):
    """The connection's time before it was one."""

    remote: str

    def connected(self, connection: Connection) -> bool:
        """The handshake is done. False when the connection has given way meanwhile."""

    def done(self) -> None:
        """The first request is there, or the connection is gone."""


def _refused(exc: BaseException | None) -> tuple[int, str]:
    """Status and text for what the parser did not take."""
    if isinstance(exc, http_exceptions.LineTooLong):
        if exc.args[1] == LINE_MAX_BYTES:
            return 414, f"URI too long: expected at most {LINE_MAX_BYTES} bytes"
        return 431, f"header too large: expected at most {FIELD_MAX_BYTES} bytes"
    if isinstance(exc, http_exceptions.BadHttpMessage) and "Too many headers" in str(exc):
        return 431, "too many headers"
    return 400, "malformed request"


class Connection(web.RequestHandler):
    """aiohttp's connection, which is ``request.protocol`` of each of its requests, without its tracebacks.

    aiohttp bounds the idle time only, whatever half of a head there is; the bounds of heads are here.

    As long as a client sends plain requests (`plain_request`), one after the other, they are answered without aiohttp;
    from the first that is not, all of the connection is aiohttp's.

    peer_certificate_der: the client's, as it was at the handshake; None without one. remote: the client's address
    without a port, empty on a socket in the file system. memo: for the owner of the handler.
    """

    __slots__ = (
        "_arrival",
        "_head_bytes",
        "_head_timer",
        "_held",
        "_plain",
        "_plain_task",
        "_server",
        "memo",
        "peer_certificate_der",
        "plain_headers",
        "remote",
    )

    def __init__(self, server: Server, arrival: Arrival | None, **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self._server = server
        self._arrival = arrival
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self.peer_certificate_der: bytes | None = None
        self.remote = ""
        self.memo: object = None
        self.plain_headers = PlainHeaders()
        self._plain = True
        self._plain_task: asyncio.Task[None] | None = None
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the client, and close at once for a certificate that is not admitted."""
        if self._arrival is not None:
            self.remote = self._arrival.remote
            if not self._arrival.connected(self):
                self._refuse(transport)
                return
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self.peer_certificate_der = tls.getpeercert(True)
            source = self._server.tls
            if source is not None and not source.admits(tls):
                _log.debug("client certificate with no allowed name from %s", self.remote)
                self._refuse(transport)
                return
        super().connection_made(transport)
        self._head_timer = self._loop.call_later(HEAD_SECONDS, self._head_is_slow)

    def _refuse(self, transport: asyncio.BaseTransport) -> None:
        self.close()
        transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let go of the timer and of the place at the gate."""
        self._head_ends()
        if self._plain_task is not None and self._server.handler_cancellation:
            self._plain_task.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Answer a plain request, or feed the parser and see whether a head stays unfinished."""
        if self._plain_task is not None:
            self._hold(data)
            return
        if self._plain:
            request = plain_request(data, self)
            if request is not None:
                self._head_ends()
                self._plain_task = self._loop.create_task(self._answer(request))
                return
            self._plain = False
        super().data_received(data)
        if self._messages:
            if self._head_timer is not None:
                self._head_ends()
        elif self._waiter is not None and data:
            self._head_grows(len(data))

    # --- plain requests ---

    async def _answer(self, request: PlainRequest) -> None:
        keep = False
        try:
            response = await self._server.request_handler(request)  # type: ignore[arg-type]  # as much of one as is used
            keep = response.keep_alive is True
        except Exception as error:  # noqa: BLE001  # handlers answer their own
            _log.error("internal error: %r", error, exc_info=_log.isEnabledFor(logging.DEBUG))
        finally:
            self._plain_task = None
            self._server.requests_count += 1
            if self.transport is not None:
                self._next(keep=keep and not self._close)

    def _next(self, *, keep: bool) -> None:
        """Go on with the connection after an answer."""
        if not keep:
            self.force_close()
            return
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        held, self._held = self._held, b""
        if held:
            self._resume_reading_for_buffer()
            self.data_received(held)

    def _hold(self, data: bytes) -> None:
        """Keep what comes before an answer is out; above a bound nothing more is read."""
        self._held += data
        if len(self._held) > HEAD_MAX_BYTES and not self._buffer_paused:
            self._pause_reading_for_buffer()

    def _process_keepalive(self) -> None:
        """Let go of an idle connection; for aiohttp it is idle, too, while a plain request is being answered."""
        if self._plain_task is not None:
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        super()._process_keepalive()

    def close(self) -> None:
        """Close when the answer that is under way is out."""
        if self._plain_task is not None:
            self._close = True
        else:
            super().close()

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109  # aiohttp's
        """Wait for the answer that is under way, then end."""
        if self._plain_task is not None:
            await asyncio.wait((self._plain_task,), timeout=timeout)
        if self._plain_task is not None:
            self._plain_task.cancel()
        await super().shutdown(timeout)

    # --- heads that take long ---

    def _head_grows(self, size: int) -> None:
        if self._head_timer is None:
            self._head_timer = self._loop.call_later(HEAD_SECONDS, self._head_is_slow)
        self._head_bytes += size
        if self._head_bytes > HEAD_MAX_BYTES and self.transport is not None:
            self._server.gate.refused["large_head"] += 1
            self._server.count(431)
            _log.debug("request head above %d bytes from %s", HEAD_MAX_BYTES, self.remote)
            text = f"request head too large: expected at most {HEAD_MAX_BYTES} bytes"
            self.transport.write(closing(text_reply(431, text)))
            self.force_close()

    def _head_ends(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        self._head_bytes = 0
        if self._arrival is not None:
            self._arrival.done()
            self._arrival = None

    def _head_is_slow(self) -> None:
        self._head_timer = None
        self._server.gate.refused["slow_head"] += 1
        _log.debug("no whole request from %s within %g s", self.remote, HEAD_SECONDS)
        self.abort()

    def abort(self) -> None:
        """End without a word."""
        transport = self.transport
        self.force_close()
        if transport is not None:
            transport.abort()

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

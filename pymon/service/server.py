"""The connections of an HTTP server.

`http1` parses the requests. Handlers run in tasks. Replies are written with back-pressure and a time limit. A
connection handles one request at a time. Input that arrives meanwhile is kept up to a limit, above which reading is
paused.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
import random
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from pymon.service.answer import NOT_MODIFIED, HangUp, Reply, make_head, text_reply
from pymon.service.gate import Gate
from pymon.service.http1 import BODY_MAX_BYTES, Head, Malformed, RequestReader
from pymon.service.per_iteration import PerIteration

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

    from pymon.service.http1 import Headers

COPY_MAX_BYTES = 65536
"""Up to this size, one copy and one write are faster than two buffers."""

HANDSHAKES_AT_ONCE = 2
"""TLS handshakes that begin in one iteration of the event loop. One takes more than a millisecond."""

_HOLD_MAX_BYTES = 65536
"""Limit of the input that is kept while a request is handled."""

_TLS_PIECE_BYTES = 262144

_CLOSE_TURNS = 3
"""Iterations of the event loop after which an aborted transport has released its buffers."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Times:
    """Time limits for clients, in seconds.

    handshake: from accept() to the end of the handshake; without TLS, to the first byte. head: for a request head, from
    the end of the handshake or, for later requests, from its first byte. idle: between requests; longer than usual
    scrape intervals. linger: for the rest of a body that is discarded. send: for the client to read a reply.
    half_closed: for the handler, after the client has closed its side. age: from the beginning of a connection to the
    last reply on it, more or less a fifth, so that not all that began together end together.
    """

    handshake: float = 10.0
    head: float = 10.0
    idle: float = 150.0
    linger: float = 2.0
    send: float = 60.0
    half_closed: float = 2.0
    age: float = math.inf


class TLSSource(Protocol):
    """Provides the TLS context of new connections."""

    @property
    def context(self) -> ssl.SSLContext | None:
        """The context of the next connection. Always None in a server without TLS, never None in one with TLS."""

    async def refresh(self) -> None:
        """Reload the context if its files have changed. Called before each handshake, which waits for it."""

    def admits(self, tls: ssl.SSLObject) -> bool:
        """Return whether to serve a connection after its handshake."""


class Arrival(Protocol):
    """A connection before its first request, as the gate knows it. remote: address of the client, "" for Unix."""

    remote: str

    def connected(self, connection: Connection) -> bool:
        """Called after the handshake. Returns False if the connection was dropped in the meantime."""

    def done(self) -> None:
        """Called when the first request is complete or the connection is closed."""


class Request:
    """A request as handlers see it: the fields of `http1.Head`, and its connection."""

    __slots__ = ("client", "content_length", "headers", "host", "keep_alive", "method", "old", "path", "query")

    def __init__(self, head: Head, client: Connection) -> None:
        self.client = client
        self.method = head.method
        self.path = head.path
        self.query = head.query
        self.host = head.host
        self.headers: Headers = head.headers
        self.content_length = head.content_length
        self.keep_alive = head.keep_alive
        self.old = head.old


class Server:
    """What all connections of a server share.

    handler: returns the reply to a request; if it raises an exception, the reply is 500. count: called with the status
    of replies to malformed requests. tls: None to serve without TLS. cancel_handlers: cancel a handler when its client
    disconnects.
    """

    def __init__(
        self,
        handler: Callable[[Request], Awaitable[Reply]],
        count: Callable[[int], None],
        tls: TLSSource | None,
        *,
        gate: Gate | None = None,
        cancel_handlers: bool = False,
        times: Times | None = None,
    ) -> None:
        self.handler = handler
        self.count = count
        self.tls = tls
        self.gate = gate or Gate()
        self.cancel_handlers = cancel_handlers
        self.times = times or Times()
        self.connections: set[Connection] = set()
        self.handshakes = PerIteration(HANDSHAKES_AT_ONCE)
        """When a TLS handshake may begin."""
        self.closing: Callable[[], bool] = lambda: False
        """Returns whether to close each connection after its next reply."""
        self.stopping = False
        """Whether each connection is closed after its next reply."""
        self.refused: Callable[[str, Reply], Reply] = lambda _, reply: reply
        """Called with the client's address and the reply to a request that the handler does not get. Returns the reply
        to send."""

    def drop_idle(self, count: int) -> None:
        """Close the connections that have waited longest for their next request, at most `count`."""
        idle = (connection for connection in self.connections if connection.idle_until < math.inf)
        for connection in heapq.nsmallest(count, idle, key=lambda connection: connection.idle_until):
            connection.abort()

    async def shut_down(self, grace_seconds: float) -> None:
        """Close idle connections at once, and the others after their reply or after `grace_seconds`."""
        self.stopping = True
        for connection in tuple(self.connections):
            connection.close_when_idle()
        loop = asyncio.get_running_loop()
        end = loop.time() + grace_seconds
        tasks = [connection.task for connection in self.connections if connection.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=grace_seconds)
        while self.connections and loop.time() < end:  # noqa: ASYNC110  # a transport has no event for an empty buffer
            await asyncio.sleep(0.01)
        for connection in tuple(self.connections):
            if connection.task is not None:
                connection.task.cancel()
            connection.abort()
        await asyncio.sleep(0)


class Connection(asyncio.Protocol):
    """One connection.

    remote: the client's address without a port, "" on a Unix socket. certificate_der: the client's certificate, None
    without one. task: the task that handles the current request, None without one. transport: None after the connection
    is closed. memo: for use by the handler.
    """

    __slots__ = (
        "_arrival",
        "_closing",
        "_deadline",
        "_drained",
        "_expired",
        "_half_closed",
        "_head",
        "_loop",
        "_next_request",
        "_old_at",
        "_paused",
        "_reader",
        "_request",
        "_server",
        "_timer",
        "_timer_at",
        "_wake",
        "_worker",
        "certificate_der",
        "memo",
        "remote",
        "task",
        "tls",
        "transport",
    )

    def __init__(self, server: Server, arrival: Arrival | None) -> None:
        self._server = server
        self._arrival = arrival
        self._loop = asyncio.get_running_loop()
        self._reader = RequestReader()
        self._head: Head | None = None
        self._request: Request | None = None  # of `_head`
        self._next_request: Request | None = None  # for the worker to handle
        self._worker: asyncio.Task[None] | None = None
        self._wake: asyncio.Future[None] | None = None  # what the worker waits for without a request
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._deadline = math.inf
        self._expired: Callable[[], None] = self.abort
        self._drained: asyncio.Future[None] | None = None
        self._paused = False
        self._closing = False  # no more requests are handled
        self._old_at = self._loop.time() + server.times.age * random.uniform(0.8, 1.2)  # noqa: S311  # no secret
        self._half_closed = False
        self.task: asyncio.Task[None] | None = None
        self.transport: asyncio.Transport | None = None
        self.tls: ssl.SSLObject | None = None
        self.certificate_der: bytes | None = None
        self.remote = ""
        self.memo: object = None

    @property
    def silent(self) -> bool:
        """Whether the client has disconnected or closed its side, so that no more input will arrive."""
        return self.transport is None or self._half_closed

    @property
    def idle_until(self) -> float:
        """When the connection is closed for want of a next request, in the loop's time; infinite if it is not idle."""
        return self._deadline if self._expired == self.close and self.task is None else math.inf

    # --- methods of asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the client's address and certificate. Close at once if the certificate is not admitted."""
        self.transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)
        if self._arrival is not None:
            self.remote = self._arrival.remote
            if not self._arrival.connected(self):
                self.close()
                return
        self.tls = transport.get_extra_info("ssl_object")
        if self.tls is not None:
            self.certificate_der = self.tls.getpeercert(True)
            source = self._server.tls
            if source is not None and not source.admits(self.tls):
                _log.debug("client certificate with no allowed name from %s", self.remote)
                self.close()
                return
        self._expect(self._server.times.head, self._head_is_slow)

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002
        """Release everything, and cancel the handler if `Server.cancel_handlers` is set."""
        self.transport = None
        self._closing = True
        self._server.connections.discard(self)
        self._arrived()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._drained is not None and not self._drained.done():
            self._drained.set_exception(ConnectionResetError("client went away"))
        if self._wake is not None:
            self._wake.set_result(None)
            self._wake = None
        if self.task is not None and self._server.cancel_handlers:
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        """Start the next request, or keep the input while one is handled."""
        if self._closing:
            return  # discarded until the client closes or the time limit ends
        reader = self._reader
        reader.receive(data)
        if self.task is None:
            self._advance()
        elif reader.buffered_bytes > _HOLD_MAX_BYTES and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """Handle the end of input. Returns True if a reply is still to be sent."""
        if self.task is None or self.tls is not None:
            return False
        self._half_closed = True
        if self._server.cancel_handlers:
            # A client that has disconnected looks the same, so the handler gets only a short time.
            self._expect(self._server.times.half_closed, self.task.cancel)
        return True

    def pause_writing(self) -> None:
        """Called when the transport's write buffer is full."""
        if self._drained is None or self._drained.done():
            self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        """Called when the transport's write buffer has room again."""
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    # --- requests ---

    def _advance(self) -> None:
        """Handle the next event of the parser, or set the time limit for more input."""
        event = self._reader.next()
        while event is not None:
            if isinstance(event, Head):
                self._begin(event)
                return
            if isinstance(event, Malformed):
                self._refuse(event)
                return
            event = self._reader.next()  # it was the end of a discarded body
        if self._half_closed:
            self.close()
        elif self._reader.in_body:
            if self._expired != self._body_is_slow:
                self._expect(self._server.times.linger, self._body_is_slow)
        elif self._reader.in_head:
            if self._expired != self._head_is_slow:
                self._expect(self._server.times.head, self._head_is_slow)
        elif self._arrival is None:
            self._expect(self._server.times.idle, self.close)

    def _begin(self, head: Head) -> None:
        self._arrived()
        self._deadline = math.inf
        self._expired = self.abort
        if head is not self._head or self._request is None:
            self._head, self._request = head, Request(head, self)
        self._next_request = self._request
        if self._worker is None:
            self._worker = self._loop.create_task(self._work())
        elif self._wake is not None:
            self._wake.set_result(None)
            self._wake = None
        self.task = self._worker

    def _refuse(self, malformed: Malformed) -> None:
        """Reply to malformed input with one line, and close the connection."""
        status, text = malformed
        _log.debug("malformed request from %s: %s", self.remote, text)
        if status == 431:  # noqa: PLR2004
            self._server.gate.refused["large_head"] += 1
        self._server.count(status)
        if self.transport is not None:
            reply = self._server.refused(self.remote, text_reply(status, text))
            self.transport.write(make_head(reply, keep=False) + bytes(reply.data))
        self._end(unread=True)

    async def _work(self) -> None:
        """Handle requests until the connection closes. A task for each request would cost a fifth of a small reply."""
        while not self._closing:
            request, self._next_request = self._next_request, None
            if request is not None:
                await self._answer(request)
            else:
                self._wake = self._loop.create_future()
                await self._wake

    async def _answer(self, request: Request) -> None:
        keep = False
        reply: Reply | None = None
        try:
            reply = self._refusal(request) or await self._reply(request)
            keep = reply.keep and request.keep_alive and not self._server.stopping and not self._server.closing()
            keep = keep and (self._reader.waiting or not self._half_closed) and self._loop.time() < self._old_at
            keep = keep and (reply.stream is None or not request.old)  # HTTP/1.0 has no chunks
            rest = self._send(request, reply, keep=keep)
            if rest is not None:
                await rest
        except (ConnectionError, HangUp):
            keep = False  # the client has disconnected, or the handler wants it disconnected
            if request.old and reply is not None and reply.stream is not None:
                self._reset()  # to HTTP/1.0 any other end of the connection is the end of the body
        finally:
            if reply is not None and reply.stream is not None:
                await reply.stream.aclose()
            if reply is not None and reply.release is not None:
                reply.release()
            self.task = None
            if self.transport is not None:
                self._next(keep=keep)

    def _refusal(self, request: Request) -> Reply | None:
        """Return the reply to a request that handlers do not see, None for any other request."""
        reply = self._refused_text(request)
        return None if reply is None else self._server.refused(self.remote, reply)

    @staticmethod
    def _refused_text(request: Request) -> Reply | None:
        length = request.content_length
        if length is None or length > BODY_MAX_BYTES:
            return text_reply(413, "body too large: expected none", keep=False)
        expectation = request.headers.get("expect")
        if expectation is not None and not request.old:
            # Bodies are not used, so 100 Continue is never sent (RFC 9110 section 10.1.1).
            request.keep_alive = False
            if expectation.lower() != "100-continue":
                return text_reply(417, "expectation failed: expected 100-continue", keep=False)
        return None

    async def _reply(self, request: Request) -> Reply:
        try:
            return await self._server.handler(request)
        except HangUp:
            raise
        except Exception as error:  # noqa: BLE001  # the client gets a reply to any error of a handler
            _log.error("internal error: %r", error, exc_info=_log.isEnabledFor(logging.DEBUG))
            return text_reply(500, "internal error", keep=False)

    def _next(self, *, keep: bool) -> None:
        """Continue with the next request or close the connection, after a reply."""
        if not keep or self._closing:
            self._end()
            return
        if self._paused and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()
        self._expired = self.abort  # the time limit of a head that has already started counts from now
        self._advance()

    # --- replies ---

    def _send(self, request: Request, reply: Reply, *, keep: bool) -> Awaitable[None] | None:
        """Write a reply. Return None, or what to await until the transport no longer refers to the reply's data.

        Raises ConnectionError if the client disconnects. So does the awaitable, also if the client reads too slowly.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("client went away")
        head = make_head(reply, keep=keep, old=request.old)
        if request.method == "HEAD" or reply.status == NOT_MODIFIED:
            transport.write(head)
        elif reply.stream is None and len(reply.data) <= COPY_MAX_BYTES:
            transport.write(head + reply.data)
        else:
            return self._send_long(transport, head, reply, chunked=not request.old)
        return None if self._drained is None else self._in_time(transport, self._drain())

    async def _send_long(self, transport: asyncio.Transport, head: bytes, reply: Reply, *, chunked: bool) -> None:
        if reply.stream is not None:
            transport.write(head)
            await self._send_stream(transport, reply.stream, chunked=chunked)
        else:
            await self._in_time(transport, self._write_all(transport, head, reply.data))
        if self._drained is not None:
            await self._in_time(transport, self._drain())

    async def _send_stream(self, transport: asyncio.Transport, stream: AsyncIterator[bytes], *, chunked: bool) -> None:
        """Write a body in pieces, each within the time limit. Raises ConnectionError, and what the stream raises."""
        async for piece in stream:
            if transport.is_closing():
                raise ConnectionResetError("client went away")
            if piece:
                transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            if self._drained is not None:
                await self._in_time(transport, self._drain())
        if chunked:
            transport.write(b"0\r\n\r\n")

    async def _drain(self) -> None:
        """Wait until the write buffer has room. Raises ConnectionResetError if the client has disconnected."""
        if self._drained is not None:
            await self._drained
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError("client went away")

    async def _write_all(self, transport: asyncio.Transport, head: bytes, data: bytes | memoryview) -> None:
        if self.tls is None:
            # With a limit of 0, writing resumes only when the transport's buffer is empty.
            transport.set_write_buffer_limits(0)
            transport.writelines((head, data))
            await self._drain()
            return
        # A TLS transport encrypts all data in one step, which blocks the event loop, so it gets a part at a time.
        transport.write(head)
        with memoryview(data) as view:
            for start in range(0, len(view), _TLS_PIECE_BYTES):
                if transport.is_closing():
                    raise ConnectionResetError("client went away")
                transport.write(bytes(view[start : start + _TLS_PIECE_BYTES]))
                await asyncio.sleep(0)
                await self._drain()

    async def _in_time(self, transport: asyncio.Transport, sending: Awaitable[None]) -> None:
        """Wait for a write. Abort the connection if it fails or exceeds the time limit."""
        try:
            async with asyncio.timeout(self._server.times.send):
                await sending
        except BaseException as error:
            # The data belongs to the caller, so the transport must have released it when this returns.
            transport.abort()
            for _ in range(_CLOSE_TURNS):
                await asyncio.sleep(0)
            if isinstance(error, TimeoutError):
                _log.debug("client %s took its answer too slowly", self.remote)
                raise ConnectionResetError("too slow") from None
            raise

    # --- time limits ---

    def _expect(self, seconds: float, expired: Callable[[], object]) -> None:
        """Call `expired` after `seconds`. This replaces the previous time limit.

        A timer that fires early enough is kept, so that most connections set only one timer.
        """
        self._deadline = self._loop.time() + seconds
        self._expired = cast("Callable[[], None]", expired)
        if self._timer is None or self._timer_at > self._deadline:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._deadline
        self._timer = self._loop.call_at(self._timer_at, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._loop.time() >= self._deadline:
            self._deadline = math.inf
            self._expired()
        elif self._deadline != math.inf:
            self._arm()

    def _head_is_slow(self) -> None:
        self._server.gate.refused["slow_head"] += 1
        _log.debug("no whole request from %s within %g s", self.remote, self._server.times.head)
        self.abort()

    def _body_is_slow(self) -> None:
        self.close()

    # --- closing ---

    def _arrived(self) -> None:
        """Tell the gate that the connection is no longer pending."""
        if self._arrival is not None:
            self._arrival.done()
            self._arrival = None

    def _end(self, *, unread: bool = False) -> None:
        """Close after the written data is sent. unread: there may be input that was not read.

        Input is read and discarded for a while, because closing a socket with unread input resets the connection, and
        the client may then lose the reply.
        """
        self._closing = True
        if self.transport is None:
            return
        if unread or self._reader.in_body or self._reader.buffered_bytes or self._paused:
            if self._paused:
                self._paused = False
                self.transport.resume_reading()
            if self.transport.can_write_eof():
                self.transport.write_eof()
            self._expect(self._server.times.linger, self.close)
        else:
            self.close()

    def _reset(self) -> None:
        """Close at once, with a reset that the client takes for an error."""
        if self.transport is not None:
            connected = self.transport.get_extra_info("socket")
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.abort()

    def close_when_idle(self) -> None:
        """Close now if no request is being handled. Otherwise `Server.stopping` closes it after the reply."""
        if self.task is None:
            self.close()

    def close(self) -> None:
        """Close after the written data is sent."""
        self._closing = True
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close at once and discard data that was not sent."""
        self._closing = True
        if self.transport is not None:
            self.transport.abort()

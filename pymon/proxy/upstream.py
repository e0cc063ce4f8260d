"""An HTTP/1.1 client for one agent, with keep-alive, body limits and a back-off after failed connections.

Each connection carries one exchange at a time. aiohttp's client costs five times as much per request, which would be
most of the cost of relaying a scrape. `pymon.service.http1.ResponseReader` parses responses; this module handles
connections, deadlines and pacing.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import re
import socket
import ssl
from time import thread_time
from typing import TYPE_CHECKING, Any, NoReturn, cast
from urllib.parse import urlsplit

from pymon.config import shown
from pymon.proxy.pacing import Pacing
from pymon.service.http1 import Response, ResponseError, ResponseReader

if TYPE_CHECKING:
    from collections.abc import Sequence

IDLE_SECONDS = 120.0
"""How long an idle connection may be reused: longer than a scrape interval of a minute, and shorter than the 150 s
after which the agent closes it."""

SPARE_SECONDS = 10.0
"""After this time without use, an idle connection beside another one is closed: it was for a burst of requests."""

CONNECT_SECONDS = 2.0
RETRY_SECONDS = 0.5
"""After a failed connection, requests fail at once except for one new attempt in this time."""

PROBE_SECONDS = 10
"""TCP keep-alive: an idle connection is probed after this time, so that one to a dead machine is closed."""

MAX_BODY_BYTES = 8 << 20
"""Default limit of a body. The scrape of a node with a thousand disks stays below a tenth of it."""

MAX_ARRIVING_BYTES = 24 << 20
SMALL_BYTES = 262144
"""The bodies that arrive from one agent at the same time are limited to `MAX_ARRIVING_BYTES` in total. A body of up to
`SMALL_BYTES` is always accepted."""

AT_ONCE_BYTES = 65536
"""Up to this size a response is read as soon as it arrives. `Pacing` decides when the rest of a larger one is read."""

_COPY_SECONDS = 1e-9
"""Estimated time to copy a byte from the kernel, which happens outside the measured time."""

_is_target = re.compile(r"/[!-~]*").fullmatch


class UpstreamError(Exception):
    """There is no usable response. The text is one line.

    status: 502, 503 or 504 for the client. reason: a value of a metric's label.
    """

    def __init__(self, status: int, reason: str, text: str) -> None:
        super().__init__(" ".join(text.split()))
        self.status = status
        self.reason = reason


class _StaleError(Exception):
    """The agent closed a connection before it sent any byte of a response."""


class _Connection(asyncio.Protocol):
    """One connection to an agent. Between exchanges it is in the idle list of its `Upstream`."""

    __slots__ = (
        "_answer", "_arrived", "_bounded", "_deadline", "_loop", "_paused", "_pool", "_reader", "_timer", "_timer_at",
        "context", "idle_since", "transport",
    )  # fmt: skip

    def __init__(self, pool: Upstream, context: ssl.SSLContext | None) -> None:
        self._pool = pool
        self.context = context
        self.transport: asyncio.Transport | None = None
        """None before the connection is made and after it is closed."""
        self.idle_since = 0.0
        self._reader = ResponseReader()
        self._arrived = 0  # bytes of the current body that `pool.arriving_bytes` includes
        self._bounded = True
        self._paused = False
        self._answer: asyncio.Future[Response] | None = None
        self._loop = asyncio.get_running_loop()  # kept, as asking for it costs a system call
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        # Unacknowledged data closes the connection. This detects a dead machine, not a slow agent.
        connected = transport.get_extra_info("socket")
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(CONNECT_SECONDS * 1000))
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_SECONDS)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2)

    def exchange(
        self, request: bytes, max_bytes: int, *, deadline: float = math.inf, bounded: bool = False
    ) -> asyncio.Future[Response]:
        """Send a request and return a future of the response.

        deadline: in the loop's time. bounded: whether the limits of arriving bytes and of reading time apply.
        """
        answer: asyncio.Future[Response] = self._loop.create_future()
        if self.transport is None:
            answer.set_exception(_StaleError())
            return answer
        self._answer = answer
        self._reader.begin(max_bytes)
        self._bounded = bounded
        self._deadline = deadline
        if deadline < self._timer_at:
            self._arm()
        self.transport.write(request)
        return answer

    def _arm(self) -> None:
        """Set the timer. One that fires before the deadline is kept, as most requests are answered long before."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._deadline
        self._timer = self._loop.call_at(self._timer_at, self._tick)

    def _tick(self) -> None:
        self._timer, self._timer_at = None, math.inf
        if self._answer is None or self._answer.done():
            return
        if self._loop.time() >= self._deadline:
            self._answer.set_exception(UpstreamError(504, "timeout", "no answer in time"))
        else:
            self._arm()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_at = None, math.inf

    # called by asyncio

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None or answer.done():
            # Unexpected data could be mistaken for the next response.
            self.close()
            return
        reader, pool = self._reader, self._pool
        paced = self._bounded and reader.received_bytes + len(data) > AT_ONCE_BYTES
        begin = thread_time() if paced else 0.0
        try:
            response = reader.receive(data)
            if self._bounded:
                more = reader.body_bytes - self._arrived
                self._arrived += more
                pool.arriving_bytes += more
                if self._arrived > SMALL_BYTES and pool.arriving_bytes > MAX_ARRIVING_BYTES:
                    raise ResponseError("too_large_together", "its bodies are too large together")  # noqa: TRY301
        except ResponseError as error:
            self._fail(UpstreamError(502, error.reason, str(error)))
        else:
            if response is None:
                return
            self._answer = None
            self._uncount()
            if reader.keep_alive:
                pool.idle(self)
            else:
                self.close()
            answer.set_result(response)
        finally:
            if paced:
                pool.pacing.charge(thread_time() - begin + len(data) * _COPY_SECONDS)
                if not answer.done():
                    pool.pacing.wait(self)
            elif reader.received_bytes > AT_ONCE_BYTES and not answer.done():
                # Otherwise libuv reads on, up to 8 MB, before anything else is done.
                self.pause()
                self._loop.call_soon(self.resume)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.transport = None
        self._disarm()
        self._uncount()
        self._reader.end()
        self._pool.lost(self)
        if self._answer is not None and not self._answer.done():
            if self._reader.received_bytes:
                self._answer.set_exception(UpstreamError(502, "truncated", "the connection ended in its answer"))
            else:
                self._answer.set_exception(_StaleError())
        self._answer = None

    # end of an exchange

    def _uncount(self) -> None:
        """Stop counting the body as arriving, and pacing it: it was delivered or discarded."""
        self._pool.pacing.leave(self)
        if self._arrived:
            self._pool.arriving_bytes -= self._arrived
            self._arrived = 0

    def _fail(self, error: UpstreamError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
            self._answer = None
        self.close()

    def pause(self) -> None:
        """Stop reading, so that data stays in the kernel."""
        if not self._paused and self.transport is not None and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Start reading again."""
        if self._paused and self.transport is not None and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()

    def close(self) -> None:
        """Abort the connection. It is not used again."""
        self._disarm()
        self._uncount()
        self._reader.end()
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.abort()


class Upstream:
    """A client of the agent at `url`. Use one object for one event loop. ValueError for a bad URL.

    context: for https, None for the default context. server_name: the name that the certificate is verified for,
    by default the host of the URL. fingerprint: SHA-256 in hexadecimal that the agent's certificate must have, or "".
    spare_seconds: see `SPARE_SECONDS`.
    """

    def __init__(
        self,
        url: str,
        context: ssl.SSLContext | None = None,
        *,
        server_name: str = "",
        fingerprint: str = "",
        spare_seconds: float = SPARE_SECONDS,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"expected http://HOST:PORT or https://HOST:PORT, got {shown(url)}")
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._prefix = parts.path.rstrip("/")
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.context = (context or ssl.create_default_context()) if parts.scheme == "https" else None
        """TLS context of new connections; None without TLS."""
        self._server_name = server_name or self._host
        self._fingerprint = fingerprint
        self._fixed = f"Host: {host}:{self._port}\r\nUser-Agent: pymon-proxy\r\n"
        self._idle: list[_Connection] = []  # the one that was used last comes last
        self._spare_seconds = spare_seconds
        self._closing_spare: asyncio.TimerHandle | None = None
        self._connections: set[_Connection] = set()
        self._resolving: asyncio.Future[list[Any]] | None = None
        self._failed: UpstreamError | None = None
        self._try_at = 0.0
        self._closed = self._retired = False
        self._loop = asyncio.get_running_loop()
        self.pacing = Pacing(self._loop.time, self._loop.call_at)
        """Which connection may read next."""
        self.arriving_bytes = 0
        """Bytes of incomplete bodies."""

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._connections)

    async def get(
        self,
        path: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        timeout_seconds: float,
        max_bytes: int = MAX_BODY_BYTES,
        background: bool = False,
    ) -> Response:
        """Send GET for `path`, unchanged, and return the response. Raises UpstreamError.

        headers: must not come from a client; they are not checked. background: ignore the back-off after a failed
        connection, and the limits of arriving bytes and reading time. Cancellation closes the connection, so the agent
        stops working too. Raises ValueError when `path` is not a valid request target.
        """
        if not _is_target(path):
            raise ValueError(f"expected the path of a request, got {shown(path)}")
        if timeout_seconds <= 0:
            raise UpstreamError(504, "timeout", "no time left")
        fields = "".join([f"{name}: {value}\r\n" for name, value in headers])
        request = f"GET {self._prefix}{path} HTTP/1.1\r\n{self._fixed}{fields}\r\n".encode("latin-1")
        now = self._loop.time()
        deadline = now + timeout_seconds
        connection = self._kept(now)
        while True:
            kept = connection is not None
            if connection is None:
                connection = await self._connect(deadline, background=background)
            answer = connection.exchange(request, max_bytes, deadline=deadline, bounded=not background)
            try:
                return await answer
            except _StaleError:
                # The agent had closed an idle connection. GET is idempotent: retry once (RFC 9110 §9.2.2).
                if not kept:
                    raise UpstreamError(502, "closed", "the connection ended before an answer") from None
            finally:
                if not answer.done() or answer.cancelled() or answer.exception() is not None:
                    connection.close()
                del answer  # an error in it refers to this frame
            connection = None

    def use(self, context: ssl.SSLContext) -> None:
        """Use this context for new connections. Existing ones are closed, busy ones after their current response."""
        if self.context is None:
            return
        self.context = context
        for connection in tuple(self._idle):
            connection.close()

    def retire(self) -> None:
        """Close idle connections now, and busy ones after their current response. Send no further requests here."""
        self._retired = True
        for connection in tuple(self._idle):
            connection.close()

    def close(self) -> None:
        """Abort all connections. No new ones are made."""
        self._closed = True
        self.pacing.close()
        if self._closing_spare is not None:
            self._closing_spare.cancel()
        if self._resolving is not None:
            self._resolving.cancel()
        for connection in tuple(self._connections):
            connection.close()

    def _kept(self, now: float) -> _Connection | None:
        """Return the most recently used idle connection that is still usable, or None. Close the stale ones."""
        while self._idle:
            connection = self._idle.pop()
            if now - connection.idle_since < IDLE_SECONDS and connection.transport is not None:
                return connection
            connection.close()
        return None

    async def _connect(self, deadline: float, *, background: bool) -> _Connection:
        now = self._loop.time()
        if self._failed is not None and not background:
            if now < self._try_at:
                raise UpstreamError(self._failed.status, self._failed.reason, str(self._failed))
            self._try_at = now + RETRY_SECONDS
        limit = now + CONNECT_SECONDS
        context = self.context
        try:
            async with asyncio.timeout_at(min(deadline, limit)):
                transport, connection = await self._open(context)
        except TimeoutError:
            if deadline < limit:
                # The caller's deadline was short, so this says nothing about the node to other callers.
                raise UpstreamError(504, "timeout", "no connection in time") from None
            self._remember(504, "connect_timeout", "no connection in time")
        except ssl.SSLError as failure:
            text = getattr(failure, "verify_message", "") or failure.reason or "failed"
            self._remember(502, "tls", f"TLS: {text}")
        except (OSError, ValueError) as failure:  # ValueError: a host that has no form in IDNA
            self._remember(502, "connect", f"no connection: {_why(failure)}")
        if self._closed:
            connection.close()
            raise UpstreamError(502, "closed", "its node is not known any more")
        if self._fingerprint:
            tls = transport.get_extra_info("ssl_object")
            certificate = tls.getpeercert(True) if tls is not None else None
            if hashlib.sha256(certificate or b"").hexdigest() != self._fingerprint:
                connection.close()
                self._remember(502, "tls", "TLS: its certificate is not the registered one")
        self._failed = None
        # Not in `connection_made`: uvloop does not call `connection_lost` when creation was cancelled.
        if connection.transport is not None:
            self._connections.add(connection)
        return connection

    async def _open(self, context: ssl.SSLContext | None) -> tuple[asyncio.BaseTransport, _Connection]:
        """Connect to the first address of the host that takes a connection. Raises OSError, ValueError."""
        loop = asyncio.get_running_loop()
        failure: OSError | None = None
        for address in await self._addresses():
            try:
                return await loop.create_connection(
                    lambda: _Connection(self, context),
                    address,
                    self._port,
                    ssl=context,
                    server_hostname=self._server_name if context else None,
                )
            except ssl.SSLError:
                raise
            except OSError as error:
                failure = error
        raise failure or OSError("no address")

    async def _addresses(self) -> list[str]:
        """Return the addresses of the host.

        A name is looked up once at a time: the loop has few threads for that, and a node whose name servers do not
        answer would take all of them.
        """
        if ":" in self._host or self._host.replace(".", "").isdigit():
            return [self._host]
        if self._resolving is None:
            looking = asyncio.get_running_loop().getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            self._resolving = asyncio.ensure_future(looking)
            self._resolving.add_done_callback(self._resolved)
        return [found[4][0] for found in await asyncio.shield(self._resolving)]

    def _resolved(self, looking: asyncio.Future[list[Any]]) -> None:
        self._resolving = None
        if not looking.cancelled():
            looking.exception()  # read, so that one that nobody waits for any more is not logged

    def _remember(self, status: int, reason: str, text: str) -> NoReturn:
        # The stored error is a separate object, so that it keeps no traceback.
        self._failed = UpstreamError(status, reason, text)
        self._try_at = self._loop.time() + RETRY_SECONDS
        raise UpstreamError(status, reason, text) from None

    # called by connections

    def idle(self, connection: _Connection) -> None:
        """Take back a connection after a complete exchange."""
        if self._retired or connection.context is not self.context:
            connection.close()
            return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)
        if len(self._idle) > 1 and self._closing_spare is None and not self._closed:
            self._close_spare()

    def _close_spare(self) -> None:
        """Close idle connections that were not used for a while, but for the last used one. Repeat while some stay."""
        self._closing_spare = None
        before = self._loop.time() - self._spare_seconds
        while len(self._idle) > 1 and self._idle[0].idle_since <= before:
            self._idle.pop(0).close()
        if len(self._idle) > 1:
            self._closing_spare = self._loop.call_at(self._idle[0].idle_since + self._spare_seconds, self._close_spare)

    def lost(self, connection: _Connection) -> None:
        """Remove a closed connection."""
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)


def _why(failure: OSError | ValueError) -> str:
    """Return why there is no connection, without the address, which is no affair of tenants. asyncio puts it there."""
    if isinstance(failure, OSError) and failure.errno and not isinstance(failure, socket.gaierror):
        return os.strerror(failure.errno)
    return getattr(failure, "strerror", None) or str(failure) or type(failure).__name__

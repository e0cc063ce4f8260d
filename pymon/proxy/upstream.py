"""HTTP/1.1 to one agent: kept connections, one exchange at a time on each, bodies with a bound, failure remembered.

aiohttp's client costs five times as much for each request, which would be most of what relaying a scrape costs. The
parser is llhttp, through httptools.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import ssl
from typing import TYPE_CHECKING, NamedTuple, NoReturn, cast
from urllib.parse import urlsplit

import httptools

from pymon.config import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

IDLE_SECONDS = 120.0
"""A kept connection is used for so long after its last answer: longer than a scrape interval of a minute, shorter than
the 150 s after which the agent closes it."""

CONNECT_SECONDS = 2.0
RETRY_SECONDS = 0.5
"""After a failed connection the next ones fail at once, but for one try in this time."""

PROBE_SECONDS = 10
"""A kept connection is probed after so long without a byte, so that one to a machine that lost its power ends."""

MAX_BODY_BYTES = 8 << 20
"""Of a scrape. The node of a thousand disks stays below a tenth of it."""

_MAX_HEAD_BYTES = 65536
"""Of what is no body: what comes before it, between its chunks, or after it."""

_is_target = re.compile(r"/[!-~]*").fullmatch

_KEPT = {
    name.encode(): name
    for name in (
        "content-type",
        "content-encoding",
        "etag",
        "retry-after",
        "transfer-encoding",
        "x-content-type-options",
    )
}


class Response(NamedTuple):
    """An answer of an agent. headers: those that mean something to a proxy, names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class UpstreamError(Exception):
    """No usable answer. status: 502, 503 or 504 for the client; reason: a word for a metric; the text is one line."""

    def __init__(self, status: int, reason: str, text: str) -> None:
        super().__init__(" ".join(text.split()))
        self.status = status
        self.reason = reason


class _StaleError(Exception):
    """The agent closed a connection before it answered anything."""


class _AnswerError(Exception):
    """An answer that is not taken, raised where the parser calls."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class _Connection(asyncio.Protocol):
    """One connection. Between exchanges it is in its pool's list of idle ones."""

    __slots__ = (
        "_answer",
        "_body",
        "_bytes_left",
        "_head_bytes",
        "_headers",
        "_heard",
        "_parser",
        "_pool",
        "_status",
        "idle_since",
        "transport",
    )

    def __init__(self, pool: Upstream) -> None:
        self._pool = pool
        self.transport: asyncio.Transport | None = None
        """None when it is closed."""
        self.idle_since = 0.0
        self._answer: asyncio.Future[Response] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        # Bytes that are not acknowledged in time end it: a machine that is gone, not an agent that takes its time.
        connected = transport.get_extra_info("socket")
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(CONNECT_SECONDS * 1000))
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_SECONDS)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2)

    def exchange(self, request: bytes, max_bytes: int) -> asyncio.Future[Response]:
        """Send a request; a future of its answer."""
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        if self.transport is None:
            answer.set_exception(_StaleError())
            return answer
        self._answer = answer
        # A parser made anew carries nothing over from an answer that went wrong; it costs less than a microsecond.
        self._parser = httptools.HttpResponseParser(self)
        self._heard = False
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body: bytes | bytearray = b""
        self._bytes_left = max_bytes
        self._head_bytes = 0
        self.transport.write(request)
        return answer

    # asyncio's calls

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None or answer.done():
            # Nobody asked: whatever it is, the next answer could not be told from it.
            self.close()
            return
        self._heard = True
        # Here and not by header: the parser keeps a header to itself until its end.
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            cause = error.__context__
            if isinstance(cause, _AnswerError):
                self._fail(UpstreamError(502, cause.reason, str(cause)))
            else:
                self._fail(UpstreamError(502, "malformed", "its answer is no HTTP"))
        else:
            if self._head_bytes > _MAX_HEAD_BYTES:
                self._fail(UpstreamError(502, "too_large", f"its headers have more than {_MAX_HEAD_BYTES} bytes"))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.transport = None
        self._body = b""
        self._pool.lost(self)
        if self._answer is not None and not self._answer.done():
            if self._heard:
                self._answer.set_exception(UpstreamError(502, "truncated", "the connection ended in its answer"))
            else:
                self._answer.set_exception(_StaleError())

    # httptools' calls

    def on_message_begin(self) -> None:
        if self._answer is None:
            # From here on answers could be taken for another's.
            raise _AnswerError("malformed", "a second answer to one question")

    def on_header(self, name: bytes, value: bytes) -> None:
        kept = _KEPT.get(name.lower())
        if kept is None or self._status:  # after the body there are no headers
            return
        text = value.decode("latin-1").rstrip(" \t")
        before = self._headers.get(kept)
        self._headers[kept] = text if before is None else f"{before}, {text}"

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        if self._headers.pop("transfer-encoding", "chunked").lower() != "chunked":
            raise _AnswerError("malformed", "its answer has a transfer coding that was not asked for")

    def on_body(self, data: bytes) -> None:
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            raise _AnswerError("too_large", "its body is too large")
        self._head_bytes = 0
        if not self._body:
            self._body = data  # which mostly is all of it
        elif isinstance(self._body, bytearray):
            self._body += data
        else:
            self._body = bytearray(self._body) + data

    def on_message_complete(self) -> None:
        answer = self._answer
        if answer is None or answer.done():
            return
        if self._status < 200:  # noqa: PLR2004  # 1xx come before the answer
            self._status = 0
            self._headers.clear()
            return
        self._answer = None
        body = bytes(self._body)
        self._body = b""
        if self._parser.should_keep_alive():
            self._pool.idle(self)
        else:
            self.close()
        answer.set_result(Response(self._status, self._headers, body))

    # the end

    def _fail(self, error: UpstreamError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        self.close()

    def close(self) -> None:
        """End it now; nothing is asked of it again."""
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.abort()


class Upstream:
    """The agent at `url`. Belongs to one loop.

    context: for https; None is plain HTTP. fingerprint: SHA-256 in hex that the agent's certificate must have, or "".
    server_name: name that the certificate is verified for, the host of the URL by default.
    """

    def __init__(
        self, url: str, context: ssl.SSLContext | None = None, *, server_name: str = "", fingerprint: str = ""
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"expected http://HOST:PORT or https://HOST:PORT, got {shown(url)}")
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._prefix = parts.path.rstrip("/")
        host = f"[{self._host}]" if ":" in self._host else self._host
        self._context = (context or ssl.create_default_context()) if parts.scheme == "https" else None
        self._server_name = server_name or self._host
        self._fingerprint = fingerprint
        self._fixed = f"Host: {host}:{self._port}\r\nUser-Agent: pymon-proxy\r\n"
        self._idle: list[_Connection] = []
        self._connections: set[_Connection] = set()
        self._failed: UpstreamError | None = None
        self._try_at = 0.0
        self._closed = False

    @property
    def connections(self) -> int:
        """Open ones."""
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
        """GET `path`, which is sent as it is. Raises UpstreamError.

        background: try to connect however lately that failed. Cancelling closes the connection, so the agent stops too.
        headers: not from a client. ValueError where `path` would be more than the target of a request.
        """
        if not _is_target(path):
            raise ValueError(f"expected the path of a request, got {shown(path)}")
        if timeout_seconds <= 0:
            raise UpstreamError(504, "timeout", "no time left")
        fields = "".join([f"{name}: {value}\r\n" for name, value in headers])
        request = f"GET {self._prefix}{path} HTTP/1.1\r\n{self._fixed}{fields}\r\n".encode("latin-1")
        loop = asyncio.get_running_loop()
        now = loop.time()
        deadline = now + timeout_seconds
        connection = self._kept(now)
        while True:
            kept = connection is not None
            if connection is None:
                connection = await self._connect(deadline, background=background)
            answer = connection.exchange(request, max_bytes)
            timer = loop.call_at(deadline, _expire, answer)
            try:
                return await answer
            except _StaleError:
                # A kept one had closed while nobody looked. A GET may be sent again (RFC 9110 §9.2.2), once.
                if not kept:
                    raise UpstreamError(502, "closed", "the connection ended before an answer") from None
            finally:
                timer.cancel()
                if not answer.done() or answer.cancelled() or answer.exception() is not None:
                    connection.close()
            connection = None

    def close(self) -> None:
        """Abort every connection, and make no other."""
        self._closed = True
        for connection in tuple(self._connections):
            connection.close()

    def _kept(self, now: float) -> _Connection | None:
        """The connection that was used last, if one is still good."""
        while self._idle:
            connection = self._idle.pop()
            if now - connection.idle_since < IDLE_SECONDS and connection.transport is not None:
                return connection
            connection.close()
        return None

    async def _connect(self, deadline: float, *, background: bool) -> _Connection:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._failed is not None and not background:
            if now < self._try_at:
                raise UpstreamError(self._failed.status, self._failed.reason, str(self._failed))
            self._try_at = now + RETRY_SECONDS
        limit = now + CONNECT_SECONDS
        try:
            async with asyncio.timeout_at(min(deadline, limit)):
                transport, connection = await loop.create_connection(
                    lambda: _Connection(self),
                    self._host,
                    self._port,
                    ssl=self._context,
                    server_hostname=self._server_name if self._context else None,
                )
        except TimeoutError:
            if deadline < limit:
                # Who has little time says nothing about the node to those who have more.
                raise UpstreamError(504, "timeout", "no connection in time") from None
            self._remember(504, "connect_timeout", "no connection in time")
        except ssl.SSLError as failure:
            text = getattr(failure, "verify_message", "") or failure.reason or "failed"
            self._remember(502, "tls", f"TLS: {text}")
        except (OSError, ValueError) as failure:  # ValueError: a host that has no form in IDNA
            text = getattr(failure, "strerror", None) or str(failure) or type(failure).__name__
            self._remember(502, "connect", f"no connection: {text}")
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
        # Not where it is made: of one whose making is cancelled uvloop tells no end.
        if connection.transport is not None:
            self._connections.add(connection)
        return connection

    def _remember(self, status: int, reason: str, text: str) -> NoReturn:
        # One for the memory, which keeps no traceback, and one to raise.
        self._failed = UpstreamError(status, reason, text)
        self._try_at = asyncio.get_running_loop().time() + RETRY_SECONDS
        raise UpstreamError(status, reason, text) from None

    # connections' calls

    def idle(self, connection: _Connection) -> None:
        """An exchange ended well."""
        connection.idle_since = asyncio.get_running_loop().time()
        self._idle.append(connection)

    def lost(self, connection: _Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)


def _expire(answer: asyncio.Future[Response]) -> None:
    if not answer.done():
        answer.set_exception(UpstreamError(504, "timeout", "no answer in time"))

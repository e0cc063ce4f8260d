"""Answers on the wire: heads made of prebuilt bytes, bodies sent without a copy when they are large.

aiohttp's own responses cost 40 µs more for each request than this, which is most of what a container's scrape costs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import HttpVersion11, web

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from aiohttp.abc import AbstractStreamWriter

SEND_SECONDS = 60.0
"""A client that has not taken its answer by then is cut off."""

COPY_MAX_BYTES = 65536
"""Up to here one copy and one write is quicker than two buffers."""

_TLS_PIECE_BYTES = 262144

_CLOSE_TURNS = 3
"""Turns of the loop in which an aborted transport lets go of its buffers."""

_log = logging.getLogger(__name__)

TEXT = b"Content-Type: text/plain; charset=utf-8\r\n"
HTML = b"Content-Type: text/html; charset=utf-8\r\n"

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class Reply(NamedTuple):
    """An answer: its header lines, each with its line end, without those of `send`, and its body."""

    status: int
    headers: bytes
    data: bytes | memoryview


class Refusal(Exception):  # noqa: N818  # an answer, raised
    """An answer other than 200: one line of text."""

    def __init__(self, status: int, text: str, headers: bytes = b"") -> None:
        super().__init__(text)
        self.reply = text_reply(status, text, headers)


def text_reply(status: int, text: str, headers: bytes = b"") -> Reply:
    """One line of text/plain."""
    line = " ".join(text.split()) + "\n"
    return Reply(status, TEXT + headers, line.encode("utf-8", "backslashreplace"))


class _Sent(web.StreamResponse):
    """Tells aiohttp that the answer is out, and whether the connection stays."""

    def __init__(self, keep: bool) -> None:
        super().__init__()
        self._keep = keep

    @property
    def keep_alive(self) -> bool:
        return self._keep

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:  # noqa: ARG002
        """Nothing is left to do."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to do."""


class Malformed(_Sent):
    """An answer to what was no request: one line of text, then the connection ends."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(keep=False)
        self._reply = text_reply(status, text)
        self._request: web.BaseRequest | None = None

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Remember where to."""
        self._request = request
        return None

    async def write_eof(self, data: bytes = b"") -> None:  # noqa: ARG002
        """Send it."""
        if self._request is not None:
            await send(self._request, self._reply, keep=False)


_NOT_MODIFIED = HTTPStatus.NOT_MODIFIED.value
_KEEP, _CLOSE = _Sent(keep=True), _Sent(keep=False)

GONE: web.StreamResponse = _CLOSE
"""What a handler returns when its client went away."""

_date_at = 0
_date = b""


def _date_header() -> bytes:
    """The Date header, made anew once a second."""
    global _date_at, _date
    now = int(time.time())
    if now != _date_at:
        _date_at, _date = now, f"Date: {formatdate(now, usegmt=True)}\r\n".encode("ascii")
    return _date


def make_head(request: web.BaseRequest | None, reply: Reply, keep: bool, extra: bytes) -> bytes:
    """Status line and headers of an answer, with the empty line. Without a request the connection is not kept."""
    if keep and request is not None:
        connection = b"" if request.version >= HttpVersion11 else b"Connection: keep-alive\r\n"
    else:
        connection = b"Connection: close\r\n"
    length = b"" if reply.status == _NOT_MODIFIED else b"Content-Length: %d\r\n" % len(reply.data)
    own = b"Server: pymon\r\n" + _date_header()
    return b"".join((_STATUS_LINES[reply.status], reply.headers, own, extra, connection, length, b"\r\n"))


def closing(reply: Reply) -> bytes:
    """The whole of an answer to what is no request yet; the connection ends with it."""
    return make_head(None, reply, keep=False, extra=b"") + reply.data


async def _write_all(
    request: web.BaseRequest, transport: asyncio.Transport, head: bytes, data: bytes | memoryview
) -> None:
    """Write head and body and wait until the transport holds no part of the body."""
    if transport.get_extra_info("sslcontext") is None:
        # With a limit of 0 a drained transport holds nothing of what it was given.
        transport.set_write_buffer_limits(0)
        transport.writelines((head, data))
        await request.writer.drain()
        return
    # A TLS transport encrypts all it is given at once, however slow its client, and meanwhile nobody else is served.
    transport.write(head)
    with memoryview(data) as view:
        for start in range(0, len(view), _TLS_PIECE_BYTES):
            if transport.is_closing():
                raise ConnectionResetError("client went away")
            transport.write(bytes(view[start : start + _TLS_PIECE_BYTES]))
            await asyncio.sleep(0)
            await request.writer.drain()


async def _in_time(request: web.BaseRequest, transport: asyncio.Transport, sending: Awaitable[None]) -> None:
    """Wait for a write; cut the connection off when it takes too long or fails."""
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await sending
    except BaseException as error:
        # The bytes are lent: the transport may not read them any more when this returns.
        transport.abort()
        for _ in range(_CLOSE_TURNS):
            await asyncio.sleep(0)
        if isinstance(error, TimeoutError):
            _log.debug("client %s took its answer too slowly", request.remote)
            raise ConnectionResetError("too slow") from None
        raise


async def send(request: web.BaseRequest, reply: Reply, *, keep: bool = True, extra: bytes = b"") -> web.StreamResponse:
    """Write an answer; ``reply.data`` is not needed any more when this returns. ConnectionError when nobody reads it.

    extra: header lines added to those of the reply.
    """
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("client went away")
    # aiohttp's parser takes no other request after one that asks for another protocol (as curl --http2 does).
    keep = keep and request.keep_alive and not request._message.upgrade  # noqa: SLF001
    head = make_head(request, reply, keep, extra)
    if request.method == "HEAD" or reply.status == _NOT_MODIFIED or not reply.data:
        transport.write(head)
    elif len(reply.data) <= COPY_MAX_BYTES:
        transport.write(b"".join((head, reply.data)))
    else:
        await _in_time(request, transport, _write_all(request, transport, head, reply.data))
    if request.protocol.writing_paused:
        await _in_time(request, transport, request.writer.drain())
    return _KEEP if keep else _CLOSE

"""Request heads that come whole and plain, which are nearly all that a scraper sends, read without aiohttp.

What is matched here is a part of HTTP/1.1 that nobody can read in two ways: one head in one piece with nothing behind
it, GET or HEAD, printable ASCII, one Host, no body and none of the headers that change how a message is framed or what
becomes of the connection. Everything else goes to aiohttp's parser. It halves what a request costs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11
from multidict import CIMultiDict

if TYPE_CHECKING:
    import asyncio

    from pymon.service.connection import Connection

MAX_BYTES = 4096
MAX_FIELDS = 64

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
# Only what one character repeats is possessive: before CPython 3.11.5 groups that are lose matches.
_LINE = re.compile(rb"(GET|HEAD) (/[!-~]*+) HTTP/1\.1\r\n")
_FIELDS = re.compile(rb"(?:%b:[\t -~]*+\r\n)+\r\n" % _TOKEN)
_FIELD = re.compile(r"([^:]++):[\t ]*+([^\r]*)\r\n")
_NOT_PLAIN = ("Connection", "Content-Length", "Expect", "Transfer-Encoding", "Upgrade", "TE", "Trailer")


class PlainRequest:
    """A request as handlers know it: the part of `aiohttp.web.BaseRequest` that they use."""

    __slots__ = ("headers", "method", "protocol", "raw_path")

    version = HttpVersion11
    keep_alive = True
    body_exists = False
    content_length = None
    upgrade = False

    def __init__(self, method: str, raw_path: str, headers: CIMultiDict[str], protocol: Connection) -> None:
        self.method = method
        self.raw_path = raw_path
        self.headers = headers
        self.protocol = protocol

    @property
    def transport(self) -> asyncio.Transport | None:
        """None when the client is gone."""
        return self.protocol.transport

    @property
    def _message(self) -> PlainRequest:
        """What has `upgrade`."""
        return self

    @property
    def remote(self) -> str:
        """The client's address."""
        return self.protocol.remote

    @property
    def writer(self) -> PlainRequest:
        """What has `drain`."""
        return self

    async def drain(self) -> None:
        """Wait until the transport takes more."""
        await self.protocol._drain_helper()  # noqa: SLF001  # aiohttp's own writer does


class PlainHeaders:
    """The headers of a connection's last plain request. Scrapers send the same ones again and again."""

    __slots__ = ("_headers", "_text")

    def __init__(self) -> None:
        self._text = b""
        self._headers: CIMultiDict[str] = CIMultiDict()

    def read(self, text: bytes) -> CIMultiDict[str] | None:
        """The headers that `text`, with the empty line, holds; the same object for the same text. None: not plain."""
        if text == self._text:
            return self._headers
        if _FIELDS.fullmatch(text) is None:
            return None
        headers = CIMultiDict([(name, value.rstrip("\t ")) for name, value in _FIELD.findall(text.decode("ascii"))])
        if len(headers) > MAX_FIELDS or len(headers.getall("Host", ())) != 1:
            return None
        if any(name in headers for name in _NOT_PLAIN):
            return None
        self._text, self._headers = text, headers
        return headers


def plain_request(data: bytes, protocol: Connection) -> PlainRequest | None:
    """The request that `data` is, or None for aiohttp's parser to see."""
    if len(data) > MAX_BYTES or (line := _LINE.match(data)) is None:
        return None
    headers = protocol.plain_headers.read(data[line.end() :])
    if headers is None:
        return None
    return PlainRequest(line[1].decode("ascii"), line[2].decode("ascii"), headers, protocol)

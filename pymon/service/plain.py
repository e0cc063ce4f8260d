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
_HEAD = re.compile(rb"(GET|HEAD) (/[!-~]*+) HTTP/1\.1\r\n((?:%b:[\t -~]*+\r\n)+)\r\n" % _TOKEN)
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


def plain_request(data: bytes, protocol: Connection) -> PlainRequest | None:
    """The request that `data` is, or None for aiohttp's parser to see."""
    if len(data) > MAX_BYTES or (found := _HEAD.fullmatch(data)) is None:
        return None
    method, path, fields = found.groups()
    headers = CIMultiDict([(name, value.rstrip("\t ")) for name, value in _FIELD.findall(fields.decode("ascii"))])
    if len(headers) > MAX_FIELDS or len(headers.getall("Host", ())) != 1 or any(name in headers for name in _NOT_PLAIN):
        return None
    return PlainRequest(method.decode("ascii"), path.decode("ascii"), headers, protocol)

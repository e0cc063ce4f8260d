"""No bytes of a client become a request that others would not see: framing that can be read in two ways is refused."""

from __future__ import annotations

import logging
import re
from collections.abc import Coroutine
from typing import Any

import pytest
import uvloop

from pymon.service.answer import Reply, text_reply
from pymon.service.server import Request, Times
from tests.service.running import running

GET = b"GET /first HTTP/1.1\r\nHost: x\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
CHUNKED = GET + b"Transfer-Encoding: chunked\r\n\r\n"

MALFORMED = {
    "length and chunked": GET + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": GET + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": GET + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "one length twice": GET + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "list of lengths": GET + b"Content-Length: 5, 5\r\n\r\nhello",
    "length with a sign": GET + b"Content-Length: +5\r\n\r\nhello",
    "negative length": GET + b"Content-Length: -1\r\n\r\n",
    "length in hexadecimal": GET + b"Content-Length: 0x5\r\n\r\nhello",
    "empty length": GET + b"Content-Length:\r\n\r\n",
    "length of 77 bits": GET + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "unknown coding": GET + b"Transfer-Encoding: gzip\r\n\r\n",
    "identity": GET + b"Transfer-Encoding: identity\r\n\r\n",
    "chunked is not last": GET + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunked twice": GET + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "two codings": GET + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "almost chunked": GET + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked after a vertical tab": GET + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "space before the colon": GET + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "chunk size is garbage": CHUNKED + b"zz\r\n",
    "chunk size overflows": CHUNKED + b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "chunk size with a space": CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n",
    "chunk extension ends with LF": CHUNKED + b"5;a\nhello\r\n0\r\n\r\n",
    "chunk is longer than its size": CHUNKED + b"5\r\nhelloX0\r\n\r\n",
    "folded header": GET + b"X-A: b\r\n c\r\n\r\n",
    "space before the first header": b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
    "line ends of LF": b"GET / HTTP/1.1\nHost: x\n\n",
    "one line end of LF": b"GET / HTTP/1.1\r\nHost: x\nX-A: b\r\n\r\n",
    "head ends with LF": b"GET / HTTP/1.1\r\nHost: x\r\n\n",
    "CR in a value": b"GET / HTTP/1.1\r\nHost: x\rX-A: b\r\n\r\n",
    "NUL in a value": GET + b"X-A: b\0c\r\n\r\n",
    "NUL in a name": GET + b"X\0A: b\r\n\r\n",
    "NUL in the path": b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "control character in a value": GET + b"X-A: b\x01c\r\n\r\n",
    "space in a name": GET + b"X A: b\r\n\r\n",
    "empty name": GET + b": b\r\n\r\n",
    "no colon": GET + b"foo\r\n\r\n",
    "two hosts": GET + b"Host: y\r\n\r\n",
    "one host twice": GET + b"Host: x\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "version 2.0": b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
    "version 1.2": b"GET / HTTP/1.2\r\nHost: x\r\n\r\n",
    "preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "asterisk": b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
    "path without a slash": b"GET foo HTTP/1.1\r\nHost: x\r\n\r\n",
    "tabs for spaces": b"GET\t/\tHTTP/1.1\r\nHost: x\r\n\r\n",
    "method in small letters": b"get / HTTP/1.1\r\nHost: x\r\n\r\n",
    "method nobody knows": b"SMUGGLE / HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01",
}


def run(main: Coroutine[Any, Any, None]) -> None:
    uvloop.run(main)


def statuses(got: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", got)]


@pytest.fixture(autouse=True)
def _no_errors(caplog: pytest.LogCaptureFixture):
    """What a client does wrong is no error of the server."""
    caplog.set_level(logging.DEBUG)
    yield
    for record in caplog.records:
        assert record.levelno < logging.WARNING, record.getMessage()
        assert not record.exc_info


async def exchange(*pieces: bytes, keep: bool = True) -> tuple[list[int], list[str], bytes]:
    """Statuses answered up to the end of the connection, the paths that reached the handler, and all bytes."""
    seen: list[str] = []

    async def handler(request: Request) -> Reply:
        seen.append(request.path)
        return text_reply(200, "ok", keep=keep)

    async with running(handler, times=Times(linger=0.2)) as server:
        got = await server.raw(*pieces)
    return statuses(got), seen, got


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_request_is_the_last(data: bytes) -> None:
    async def main() -> None:
        codes, seen, got = await exchange(data + NEXT)
        assert codes == [400]
        assert seen == []
        assert b"\r\nConnection: close\r\n" in got

    run(main())


@pytest.mark.parametrize(
    "data", [data for data in MALFORMED.values() if data.startswith(CHUNKED)], ids=lambda data: repr(data[-14:])
)
def test_a_malformed_body_that_comes_later_ends_the_connection(data: bytes) -> None:
    async def main() -> None:
        codes, seen, _ = await exchange(CHUNKED, data.removeprefix(CHUNKED) + NEXT)
        assert codes == [413]
        assert seen == []

    run(main())


@pytest.mark.parametrize("cut", [0, 1, 20])
def test_a_body_is_never_a_request(cut: int) -> None:
    evil = b"GET /evil HTTP/1.1\r\nHost: evil\r\n\r\n"

    async def main() -> None:
        head = GET + b"Content-Length: %d\r\n\r\n" % len(evil)
        codes, seen, _ = await exchange(head + evil[:cut], evil[cut:] + NEXT)
        assert codes == [200, 200]
        assert seen == ["/first", "/next"]
        # A body whose length is not told first is refused, and the connection with it.
        codes, seen, _ = await exchange(CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(evil), evil) + NEXT)
        assert codes == [413]
        assert seen == []

    run(main())


def test_a_body_that_does_not_come_ends_the_connection() -> None:
    async def main() -> None:
        codes, seen, _ = await exchange(GET + b"Content-Length: 1000\r\n\r\n" + NEXT)
        assert codes == [200]
        assert seen == ["/first"]

    run(main())


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"h2c\r\nContent-Length: 5"])
def test_another_protocol_is_declined_and_the_connection_ends(protocol: bytes) -> None:
    async def main() -> None:
        head = GET + b"Connection: upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n"
        codes, seen, got = await exchange(head, NEXT)
        assert codes == [200]
        assert seen == ["/first"]
        assert b"\r\nConnection: close\r\n" in got

    run(main())


def test_pipelined_requests_are_answered_in_order() -> None:
    async def main() -> None:
        codes, seen, _ = await exchange(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(100)) + NEXT)
        assert codes == [200] * 101
        assert seen == [f"/{n}" for n in range(100)] + ["/next"]

    run(main())


def test_a_connection_that_is_to_end_takes_no_other_request() -> None:
    async def main() -> None:
        codes, seen, _ = await exchange(GET + b"\r\n" + NEXT, keep=False)
        assert codes == [200]
        assert seen == ["/first"]

    run(main())

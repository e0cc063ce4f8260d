"""`python -m bench.dummy UPSTREAM CERTIFICATE KEY`: the server that attackers load where they do not load a proxy.

It takes TLS on a port of 127.0.0.1 that it prints, lets so many requests a second in as a proxy does for one account,
asks UPSTREAM the same for each, and answers 429, 502 or the body. It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys

import uvloop

from bench.fronts import QUOTA
from pymon.proxy.upstream import Upstream, UpstreamError
from pymon.token_bucket import TokenBucket

SECONDS = 9.5
_ANSWER = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b"


async def serve(url: str, context: ssl.SSLContext) -> None:
    """Answer until standard input ends."""
    upstream = Upstream(url)
    bucket = TokenBucket(QUOTA, 10 * QUOTA)
    slots = asyncio.Semaphore(32)
    loop = asyncio.get_running_loop()

    async def answer(head: bytes) -> tuple[int, bytes]:
        if bucket.take(loop.time()):
            return 429, b""
        async with slots:
            try:
                response = await upstream.get(head.split(b" ")[1].decode(), timeout_seconds=SECONDS)
            except UpstreamError:
                return 502, b""
        return 200, response.body

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                status, body = await answer(await reader.readuntil(b"\r\n\r\n"))
                writer.write(_ANSWER % (status, len(body), body))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    upstream.close()


def main() -> None:
    """Serve until standard input ends. Arguments: URL of the upstream, certificate, key."""
    url, certificate, key = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    uvloop.run(serve(url, context))


if __name__ == "__main__":
    main()

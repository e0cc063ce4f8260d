"""A node that answers as badly as it can, and lies in its inventory; `python -m tests.proxy.hostile OWNER CLAIM...`.

As a program it serves on a port of 127.0.0.1 that it prints, until its standard input ends.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

import uvloop

from tests.proxy.agents import Peer
from tests.proxy.running import EXPOSITION, TEXT, FakeNode, answer, container

MIB = 1 << 20
GROUPS = [f"g{number}" for number in range(100)]
NAMES = 10_000
"""Containers with names that nobody should have."""

NASTY = (
    'a"} 1\nevil_metric{x="',
    "\r\nSet-Cookie: a=b\r\n\r\n<script>",
    "../../../../etc/passwd",
    "\x00\x1b[31mred\x7f\u202e\u2028",
    "😀" * 200,
    "",
)
_HEAD = f"HTTP/1.1 200 OK\r\nContent-Type: {TEXT}\r\n".encode()
_CHUNKED = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def counter(name: str, samples: int) -> bytes:
    """A family of so many series."""
    return f"# TYPE {name} counter\n".encode() + b"".join(
        b'%b{i="%d"} 1\n' % (name.encode(), n) for n in range(samples)
    )


def without_end(head: bytes, piece: bytes) -> Callable[[Peer], asyncio.Future[None]]:
    """An answer that begins and never ends."""

    async def say(peer: Peer) -> None:
        await peer.say(head)
        while not peer.writer.transport.is_closing():
            await peer.say(piece)

    return say


def whole(data: bytes) -> Callable[[Peer], asyncio.Future[None]]:
    async def say(peer: Peer) -> None:
        await peer.say(data)

    return say


async def _silent(peer: Peer) -> None:
    await peer.closed()


KINDS = (
    whole(answer(counter("largest_total", 330_000))),
    whole(answer(counter("many_total", 40_000))),
    whole(answer(counter("grouped_total", 2_400))),
    whole(answer(b"".join(b"# TYPE f%d gauge\nf%d 1\n" % (n, n) for n in range(10_000)))),
    whole(answer(b"# TYPE a gauge\na 1 x" + b" " * 40_000 + b"y\n")),
    whole(answer(b"# TYPE pymon_container_scrape_success gauge\npymon_container_scrape_success 1\n" + EXPOSITION)),
    whole(answer(b'# TYPE h histogram\nh_bucket{le="1",le="+Inf"} 3\n' + EXPOSITION * 2)),
    without_end(_HEAD + b"\r\n", b"x" * 65536),
    without_end(_CHUNKED + b"1;", b"x" * 65536),
    without_end(_CHUNKED + b"1\r\nx\r\n", b"1;a=b\r\nx\r\n" * 5000),
    without_end(_CHUNKED + b"1\r\nx\r\n0\r\nETag: ", b"x" * 65536),
    without_end(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 10_000),
    _silent,
)
"""What it answers to scrapes, by the number of the container."""

COUNT = 4 * len(KINDS)
"""Containers that are scraped."""


def uuid_of(number: int) -> str:
    """A container of the hostile node."""
    return f"{number:08x}-0bad-4000-8000-000000000000"


def inventory(owner: str, claims: tuple[str, ...], names: int) -> list[dict[str, object]]:
    """Containers of `owner` with hostile names, and a claim to each UUID, which began just now."""
    mine = [
        container(
            uuid_of(number), owner, name=NASTY[number % len(NASTY)], image=NASTY[0], groups=[*GROUPS, NASTY[1]],
            services=f"web:80,{NASTY[0]}", state=NASTY[number % 2] or "running",
        )
        for number in range(names)
    ]  # fmt: skip
    for found in mine[COUNT:]:
        found["groups"] = [NASTY[2]]
    return mine + [container(uuid, owner, start=time.time()) for uuid in claims]


def node_of(owner: str, claims: tuple[str, ...] = (), names: int = NAMES) -> FakeNode:
    """The node."""

    async def scrape(peer: Peer, head: bytes) -> None:
        number = int(head[len(b"GET /v1/") :][:8], 16) if b"-0bad-" in head else 0
        await KINDS[number % len(KINDS)](peer)

    return FakeNode(*inventory(owner, claims, names), name="hostile", scrape=scrape)


async def _serve(owner: str, claims: tuple[str, ...]) -> None:
    node = node_of(owner, claims)
    async with node:
        sys.stdout.write(f"{node.url}\n")
        sys.stdout.flush()
        loop = asyncio.get_running_loop()
        ended = loop.run_in_executor(None, sys.stdin.read)
        while not ended.done():
            await asyncio.wait((ended,), timeout=2)
            last = node.containers[-1]
            node.change(*node.containers[:-1], {**last, "name": f"{loop.time()}"})


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1], tuple(sys.argv[2:])))

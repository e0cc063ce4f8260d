"""The client of one agent, against agents that misbehave on purpose: sizes."""

from __future__ import annotations

import resource

import pytest

from tests.proxy.agents import Agent, Handle, Peer, always, on_each_loop, until
from tests.proxy.upstream import failure, get, told, using


def flood(head: bytes, piece: bytes, pieces: int) -> Handle:
    async def handle(peer: Peer) -> None:
        await peer.asked()
        await peer.say(head)
        for _ in range(pieces):
            await peer.say(piece)
        await peer.closed()

    return handle


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


FLOODS = {
    "one header of 100 MB": (b"HTTP/1.1 200 OK\r\nETag: ", b"x" * 65536, 1600),
    "one header's name of 100 MB": (b"HTTP/1.1 200 OK\r\n", b"x" * 65536, 1600),
    "100 MB of headers": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 10000, 1600),
    "a reason of 100 MB": (b"HTTP/1.1 200 ", b"x" * 65536, 1600),
    "informational answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 3000, 1600),
    "a body of 2 GB": (b"HTTP/1.1 200 OK\r\nContent-Length: 2147483648\r\n\r\n", b"x" * 65536, 32768),
    "chunks of 2 GB": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"10000\r\n" + b"x" * 65536 + b"\r\n",
        32768,
    ),
    "an extension": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 65536, 1600),
    "trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nETag: ", b"x" * 65536, 1600),
    "a body until the end": (b"HTTP/1.0 200 OK\r\n\r\n", b"x" * 65536, 32768),
}


@on_each_loop
@pytest.mark.parametrize("what", FLOODS)
async def test_what_has_no_end_is_refused_in_bounded_memory(what):
    before = peak_bytes()
    async with Agent(flood(*FLOODS[what])) as agent:
        with using(agent.url) as upstream:
            assert told(await failure(upstream, seconds=60)) == (502, "too_large")
            await until(lambda: agent.open == upstream.connections == 0)
    assert peak_bytes() - before < 64 << 20


@on_each_loop
async def test_a_body_in_tiny_chunks_takes_no_more_memory_than_it_has_bytes():
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    before = peak_bytes()
    async with Agent(flood(head, b"2\r\nab\r\n" * 10000, 60)) as agent:
        with using(agent.url) as upstream:
            assert told(await failure(upstream, seconds=60, max_bytes=1 << 20)) == (502, "too_large")
    assert peak_bytes() - before < 16 << 20


@on_each_loop
async def test_a_body_may_have_as_many_bytes_as_it_may():
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300000
    async with Agent(always(answer)) as agent:
        with using(agent.url) as upstream:
            assert (await get(upstream, max_bytes=300000)).body == b"x" * 300000
            assert [connection._body for connection in upstream._idle] == [b""]
            assert told(await failure(upstream, max_bytes=299999)) == (502, "too_large")

"""The client of one agent, against agents that misbehave on purpose: sizes."""

from __future__ import annotations

import asyncio
import itertools
import resource
from collections import Counter
from types import SimpleNamespace

import pytest

from pymon.proxy.pacing import Pacing
from pymon.proxy.upstream import _Connection
from pymon.service.http1 import ResponseReader
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


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
DRIPS = {
    "an extension with each chunk": (CHUNKED, b"1;" + b"x" * 60000 + b"\r\ny\r\n"),
    "a quoted extension with each chunk": (CHUNKED, b'1;a="' + b"x" * 60000 + b'"\r\ny\r\n'),
    "short extensions": (CHUNKED, (b"20;" + b"x" * 30 + b"\r\n" + b"y" * 32 + b"\r\n") * 1000),
    "sizes with zeros in front": (CHUNKED, (b"0" * 60000 + b"1\r\ny\r\n")),
    "chunks of one byte": (CHUNKED, b"1\r\ny\r\n" * 10000),
    "chunks of thirty bytes": (CHUNKED, (b"1e\r\n" + b"y" * 30 + b"\r\n") * 2000),
    "trailers": (CHUNKED + b"1\r\ny\r\n0\r\n", b"a:b\r\n" * 10000),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"a:b\r\n" * 10000),
    "informational answers": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 2000),
    "informational answers with headers": (b"", b"HTTP/1.1 103 Early Hints\r\nETag: a\r\n\r\n" * 1000),
    "lines before the answer": (b"", b"\r\n" * 30000),
}


@on_each_loop
@pytest.mark.parametrize("what", DRIPS)
async def test_bytes_that_are_no_body_are_bounded_whatever_they_are_called(what):
    head, piece = DRIPS[what]
    said = 0

    async def handle(peer: Peer) -> None:
        nonlocal said
        await peer.asked()
        await peer.say(head)
        for _ in range((64 << 20) // len(piece)):
            await peer.say(piece)
            said += len(piece)

    async with Agent(handle) as agent:
        with using(agent.url) as upstream:
            assert told(await failure(upstream, seconds=60)) in {(502, "too_large"), (502, "malformed")}
            await until(lambda: agent.open == upstream.connections == 0)
    assert said < 16 << 20, "what the kernel holds of it, and no more"


class Pool:
    """What a connection has instead of an `Upstream`."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.pacing = Pacing(loop.time, loop.call_at)

    def idle(self, connection: _Connection) -> None:
        pass

    def lost(self, connection: _Connection) -> None:
        pass


class Wire(asyncio.Transport):
    """A connection on which the agent's bytes are read in pieces that the test chooses."""

    def get_extra_info(self, name, default=None):
        return socket_of_a_connection if name == "socket" else default

    def write(self, data):
        pass

    def abort(self):
        pass

    def is_closing(self):
        return False

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


socket_of_a_connection = SimpleNamespace(setsockopt=lambda *_: None)


@on_each_loop
@pytest.mark.parametrize("what", [*DRIPS, "reads of one byte"])
@pytest.mark.parametrize("read", [1, 1000, 262144])
async def test_what_one_answer_costs_is_bounded(what, read, monkeypatch):
    calls = Counter()
    for name in ("on_header", "on_body", "on_message_complete"):
        real = getattr(ResponseReader, name)
        count = lambda self, *given, real=real, name=name: (calls.update([name]), real(self, *given))[1]  # noqa: E731
        monkeypatch.setattr(ResponseReader, name, count)
    head, piece = DRIPS.get(what, (b"HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n", b"x"))
    connection = _Connection(Pool(), None)
    connection.connection_made(Wire())
    answer = connection.exchange(b"", 8 << 20)
    if what == "reads of one byte":
        read = 1
    wire = itertools.chain(head, itertools.cycle(piece))
    reads = taken = 0
    while not answer.done():
        data = bytes(itertools.islice(wire, read))
        connection.data_received(data)
        reads += 1
        taken += len(data)
        assert taken <= 65536 + (8 << 20) * 33 // 32 + read
    assert told(answer.exception())[0] == 502
    # 8 MB in whole reads are 1024 calls and some; what is no body is at most 64 KiB and a part of it.
    assert calls.total() + reads < 2 * (1024 + (8 << 20) // 128) + 65536
    if what != "reads of one byte":
        assert taken < (1 << 20) + read


@on_each_loop
@pytest.mark.parametrize("size", [512, 4096, 100000])
async def test_a_body_in_chunks_as_servers_make_them_is_taken(size):
    body = b"x" * (4 << 20)
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    answer = CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    async with Agent(always(answer)) as agent:
        with using(agent.url) as upstream:
            for _ in range(2):
                assert (await get(upstream)).body == body
            assert agent.connections == 1


@on_each_loop
async def test_a_body_may_have_as_many_bytes_as_it_may():
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300000
    async with Agent(always(answer)) as agent:
        with using(agent.url) as upstream:
            assert (await get(upstream, max_bytes=300000)).body == b"x" * 300000
            assert [connection._reader._body for connection in upstream._idle] == [b""]
            assert told(await failure(upstream, max_bytes=299999)) == (502, "too_large")


@on_each_loop
async def test_other_tasks_run_between_two_reads_of_a_long_document(monkeypatch):
    """libuv reads up to 32 times before anything else is done."""
    reads = most = 0
    real = _Connection.data_received

    def counted(self, data):
        nonlocal reads
        reads += 1
        real(self, data)

    monkeypatch.setattr(_Connection, "data_received", counted)
    body = b"x" * (8 << 20)
    async with Agent(always(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))) as agent:
        with using(agent.url) as upstream:
            asking = asyncio.create_task(get(upstream, background=True))
            while not asking.done():
                await asyncio.sleep(0)
                most, reads = max(most, reads), 0
            assert (await asking).body == body
            assert 1 <= most <= 2

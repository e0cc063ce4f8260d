"""The client of one agent, against agents that misbehave on purpose: answers."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest

from pymon.proxy.upstream import Response, UpstreamError
from tests.proxy.agents import Agent, Peer, always, on_each_loop, once, until
from tests.proxy.upstream import OK, TWO, failure, get, told, using


@on_each_loop
async def test_what_is_no_answer_is_refused_and_ends_the_connection():
    for answer in [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nETag: a\rb\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nETag: a\x00b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nETag: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nok",
    ]:
        async with Agent(once(answer, lambda peer: peer.closed())) as agent:
            with using(agent.url) as upstream:
                assert told(await failure(upstream)) == (502, "malformed")
                await until(lambda: agent.open == upstream.connections == 0)


@on_each_loop
async def test_an_answer_cut_anywhere_is_refused():
    async def handle(peer: Peer) -> None:
        await peer.asked()
        await peer.say(OK[: peer.number])

    async with Agent(handle) as agent:
        with using(agent.url) as upstream:
            for _ in range(1, len(OK)):
                assert told(await failure(upstream)) == (502, "truncated")


@on_each_loop
async def test_a_body_that_ends_with_its_connection_could_be_truncated_and_is_refused():
    for answer in (b"HTTP/1.0 200 OK\r\n\r\nok", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok"):
        async with Agent(once(answer)) as agent:
            with using(agent.url) as upstream:
                assert told(await failure(upstream)) == (502, "truncated")


@on_each_loop
async def test_a_connection_that_is_reset():
    async def handle(peer: Peer) -> None:
        await peer.asked()
        if peer.number == 2:
            await peer.say(OK[:30])
            await asyncio.sleep(0.05)
        peer.reset()

    async with Agent(handle) as agent:
        with using(agent.url) as upstream:
            assert told(await failure(upstream)) == (502, "closed")
            assert told(await failure(upstream)) == (502, "truncated")
            assert agent.connections == 2


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nContent-Type: text/plain\r\n\r\n"
    b"2;extension=x\r\nab\r\n00A\r\n0123456789\r\n0\r\nContent-Type: evil\r\nETag: evil\r\n\r\n"
)


@on_each_loop
async def test_a_chunked_answer_is_put_together_and_its_trailers_are_left_out():
    async def handle(peer: Peer) -> None:
        await peer.asked()
        for position in range(len(CHUNKED)):
            await peer.say(CHUNKED[position : position + 1])
            await asyncio.sleep(0)
        await peer.asked()
        await peer.say(CHUNKED)
        await peer.closed()

    async with Agent(handle) as agent:
        with using(agent.url) as upstream:
            for _ in range(2):
                assert await get(upstream) == Response(200, {"content-type": "text/plain"}, b"ab0123456789")
            assert agent.connections == 1


@on_each_loop
async def test_informational_answers_leave_nothing_in_the_answer():
    early = b"HTTP/1.1 103 Early Hints\r\nETag: evil\r\nContent-Length: 5\r\n\r\n"
    async with Agent(always(b"HTTP/1.1 100 Continue\r\n\r\n" + early + OK)) as agent:
        with using(agent.url) as upstream:
            for _ in range(2):
                assert await get(upstream) == Response(200, {"content-type": "text/plain"}, b"ok")
            assert agent.connections == 1


@on_each_loop
async def test_an_answer_without_a_body_has_none_whatever_length_it_says():
    for status in [204, 304]:
        answer = b'HTTP/1.1 %d X\r\nETag: "a"\r\nContent-Length: 12\r\n\r\n' % status
        async with Agent(always(answer)) as agent:
            with using(agent.url) as upstream:
                for _ in range(2):
                    assert await get(upstream) == Response(status, {"etag": '"a"'}, b"")
                assert agent.connections == 1


@on_each_loop
async def test_a_status_is_handed_on_as_it_is():
    for status in [200, 299, 301, 404, 418, 500, 599, 999]:
        async with Agent(always(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nok" % status)) as agent:
            with using(agent.url) as upstream:
                assert await get(upstream) == Response(status, {}, b"ok")


@on_each_loop
async def test_headers_of_one_name_are_one_and_the_space_behind_them_is_none_of_them():
    answer = OK.replace(
        b"Content-Type", b"CONTENT-ENCODING: gzip\r\nContent-encoding: br \t\r\nSet-Cookie: x\r\nContent-Type"
    )
    async with Agent(always(answer)) as agent:
        with using(agent.url) as upstream:
            assert (await get(upstream)).headers == {"content-type": "text/plain", "content-encoding": "gzip, br"}


@on_each_loop
@pytest.mark.parametrize("first", [OK, OK.replace(b"200", b"204").replace(b"ok", b"")])
async def test_a_second_answer_in_the_same_segment_reaches_nobody(first):
    for rest in [TWO, TWO[:20], b"x", b"HTTP/1.1 100 Continue\r\n\r\n"]:
        async with Agent(once(first + rest, lambda peer: peer.closed())) as agent:
            with using(agent.url) as upstream:
                one = await get(upstream)
                two = await get(upstream)
                assert one.headers == two.headers == {"content-type": "text/plain"}
                assert (one.body, two.body) == (first[-2:].strip(), first[-2:].strip())
                assert agent.connections == 2


@on_each_loop
async def test_a_second_answer_that_comes_later_reaches_nobody():
    async def handle(peer: Peer) -> None:
        await peer.asked()
        await peer.say(OK)
        if peer.number == 1:
            await until(go.is_set)
            await peer.say(TWO)
        await peer.closed()

    go = asyncio.Event()
    async with Agent(handle) as agent:
        with using(agent.url) as upstream:
            await get(upstream)
            go.set()
            await until(lambda: upstream.connections == 0)
            assert (await get(upstream)).body == b"ok"


@on_each_loop
async def test_the_late_answer_to_a_request_that_was_given_up_reaches_nobody():
    async def handle(peer: Peer) -> None:
        await peer.asked()
        if peer.number == 1:
            await until(go.is_set)
            await peer.say(TWO)
        else:
            go.set()
            await peer.say(OK)
            await always(OK)(peer)

    go = asyncio.Event()
    async with Agent(handle) as agent:
        with using(agent.url) as upstream:
            await failure(upstream, seconds=0.05)
            for _ in range(3):
                assert (await get(upstream)).body == b"ok"


@on_each_loop
async def test_an_answer_before_the_question_does_no_harm(tls):
    async def handle(peer: Peer) -> None:
        await peer.say(OK)
        await peer.closed()

    # With TLS 1.2 the agent ends the handshake, so that what it says then comes in the same segment.
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.maximum_version = ssl.TLSVersion.TLSv1_2
    tls.certificate.configure_cert(server)
    for context in (None, tls.server, server):
        async with Agent(handle, tls=context) as agent:
            for _ in range(20):
                # An answer is only known to be early when it is seen before the request is sent.
                with (
                    using(agent.url, tls.client, server_name="agent.example") as upstream,
                    contextlib.suppress(UpstreamError),
                ):
                    assert (await get(upstream)).body == b"ok"
                await until(lambda upstream=upstream: upstream.connections == 0)
            await until(lambda: agent.open == 0)

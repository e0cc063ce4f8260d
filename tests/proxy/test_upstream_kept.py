"""The client of one agent, against agents that misbehave on purpose: the connections that are kept."""

from __future__ import annotations

import asyncio

import pytest

from pymon.proxy import upstream as module
from pymon.proxy.upstream import Response
from tests.proxy.agents import Agent, Peer, always, on_each_loop, once, until
from tests.proxy.upstream import OK, failure, get, told, using


@on_each_loop
async def test_a_connection_is_used_again():
    async with Agent(always(OK)) as agent:
        with using(agent.url) as upstream:
            for _ in range(5):
                assert await get(upstream) == Response(200, {"content-type": "text/plain"}, b"ok")
            assert agent.connections == upstream.connections == 1


@on_each_loop
async def test_exchanges_at_the_same_time_have_connections_of_their_own():
    async def handle(peer: Peer) -> None:
        while True:
            path = (await peer.asked()).split()[1]
            await until(lambda: len(agent.heads) >= 8)
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    async with Agent(handle) as agent:
        with using(agent.url) as upstream:
            answers = await asyncio.gather(*(get(upstream, f"/{number}") for number in range(8)))
            assert [answer.body for answer in answers] == [b"/%d" % number for number in range(8)]
            assert upstream.connections == 8


@on_each_loop
async def test_a_request_has_the_headers_it_was_given_and_no_others():
    async with Agent(always(OK)) as agent:
        with using(agent.url + "/prefix/") as upstream:
            await get(upstream, "/v1/x?a=b", headers=(("Accept", "a/b"), ("If-None-Match", '"x"')))
    host = agent.url.removeprefix("http://").encode()
    assert agent.heads == [
        b"GET /prefix/v1/x?a=b HTTP/1.1\r\nHost: " + host + b"\r\nUser-Agent: pymon-proxy\r\n"
        b'Accept: a/b\r\nIf-None-Match: "x"\r\n\r\n'
    ]


@on_each_loop
async def test_a_connection_that_the_agent_closed_is_noticed():
    async with Agent(once(OK)) as agent:
        with using(agent.url) as upstream:
            for number in range(3):
                await get(upstream)
                await until(lambda: upstream.connections == 0)
                assert agent.connections == number + 1


@on_each_loop
async def test_a_kept_connection_that_ends_unanswered_is_replaced_once_and_silently():
    async def handle(peer: Peer) -> None:
        await peer.asked()
        await peer.say(OK)
        await peer.asked()  # and hangs up

    async with Agent(handle) as agent:
        with using(agent.url) as upstream:
            await get(upstream)
            assert (await get(upstream)).body == b"ok"
            assert (agent.connections, len(agent.heads)) == (2, 3)


@on_each_loop
@pytest.mark.parametrize("reset", [False, True])
async def test_a_request_is_sent_again_only_once_however_many_connections_are_kept(reset):
    async def handle(peer: Peer) -> None:
        await peer.asked()
        if len(agent.heads) <= 3:
            await until(lambda: len(agent.heads) >= 3)
            await peer.say(OK)
            await peer.asked()
        if reset:
            peer.reset()

    async with Agent(handle) as agent:
        with using(agent.url) as upstream:
            await asyncio.gather(*(get(upstream) for _ in range(3)))
            assert told(await failure(upstream)) == (502, "closed")
            assert len(agent.heads) == 5


@on_each_loop
async def test_nothing_is_sent_again_once_something_was_heard():
    async def handle(peer: Peer) -> None:
        await peer.asked()
        await peer.say(OK)
        await peer.asked()
        await peer.say(b"H")

    async with Agent(handle) as agent:
        with using(agent.url) as upstream:
            await get(upstream)
            assert told(await failure(upstream)) == (502, "truncated")
            assert len(agent.heads) == 2


@on_each_loop
async def test_a_connection_that_was_idle_for_too_long_is_not_used(monkeypatch):
    async with Agent(always(OK)) as agent:
        with using(agent.url) as upstream:
            await get(upstream)
            monkeypatch.setattr(module, "IDLE_SECONDS", 0.0)
            await get(upstream)
            assert agent.connections == 2
            await until(lambda: upstream.connections == 1)


@on_each_loop
@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
async def test_a_connection_is_kept_when_the_agent_says_so(version):
    for header in [b"", b"Connection: close\r\n", b"Connection: keep-alive\r\n"]:
        answer = version + b" 200 OK\r\n" + header + b"Content-Length: 2\r\n\r\nok"
        kept = b"keep-alive" in header or (version == b"HTTP/1.1" and not header)
        async with Agent(always(answer)) as agent:
            with using(agent.url) as upstream:
                for _ in range(2):
                    assert (await get(upstream)).body == b"ok"
                assert agent.connections == (1 if kept else 2)


@on_each_loop
async def test_closing_ends_what_is_under_way_and_what_comes_later():
    async with Agent(lambda peer: peer.closed()) as agent:
        with using(agent.url) as upstream:
            waiting = asyncio.create_task(failure(upstream))
            await until(lambda: agent.open == 1)
            upstream.close()
            assert told(await waiting) == (502, "closed")
            assert told(await failure(upstream)) == (502, "closed")
            await until(lambda: agent.open == 0)
            assert upstream.connections == 0

"""The client of one agent, against agents that misbehave on purpose: the time it takes."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.proxy.agents import Agent, Peer, always, on_each_loop, once, until
from tests.proxy.upstream import OK, failure, get, told, using


@on_each_loop
async def test_a_slow_answer_is_given_up_at_the_deadline_and_the_next_request_works():
    async def handle(peer: Peer) -> None:
        await peer.asked()
        if peer.number == 1:
            await peer.closed()
        await peer.say(OK)
        await peer.closed()

    async with Agent(handle) as agent:
        with using(agent.url) as upstream:
            assert told(await failure(upstream, seconds=0.1)) == (504, "timeout")
            assert (await get(upstream)).body == b"ok"
            await until(lambda: agent.open == 1)
            assert upstream.connections == 1


@on_each_loop
async def test_an_answer_that_stops_half_way_is_given_up_at_the_deadline():
    for part in [
        b"HTT",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        OK[:-1],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok",
    ]:
        async with Agent(once(part, lambda peer: peer.closed())) as agent:
            with using(agent.url) as upstream:
                assert told(await failure(upstream, seconds=0.1)) == (504, "timeout")
                await until(lambda: agent.open == 0)


@on_each_loop
async def test_without_time_nothing_is_sent_and_no_connection_is_lost():
    for seconds in [0.0, -1.0]:
        async with Agent(always(OK)) as agent:
            with using(agent.url) as upstream:
                await get(upstream)
                assert told(await failure(upstream, seconds=seconds)) == (504, "timeout")
                await get(upstream)
                assert (agent.connections, len(agent.heads)) == (1, 2)


@on_each_loop
async def test_cancelling_ends_the_connection():
    async with Agent(once(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", lambda peer: peer.closed())) as agent:
        with using(agent.url) as upstream:
            task = asyncio.create_task(get(upstream))
            await until(lambda: len(agent.heads) == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: agent.open == upstream.connections == 0)


@on_each_loop
async def test_cancelling_at_any_moment_leaks_nothing():
    async with Agent(always(OK)) as agent:
        for steps in range(16):
            with using(agent.url) as upstream:
                task = asyncio.create_task(get(upstream))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                assert (await get(upstream)).body == b"ok"
                await until(lambda: agent.open == upstream.connections == len(upstream._idle) == 1)
            await until(lambda: agent.open == 0)

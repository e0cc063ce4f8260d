"""The client of one agent, against agents that misbehave on purpose: requests."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pymon.proxy.upstream import Upstream, UpstreamError
from tests.proxy.agents import Agent, Peer, always, on_each_loop, until
from tests.proxy.upstream import OK, get, using


@on_each_loop
async def test_a_path_that_is_none_is_not_sent():
    for path in [
        "",
        "x",
        "/ HTTP/1.1",
        "/\r\nX: y",
        "/\n",
        "/\r",
        "/\t",
        "/\0",
        "/\x7f",
        "/\x85",
        "/é",
        "/\u2028",
        "http://a/",
    ]:
        async with Agent(always(OK)) as agent:
            with using(agent.url) as upstream:
                with pytest.raises(ValueError, match="expected the path of a request"):
                    await get(upstream, path)
                assert agent.connections == 0


@on_each_loop
async def test_connections_of_a_burst_are_closed_after_it_but_one():
    everybody = asyncio.Barrier(7)

    async def handle(peer: Peer) -> None:
        while True:
            if b"/burst" in await peer.asked():
                await everybody.wait()
            await peer.say(OK)

    async with Agent(handle) as agent:
        with using(agent.url, spare_seconds=0.05) as upstream:
            await asyncio.gather(*(get(upstream, "/burst") for _ in range(7)))
            assert agent.connections == 7
            await until(lambda: agent.open == upstream.connections == 1)
            await get(upstream)
            assert agent.connections == 7


@settings(max_examples=300)
@given(st.text(alphabet=st.characters(max_codepoint=0x2FF)))
def test_a_path_that_is_taken_is_one_word(text):
    async def main() -> None:
        # Refused by its deadline, when not by its path.
        await Upstream("http://127.0.0.1:1").get("/" + text, timeout_seconds=0)

    try:
        asyncio.run(main())
    except UpstreamError:
        assert text.isascii()
        assert not set(text) & {chr(number) for number in (*range(33), 127)}
    except ValueError:
        assert not text.isascii() or set(text) & {chr(number) for number in (*range(33), 127)}

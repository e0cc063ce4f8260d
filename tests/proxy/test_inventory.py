"""Polling agents: real sockets, and agents that misbehave."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pymon.directory.model import Node
from pymon.proxy import inventory as module
from pymon.proxy import settling
from pymon.proxy.fleet import Fleet
from pymon.proxy.inventory import Poller
from pymon.proxy.places import NodeView
from pymon.proxy.upstream import Upstream
from tests.live.agent import Agent
from tests.live.world import World
from tests.proxy.polled import (
    ACCOUNTS,
    ALICE,
    Handler,
    agent,
    dead_port,
    document,
    lines,
    node_of,
    proxy,
    until,
)

pytestmark = pytest.mark.usefixtures("quick")

# --- an agent as it should be ---


async def test_a_change_is_seen_without_asking_again_and_again() -> None:
    async with agent(document(1, 2)) as fake, proxy(fake.node()) as running:
        assert running.poller.unknown() == ["n1"]
        assert not running.poller.up("n1")
        assert running.poller.age_seconds("n1") == math.inf
        await until(lambda: running.has(1, 2), "the first document")
        await until(lambda: len(fake.asked) == 2, "the long poll")
        assert fake.asked == [None, '"e-0"']
        assert running.poller.unknown() == []
        assert running.poller.up("n1")
        assert running.poller.age_seconds("n1") < 20
        assert running.fleet.nodes() == [NodeView("n1", str(node_of(1)), "host1")]
        assert [place.owner for place in running.fleet.owned(ALICE)] == [ALICE, ALICE]
        fake.tell(document(2, 3))
        await until(lambda: running.has(2, 3), "the change")
        assert [place.container.name for place in running.fleet.stopped(ALICE)] == ["c1"]
        await until(lambda: len(fake.asked) == 3, "the long poll after it")
        await asyncio.sleep(0.2)
        assert len(fake.asked) == 3


async def test_not_modified_keeps_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.05)
    async with agent(document(1)) as fake, proxy(fake.node()) as running:
        await until(lambda: len(fake.asked) > 5, "many polls")
        assert set(fake.asked[1:]) == {'"e-0"'}
        assert running.has(1)
        assert running.poller.up("n1")
        assert not running.poller.failures


async def test_an_agent_that_starts_again_has_another_etag() -> None:
    async with agent(document(1)) as fake, proxy(fake.node()) as running:
        await until(lambda: running.has(1), "the first document")
        await fake.stop()
        await until(lambda: not running.poller.up("n1"), "the failure")
        fake.tell(document(2))
        await fake.start()
        await until(lambda: running.has(2), "the document of the new one")
        assert running.poller.up("n1")


async def test_an_agent_without_etags_is_asked_at_intervals() -> None:
    async def plain(_: web.Request) -> web.Response:
        return web.Response(body=document(len(fake.asked)))

    async with agent() as fake:
        fake.handler = plain
        async with proxy(fake.node()) as running:
            await until(lambda: running.has(3), "the third document")
            assert fake.asked[:3] == [None] * 3


# --- agents that misbehave ---


async def html(_: web.Request) -> web.Response:
    return web.Response(text="<!DOCTYPE html><html>It works!\r\n</html>", content_type="text/html")


async def error(_: web.Request) -> web.Response:
    return web.Response(status=500, text="oh")


async def redirect(_: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"})


async def not_modified(_: web.Request) -> web.Response:
    return web.Response(status=304, headers={"ETag": '"e-0"'})


async def empty(_: web.Request) -> web.Response:
    return web.Response(body=b"")


async def wrong_types(_: web.Request) -> web.Response:
    return web.Response(body=document(1).replace(b'"groups": []', b'"groups": "web"'), headers={"ETag": '"x"'})


async def compressed(_: web.Request) -> web.Response:
    return web.Response(body=document(1), headers={"Content-Encoding": "gzip"})


async def hangs(_: web.Request) -> web.Response:
    await asyncio.sleep(60)
    raise AssertionError


async def truncated(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"{")
    assert request.transport is not None
    request.transport.close()
    return response


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    try:
        while True:
            await response.write(b" " * 65536)
    except ConnectionError:
        return response


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (html, "malformed"), (error, "status"), (redirect, "status"), (not_modified, "status"), (empty, "malformed"),
        (wrong_types, "malformed"), (compressed, "malformed"), (hangs, "timeout"), (truncated, "truncated"),
        (endless, "too_large"),
    ],
)  # fmt: skip
async def test_an_agent_that_misbehaves_evicts_nothing(
    handler: Handler, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.2)
    monkeypatch.setattr(module, "ANSWER_SECONDS", 1.0 if handler is hangs else 15.0)
    monkeypatch.setattr(module, "MAX_DOCUMENT_BYTES", 1 << 20)
    async with (
        agent(document(1)) as good,
        agent(document(2, node=2)) as bad,
        proxy(good.node("good"), bad.node("bad")) as running,
    ):
        await until(lambda: running.has(1, 2), "both")
        if handler is not_modified:  # which is a good answer to who knows the document
            bad.handler = error
            await until(lambda: running.poller.failures["bad", "status"], "a failure before")
        bad.handler = handler
        before = running.poller.failures["bad", reason]
        bad.changed.set()
        await until(lambda: running.poller.failures["bad", reason] >= before + 2, f"two failures: {reason}")
        assert running.has(1, 2)
        assert running.poller.up("good")
        assert not running.poller.up("bad")
        assert {key for key in running.poller.failures if key[0] == "good"} == set()
        bad.handler = None
        bad.tell(document(2, 3, node=2))
        await until(lambda: running.has(1, 2, 3), "that it is well again")
        assert running.poller.up("bad")
    said = lines(caplog, "inventory not read")
    assert 1 <= len(said) <= 3
    assert all("\n" not in line["problem"] for line in said)


async def test_a_large_document_that_fails_is_not_asked_for_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that does not fail: a node's documents take a part of the loop's time, whatever comes of them."""
    good = document(*range(1, 2001))
    bad = good[:-2].rstrip(b"]") + b", {}]}"
    slept: list[float] = []
    real = asyncio.sleep
    monkeypatch.setattr(settling, "SETTLE_SECONDS", 0.03)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await real(seconds if seconds < 0.06 else 60)

    async with agent(bad) as fake, proxy(fake.node()) as running:
        monkeypatch.setattr(module.asyncio, "sleep", sleep)
        await until(lambda: running.poller.failures["n1", "malformed"], "a failure")
        await until(lambda: max(slept, default=0) > 0.06, "the rest after it")
        assert running.has()


async def test_a_new_node_that_misbehaves_is_no_longer_unknown() -> None:
    async with proxy(Node("dead", node_of(4), f"http://127.0.0.1:{dead_port()}")) as running:
        assert running.fleet.nodes() == [NodeView("dead", str(node_of(4)), "dead")]
        await until(lambda: running.poller.unknown() == [], "one failure")
        assert running.poller.failures["dead", "connect"]


async def test_a_fault_of_ours_does_not_end_the_polls(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, calls = Fleet.replacing, []

    def broken(*args: Any) -> Any:
        calls.append(args)
        if len(calls) < 3:
            raise KeyError("x")
        return real(*args)

    monkeypatch.setattr(Fleet, "replacing", broken)
    async with agent(document(1)) as fake, proxy(fake.node()) as running:
        await until(lambda: running.has(1), "that it works after all")
        assert running.poller.failures["n1", "internal"] == 2


async def test_a_header_cannot_be_smuggled_through_an_etag(tmp_path: Path) -> None:
    async def odd(_: web.Request) -> web.Response:
        return web.Response(body=document(1), headers={"ETag": '"a b\té"'})

    async with agent() as fake:
        fake.handler = odd
        async with proxy(fake.node(), directory=tmp_path) as running:
            await until(lambda: len(fake.asked) > 2, "three polls")
            assert set(fake.asked) == {None}
            assert running.has(1)
        file = tmp_path / "n1.json"
        copy = json.loads(file.read_bytes())
        file.write_text(json.dumps(copy | {"etag": '"x"\r\nAuthorization: y'}))
        fake.handler = None
        fake.asked.clear()
        async with proxy(fake.node(), directory=tmp_path) as running:
            assert running.has(1)
            await until(lambda: fake.asked, "a poll")
            assert fake.asked[0] is None


async def test_a_node_that_cannot_be_connected_to_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    def connect(node: Node) -> Upstream:
        return Upstream(node.url)  # ValueError

    fleet = Fleet()
    poller = Poller(fleet, lambda: ACCOUNTS, connect)
    poller.set_nodes({"n1": Node("n1", None, "gopher://x")})
    await until(lambda: poller.failures["n1", "internal"] > 1, "two failures")
    await poller.stop()


# --- a real agent ---


@pytest.mark.root
async def test_a_real_agent_tells_of_a_group_that_comes_and_goes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    world = World()
    try:
        with await asyncio.to_thread(Agent, "--container.all") as real:
            async with proxy(Node("n1", None, real.url)) as running:
                await until(lambda: running.poller.up("n1"), "the first document")
                made = world.group(os.fsdecode(b"inventory \xff \\ \xc3\xa9"))
                path = made.path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
                await until(
                    lambda: path in {place.container.id for place in running.fleet.owned(None)},
                    "the group, a path of bytes",
                )
                assert running.poller.up("n1")
                await asyncio.to_thread(world.close)
                await until(
                    lambda: path in {place.container.id for place in running.fleet.stopped(None)}, "that it is gone"
                )
            await asyncio.to_thread(real.stop)
    finally:
        world.close()

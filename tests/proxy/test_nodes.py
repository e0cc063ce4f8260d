"""The clients of nodes that come, go and move."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from tests.proxy.agents import Peer, until
from tests.proxy.running import A, FakeNode, Site, answer, container, on_uvloop, running, says


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def at(body: bytes) -> bytes:
    return answer(b"# TYPE x gauge\nx " + body + b"\n")


@on_uvloop
async def test_a_node_that_moves_loses_no_scrape(site: Site) -> None:
    alice = site.account("alice")
    held, go_on = asyncio.Event(), asyncio.Event()
    hears = asyncio.Event()

    async def slow(peer: Peer, _: bytes) -> None:
        held.set()
        await go_on.wait()
        await peer.say(at(b"1"))

    async def later(peer: Peer, head: bytes) -> None:
        await hears.wait()
        new.inventory = None
        await new._tell(peer, head)

    old = FakeNode(container(A, "alice"), scrape=says(at(b"1")))
    new = FakeNode(container(A, "alice"), scrape=says(at(b"2")))
    new.inventory = later
    async with old, new:
        site.node("n1", old)
        async with running(site) as proxy, proxy.client(alice) as one, proxy.client(alice) as two:
            path = f"/v1/{A}/metrics"
            assert (await one.ask(path)).body == b"# TYPE x gauge\nx 1\n"
            site.directory.set_node("n1", url=new.url)
            await until(lambda: proxy.proxy.live.snapshot.nodes["n1"].url == new.url)
            # The new one has been asked and says nothing yet.
            assert (await one.ask(path)).body == b"# TYPE x gauge\nx 1\n"
            old.scrape = slow
            under_way = asyncio.create_task(one.ask(path))
            await held.wait()
            hears.set()
            await until(lambda: proxy.proxy._nodes._next == {})
            # Another query, as equal scrapes share an answer.
            assert (await two.ask(f"{path}?name[]=x")).body == b"# TYPE x gauge\nx 2\n"
            go_on.set()
            assert (await under_way).body == b"# TYPE x gauge\nx 1\n"
            await until(lambda: old.open == 0)
            assert (await one.ask(path)).body == b"# TYPE x gauge\nx 2\n"


@on_uvloop
async def test_where_another_node_answers_the_old_one_stays(site: Site) -> None:
    alice = site.account("alice")
    old = FakeNode(container(A, "alice"), scrape=says(at(b"1")))
    other = FakeNode(container(A, "alice"), name="n2", scrape=says(at(b"2")))
    async with old, other:
        site.node("n1", old)
        async with running(site) as proxy, proxy.client(alice) as client:
            site.directory.set_node("n1", url=other.url)
            await until(lambda: proxy.proxy.poller.failures["n1", "identity"] > 0)
            assert (await client.ask(f"/v1/{A}/metrics")).body == b"# TYPE x gauge\nx 1\n"
            site.directory.set_node("n1", url=old.url)
            await until(lambda: proxy.proxy.poller.up("n1"))
            assert proxy.proxy._nodes._next == {}


@on_uvloop
async def test_a_pin_that_changes_ends_the_old_client(site: Site) -> None:
    old = FakeNode()
    async with old:
        site.directory.create_node("n1", old.url.replace("http:", "https:"))
        async with running(site, containers=0) as proxy:
            before = proxy.proxy._nodes.find("n1").upstream
            site.directory.set_node("n1", tls_fingerprint="0" * 64)
            await until(lambda: proxy.proxy._nodes.find("n1").upstream is not before)
            assert proxy.proxy._nodes._next == {}


@on_uvloop
async def test_nodes_that_come_go_and_change_are_logged(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pymon.proxy.nodes")

    def said() -> list[tuple[str, dict[str, object]]]:
        return [(record.message, record.fields) for record in caplog.records if record.name == "pymon.proxy.nodes"]  # type: ignore[attr-defined]

    async with FakeNode() as node:
        site.node("n1", node)
        async with running(site, containers=0) as proxy:
            await until(lambda: proxy.proxy.poller.up("n1"))
            site.directory.create_node("n2", "http://127.0.0.1:1")
            await until(lambda: "n2" in proxy.proxy.live.snapshot.nodes)
            site.directory.set_node("n2", accounts=[])
            await until(lambda: proxy.proxy.live.snapshot.nodes["n2"].accounts is not None)
            site.directory.delete_node("n2")
            await until(lambda: "n2" not in proxy.proxy.live.snapshot.nodes)
    assert said()[0] == ("nodes of the directory", {"nodes": 1})
    told = [found for found in said()[1:] if found[1]["node"] == "n2"]
    url = "http://127.0.0.1:1"
    assert told == [
        ("node added", {"node": "n2", "url": url}),
        ("node changed", {"node": "n2", "accounts": "0 of them"}),
        ("node gone", {"node": "n2", "url": url}),
    ]

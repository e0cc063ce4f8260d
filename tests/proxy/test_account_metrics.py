"""``/v1/account/metrics`` within bounds: shards, a bucket of its own, what hostile nodes and tenants cost others."""

import asyncio
import itertools
import json
import re

from pymon.proxy import upstream as upstream_module
from pymon.proxy.upstream import AT_ONCE_BYTES, MAX_ARRIVING_BYTES, SMALL_BYTES
from tests.proxy.agents import Agent, on_each_loop, until
from tests.proxy.running import EXPOSITION, A, B, FakeNode, Site, answer, container, on_uvloop, process, running, says
from tests.proxy.test_account_work import series, successes
from tests.proxy.upstream import get, using

MIB = 1 << 20


def uuid_of(number):
    return f"{number:08x}-0000-4000-8000-000000000000"


def served(body):
    return set(re.findall(rb'pymon_container_scrape_success\{uuid="([^"]+)"\} 1\n', body))


@on_uvloop
async def test_shards_are_those_of_discovery_and_together_the_whole(tmp_path):
    site = Site(tmp_path)
    alice = site.account("alice")
    async with FakeNode(*(container(uuid_of(n), "alice", groups=["g"]) for n in range(60))) as node:
        site.node("n1", node)
        async with running(site) as proxy, proxy.client(alice) as client:
            whole = served((await client.ask("/v1/account/metrics")).body)
            assert len(whole) == 60
            found = []
            for shard in range(7):
                node.scrapes.clear()
                query = f"shard={shard}&shards=7"
                mine = served((await client.ask(f"/v1/account/metrics?{query}")).body)
                targets = json.loads((await client.ask(f"/v1/sd?{query}")).body)
                assert mine == {one["labels"]["__meta_triton_machine_id"].encode() for one in targets}
                assert len(node.scrapes) == len(mine)
                found += mine
            assert sorted(found) == sorted(whole)
            summed = await client.ask("/v1/account/metrics?shard=0&shards=1&by=group")
            assert b'cpu_seconds_total{group="g"} 750\n' in summed.body
            for query in ("shard=0", "shards=2", "shard=2&shards=2", "shard=x&shards=2", "shard=0&shard=1&shards=2"):
                got = await client.ask(f"/v1/account/metrics?{query}")
                assert (got.status, got.line.startswith('invalid "shard')) == (400, True), query
            got = await client.ask("/v1/account/metrics?" + "&".join(["a=b"] * 40))
            assert (got.status, got.line) == (400, "query: expected at most 32 parameters")


@on_uvloop
async def test_passes_over_many_containers_have_a_bucket_of_their_own(tmp_path):
    site = Site(tmp_path)
    alice, bob = site.account("alice"), site.account("bob")
    site.directory.set_quota("alice", requests_per_second=20.0, burst=300)
    site.directory.set_quota("bob", requests_per_second=0.0)
    mine = [container(uuid_of(n), "alice") for n in range(400)]
    async with FakeNode(*mine, *(container(uuid_of(n), "bob") for n in range(1000, 1200))) as node:
        site.node("n1", node)
        async with running(site) as proxy, proxy.client(alice) as client, proxy.client(bob) as other:
            got = [await client.ask("/v1/account/metrics") for _ in range(2)]
            assert [len(served(one.body)) for one in got] == [400, 400]
            refused = await client.ask("/v1/account/metrics")
            assert (refused.status, refused.line) == (429, "too many containers a second")
            assert 1 <= int(refused["retry-after"]) <= 5
            for n in range(200):
                assert (await client.ask(f"/v1/{uuid_of(n)}/metrics")).status == 200
            assert await proxy.metric("pymon_proxy_throttled_total", account="alice", limit="account_metrics") == 1
            assert await proxy.metric("pymon_proxy_throttled_total") == 1
            for _ in range(4):
                assert (await other.ask("/v1/account/metrics")).status == 200
            await until(lambda: len(node.scrapes) == 400 * 2 + 200 * 5)


@on_uvloop
async def test_what_a_node_answers_keeps_the_parts_of_others_right(tmp_path):
    site = Site(tmp_path)
    alice = site.account("alice")
    bad = [
        answer(b"x" * (9 * MIB)),
        answer(series(100_000)),
        answer(b"# TYPE pymon_container_scrape_success gauge\npymon_container_scrape_success"),
        answer(EXPOSITION + EXPOSITION),
        answer(b"\xff" * 1000),
        answer(EXPOSITION, content_type="text/html"),
        b"HTTP/1.1 200 OK\r\n\r\n\r\n",
        b"nonsense\r\n\r\n",
        answer(b"", "500 Oh no"),
    ]
    hostile = [container(uuid_of(100 + n), "alice", groups=["a"]) for n in range(len(bad))]
    good = [container(uuid_of(n), "alice", groups=["a"]) for n in range(20)]
    async with FakeNode(*hostile, name="bad") as node, FakeNode(*good, name="good") as fine:

        async def scrape(peer, head):
            number = int(head[len(b"GET /v1/") :][:8], 16) - 100
            await peer.say(bad[number])
            if not bad[number].startswith(b"HTTP/1.1 200 OK\r\nContent-Type"):
                peer.writer.close()

        node.scrape = scrape
        site.node("bad", node)
        site.node("good", fine)
        async with running(site) as proxy, proxy.client(alice) as client:
            await until(lambda: len(proxy.proxy.fleet) == len(bad) + 20)
            for query, sample in (("", b'cpu_seconds_total{uuid="%b",node="good"} 12.5\n' % uuid_of(7).encode()),
                                  ("?by=group", b'cpu_seconds_total{group="a"} 250\n'),
                                  ("?by=node", b'cpu_seconds_total{node="good"} 250\n')):  # fmt: skip
                got = await client.ask(f"/v1/account/metrics{query}")
                assert got.status == 200
                assert sample in got.body
                assert successes(got.body) == [1] * 20 + [0] * len(bad)


@on_uvloop
async def test_work_for_a_client_that_left_ends_with_it(tmp_path):
    site = Site(tmp_path)
    alice, bob = site.account("alice"), site.account("bob")
    groups = [f"g{n}" for n in range(50)]
    mine = [container(uuid_of(n), "alice", groups=groups) for n in range(60)]
    async with FakeNode(*mine, container(A, "bob"), scrape=says(answer(series(1900)))) as node:
        site.node("n1", node)
        async with running(site) as proxy, proxy.client(bob) as other:
            turns = proxy.proxy.tenants.web._account_metrics._turns.gate
            room = proxy.proxy.tenants.web._account_metrics.room
            async with proxy.client(alice) as client:
                target = "/v1/account/metrics?by=group"
                fields = f"Host: x\r\n{alice.bearer}\r\nX-Prometheus-Scrape-Timeout-Seconds: 100"
                await client.send(f"GET {target} HTTP/1.1\r\n{fields}\r\n\r\n".encode())
                await until(lambda: len(node.scrapes) >= 60 and turns.in_use)
                got = await other.ask("/v1/account/metrics", "X-Prometheus-Scrape-Timeout-Seconds: 5")
                assert (got.status, successes(got.body)) == (200, [1])
                client.leave()
            await until(lambda: turns.in_use == 0 and room.in_use == 0)


@on_uvloop
async def test_work_ends_at_its_deadline(tmp_path):
    site = Site(tmp_path)
    alice = site.account("alice")
    groups = [f"g{n}" for n in range(35)]
    mine = [container(uuid_of(n), "alice", groups=groups) for n in range(60)]
    async with FakeNode(*mine, scrape=says(answer(series(1900)))) as node:
        site.node("n1", node)
        async with running(site) as proxy, proxy.client(alice) as client:
            got = await client.ask("/v1/account/metrics?by=group", "X-Prometheus-Scrape-Timeout-Seconds: 1.5")
            assert (got.status, got.line) == (503, "too busy to put the answer together in time")
            account_metrics = proxy.proxy.tenants.web._account_metrics
            assert (account_metrics._turns.gate.in_use, account_metrics.room.in_use) == (0, 0)


@on_uvloop
async def test_a_hundred_groups_and_hundreds_of_thousands_of_samples_leave_memory_as_it_was(tmp_path):
    site = Site(tmp_path)
    alice, bob = site.account("alice"), site.account("bob")
    groups = [f"g{n}" for n in range(100)]
    async with FakeNode(container(A, "alice", groups=groups), container(B, "bob")) as node:
        huge, large = answer(series(400_000, "a")), answer(series(45_000, "m_total"))
        site.node("n1", node)
        with process(site) as proxy:
            await until(lambda: node.waits)
            assert (await proxy.ask("/v1/account/metrics?by=group", alice)).status == 200
            before = proxy.rss_bytes()
            for body in (huge, large):
                node.scrape = says(body)
                got = await asyncio.gather(*(proxy.ask("/v1/account/metrics?by=group", alice) for _ in range(8)))
                assert {one.status for one in got} == {413}
                assert "more than" in got[0].line
            node.scrape = says(answer())
            assert (await proxy.ask("/v1/account/metrics?by=group", bob)).status == 200
            assert proxy.rss_bytes() - before < 150 << 20, (before, proxy.rss_bytes())
            assert "raceback" not in proxy.log


@on_uvloop
async def test_large_answers_that_nobody_takes_are_bounded(tmp_path):
    site = Site(tmp_path)
    alice, bob = site.account("alice"), site.account("bob")
    async with FakeNode(container(A, "alice"), container(B, "bob"), scrape=says(answer(b"x" * (6 * MIB)))) as node:
        site.node("n1", node)
        async with running(site) as proxy:
            slow = []
            try:
                for _ in range(4):
                    context = proxy.client(alice)
                    client = await context.__aenter__()
                    slow.append(context)
                    client.reader._limit = 1
                    client.writer.transport.pause_reading()
                    await client.send(f"GET /v1/{A}/metrics HTTP/1.1\r\nHost: x\r\n{alice.bearer}\r\n\r\n".encode())
                leaving = proxy.proxy.tenants.web._leaving
                await until(lambda: leaving.in_use == 12 * MIB)
                got = await proxy.ask(f"/v1/{A}/metrics", alice)
                assert (got.status, got["retry-after"]) == (503, "1")
                assert len((await proxy.ask(f"/v1/{B}/metrics", bob)).body) == 6 * MIB
            finally:
                for context in slow:
                    await context.__aexit__(None, None, None)
            await until(lambda: leaving.in_use == 0)


@on_each_loop
async def test_bodies_of_one_agent_have_a_bound_together_and_small_ones_always_arrive():
    go = asyncio.Event()

    async def handle(peer):
        while True:
            head = await peer.asked()
            size = SMALL_BYTES if b"/small" in head else 7 * MIB
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * (size - 1))
            await go.wait()
            if peer.writer.transport.is_closing():
                return
            await peer.say(b"x")

    async with Agent(handle) as agent:
        with using(agent.url) as upstream:
            large = [asyncio.create_task(get(upstream, "/large")) for _ in range(6)]
            await until(lambda: sum(task.done() for task in large) == 3)
            assert upstream.arriving_bytes <= MAX_ARRIVING_BYTES
            small = [asyncio.create_task(get(upstream, "/small")) for _ in range(10)]
            await until(lambda: upstream.arriving_bytes > 21 * MIB + 10 * (SMALL_BYTES - 2))
            go.set()
            assert {len((await one).body) for one in small} == {SMALL_BYTES}
            got = await asyncio.gather(*large, return_exceptions=True)
            assert sorted(str(one) if isinstance(one, Exception) else "whole" for one in got) == (
                ["its bodies are too large together"] * 3 + ["whole"] * 3
            )
            assert upstream.arriving_bytes == 0


@on_each_loop
async def test_large_responses_wait_for_their_part_of_the_loop_and_others_of_the_agent_do_not(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(upstream_module, "thread_time", lambda: next(clock))  # a second for whatever comes at once
    going = asyncio.Event()

    async def handle(peer):
        while True:
            head = await peer.asked()
            size = 2 * AT_ONCE_BYTES if b"/large" in head else 10
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            await peer.say(b"x" * (size - 1))
            if b"/large" in head:
                await going.wait()
            await peer.say(b"x")

    async with Agent(handle) as agent:
        with using(agent.url) as upstream:
            large = asyncio.create_task(get(upstream, "/large", seconds=60))
            await until(lambda: upstream.arriving_bytes > AT_ONCE_BYTES)
            going.set()
            assert len((await get(upstream, "/small")).body) == 10
            assert len((await get(upstream, "/large", background=True)).body) == 2 * AT_ONCE_BYTES
            assert not large.done(), "a second was read, so that it may read again after ten"
            large.cancel()
            monkeypatch.setattr(upstream_module, "thread_time", lambda: 0.0)
        with using(agent.url) as upstream:
            assert len((await get(upstream, "/large")).body) == 2 * AT_ONCE_BYTES

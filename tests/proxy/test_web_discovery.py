"""Discovery, asked over TLS."""

import asyncio
import gzip
import json
from contextlib import AsyncExitStack

from tests.proxy.agents import until
from tests.proxy.running import (
    ZONE,
    A,
    B,
    C,
    D,
    FakeNode,
    Site,
    container,
    on_uvloop,
    running,
    silent,
)
from tests.proxy.worlds import world


@on_uvloop
async def test_discovery_has_an_entity_tag_that_holds_until_something_changes_and_is_compressed(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, *_), proxy.client(alice) as client:
        node.change(*(container(f"{n:08x}-0000-4000-8000-000000000000", "alice") for n in range(100)))
        await until(lambda: len(proxy.proxy.fleet) == 100)
        for path in ("/v1/discover", "/v1/sd", "/v1/sd?via=path"):
            plain = await client.ask(path)
            assert (plain.status, plain["content-type"]) == (200, "application/json; charset=utf-8")
            assert (plain["vary"], plain["content-encoding"]) == ("Accept-Encoding", None)
            packed = await client.ask(path, "Accept-Encoding: gzip")
            assert packed["content-encoding"] == "gzip"
            assert gzip.decompress(packed.body) == plain.body
            assert packed["etag"] != plain["etag"]
            for condition in (plain["etag"], packed["etag"], "*", f'"x", W/{plain["etag"]}'):
                same = await client.ask(path, f"If-None-Match: {condition}")
                assert (same.status, same.body, same["content-length"]) == (304, b"", None), condition
                assert same["etag"] == plain["etag"]
            for condition in ('"x"', "", "x", "W/", '"' * 1000):
                assert (await client.ask(path, f"If-None-Match: {condition}")).status == 200, condition
            assert (await client.ask(path, "Accept-Encoding: gzip;q=0")).body == plain.body
            assert (await client.ask(path, "Accept-Encoding: identity;q=0")).status == 406
            head = await client.ask(path, method="HEAD")
            assert (head["content-length"], head["etag"]) == (str(len(plain.body)), plain["etag"])
        before = await client.ask("/v1/discover")
        node.change(container(D, "alice"))
        await until(lambda: len(proxy.proxy.fleet) == 1)
        after = await client.ask("/v1/discover", f"If-None-Match: {before['etag']}")
        assert (after.status, [found["vm_uuid"] for found in json.loads(after.body)["containers"]]) == (200, [D])


@on_uvloop
async def test_bodies_of_discovery_that_are_kept_have_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr("pymon.proxy.discovery_cache.MAX_BYTES", 20_000)
    monkeypatch.setattr("pymon.proxy.discovery_cache.MAX_BODIES", 30)
    async with world(tmp_path) as (proxy, _, alice, *_), proxy.client(alice, "Accept-Encoding: gzip") as client:
        cache = proxy.proxy.tenants.web._discovery
        for n in range(100):
            got = await client.ask("/v1/sd?via=path", host=f"{n}.example.com" + "x" * (n * 2 if n > 50 else 0))
            assert (got.status, json.loads(gzip.decompress(got.body))[0]["targets"][0].split(".")[0]) == (200, str(n))
            kept = sum(entry.size for entry in cache._entries.values())
            assert (kept, kept < 21_000, len(cache._entries) <= 30) == (cache._bytes, True, True)
        monkeypatch.setattr("pymon.proxy.discovery_cache.MAX_BYTES", 100)
        assert (await client.ask("/v1/sd")).status == 200
        assert (len(cache._entries), cache._bytes) == (0, 0)
        assert (await client.ask("/v1/sd")).status == 200


@on_uvloop
async def test_large_bodies_of_discovery_take_turns_and_hold_nobody_up(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, bob, _):
        node.change(
            *(container(f"{n:08x}-0000-4000-8000-000000000000", "alice") for n in range(3000)), container(B, "bob")
        )
        await until(lambda: len(proxy.proxy.fleet) == 3001)
        cache = proxy.proxy.tenants.web._discovery
        turns = cache._turns.gate
        await turns.acquire(alice.uuid)
        asked = [
            asyncio.create_task(proxy.ask("/v1/sd?stopped=true", alice, "Accept-Encoding: gzip")) for _ in range(5)
        ]
        await until(lambda: turns.waiting == 5)
        assert (await proxy.ask("/v1/sd", bob)).status == 200
        turns.release(alice.uuid)
        bodies = {(await one).body for one in asked}
        assert [len(json.loads(gzip.decompress(body))) for body in bodies] == [3001]  # with A, which has stopped
        plain = await proxy.ask("/v1/sd?stopped=true", alice)
        assert plain.body == gzip.decompress(bodies.pop())
        assert (turns.in_use, cache._bytes) == (0, sum(entry.size for entry in cache._entries.values()))


@on_uvloop
async def test_targets_by_path_have_the_host_that_the_client_used(tmp_path):
    async with world(tmp_path) as (proxy, _, alice, *_), proxy.client(alice) as client:
        for host in ("proxy.example.com:9163", "10.0.0.1", "[2001:db8::1]:9163", "a_b"):
            got = await client.ask("/v1/sd?via=path", host=host)
            [target] = json.loads(got.body)
            assert target["targets"] == [host]
            assert target["labels"]["__metrics_path__"] == f"/v1/{A}/metrics"
            assert target["labels"]["instance"] == f"{A}.cmon.{ZONE}:{proxy.port}"
        for host in ("", "a b", "a/b", "user@host", "a:b", "[::1", 'a"b', "bücher", "a" * 300, "a,b"):
            got = await client.ask("/v1/sd?via=path", host=host)
            assert got.status == 400, host
            assert got.line.startswith('invalid "via": expected a Host'), got


@on_uvloop
async def test_discovery_is_an_error_in_text_until_a_node_was_heard(tmp_path):
    site = Site(tmp_path)
    op = site.account("op", operator=True)
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(FakeNode(container(C), name=name)) for name in ("n1", "n2")]
        for node in nodes:
            node.inventory = silent
            site.node(node.hostname, node)
        proxy = await stack.enter_async_context(running(site, containers=0))
        client = await stack.enter_async_context(proxy.client(op))
        for path in ("/v1/discover", "/v1/gz/discover", "/v1/sd", "/v1/sd?role=node", "/v1/account/metrics"):
            got = await client.ask(path, "Accept: application/json")
            assert (got.status, got["retry-after"]) == (503, "1"), path
            assert got.line == "not ready: no node was heard yet"
        assert (await client.ask("/-/ready")).line == "not ready"
        assert (await client.ask("/-/healthy")).status == 200


@on_uvloop
async def test_discovery_of_a_directory_without_nodes_is_empty(tmp_path):
    site = Site(tmp_path)
    op = site.account("op", operator=True)
    async with running(site) as proxy, proxy.client(op) as client:
        bodies = [(await client.ask(path)).body for path in ("/v1/discover", "/v1/gz/discover", "/v1/sd")]
        assert bodies == [b'{"containers":[]}', b'{"cns":[]}', b"[]"]
        got = await client.ask("/v1/account/metrics")
        assert (got.status, got.body) == (200, b"")


@on_uvloop
async def test_stopped_containers_are_named_when_asked_for_or_when_the_proxy_is_told_to(tmp_path):
    for told in (False, True):
        (tmp_path / str(told)).mkdir()
        async with (
            world(tmp_path / str(told), include_stopped=told) as (proxy, node, alice, *_),
            proxy.client(alice) as client,
        ):
            node.change(container(D, "alice"), container(B, "bob"))
            await until(lambda fleet=proxy.proxy.fleet: fleet.find(A) is None and fleet.find(D) is not None)
            for path, key in (("/v1/discover", "vm_uuid"), ("/v1/sd", "__meta_triton_machine_id")):
                plain = (await client.ask(path)).body
                every = (await client.ask(f"{path}?stopped=true")).body
                assert f'"{key}":"{A}"'.encode() in every
                assert (A.encode() in plain) is told
                assert B.encode() not in every
            assert (await client.ask(f"/v1/{A}/metrics")).status == 404

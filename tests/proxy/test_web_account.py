"""The exposition of an account, asked over TLS."""

import asyncio
import gzip
import threading

from pymon.exposition.negotiation import Format
from pymon.proxy import account_metrics
from tests.exposition.openmetrics2 import read
from tests.proxy.agents import until
from tests.proxy.running import (
    EXPOSITION,
    NOBODY,
    A,
    C,
    D,
    answer,
    container,
    on_uvloop,
    says,
)
from tests.proxy.worlds import world


@on_uvloop
async def test_an_accounts_exposition_says_which_containers_could_not_be_had(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, *_), proxy.client(alice) as client:
        mine = [container(uuid, "alice", services="web:80", groups=["g"]) for uuid in (A, C, D)]
        node.change(*mine, container(NOBODY, "alice"))
        await until(lambda: proxy.proxy.fleet.find(NOBODY) is not None)

        async def scrape(peer, head):
            bad = answer(b"no exposition at all\n") if D.encode() in head else answer(b"", "500 Oh no")
            gone = answer(b"gone\n", "404 Not Found")
            await peer.say(gone if NOBODY.encode() in head else answer() if A.encode() in head else bad)

        node.scrape = scrape
        got = await client.ask("/v1/account/metrics", "Accept-Encoding: gzip")
        assert (got.status, got["content-encoding"], got["vary"]) == (200, "gzip", "Accept, Accept-Encoding")
        assert got["content-type"] == Format.TEXT_0_0_4.content_type
        text = gzip.decompress(got.body).decode()
        assert f'cpu_seconds_total{{uuid="{A}",node="n1"}} 12.5\n' in text
        for uuid, value in ((A, 1), (C, 0), (D, 0)):
            assert f'pymon_container_scrape_success{{uuid="{uuid}"}} {value}\n' in text
        assert NOBODY not in text
        for form in (Format.OPENMETRICS_1_0_0, Format.OPENMETRICS_0_0_1):
            for query in ("", "?by=service"):
                got = await client.ask(f"/v1/account/metrics{query}", f"Accept: {form.content_type}")
                assert (got.status, got["content-type"]) == (200, form.content_type)
                assert b"\n# TYPE cpu_seconds counter\n" in b"\n" + got.body
                assert got.body.endswith(b"\n# EOF\n")
        newest = f"Accept: {Format.OPENMETRICS_2_0_0.content_type}"
        for query, labels in (("", {("uuid", A), ("node", "n1")}), ("?by=service", {("service", "web")})):
            got = await client.ask(f"/v1/account/metrics{query}", newest, "Accept-Encoding: gzip")
            assert (got.status, got["content-type"]) == (200, Format.OPENMETRICS_2_0_0.content_type)
            families = read(gzip.decompress(got.body))
            assert families["cpu_seconds_total"].series == {("cpu_seconds_total", frozenset(labels)): 12.5}
            assert families["cpu_seconds_total"].starts == {}
            assert len(families["pymon_container_scrape_success"].series) == 3
        heads = []

        async def listen(peer, head):
            heads.append(head)
            await scrape(peer, head)

        node.scrape = listen
        messages = f"Accept: {Format.PROTOBUF.content_type}, {Format.OPENMETRICS_1_0_0.content_type};q=0.8"
        got = await client.ask("/v1/account/metrics", messages)
        assert got["content-type"] == Format.OPENMETRICS_1_0_0.content_type
        assert all(f"\r\nAccept: {Format.TEXT_0_0_4.content_type}\r\n".encode() in head for head in heads)
        assert heads
        node.scrape = scrape
        summed = await client.ask("/v1/account/metrics?by=service")
        assert b'cpu_seconds_total{service="web"} 12.5\n' in summed.body
        node.scrape = says(answer(b"", "500 Oh no"))
        got = await client.ask("/v1/account/metrics")
        assert (got.status, got.line) == (502, "no container's metrics could be read")
        got = await client.ask("/v1/account/metrics?by=x%0d%0aX-Evil:1")
        assert (got.status, got["x-evil"]) == (400, None)
        assert got.line.startswith("by: expected one of service, group, node, got ")


@on_uvloop
async def test_an_accounts_exposition_of_which_no_part_is_in_order_is_a_502(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, *_):
        node.scrape = says(answer(b"no exposition at all\n"))
        got = await proxy.ask("/v1/account/metrics", alice)
        assert (got.status, got.line) == (502, "no container's metrics could be read")


@on_uvloop
async def test_what_is_missing_from_an_accounts_exposition_is_one_line_in_the_log(tmp_path, caplog):
    async with world(tmp_path) as (proxy, node, alice, *_), proxy.client(alice) as client:
        node.change(*(container(f"{n:08x}-0000-4000-8000-000000000000", "alice") for n in range(20)))
        await until(lambda: len(proxy.proxy.fleet) == 20)

        async def scrape(peer, head):
            first = b"/00000000-" in head
            await peer.say(answer() if first else answer(b"", "500 Oh no") if b"/00000013-" in head else answer(b"x\n"))

        node.scrape = scrape
        for _ in range(3):
            assert (await client.ask("/v1/account/metrics")).status == 200
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    first = "container 00000013-0000-4000-8000-000000000000: node n1: its node answered 500"
    assert said == [f"exposition of account alice lacks 19 of 20 containers: {first}"]


@on_uvloop
async def test_an_accounts_exposition_has_a_bound(tmp_path, monkeypatch):
    most = 100 * len(EXPOSITION)
    monkeypatch.setattr("pymon.proxy.account_metrics.MAX_HELD_BYTES", most)
    async with world(tmp_path) as (proxy, node, alice, *_), proxy.client(alice) as client:
        node.change(*(container(f"{n:08x}-0000-4000-8000-000000000000", "alice") for n in range(400)))
        await until(lambda: len(proxy.proxy.fleet) == 400)
        got = await client.ask("/v1/account/metrics")
        said = f"the containers' metrics have more than {most} bytes"
        assert (got.status, got.line) == (413, f"{said}: ask for parts of it with shard=I&shards=N")
        assert len(node.scrapes) < 130
        assert proxy.proxy.tenants.web._account_metrics.room.in_use == 0
        assert (await client.ask("/v1/account/metrics?shard=5&shards=40")).status == 200
        assert proxy.proxy.tenants.web._account_metrics.room.in_use == 0


@on_uvloop
async def test_expositions_of_accounts_are_put_together_one_at_a_time(tmp_path, monkeypatch):
    make, go = account_metrics.Work.combining, threading.Event()
    under_way: list[int] = []

    def slow(work):
        under_way.append(1)
        assert go.wait(20)
        under_way.pop()
        return (yield from make(work))

    monkeypatch.setattr(account_metrics.Work, "combining", slow)
    async with world(tmp_path) as (proxy, _, alice, bob, _), proxy.client(bob) as other:
        turns = proxy.proxy.tenants.web._account_metrics._turns.gate
        async with proxy.client(alice) as client:
            await client.send(f"GET /v1/account/metrics HTTP/1.1\r\nHost: x\r\n{alice.bearer}\r\n\r\n".encode())
            await until(lambda: under_way)
            client.leave()
        got = await other.ask("/v1/account/metrics", "X-Prometheus-Scrape-Timeout-Seconds: 1")
        assert (got.status, got.line) == (503, "too busy to put the answer together in time")
        assert (len(under_way), turns.in_use) == (1, 1)
        assert (await other.ask("/v1/discover")).status == 200
        asked = [asyncio.create_task(proxy.ask("/v1/account/metrics", who)) for who in (alice, bob) * 5]
        await until(lambda: turns.waiting == 10)
        go.set()
        assert [(await one).status for one in asked] == [200] * 10
        await until(lambda: turns.in_use == 0)

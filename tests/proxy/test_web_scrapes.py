"""Scrapes of one container over TLS: what the agent gets, and what the client gets."""

import gzip

import pytest

from pymon.exposition.negotiation import Format
from tests.proxy.running import (
    EXPOSITION,
    NOBODY,
    TEXT,
    A,
    answer,
    on_uvloop,
    says,
)
from tests.proxy.worlds import world

# --- what the agent gets -------------------------------------------------------------------------


@on_uvloop
async def test_an_agent_is_sent_nothing_that_the_client_wrote_but_what_it_narrows_by(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, *_):
        port = node.url.rpartition(":")[2]
        await proxy.ask(
            f"/v1/{A}/metrics?debug=1&name[]=b&collect[]=cpu&collect%5B%5D=mem%20x&exclude[]=&x&collect=1&name=a",
            alice, "Cookie: a=b", "X-Forwarded-For: 1.2.3.4", "Forwarded: for=1.2.3.4", "Client-Cert: :AAAA:",
            "User-Agent: Prometheus/2.42", "X-Custom: 1", "If-None-Match: *", "Range: bytes=0-1", "Via: 1.1 x",
            "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "Accept-Encoding: br, gzip;q=0.5", "X-Prometheus-Scrape-Timeout-Seconds: 5", "Connection: keep-alive",
        )  # fmt: skip
        head = node.scrapes[0].decode()
        first, *fields = head.split("\r\n")[:-2]
        narrowed = "collect%5B%5D=cpu&collect%5B%5D=mem+x&exclude%5B%5D=&name%5B%5D=b"
        assert first == f"GET /v1/{A}/metrics?{narrowed} HTTP/1.1"
        sent = dict(field.split(": ", 1) for field in fields)
        seconds = float(sent.pop("X-Prometheus-Scrape-Timeout-Seconds"))
        assert 3 < seconds <= 4.5
        assert sent.pop("Accept").startswith("application/openmetrics-text")
        assert sent == {"Host": f"127.0.0.1:{port}", "User-Agent": "pymon-proxy", "Accept-Encoding": "gzip"}
        await proxy.ask(f"/v1/{A}/metrics?debug=1", alice)
        assert node.scrapes[1].startswith(f"GET /v1/{A}/metrics HTTP/1.1\r\n".encode())
        assert b"Accept-Encoding: identity\r\n" in node.scrapes[1]
        assert b"Accept: text/plain; version=0.0.4" in node.scrapes[1]
        got = await proxy.ask(f"/v1/{A}/metrics?" + "name[]=" * 700, alice)
        assert (got.status, len(node.scrapes)) == (414, 2)


@on_uvloop
async def test_a_query_cannot_leave_its_place_in_the_agents_request(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, *_):
        for evil in (
            "%0d%0aX-Evil:%201",
            "%00",
            "a%20HTTP/1.1%0d%0a%0d%0aGET%20/v1/gz/metrics",
            "%ff%fe",
            "%26x=1",
            "#",
        ):
            assert (await proxy.ask(f"/v1/{A}/metrics?collect[]={evil}", alice)).status == 200
        for head in node.scrapes:
            first, *fields = head.decode("ascii").split("\r\n")[:-2]
            assert first.count(" ") == 2
            assert not [field for field in fields if "Evil" in field or "GET" in field]
            assert "&" not in first
        assert len(node.scrapes) == 6


@on_uvloop
@pytest.mark.parametrize(
    ("text", "lowest", "highest"),
    [
        ("", 9, 9.5), ("x", 9, 9.5), ("nan", 9, 9.5), ("-1", 9, 9.5), ("0", 9, 9.5), ("inf", 9, 9.5), ("1e999", 9, 9.5),
        ("10", 9, 9.5), ("60", 59, 59.5), ("1", 0.1, 0.5), ("1e300", 119, 120), ("9" * 5000, 9, 9.5),
    ],
)  # fmt: skip
async def test_the_clients_timeout_is_the_agents_less_a_margin_within_bounds(tmp_path, text, lowest, highest):
    async with world(tmp_path) as (proxy, node, alice, *_):
        assert (
            await proxy.ask(f"/v1/{A}/metrics", alice, f"X-Prometheus-Scrape-Timeout-Seconds: {text}")
        ).status == 200
        head = node.scrapes[0].decode()
        assert lowest <= float(head.partition("Timeout-Seconds: ")[2].partition("\r\n")[0]) <= highest


@on_uvloop
async def test_a_timeout_too_short_for_anything_is_a_504(tmp_path):
    async with world(tmp_path) as (proxy, _, alice, *_):
        for text in ("1e-300", "1e-15"):
            fields = f"X-Prometheus-Scrape-Timeout-Seconds: {text}"
            assert (await proxy.ask(f"/v1/{A}/metrics", alice, fields)).status == 504
            assert (await proxy.ask("/v1/account/metrics", alice, fields)).status == 502


# --- what the client gets ------------------------------------------------------------------------


@on_uvloop
async def test_a_body_and_its_type_and_coding_are_relayed_as_they_are(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, *_):
        bodies = {
            "small": gzip.compress(EXPOSITION),
            "large": gzip.compress(EXPOSITION, 0) * 10_000,
            "no gzip at all": b"\x00\xff\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            "empty": b"",
        }
        openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8"
        async with proxy.client(alice) as client:
            for name, body in bodies.items():
                for kind in (TEXT, openmetrics):
                    node.scrape = says(answer(body, "200 OK", "Content-Encoding: gzip", "X-Own: 1", content_type=kind))
                    got = await client.ask(f"/v1/{A}/metrics", "Accept-Encoding: gzip")
                    assert (got.status, got.body) == (200, body), name
                    assert (got["content-type"], got["content-encoding"]) == (kind, "gzip")
                    assert {key for key, _ in got.fields} == {
                        "content-type", "content-encoding", "vary", "server", "date", "content-length",
                    }  # fmt: skip
                    assert got["vary"] == "Accept, Accept-Encoding"


@on_uvloop
async def test_protocol_buffers_in_zstd_are_asked_for_and_relayed(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, *_), proxy.client(alice) as client:
        heads = []
        kind = Format.PROTOBUF.content_type

        async def scrape(peer, head):
            heads.append(head.decode())
            await peer.say(answer(b"\0\xff", "200 OK", "Content-Encoding: zstd", content_type=kind))

        node.scrape = scrape
        got = await client.ask(f"/v1/{A}/metrics", "Accept-Encoding: gzip, zstd", f"Accept: {kind}")
        assert (got.status, got.body, got["content-type"], got["content-encoding"]) == (200, b"\0\xff", kind, "zstd")
        assert f"\r\nAccept: {kind}\r\n" in heads[0]
        assert "\r\nAccept-Encoding: zstd, gzip;q=0.9\r\n" in heads[0]
        assert (await client.ask(f"/v1/{A}/metrics", "Accept-Encoding: gzip")).status == 502, "a coding not asked for"
        assert (await client.ask(f"/v1/{A}/metrics", "Accept-Encoding: br, identity;q=0")).status == 406
        assert len(heads) == 2
        node.scrape = says(answer(b"expected gzip\n", "406 Not Acceptable"))
        got = await client.ask(f"/v1/{A}/metrics", "Accept-Encoding: zstd, identity;q=0")
        assert (got.status, got.line) == (406, "expected gzip"), "of an agent without zstd"


@on_uvloop
async def test_a_container_that_has_just_ended_and_a_query_that_the_agent_refuses(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, *_), proxy.client(alice) as client:
        not_there = await client.ask(f"/v1/{NOBODY}/metrics")
        node.scrape = says(answer(b"no container here\n", "404 Not Found", "X-Own: 1"))
        assert (await client.ask(f"/v1/{A}/metrics")).told == not_there.told
        node.scrape = says(answer(b"collect[]: unknown\r\ncollector \xff" + b"x" * 1000, "400 Bad Request"))
        got = await client.ask(f"/v1/{A}/metrics?collect[]=x")
        assert got.status == 400
        assert got.line.startswith("collect[]: unknown collector \ufffdxxx")
        assert len(got.body) < 600

"""The proxy's endpoints, asked over TLS."""

import asyncio
import base64
import gzip
import json
import ssl
import threading
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from pymon.config import Address
from pymon.proxy import account_metrics
from tests.proxy.agents import until
from tests.proxy.running import (
    EXPOSITION,
    NOBODY,
    TEXT,
    ZONE,
    A,
    B,
    C,
    D,
    FakeNode,
    Site,
    answer,
    container,
    on_uvloop,
    running,
    says,
    silent,
)


@asynccontextmanager
async def world(tmp_path, **changes):
    """A node with a container of alice's (A), one of bob's (B) and one of nobody's (C), and op, who is an operator."""
    site = Site(tmp_path)
    tenants = site.account("alice"), site.account("bob"), site.account("op", operator=True)
    node = FakeNode(container(A, "alice"), container(B, "bob"), container(C))
    async with node:
        site.node("n1", node)
        async with running(site, **changes) as proxy:
            yield proxy, node, *tenants


# --- routes, methods, statuses -------------------------------------------------------------------


@on_uvloop
async def test_every_route_answers_each_kind_of_client_by_its_rights_and_by_method(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, _, op):
        table = {  # alice, op
            f"/v1/{A}/metrics": (200, 404),
            f"/v1/{A.upper()}/metrics": (200, 404),
            f"/v1/{B}/metrics": (404, 404),
            f"/v1/{C}/metrics": (404, 200),
            f"/v1/{node.uuid}/metrics": (404, 200),
            "/v1/account/metrics": (200, 200),
            "/v1/account/metrics?by=service": (200, 200),
            "/v1/account/metrics?by=group": (200, 200),
            "/v1/account/metrics?by=node": (200, 200),
            "/v1/account/metrics?by=node&by=node": (400, 400),
            "/v1/account/metrics?by=": (400, 400),
            "/v1/account/metrics?by=name": (400, 400),
            "/v1/discover": (200, 200),
            "/v1/discover?groups=a,b": (200, 200),
            "/v1/discover?groups=": (400, 400),
            "/v1/discover?stopped=true": (200, 200),
            "/v1/discover?shard=0&shards=2": (400, 400),
            "/v1/discover?nothing": (400, 400),
            "/v1/gz/discover": (404, 200),
            "/v1/gz/discover?groups=a": (404, 200),
            "/v1/gz/discover?stopped=true": (404, 400),
            "/v1/sd": (200, 200),
            "/v1/sd?role=container": (200, 200),
            "/v1/sd?role=node": (404, 200),
            "/v1/sd?role=app": (200, 200),
            "/v1/sd?shard=1&shards=2": (200, 200),
            "/v1/sd?shard=2&shards=2": (400, 400),
            "/v1/sd?shard=-1&shards=2": (400, 400),
            "/v1/sd?shards=2": (400, 400),
            "/v1/sd?stopped=yes": (400, 400),
            "/v1/sd?via=path": (200, 200),
            "/v1/sd?via=": (400, 400),
            "/v1/sd?group=a": (400, 400),
            "/metrics": (404, 404),
            "/": (404, 404),
            "/v1": (404, 404),
            "/v2/discover": (404, 404),
            "/-/reload": (404, 404),
        }
        for path, expected in table.items():
            for tenant, status in zip((alice, op), expected, strict=True):
                async with proxy.client(tenant, certificate=True) as client:
                    got = await client.ask(path)
                    assert got.status == status, (path, got)
                    if status != 200:
                        assert got.line
                    head = await client.ask(path, method="HEAD")
                    assert head.told[:2] == got.told[:2], path
                    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
                        wrong = await client.ask(path, method=method)
                        assert (wrong.status, wrong["allow"]) == (405, "GET, HEAD"), (path, method, wrong)
                        assert wrong.line == "method not allowed: expected GET or HEAD"
            got = await proxy.ask(path)
            assert (got.status, got.line) == (401, "unauthorized"), path
            names = [value for name, value in got.fields if name == "www-authenticate"]
            assert names == ['Bearer realm="pymon"', 'Basic realm="pymon", charset="UTF-8"']


@on_uvloop
async def test_health_needs_no_credential(tmp_path):
    async with world(tmp_path) as (proxy, *_), proxy.client() as client:
        for path, text in {"/_ping": "OK", "/v1.24/_ping": "OK", "/-/healthy": "OK", "/-/ready": "ready"}.items():
            got = await client.ask(path)
            assert (got.status, got.line, got["connection"]) == (200, text, None)
            assert (await client.ask(path, method="HEAD")).status == 200
            assert (await client.ask(path, method="POST")).status == 405
        assert (await client.ask("/a/_ping")).status == 401


@on_uvloop
async def test_what_is_not_yours_and_what_is_not_there_are_the_same_bytes(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, bob, _):
        for tenant, other in ((alice, B), (bob, A)):
            async with proxy.client(tenant) as client:
                not_there = await client.ask(f"/v1/{NOBODY}/metrics")
                assert not_there.status == 404
                for uuid in (other, C, node.uuid):
                    assert (await client.ask(f"/v1/{uuid}/metrics")).told == not_there.told
                    assert (await client.ask("/metrics", host=f"{uuid}.cmon.{ZONE}")).told == not_there.told
                for path in ("/v1/gz/discover", "/v1/sd?role=node", "/nothing"):
                    assert (await client.ask(path)).told == not_there.told
        assert node.scrapes == []


# --- which container: Host and path ---------------------------------------------------------------


@on_uvloop
async def test_a_host_names_the_container_whatever_its_case_port_and_final_dot(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, _, op):
        name = f"{A}.cmon.{ZONE}"
        found = [
            name,
            name.upper(),
            f"{name}.",
            f"{name}:9163",
            f"{name}.:9163",
            f"{name}:",
            f"{A.upper()}.cmon.{ZONE}",
        ]
        not_found = [
            "", "127.0.0.1", "127.0.0.1:9163", "[::1]", "[::1]:9163", "::1", ZONE, f"cmon.{ZONE}", f".cmon.{ZONE}",
            f"{A}.{ZONE}", f"{A}.cmon.example.org", f"{name}.example.org", f"x{name}", f"x.{name}", f"{name}..",
            f"{A}..cmon.{ZONE}", f"{A}.xn--cmon-1ga.{ZONE}", f"bücher.cmon.{ZONE}", f"{B}.cmon.{ZONE}",
            f"{NOBODY}.cmon.{ZONE}", f"{node.uuid}.cmon.{ZONE}", A, f"{A[:-1]}.cmon.{ZONE}",
            f"{A}%00.cmon.{ZONE}", f"../{A}.cmon.{ZONE}",
        ]  # fmt: skip
        async with proxy.client(alice) as client:
            for host in found:
                got = await client.ask("/metrics", host=host)
                assert (got.status, got.body) == (200, EXPOSITION), (host, got)
            assert {head.split(b" ")[1] for head in node.scrapes} == {f"/v1/{A}/metrics".encode()}
            for host in not_found:
                got = await client.ask("/metrics", host=host)
                assert (got.status, got.line) == (404, "not found"), (host, got)
            assert (await client.ask(f"/v1/{A}/metrics", host="whatever")).status == 200
        async with proxy.client(op) as client:
            assert (await client.ask("/metrics", host=f"{node.uuid}.cmon.{ZONE}")).status == 200
            assert node.scrapes[-1].startswith(b"GET /v1/gz/metrics HTTP/1.1\r\n")


@on_uvloop
async def test_a_request_has_one_host(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, *_):
        name = f"{A}.cmon.{ZONE}"
        for fields in ((f"Host: {name}", f"Host: {name}"), (f"Host: {name}", f"host: {B}.cmon.{ZONE}"), ()):
            async with proxy.client(alice) as client:
                got = await client.ask("/metrics", *fields, host=None)
                assert (got.status, got["connection"]) == (400, "close"), fields
                assert got.line
                assert await client.ended() == b""
        async with proxy.client(alice) as client:
            await client.send(f"GET /v1/{A}/metrics HTTP/1.0\r\n{alice.bearer}\r\n\r\n".encode())
            assert (await client.answer()).status == 200
        got = await proxy.ask("/metrics", alice, b"Host: \xff\xfe.cmon." + ZONE.encode(), host=None)
        assert got.status in (400, 404)
        assert len(node.scrapes) == 1


@on_uvloop
async def test_a_target_is_taken_as_it_is_written(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, *_):
        table = {
            f"//v1/{A}/metrics": 404,
            f"/v1//{A}/metrics": 404,
            f"/v1/{A}/metrics/": 404,
            f"/v1/{A}/metrics;x=1": 404,
            f"/v1/{A};x/metrics": 404,
            f"/v1/{A}/metrics#part": 404,
            f"/v1/{A}/../{A}/metrics": 404,
            f"/v1/x/../{A}/metrics": 404,
            f"/v1/%61{A[1:]}/metrics": 404,
            f"/%761/{A}/metrics": 404,
            f"/v1/{A}%2fmetrics": 404,
            f"/v1/{A}%00/metrics": 404,
            "/v1/../../../../../../../etc/passwd/metrics": 404,
            "/v1/................................../metrics": 404,
            "/v1/discover/": 404,
            "/v1/%64iscover": 404,
            "/V1/discover": 404,
            f"http://127.0.0.1/v1/{A}/metrics": 400,
            f"http://{A}.cmon.{ZONE}/metrics": 400,
            "*": 400,
            "v1/discover": 400,
            f"/v1/{A}\x00/metrics": 400,
            f"/v1/{A}/metrics \x01": 400,
            "/" + "a" * 9000: 414,
        }
        for target, status in table.items():
            got = await proxy.ask(target, alice)
            assert (got.status, got.line != "") == (status, True), (target, got)
        got = await proxy.ask("127.0.0.1:443", alice, method="CONNECT")
        assert got.status == 400
        assert node.scrapes == []


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


# --- discovery -----------------------------------------------------------------------------------


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
        cache = proxy.proxy.web._discovery
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
        cache = proxy.proxy.web._discovery
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


# --- the account's exposition --------------------------------------------------------------------


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
        assert (got.status, got["content-encoding"], got["vary"]) == (200, "gzip", "Accept-Encoding")
        text = gzip.decompress(got.body).decode()
        assert f'cpu_seconds_total{{uuid="{A}",node="n1"}} 12.5\n' in text
        for uuid, value in ((A, 1), (C, 0), (D, 0)):
            assert f'pymon_container_scrape_success{{uuid="{uuid}"}} {value}\n' in text
        assert NOBODY not in text
        assert text == gzip.decompress(got.body).decode()
        summed = await client.ask("/v1/account/metrics?by=service")
        assert b'cpu_seconds_total{service="web"} 12.5\n' in summed.body
        node.scrape = says(answer(b"", "500 Oh no"))
        got = await client.ask("/v1/account/metrics")
        assert (got.status, got.line) == (502, "no container's metrics could be had")
        got = await client.ask("/v1/account/metrics?by=x%0d%0aX-Evil:1")
        assert (got.status, got["x-evil"]) == (400, None)
        assert got.line.startswith("by: expected one of service, group, node, got ")


@on_uvloop
async def test_an_accounts_exposition_of_which_no_part_is_in_order_is_a_502(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, *_):
        node.scrape = says(answer(b"no exposition at all\n"))
        got = await proxy.ask("/v1/account/metrics", alice)
        assert (got.status, got.line) == (502, "no container's metrics could be had")


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
    monkeypatch.setattr("pymon.proxy.account_metrics.MAX_BYTES", 10 * len(EXPOSITION))
    async with world(tmp_path) as (proxy, node, alice, *_), proxy.client(alice) as client:
        node.change(*(container(f"{n:08x}-0000-4000-8000-000000000000", "alice") for n in range(100)))
        await until(lambda: len(proxy.proxy.fleet) == 100)
        got = await client.ask("/v1/account/metrics")
        assert (got.status, got.line) == (502, f"the containers' metrics have more than {10 * len(EXPOSITION)} bytes")
        assert len(node.scrapes) < 30
        node.change(*(container(f"{n:08x}-0000-4000-8000-000000000000", "alice") for n in range(10)))
        await until(lambda: len(proxy.proxy.fleet) == 10)
        assert (await client.ask("/v1/account/metrics")).status == 200


@on_uvloop
async def test_expositions_of_accounts_are_put_together_one_at_a_time(tmp_path, monkeypatch):
    make, go = account_metrics._exposition, threading.Event()
    under_way: list[int] = []

    def slow(*arguments, **options):
        under_way.append(1)
        assert go.wait(20)
        under_way.pop()
        return make(*arguments, **options)

    monkeypatch.setattr(account_metrics, "_exposition", slow)
    async with world(tmp_path) as (proxy, _, alice, bob, _), proxy.client(bob) as other:
        turns = proxy.proxy.web._account_metrics._turns.gate
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


# --- credentials and limits ----------------------------------------------------------------------


@on_uvloop
async def test_the_authorization_header_decides_where_there_is_a_certificate_too(tmp_path):
    async with world(tmp_path) as (proxy, _, alice, bob, _):
        async with proxy.client(alice, certificate=True) as client:
            assert (await client.ask(f"/v1/{A}/metrics")).status == 200
            assert (await client.ask(f"/v1/{A}/metrics", bob.bearer)).status == 404
            assert (await client.ask(f"/v1/{B}/metrics", bob.bearer)).status == 200
            assert (await client.ask(f"/v1/{A}/metrics")).status == 200
            assert (await client.ask(f"/v1/{A}/metrics", "Authorization: Bearer nonsense")).status == 401
        for fields in (
            ("Authorization:",),
            ("Authorization: ",),
            (alice.bearer, alice.bearer),
            (alice.bearer, bob.bearer),
        ):
            for more in ((), ("Connection: keep-alive",)):
                async with proxy.client(alice, certificate=True) as client:
                    got = await client.ask(f"/v1/{A}/metrics", *fields, *more)
                    assert (got.status in (400, 401), got["connection"]) == (True, "close"), fields


@on_uvloop
async def test_a_terminator_is_believed_when_it_is_one(tmp_path, caplog):
    listen = {"terminator_addresses": (Address("127.0.0.1", 0),), "terminator_trust": frozenset(("127.0.0.2",))}
    async with world(tmp_path, **listen) as (proxy, _, alice, bob, _):
        der = base64.b64encode(ssl.PEM_cert_to_DER_cert(alice.cert.read_text())).decode()
        header = f"Client-Cert: :{der}:"
        for _ in range(3):
            async with proxy.client(part="terminator") as client:
                for path in ("/v1/discover",):
                    got = await client.ask(path, header, alice.bearer)
                    assert (got.status, got.line, got["connection"]) == (403, "not a terminator", "close")
        assert [record.getMessage() for record in caplog.records] == ["not a terminator: 127.0.0.1"]
        for fields, status in (
            ((header,), 200), ((f"Client-Cert: {der}",), 200), ((header, "X-Forwarded-For: x, 10.0.0.1"), 200),
            ((header, "X-Forwarded-For: 10.0.0.1, x"), 401), ((header, header), 401), (("Client-Cert: :x:",), 401),
            (("Client-Cert:",), 401), ((), 401), ((header, bob.bearer), 404),
        ):  # fmt: skip
            async with proxy.client(part="terminator", source="127.0.0.2") as client:
                assert (await client.ask(f"/v1/{A}/metrics", *fields)).status == status, fields
        # Who fails is who the terminator says, and the header means nothing to whoever comes through TLS.
        for n in range(21):
            fields = (f"Authorization: Bearer {n}", "X-Forwarded-For: 10.0.0.9")
            async with proxy.client(part="terminator", source="127.0.0.2") as client:
                got = await client.ask("/v1/discover", *fields)
        assert got.status == 429
        async with proxy.client(bob, part="terminator", source="127.0.0.2") as client:
            assert (await client.ask("/v1/discover", "X-Forwarded-For: 10.0.0.8")).status == 200
        assert (await proxy.ask("/v1/discover", None, header)).status == 401


@on_uvloop
async def test_who_fails_too_often_is_told_to_wait_and_nobody_else_is(tmp_path):
    async with world(tmp_path) as (proxy, _, alice, bob, _):
        async with proxy.client(alice, certificate=True) as known, proxy.client(bob) as token:
            assert (await known.ask("/v1/discover")).status == 200
            assert (await token.ask("/v1/discover")).status == 200
            for n in range(21):
                got = await proxy.ask("/v1/discover", None, f"Authorization: Bearer pymon_{'a' * 12}_{n:043}")
                if got.status == 429:
                    break
                assert got.status == 401
            assert n >= 19
            for _ in range(3):
                got = await proxy.ask("/v1/discover", None, "Authorization: Basic YTpi")
                assert (got.status, got.line) == (429, "too many failed authentications")
                assert int(got["retry-after"]) >= 1
            # No credential costs nothing, and who is known stays known.
            assert (await proxy.ask("/v1/discover")).status == 401
            assert (await known.ask("/v1/discover")).status == 200
            assert (await token.ask("/v1/discover")).status == 200
        async with proxy.client(bob, certificate=True, source="127.0.0.2") as elsewhere:
            assert (await elsewhere.ask("/v1/discover")).status == 200


@on_uvloop
async def test_an_account_above_its_rate_is_told_when_to_come_again(tmp_path):
    async with world(tmp_path) as (proxy, _, alice, bob, _):
        proxy.site.directory.set_quota("alice", requests_per_second=0.1, burst=3)
        async with proxy.client(alice) as client, proxy.client(bob) as other:
            await until(lambda: proxy.proxy.live.snapshot.accounts_by_name["alice"].quota.burst == 3)
            assert [(await client.ask("/nothing")).status for _ in range(3)] == [404] * 3
            got = await client.ask("/v1/discover")
            assert (got.status, got.line, got["connection"]) == (429, "too many requests a second", None)
            assert 1 <= int(got["retry-after"]) <= 10
            assert (await other.ask("/v1/discover")).status == 200
            proxy.site.directory.set_quota("alice", requests_per_second=0)
            await until(lambda: not proxy.proxy.live.snapshot.accounts_by_name["alice"].quota.requests_per_second)
            assert (await client.ask("/v1/discover")).status == 200


@on_uvloop
async def test_an_account_with_too_many_requests_at_a_time_is_refused_until_one_ends(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, bob, _):
        proxy.site.directory.set_quota("alice", concurrency=1)
        await until(lambda: proxy.proxy.live.snapshot.accounts_by_name["alice"].quota.concurrency == 1)
        node.scrape = silent
        async with proxy.client(alice) as client, proxy.client(bob) as other:
            async with proxy.client(alice) as slow:
                asked = asyncio.create_task(slow.ask(f"/v1/{A}/metrics"))
                await until(lambda: node.scrapes)
                got = await client.ask("/v1/discover")
                assert (got.status, got.line, got["retry-after"]) == (429, "too many requests at a time", "1")
                assert (await other.ask("/v1/discover")).status == 200
                asked.cancel()
                slow.leave()
            await until(lambda: not node.open)
            assert (await client.ask("/v1/discover")).status == 200


@on_uvloop
async def test_passwords_that_cannot_be_checked_now_are_no_failure_of_who_sends_them(tmp_path, monkeypatch):
    async with world(tmp_path) as (proxy, *_):
        proxy.site.directory.set_password("alice", "secret")
        await until(lambda: proxy.proxy.live.snapshot.passwords)
        monkeypatch.setattr("pymon.service.passwords.Passwords.MAX_WAITING", 0)
        header = "Authorization: Basic " + base64.b64encode(b"alice:secret").decode()
        for _ in range(25):
            got = await proxy.ask("/v1/discover", None, header)
            assert (got.status, got["retry-after"]) == (503, "1")
        monkeypatch.undo()
        assert (await proxy.ask("/v1/discover", None, header)).status == 200

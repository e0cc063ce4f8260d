"""The proxy's endpoints, asked over TLS: routes, methods, and which container is asked for."""

import contextlib
import logging

from pymon.proxy import web
from tests.proxy.running import (
    EXPOSITION,
    NOBODY,
    ZONE,
    A,
    B,
    C,
    FakeNode,
    Site,
    container,
    on_uvloop,
    running,
)
from tests.proxy.worlds import world

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
            "/v1/static/page.js": (404, 404),
            "/metrics": (404, 404),
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
async def test_an_account_without_containers_is_a_line_in_the_log(tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "pymon.proxy.web")

    def lines():
        return [message for message in caplog.messages if "discovery has nothing" in message]

    site = Site(tmp_path)
    some, *none = (site.account(name) for name in ("alice", "carol", "dave", "erin"))
    op = site.account("op", operator=True)
    async with FakeNode(container(A, "alice"), container(B, "bob"), container(C)) as node:
        site.node("n1", node)
        async with running(site) as proxy:
            for tenant in (some, op):
                for path in ("/v1/sd", "/v1/discover"):
                    assert (await proxy.ask(path, tenant)).status == 200
            assert lines() == []
            for path in ("/v1/sd", "/v1/sd?groups=a", "/v1/discover"):
                assert (await proxy.ask(path, none[0])).status == 200
            (line,) = lines()
            assert "carol" in line
            assert "of 3 containers on 1 nodes, 2 are of no account" in line
            assert "docs/owners.md" in line
            monkeypatch.setattr(web, "NOTHING_ACCOUNTS", 2)
            for tenant in none:
                assert (await proxy.ask("/v1/sd", tenant)).status == 200
            assert len(lines()) == 3
            assert len(proxy.proxy.tenants.web._nothing_said) <= 2
            monkeypatch.setattr(web, "NOTHING_SECONDS", 0)
            assert (await proxy.ask("/v1/sd", none[0])).status == 200
            assert len(lines()) == 4


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
async def test_connections_without_a_credential_are_kept_up_to_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(web, "MAX_KEPT", 3)
    async with world(tmp_path) as (proxy, _, alice, *_), contextlib.AsyncExitStack() as stack:

        async def client(*args, **options):
            return await stack.enter_async_context(proxy.client(*args, **options))

        tenants = [await client(alice), await client(alice, certificate=True)]
        for tenant in tenants:
            assert (await tenant.ask("/-/healthy")).status == 200
            assert (await tenant.ask("/v1/discover")).status == 200
        strangers = []
        for path in ("/_ping", "/none", "/", "/v1/join", "/-/ready", "/_ping"):
            strangers.append(await client())
            await strangers[-1].ask(path, method="PUT" if path == "/v1/join" else "GET")
        ended = [await one.ended() for one in strangers[:2]]
        assert ended == [b"", b""], "/_ping gave way, and whoever shows nothing is not kept"
        assert await strangers[2].ended() == b""
        for one in strangers[3:]:
            assert (await one.ask("/_ping")).status == 200
        for tenant in tenants:
            assert (await tenant.ask("/v1/discover")).status == 200
        assert (await strangers[3].ask("/v1/discover", alice.bearer)).status == 200
        for _ in range(2):
            assert (await (await client()).ask("/_ping")).status == 200
        assert (await strangers[3].ask("/_ping")).status == 200, "it has shown a credential"


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
            f"ftp://127.0.0.1/v1/{A}/metrics": 400,
            f"http://a@127.0.0.1/v1/{A}/metrics": 400,
            f"http:///v1/{A}/metrics": 400,
            f"http://127.0.0.1/v1/{A}": 404,
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


@on_uvloop
async def test_the_authority_of_an_absolute_target_counts_and_host_does_not(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, *_), proxy.client(alice) as client:
        for target, host in (
            (f"http://127.0.0.1/v1/{A}/metrics", "127.0.0.1"),
            (f"http://{A}.cmon.{ZONE}/metrics", f"{A}.cmon.{ZONE}"),
            (f"https://{A}.CMON.{ZONE}:9163/metrics", f"{B}.cmon.{ZONE}"),
        ):
            assert (await client.ask(target, host=host)).status == 200, target
        assert {head.split(b" ")[1] for head in node.scrapes} == {f"/v1/{A}/metrics".encode()}
        assert (await client.ask(f"http://{B}.cmon.{ZONE}/metrics", host=f"{A}.cmon.{ZONE}")).status == 404

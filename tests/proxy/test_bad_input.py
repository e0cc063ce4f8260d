"""What clients, agents and names may hold that they should not, through a whole proxy."""

import asyncio
import base64
import contextlib
import json
import logging
import re
from random import Random

import pytest

from pymon.config import ConfigError
from pymon.service.gate import Gate, GateLimits
from tests.oracle import parse
from tests.proxy.agents import until
from tests.proxy.hostile_world import lines, world
from tests.proxy.running import (
    A,
    B,
    FakeNode,
    Site,
    answer,
    container,
    on_uvloop,
    process,
    running,
    says,
    silent,
)

SOON = "X-Prometheus-Scrape-Timeout-Seconds: 0.6"
HUGE_BYTES = 2 << 30


# --- agents --------------------------------------------------------------------------------------


async def endless(peer, first, more):
    await peer.say(first)
    while True:
        await peer.say(more)


def sends_for_ever(first, more):
    async def scrape(peer, _):
        await endless(peer, first, more)

    return scrape


def ends_after(data):
    async def scrape(peer, _):
        await peer.say(data)
        peer.writer.close()
        raise EOFError

    return scrape


async def resets(peer, _):
    peer.reset()
    raise EOFError


async def trickles(peer, _):
    await peer.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\n\r\n")
    while True:
        await peer.say(b"x")
        await asyncio.sleep(0.05)


OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n"
NO_EXPOSITION = "its node answered with no exposition"
BAD_AGENTS = {
    "an error of its own": (says(answer(b"oh\n", "500 Oh no")), 502, "its node answered 500"),
    "busy": (says(answer(b"wait\n", "503 Busy")), 503, "its node is busy"),
    "a redirect": (says(answer(b"", "302 Found", "Location: http://evil/")), 502, "its node answered 302"),
    "not modified": (says(b"HTTP/1.1 304 Not Modified\r\n\r\n"), 502, "its node answered 304"),
    "nothing": (says(b"HTTP/1.1 204 No Content\r\n\r\n"), 502, "its node answered 204"),
    "a part": (says(answer(b"x", "206 Partial Content")), 502, "its node answered 206"),
    "who are you": (says(answer(b"", "401 Unauthorized")), 502, "its node answered 401"),
    "a page": (says(answer(b"<html>", content_type="text/html")), 502, NO_EXPOSITION),
    "json": (says(answer(b"{}", content_type="application/json")), 502, NO_EXPOSITION),
    "no type": (says(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"), 502, NO_EXPOSITION),
    "a coding": (
        says(answer(b"x", "200 OK", "Content-Encoding: br")),
        502, "its node answered in a coding that was not asked for",
    ),
    "cut off": (ends_after(OK + b"Content-Length: 1000\r\n\r\nabc"), 502, "the connection ended in its answer"),
    "cut off in a chunk": (
        ends_after(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc"), 502, "the connection ended in its answer"
    ),
    "cut off in its head": (ends_after(b"HTTP/1.1 200 OK\r\nConte"), 502, "the connection ended in its answer"),
    "gone": (ends_after(b""), 502, "the connection ended before an answer"),
    "reset": (resets, 502, "the connection ended before an answer"),
    "no HTTP": (says(b"SSH-2.0-OpenSSH_9.2\r\n"), 502, "its answer is no HTTP"),
    "a folded header": (says(OK + b"X: 1\r\n Y: 2\r\nContent-Length: 0\r\n\r\n"), 502, "its answer is no HTTP"),
    "NUL in a header": (says(OK + b"X: \x00\r\nContent-Length: 0\r\n\r\n"), 502, "its answer is no HTTP"),
    "two lengths": (says(OK + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\nabcde"), 502, "its answer is no HTTP"),
    "slow": (trickles, 504, "no answer in time"),
    "silent": (silent, 504, "no answer in time"),
    "2 GB": (says(OK + b"Content-Length: %d\r\n\r\n" % HUGE_BYTES + b"x" * 1000), 504, "no answer in time"),
    "all of 2 GB": (
        sends_for_ever(OK + b"Content-Length: %d\r\n\r\n" % HUGE_BYTES, b"x" * 65536), 502, "its body is too large"
    ),
    "chunks for ever": (
        sends_for_ever(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"8000\r\n" + b"x" * 0x8000 + b"\r\n"),
        502, "its body is too large",
    ),
    "headers for ever": (
        sends_for_ever(OK, b"X: " + b"x" * 1000 + b"\r\n"), 502, "its headers have more than 65536 bytes"
    ),
    "continue for ever": (
        sends_for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), 502, "its headers have more than 65536 bytes"
    ),
}  # fmt: skip


@on_uvloop
async def test_an_agent_that_answers_wrongly_costs_its_scrape_a_status_and_the_log_a_line(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    async with world(tmp_path) as (proxy, node, alice, bob), proxy.client(bob) as other:
        await until(lambda: node.waits)
        for name, (scrape, status, text) in BAD_AGENTS.items():
            caplog.clear()
            proxy.proxy.tenants.web._said.clear()
            node.scrape = scrape
            # Those that send too much are read at a pace of the proxy's.
            patience = SOON if status == 504 else "X-Prometheus-Scrape-Timeout-Seconds: 15"
            async with proxy.client(alice, patience) as client:
                got = await client.ask(f"/v1/{A}/metrics", "Accept-Encoding: gzip")
                assert (got.status, got.line) == (status, text), name
                assert got["retry-after"] == ("1" if status == 503 else None)
                assert (await client.ask(f"/v1/{A}/metrics")).status == status, name
            said = [line.partition("msg=")[2] for line in lines(caplog) if "level=warn" in line]
            assert said == [f'"scrape failed: node n1: {text}"'], name
            assert b"Location" not in got.body
            await until(lambda: node.open <= 1)
            node.scrape = says(answer())
            assert (await other.ask(f"/v1/{B}/metrics")).status == 200, name


@on_uvloop
async def test_an_agent_that_answers_twice_is_not_believed_the_second_time(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, bob), proxy.client(alice) as client, proxy.client(bob) as other:
        await until(lambda: node.waits)  # else the poll might take the answer that nobody asked for
        for between in (0.0, 0.05):

            async def scrape(peer, head, between=between):
                await peer.say(answer() if between else answer() + answer(b"theirs 1\n"))
                await asyncio.sleep(between)
                if between:
                    await peer.say(answer(b"theirs 1\n"))

            for _ in range(3):
                node.scrape = scrape
                assert (await client.ask(f"/v1/{A}/metrics")).status in (200, 502)
                await asyncio.sleep(2 * between)
                node.scrape = says(answer(b"right 1\n"))
                assert (await other.ask(f"/v1/{B}/metrics")).body == b"right 1\n"


@on_uvloop
async def test_an_agents_content_type_stays_one_header(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, _):
        for kind in (
            b"text/plain\r\nX-Evil: 1", b"text/plain\rX-Evil: 1", b"text/plain\nX-Evil: 1", b"text/plain; a=\xe9",
            b"text/plain; \x01", b"text/plain\x0bX-Evil: 1", b"text/plain;" + b"x" * 20000,
        ):  # fmt: skip
            node.scrape = says(b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\nContent-Length: 1\r\n\r\nx")
            got = await proxy.ask(f"/v1/{A}/metrics", alice)
            assert got.status in (200, 502), kind
            assert [name for name, _ in got.fields if "evil" in name] == []
            node.scrape = says(answer(b"x", "400 Bad Request", content_type="text/html\r\nSet-Cookie: a=b"))
            got = await proxy.ask(f"/v1/{A}/metrics", alice)
            assert (got.status, got["content-type"], got["set-cookie"]) == (400, "text/plain; charset=utf-8", None)


@on_uvloop
async def test_gigabytes_from_an_agent_leave_memory_as_it_was(tmp_path):
    site = Site(tmp_path)
    alice = site.account("alice")
    uuids = [f"{n:08x}-0000-4000-8000-000000000000" for n in range(8)]
    async with FakeNode(*(container(uuid, "alice") for uuid in uuids)) as node, FakeNode(name="n2") as other:
        site.node("n1", node)
        site.node("n2", other)
        whole = sends_for_ever(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % HUGE_BYTES, b"x" * 65536)
        other.inventory = whole
        with process(site) as proxy:
            await until(lambda: node.waits)
            await until(lambda: "inventory not read" in proxy.log)
            assert (await proxy.ask("/v1/account/metrics", alice)).body.count(b"_success{") == len(uuids)
            before = proxy.rss_bytes()
            node.scrape = sends_for_ever(OK + b"Content-Length: %d\r\n\r\n" % HUGE_BYTES, b"x" * 65536)
            for _ in range(2):
                got = await asyncio.gather(*(proxy.ask(f"/v1/{uuid}/metrics", alice) for uuid in uuids))
                lines = {"its body is too large", "its bodies are too large together"}
                assert {one.status for one in got} == {502}
                assert {one.line for one in got} <= lines
            got = await proxy.ask("/v1/account/metrics", alice)
            assert got.status == 502
            assert proxy.rss_bytes() - before < 160 << 20, (before, proxy.rss_bytes())
            assert proxy.rss_bytes() < 400 << 20
            assert re.search(r'msg="inventory not read" node=n2 .*problem="its body is too large"', proxy.log)
            assert "raceback" not in proxy.log


# --- clients -------------------------------------------------------------------------------------


@on_uvloop
async def test_when_a_client_goes_away_so_does_what_was_asked_for_it(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, _):
        node.scrape = silent
        for target in (f"/v1/{A}/metrics", "/v1/account/metrics"):
            for say_goodbye in (True, False):
                before = len(node.scrapes)
                async with proxy.client(alice, "X-Prometheus-Scrape-Timeout-Seconds: 100") as client:
                    await client.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n{alice.bearer}\r\n\r\n".encode())
                    await until(lambda before=before: len(node.scrapes) > before)
                    assert node.open == 1
                    if not say_goodbye:
                        client.leave()
                await until(lambda: node.open == 0)
        assert await proxy.metric("pymon_proxy_requests_total", account="alice", code="499") == 4
        assert await proxy.metric("pymon_proxy_upstream_connections") <= 1


@on_uvloop
async def test_requests_that_two_readers_would_read_differently_never_reach_an_agent(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, _):
        inner = f"GET /v1/{A}/metrics?collect[]=smuggled HTTP/1.1\r\nHost: x\r\n{alice.bearer}\r\n\r\n"
        head = f"GET /v1/{A}/metrics HTTP/1.1\r\nHost: x\r\n{alice.bearer}\r\n"
        size = len(inner)
        table = {
            "a body with a length": (f"{head}Content-Length: {size}\r\n\r\n{inner}", {200}),
            "a body of a POST": (f"{head}Content-Length: {size}\r\n\r\n{inner}".replace("GET", "POST", 1), {405}),
            "a large body": (f"{head}Content-Length: 70000\r\n\r\n{inner}", {413}),
            "chunks": (f"{head}Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n{inner}\r\n0\r\n\r\n", {413}),
            "length and chunks": (
                f"{head}Content-Length: {size}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}", {400}
            ),
            "two lengths": (f"{head}Content-Length: 0\r\nContent-Length: {size}\r\n\r\n{inner}", {400}),
            "a list of lengths": (f"{head}Content-Length: 0, {size}\r\n\r\n{inner}", {400}),
            "a signed length": (f"{head}Content-Length: +{size}\r\n\r\n{inner}", {400}),
            "chunked twice": (f"{head}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n{inner}", {400}),
            "not chunked": (f"{head}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{inner}", {400}),
            "a space before the colon": (f"{head}Content-Length : {size}\r\n\r\n{inner}", {400}),
            "a folded header": (f"{head}X: 1\r\n Content-Length: {size}\r\n\r\n{inner}", {400}),
            "bare line feeds": (f"{head}\n{inner}", {400}),
            "a bare carriage return": (f"{head}X: 1\rContent-Length: {size}\r\n\r\n{inner}", {400}),
            "no version": (f"GET /v1/{A}/metrics\r\n\r\n{inner}", {400}),
            "another version": (f"{head}\r\n{inner}".replace("HTTP/1.1", "HTTP/2.0", 1), {400}),
            "HTTP/2": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400}),
            "an upgrade": (f"{head}Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n{inner}", {200}),
        }  # fmt: skip
        for name, (data, expected) in table.items():
            async with proxy.client() as client:
                await client.send(data.encode())
                got = await client.answer()
                assert got.status in expected, (name, got)
                if got.status == 400:
                    assert await client.ended() == b"", name
        assert not [one for one in node.scrapes if b"smuggled" in one or not one.startswith(f"GET /v1/{A}/".encode())]


@on_uvloop
async def test_requests_in_a_row_are_answered_in_order_and_each_by_its_own_rights(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, bob), proxy.client() as client:
        asked = [(A, alice, 200), (B, alice, 404), (B, bob, 200), (A, bob, 404), (A, alice, 200)]
        data = "".join(f"GET /v1/{uuid}/metrics HTTP/1.1\r\nHost: x\r\n{who.bearer}\r\n\r\n" for uuid, who, _ in asked)
        await client.send(data.encode())
        assert [(await client.answer()).status for _ in asked] == [status for *_, status in asked]
        assert len(node.scrapes) == 3
        # A credential is that of its request, not of its connection.
        assert (await client.ask(f"/v1/{A}/metrics")).status == 401


@on_uvloop
async def test_no_request_whatever_makes_an_internal_error(tmp_path, caplog):
    pieces = [
        b"/", b"v1", A.encode(), b"metrics", b"?", b"&", b"=", b"%", b"%00", b"%ff", b"%0d%0a", b"collect[]", b"groups",
        b"shards", b"via=path", b"role=node", b"by=service", b"\xc3\xa9", b"\xff", b";", b"#", b"..", b"9" * 30, b"[",
        b"\\",
    ]  # fmt: skip
    names = [
        b"Host",
        b"Accept",
        b"Accept-Encoding",
        b"If-None-Match",
        b"Connection",
        b"Content-Length",
        b"Expect",
        b"Upgrade",
    ]
    values = [
        b"",
        b"*",
        b"gzip;q=x",
        b"nan",
        b"-1",
        b"close",
        b"100-continue",
        b'"',
        b"\xff",
        b"[::1]:1",
        b"x" * 3000,
        b",;q=",
    ]
    targets = [f"/v1/{A}/metrics".encode(), b"/metrics", b"/v1/discover", b"/v1/sd?", b"/v1/account/metrics?", b"/"]
    random = Random(7)  # noqa: S311
    async with world(tmp_path) as (proxy, _, alice, _):
        for _ in range(300):
            target = random.choice(targets) + b"".join(random.choices(pieces, k=random.randrange(5)))
            fields = [b"%b: %b\r\n" % (random.choice(names), random.choice(values)) for _ in range(random.randrange(4))]
            async with proxy.client() as client:
                head = f" HTTP/1.{random.randrange(2)}\r\n{alice.bearer}\r\nHost: x\r\n".encode()
                await client.send(b"GET " + target + head + b"".join(fields) + b"\r\n")
                got = await client.answer()
                assert got.status in (200, 400, 404, 413, 417), (target, fields, got)
    lines(caplog)


@on_uvloop
async def test_what_is_no_request_gets_one_line_and_the_end_of_its_connection(tmp_path, caplog):
    async with world(tmp_path) as (proxy, *_):
        for data, status in (
            (b"\x00" * 100 + b"\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 431),
            (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: 1\r\n" * 40000 + b"\r\n", 431),
            (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
            (b"GET / HTTP/1.1\r\nHost: x\r\n: \r\n\r\n", 400),
            (b"G\xc3\x84T / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ):
            async with proxy.client() as client:
                with contextlib.suppress(ConnectionError):
                    await client.send(data)
                got = await client.answer()
                assert (got.status, got["connection"]) == (status, "close"), data[:60]
                assert got.line
                assert await client.ended() == b""
        assert await proxy.metric("pymon_proxy_requests_total", route="malformed", code="431") == 2
        assert await proxy.metric("pymon_proxy_requests_total", route="malformed", code="400") == 3
        assert [line for line in lines(caplog) if "level=error" in line] == []


@on_uvloop
async def test_handshakes_of_one_address_are_limited_and_garbage_is_none(tmp_path, monkeypatch):
    limits = GateLimits(handshakes_per_second=0.01, handshakes_burst=4)
    monkeypatch.setattr("pymon.front.servers.Gate", lambda *_, **__: Gate(limits))
    async with world(tmp_path) as (proxy, _, alice, _):
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\x00"):
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(garbage)
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), 10)
            writer.close()
        async with proxy.client(alice, certificate=True) as client:
            assert (await client.ask("/v1/discover")).status == 200
            with pytest.raises(OSError):  # noqa: PT011  # whatever the end of a connection looks like to TLS
                await proxy.ask("/v1/discover", alice)
            assert (await client.ask("/v1/discover")).status == 200
        async with proxy.client(alice, source="127.0.0.3") as client:
            assert (await client.ask("/v1/discover")).status == 200
        assert await proxy.metric("pymon_proxy_handshakes_total", outcome="failed") == 3
        assert await proxy.metric("pymon_proxy_handshakes_total", outcome="done") == 2
        assert await proxy.metric("pymon_proxy_connections_refused_total", reason="rate") == 1


# --- names ---------------------------------------------------------------------------------------

EVIL = [
    "'; DROP TABLE accounts; --",
    'a"} 1\nevil_metric{x="',
    "\r\nSet-Cookie: a=b\r\n\r\n<script>alert(1)</script>",
    "../../../../etc/passwd",
    "%0d%0a%00 ${jndi:ldap://x} {{7*7}} \\",
    "\x00\x1b[31mred\x7f\u202e\u2028",
    "\ud800 lone",
    "😀" * 200,
    "",
]


@on_uvloop
async def test_names_that_agents_tell_stay_values_in_every_answer(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    uuids = [f"{n:08x}-0000-4000-8000-000000000000" for n in range(len(EVIL))]
    site = Site(tmp_path)
    alice, op = site.account("alice"), site.account("op", operator=True)
    containers = [
        container(
            uuid, "alice", name=text, image=text, id=text, runtime=text, runtime_id=text, state=text, health=text,
            services=f"{text}:80,web", groups=[text, "good"], namespace=text, pod=text, pod_id=text,
        )
        for uuid, text in zip(uuids, EVIL, strict=True)
    ]  # fmt: skip
    node = FakeNode(*containers, container(A, EVIL[0]), container(B, EVIL[2]))
    node.hostname = EVIL[1]
    async with node:
        site.node("n1.a@b-c", node)
        async with running(site) as proxy, proxy.client(alice) as client, proxy.client(op) as operator:
            found = {one["vm_uuid"]: one for one in json.loads((await client.ask("/v1/discover")).body)["containers"]}
            assert list(found) == uuids
            targets = json.loads((await client.ask("/v1/sd")).body)
            for uuid, text, target in zip(uuids, EVIL, targets, strict=True):
                kept = text.replace("\ud800", "\ufffd")
                assert (found[uuid]["vm_alias"], found[uuid]["groups"]) == (kept, ["good"])
                assert target["labels"].get("__meta_triton_machine_alias", "") == kept
                assert target["labels"]["__meta_triton_groups"] == ",good,"
            nodes = json.loads((await operator.ask("/v1/gz/discover")).body)["cns"]
            assert nodes == [{"server_uuid": node.uuid, "server_hostname": EVIL[1]}]
            unowned = json.loads((await operator.ask("/v1/discover")).body)["containers"]
            assert {one["vm_uuid"]: one.get("vm_owner_uuid") for one in unowned} in ({A: None, B: None}, {})
            for query in ("", "?by=service", "?by=group", "?by=node"):
                got = await client.ask(f"/v1/account/metrics{query}")
                series = parse(got.body)
                assert "evil_metric" not in {name for name, _ in series}
                assert got["set-cookie"] is None
            for text in EVIL:
                quoted = "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "replace"))
                for target in (
                    f"/v1/discover?groups={quoted}",
                    f"/v1/sd?{quoted}=1",
                    f"/v1/account/metrics?by={quoted}",
                ):
                    got = await client.ask(target)
                    assert (got.status, got["set-cookie"], len(got.body) < 300) == (400, None, True), target
                    assert got.line.isascii()
                    assert got.line.isprintable()
            await proxy.telemetry()
        files = [str(file.relative_to(site.data_dir)) for file in (site.data_dir / "inventory").rglob("*")]
        assert files == ["inventory/n1.a@b-c.json"]
        assert not (tmp_path / "data" / "etc").exists()
    lines(caplog)


@on_uvloop
async def test_names_that_clients_send_are_shown_in_one_line_and_secrets_are_not(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    async with world(tmp_path) as (proxy, _, alice, _):
        secret = "very-secret"
        for text in EVIL:
            pair = base64.b64encode(f"{text}:{secret}".encode("utf-8", "replace")).decode()
            assert (await proxy.ask("/v1/discover", None, f"Authorization: Basic {pair}")).status == 401
        wrong = alice.token[:-1] + ("A" if alice.token[-1] != "A" else "B")
        assert (await proxy.ask("/v1/discover", None, f"Authorization: Bearer {wrong}")).status == 401
        assert (await proxy.ask("/v1/discover", alice)).status == 200
        assert (await proxy.ask("/v1/discover", None, b"Authorization: Bearer \xff\xfe")).status in (400, 401)
    written = "\n".join(lines(caplog))
    assert "unknown_account" in written
    assert "unknown_token" in written
    for hidden in (secret, wrong.rpartition("_")[2], alice.token.rpartition("_")[2], "Basic ", "Bearer "):
        assert hidden not in written


@on_uvloop
async def test_a_node_whose_document_is_no_inventory_keeps_what_it_had(tmp_path, caplog):
    async with world(tmp_path) as (proxy, node, alice, _):
        good = node.document.decode()
        for body in (
            b"", b"null", b"[]", b"{}", b"[" * 100_000, good.encode()[:-20], good.replace(node.uuid, "../x").encode(),
            good.replace(node.uuid, "\\n\\r'; DROP TABLE").encode(), b"\xff\xfe", b'{"node": 1, "containers": "x"}',
        ):  # fmt: skip
            failures = sum(proxy.proxy.poller.failures.values())
            node.inventory = says(answer(body, "200 OK", 'ETag: "x"', content_type="application/json"))
            node.change()
            await until(lambda failures=failures: sum(proxy.proxy.poller.failures.values()) > failures)
            proxy.proxy.poller._polled["n1"].failures = 0
        assert (await proxy.ask(f"/v1/{A}/metrics", alice)).status == 200
        assert (await proxy.ask("/v1/discover", alice)).body.count(b"vm_uuid") == 1
    assert all("inventory not read" in line for line in lines(caplog) if "level=warn" in line)


def test_names_of_accounts_and_nodes_are_no_paths_and_no_statements(tmp_path):
    site = Site(tmp_path)
    for text in [*EVIL, "../n1", "a/b", ".", "..", "-x", "a b", "a\n", "ü", "a" * 64]:
        with pytest.raises(ConfigError):
            site.directory.create_account(text)
        with pytest.raises(ConfigError):
            site.directory.create_node(text, "http://127.0.0.1:1")
    for url in (
        "http://a/b",
        "http://a:1/x",
        "http://a:1\r\nX: y",
        "http://u:p@a:1",
        "ftp://a:1",
        "http://a:99999",
        "",
    ):
        with pytest.raises(ConfigError):
            site.directory.create_node("n1", url)
    assert dict(site.directory.snapshot().nodes) == {}

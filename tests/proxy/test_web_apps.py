"""The metrics of applications over a proxy: whose they are, what is relayed, and that they hold up nobody."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from pymon.directory.data_dir import MACHINES_FOLDER
from pymon.directory.machines import Machines
from pymon.proxy import app_gates
from tests.proxy.agents import Peer
from tests.proxy.running import (
    EXPOSITION,
    NOBODY,
    A,
    B,
    C,
    Client,
    FakeNode,
    Site,
    answer,
    container,
    on_uvloop,
    running,
    says,
    silent,
    until,
)
from tests.proxy.worlds import world

APP = f"/v1/{A}/app/metrics"


@on_uvloop
async def test_the_owner_gets_what_the_agent_says_and_others_what_is_not_there(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, bob, op):
        got = await proxy.ask(APP, alice)
        assert (got.status, got.body) == (200, EXPOSITION)
        assert (await proxy.ask(f"/v1/{A.upper()}/app/metrics", alice)).status == 200
        absent = (await proxy.ask(f"/v1/{NOBODY}/app/metrics", alice)).told
        for uuid, tenant in ((A, bob), (B, alice), (C, alice), (A, op), (node.uuid, op), (node.uuid, alice)):
            assert (await proxy.ask(f"/v1/{uuid}/app/metrics", tenant)).told == absent
        assert (await proxy.ask(f"/v1/{C}/app/metrics", op)).status == 200
        assert (await proxy.ask(APP, None)).status == 401
        assert (await proxy.ask(APP, alice, method="POST")).status == 405
        assert len(node.scrapes) == 3
        assert await proxy.metric("pymon_proxy_requests_total", account="alice", route="app", code="200") == 2


@on_uvloop
async def test_an_agent_is_told_the_port_and_whether_to_add_labels_alone(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, *_):
        await proxy.ask(
            f"{APP}?port=80&labels=1&host=10.0.0.1&collect[]=x&name[]=y&path=/etc&port=80%0d%0aX:%201",
            alice, "X-Prometheus-Scrape-Timeout-Seconds: 5", "X-Custom: 1", "Forwarded: for=1.2.3.4",
        )  # fmt: skip
        first, *fields = node.scrapes[0].decode().split("\r\n")[:-2]
        assert first == f"GET {APP}?labels=1&port=80&port=80%0D%0AX%3A+1 HTTP/1.1"
        names = {field.split(":")[0] for field in fields}
        assert names == {"Host", "User-Agent", "Accept", "Accept-Encoding", "X-Prometheus-Scrape-Timeout-Seconds"}
        assert (await proxy.ask(f"{APP}?" + "port=1&" * 700, alice)).status == 414


@on_uvloop
@pytest.mark.parametrize("status", ["400 Bad Request", "403 Forbidden", "502 Bad Gateway", "504 Gateway Timeout"])
async def test_why_an_application_has_no_answer_is_told_to_its_owner(tmp_path, status):
    async with world(tmp_path) as (proxy, node, alice, *_):
        node.scrape = says(answer(b"it is so\n", status, content_type="text/plain"))
        got = await proxy.ask(APP, alice)
        assert (got.status, got.line) == (int(status[:3]), "it is so")
        if status[0] == "5":
            assert (await proxy.ask(f"/v1/{A}/metrics", alice)).line == f"its node answered {status[:3]}"


@on_uvloop
async def test_what_a_hostile_node_says_of_an_application_is_no_more_than_one_line(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, *_):
        node.scrape = says(answer(b"a\r\n\x1b[2J" + b"x" * 100_000, "502 Bad Gateway", content_type="text/html"))
        got = await proxy.ask(APP, alice)
        assert got.status == 502
        assert len(got.line) < 600
        node.scrape = says(answer(b"too many\n", "503 Service Unavailable", content_type="text/plain"))
        got = await proxy.ask(APP, alice)
        assert (got.status, got.line, got["retry-after"]) == (503, "too many", "1")
        node.scrape = says(answer(b"gone\n", "404 Not Found", content_type="text/plain"))
        assert (await proxy.ask(APP, alice)).told == (await proxy.ask(f"/v1/{NOBODY}/app/metrics", alice)).told
        for data in (answer(status="302 Found"), answer(content_type="text/html"), answer(b"x", "201 Created")):
            node.scrape = says(data)
            assert (await proxy.ask(APP, alice)).status == 502


@on_uvloop
async def test_applications_that_never_answer_hold_up_no_scrape_and_no_other_account(tmp_path):
    async def slow(peer: Peer, head: bytes) -> None:
        if b"/app/metrics?port=1" in head and A.encode() in head:
            await silent(peer, head)
        else:
            await peer.say(answer())

    async with world(tmp_path, upstream_max_requests=2) as (proxy, node, alice, bob, _):
        node.scrape = slow
        seconds = "X-Prometheus-Scrape-Timeout-Seconds: 30"
        ports = range(100, 100 + app_gates.SLOTS + 4)
        hanging = [asyncio.create_task(proxy.ask(f"{APP}?port={port}", alice, seconds)) for port in ports]
        await until(lambda: sum(b"/app/" in head for head in node.scrapes) == app_gates.SLOTS)
        for path, tenant in ((f"/v1/{A}/metrics", alice), (f"/v1/{B}/metrics", bob), (f"/v1/{B}/app/metrics", bob)):
            assert (await proxy.ask(path, tenant)).status == 200
        assert sum(b"/app/" in head for head in node.scrapes) == app_gates.SLOTS + 1
        for task in hanging:
            task.cancel()
        await asyncio.wait(hanging)
        relay = proxy.proxy.tenants.relay
        await until(lambda: not relay._flights and not relay._find("n1").apps._gates)


@on_uvloop
async def test_an_application_that_is_slow_does_not_make_its_node_lost(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, *_):
        node.scrape = silent
        reach = proxy.proxy.tenants.relay._reach
        await until(lambda: "n1" in reach.reached)
        got = await proxy.ask(APP, alice, "X-Prometheus-Scrape-Timeout-Seconds: 0.7")
        assert got.status == 504
        assert "n1" in reach.reached
        assert not reach.lost


@on_uvloop
async def test_requests_for_applications_count_for_the_quota(tmp_path):
    site = Site(tmp_path)
    alice = site.account("alice")
    site.directory.set_quota("alice", requests_per_second=0.1, burst=3)
    async with FakeNode(container(A, "alice")) as node:
        site.node("n1", node)
        async with running(site) as proxy:
            statuses = [(await proxy.ask(APP, alice)).status for _ in range(6)]
    assert statuses[0] == 200
    assert 429 in statuses


@on_uvloop
async def test_a_container_that_has_ended_has_no_application(tmp_path):
    site = Site(tmp_path)
    alice = site.account("alice")
    async with FakeNode(container(A, "alice", state="stopped", ended=1.7e9)) as node:
        site.node("n1", node)
        async with running(site) as proxy:
            assert (await proxy.ask(APP, alice)).status == 404
            assert node.scrapes == []


@on_uvloop
async def test_another_proxy_may_ask_for_an_application_too(tmp_path):
    site = Site(tmp_path)
    machines = Machines.load_or_create(site.data_dir / MACHINES_FOLDER)
    (tmp_path / "peer.pem").write_bytes(machines.issue_proxy("front2"))
    async with FakeNode(container(A)) as node:
        site.node("n1", node)
        async with running(site) as proxy:
            context = ssl.create_default_context(cafile=str(proxy.site.ca))
            context.load_cert_chain(tmp_path / "peer.pem")
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, ssl=context)
            client = Client(reader, writer)
            node.scrape = says(answer(b"it is so\n", "504 Gateway Timeout", content_type="text/plain"))
            got = await client.ask(f"/v1/peer/scrape?node=n1&path=/v1/{A}/app/metrics%3Fport%3D80")
            assert (got.status, got.line) == (504, "it is so")
            assert node.scrapes[-1].startswith(f"GET {APP}?port=80 HTTP/1.1\r\n".encode())
            for path in (f"/v1/{A}/app/metrics%3Fcollect[]%3Dx", f"/v1/{A}/metrics%3Fport%3D80", "/v1/gz/app/metrics"):
                assert (await client.ask(f"/v1/peer/scrape?node=n1&path={path}")).status == 400
            writer.transport.abort()

"""What a proxy answers others is bounded, counted and logged as what it answers tenants."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pymon.directory.data_dir import MACHINES_FOLDER
from pymon.directory.machines import Machines
from pymon.proxy import peer_web
from tests.proxy.running import A, Client, FakeNode, Running, Site, container, on_uvloop, running, until


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[Running]:
    site = Site(folder)
    machines = Machines.load_or_create(site.data_dir / MACHINES_FOLDER)
    (folder / "peer.pem").write_bytes(machines.issue_proxy("front2"))
    async with FakeNode(container(A)) as node:
        site.node("n1", node)
        async with running(site) as proxy:
            yield proxy


@asynccontextmanager
async def peer(proxy: Running) -> AsyncIterator[Client]:
    context = ssl.create_default_context(cafile=str(proxy.site.ca))
    context.load_cert_chain(proxy.site.folder / "peer.pem")
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, ssl=context)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


@on_uvloop
async def test_few_inventories_are_encoded_at_the_same_time_and_who_has_gone_leaves_the_place(tmp_path, monkeypatch):
    begun, go_on = [], asyncio.Event()

    async def encoded(copy: object) -> bytes:
        begun.append(copy)
        await go_on.wait()
        return b"{}"

    monkeypatch.setattr(peer_web, "encoded", encoded)
    async with world(tmp_path) as proxy:

        async def asked() -> int:
            async with peer(proxy) as client:
                return (await client.ask("/v1/peer/inventory?node=n1")).status

        many = [asyncio.create_task(asked()) for _ in range(peer_web.INVENTORIES_AT_ONCE + 3)]
        await until(lambda: len(proxy.proxy.knowledge._encoding._waiters or ()) == 3)
        assert len(begun) == peer_web.INVENTORIES_AT_ONCE
        many.pop().cancel()
        await until(lambda: len(proxy.proxy.knowledge._encoding._waiters) == 2)
        assert await proxy.metric("pymon_proxy_requests_total", route="peer", code="499") == 1
        go_on.set()
        assert set(await asyncio.gather(*many)) == {200}


@on_uvloop
async def test_an_error_within_is_one_line_and_counted(tmp_path, monkeypatch, caplog):
    async with world(tmp_path) as proxy:

        def broken(_: str) -> None:
            raise RuntimeError("broken")

        monkeypatch.setattr(proxy.proxy.knowledge, "_heard", broken)
        async with peer(proxy) as client:
            got = await client.ask("/v1/peer/inventory?node=n1")
            assert (got.status, got.line) == (500, "internal error")
        assert await proxy.metric("pymon_proxy_requests_total", route="peer", code="500") == 1
        assert "internal error: peer: RuntimeError('broken')" in [one.getMessage() for one in caplog.records]

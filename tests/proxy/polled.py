"""Agents that are polled for their inventories, and a poller with a fleet of its own."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from pymon.directory.model import Account, Node, Quota, Snapshot
from pymon.proxy.fleet import Fleet
from pymon.proxy.inventory import Poller
from pymon.proxy.inventory_store import InventoryStore
from pymon.proxy.upstream import Upstream

ALICE = UUID(int=0xA11CE)
ACCOUNTS = Snapshot.of(1, accounts=[Account(ALICE, "alice", False, 0.0, Quota())])
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def uuid_of(number: int) -> str:
    return str(UUID(int=number))


def node_of(number: int) -> UUID:
    return UUID(int=number << 64)


def document(*numbers: int, node: int = 1, start: float = 100.0) -> bytes:
    rows = [
        {
            "uuid": uuid_of(number), "id": f"/c/{number}", "name": f"c{number}", "runtime": "docker", "runtime_id": "",
            "image": "nginx", "start": start, "owner": "alice", "state": "running", "health": "", "groups": [],
            "services": "", "namespace": "", "pod": "", "pod_id": "",
        }
        for number in numbers
    ]  # fmt: skip
    return json.dumps(
        {"version": "1", "node": {"uuid": str(node_of(node)), "hostname": f"host{node}"}, "containers": rows}
    ).encode()


class FakeAgent:
    """Answers as an agent does, or as `handler` says. asked: the If-None-Match of each request."""

    def __init__(self) -> None:
        self.body = document()
        self.revision = 0
        self.handler: Handler | None = None
        self.asked: list[str | None] = []
        self.changed = asyncio.Event()
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        application = web.Application()
        application.router.add_get("/v1/containers", self._answer)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def tell(self, body: bytes) -> None:
        self.body = body
        self.revision += 1
        self.changed.set()
        self.changed = asyncio.Event()

    @property
    def etag(self) -> str:
        return f'"e-{self.revision}"'

    def node(self, name: str = "n1", uuid: UUID | None = None) -> Node:
        return Node(name, uuid, f"http://127.0.0.1:{self.port}")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.headers.get("If-None-Match"))
        if self.handler is not None:
            return await self.handler(request)
        return await self.tell_all(request)

    async def tell_all(self, request: web.Request) -> web.StreamResponse:
        """The whole, or 304 after the time that is asked for."""
        wait = float(request.query.get("wait", "0"))
        if wait and request.headers.get("If-None-Match") == self.etag:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), wait)
        headers = {"ETag": self.etag}
        if request.headers.get("If-None-Match") == self.etag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=self.body, headers=headers, content_type="application/json")


async def until(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)


@asynccontextmanager
async def agent(body: bytes = b"") -> AsyncIterator[FakeAgent]:
    fake = FakeAgent()
    if body:
        fake.body = body
    await fake.start()
    try:
        yield fake
    finally:
        await fake.stop()


class Proxy:
    """A fleet and its poller."""

    def __init__(self, directory: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self.fleet = Fleet()
        self.accounts = ACCOUNTS
        self.upstreams: list[Upstream] = []
        self.poller = Poller(
            self.fleet,
            lambda: self.accounts,
            self._connect,
            InventoryStore(directory) if directory else None,
            clock=clock,
        )

    def _connect(self, node: Node) -> Upstream:
        self.upstreams.append(Upstream(node.url))
        return self.upstreams[-1]

    def set_nodes(self, *nodes: Node) -> None:
        self.accounts = Snapshot.of(1, accounts=ACCOUNTS.accounts.values(), nodes=nodes)
        self.fleet.resolve_owners(self.accounts)
        self.poller.set_nodes(self.accounts.nodes)

    def has(self, *numbers: int) -> bool:
        return len(self.fleet) == len(numbers) and all(self.fleet.find(uuid_of(number)) for number in numbers)


@asynccontextmanager
async def proxy(*nodes: Node, directory: Path | None = None) -> AsyncIterator[Proxy]:
    running = Proxy(directory)
    running.set_nodes(*nodes)
    await running.poller.loaded()
    try:
        yield running
    finally:
        await running.poller.stop()
        for upstream in running.upstreams:
            upstream.close()
        names = [task.get_name() for task in asyncio.all_tasks()]
        assert not [name for name in names if name.startswith("inventory of ")]


def lines(caplog: pytest.LogCaptureFixture, text: str) -> list[dict[str, Any]]:
    return [record.fields for record in caplog.records if record.message.startswith(text)]


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def dead_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]

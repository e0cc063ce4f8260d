"""The agent's web service on a socket, over a collection and an inventory that do as they are told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import trustme
import uvloop
from prometheus_client import CollectorRegistry

from pymon.agent.access import LiveWebConfig
from pymon.agent.options import load_agent_options
from pymon.agent.scrape import Scrape
from pymon.agent.web import AgentWeb
from pymon.config import Address
from pymon.exposition.compression import encode
from pymon.exposition.own_metrics import OwnMetrics
from pymon.service.serve import serve
from pymon.service.server import Times

UUID = "0b0f0c0d-1111-2222-3333-44444444abcd"


class StubBody:
    def __init__(self, data: bytes, stub: Stub) -> None:
        self._memory = bytearray(data)
        self.data = memoryview(self._memory).toreadonly()
        self._stub = stub
        stub.lent += 1

    def release(self) -> None:
        self.data.release()
        self._memory.append(0)  # BufferError while anything can still read it
        self._stub.lent -= 1


@dataclass
class Stub:
    """A collection and an inventory in one."""

    collectors: tuple[str, ...] = ("cpu", "memory")
    known_collectors: tuple[str, ...] = ("cpu", "memory", "process")
    calls: list[Scrape] = field(default_factory=list)
    data: bytes = field(default=b"metric 1\n", repr=False)
    lent: int = 0
    reason: str | None = None
    gate: asyncio.Event | None = None
    error: Exception | None = None
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    version: str = "v 1"
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    waits: int = 0

    async def scrape(self, scrape: Scrape) -> StubBody | None:
        if scrape.scope == "container" and scrape.uuid != UUID:
            return None
        self.calls.append(scrape)
        self.entered.set()
        if self.gate:
            await self.gate.wait()
        if self.error:
            raise self.error
        return StubBody(encode(self.data, scrape.encoding), self)

    def ready(self) -> str | None:
        return self.reason

    def document(self) -> bytes:
        return json.dumps({"version": self.version}).encode()

    def changes(self, version: str) -> bytes | None:
        if version not in ("v 1", "v 2"):
            return None
        return json.dumps({"since": version, "version": self.version}).encode()

    async def summary(self) -> bytes:
        return b'{"columns":[],"nodes":[]}'

    async def wait_change(self, version: str, timeout_seconds: float) -> None:
        self.waits += 1
        self.entered.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self.changed.wait()

    def change(self) -> None:
        self.version = "v 2"
        self.changed.set()


@dataclass
class Agent:
    stub: Stub
    port: int
    registry: CollectorRegistry
    session: aiohttp.ClientSession
    stop: asyncio.Event
    task: asyncio.Task[None]
    ca: ssl.SSLContext | None = None

    async def get(self, path: str, method: str = "GET", **arguments: Any) -> tuple[int, Any, bytes]:
        arguments.setdefault("headers", {})
        if self.ca:
            arguments.setdefault("ssl", self.ca)
        url = f"http{'s' if self.ca else ''}://127.0.0.1:{self.port}{path}"
        async with self.session.request(method, url, **arguments) as response:
            return response.status, response.headers, await response.read()

    async def raw(self, data: bytes) -> bytes:
        """What comes back on a connection, up to its end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            async with asyncio.timeout(20):
                return await reader.read()
        finally:
            writer.close()

    def value(self, name: str, **labels: str) -> float | None:
        """A sample of the agent's own."""
        return self.registry.get_sample_value(name, labels)

    def count(self, handler: str, code: int) -> float:
        return (
            self.registry.get_sample_value("pymon_http_requests_total", {"handler": handler, "code": str(code)}) or 0.0
        )


@contextlib.asynccontextmanager
async def running(
    *argv: str,
    web_file: Path | None = None,
    ca: ssl.SSLContext | None = None,
    stub: Stub | None = None,
    times: Times | None = None,
    **limits: float,
) -> AsyncIterator[Agent]:
    stub = stub or Stub()
    own = OwnMetrics()
    options = load_agent_options(["--web.listen-address=127.0.0.1:0", *argv], {}, ())
    live = LiveWebConfig(web_file) if web_file else None
    agent = AgentWeb(stub, stub, stub, options, live, own, **limits)
    stop = asyncio.Event()
    bound: asyncio.Future[tuple[Address, ...]] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(
            agent.server(times), options.listen_addresses, stop=stop, stopping=agent.stopping, grace_seconds=5,
            started=bound.set_result,
        )
    )  # fmt: skip
    try:
        port = (await bound)[0].port
        async with aiohttp.ClientSession(auto_decompress=False, headers={"User-Agent": "test"}) as session:
            yield Agent(stub, port, own.registry, session, stop, task, ca)
    finally:
        stop.set()
        await task
    assert stub.lent == 0


def run(main: Coroutine[Any, Any, None]) -> None:
    uvloop.run(main)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.005)


class Files:
    """A web configuration with certificates, written and rewritten."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = trustme.CA()
        self._time = 0

    def client(self, *identities: str, ca: trustme.CA | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        if identities:
            (ca or self.ca).issue_cert(*identities).configure_cert(context)
        return context

    def put(self, name: str, data: bytes) -> Path:
        """Write a file with a time of its own, however quick the test is."""
        self._time += 1
        path = self.directory / name
        path.write_bytes(data)
        os.utime(path, (1e9 + self._time, 1e9 + self._time))
        return path

    def certify(self) -> None:
        pair = self.ca.issue_cert("127.0.0.1")
        self.put("key.pem", pair.private_key_pem.bytes())
        self.put("cert.pem", pair.cert_chain_pems[0].bytes())

    def write(self, tls: str = "", rest: str = "") -> Path:
        self.certify()
        self.put("ca.pem", self.ca.cert_pem.bytes())
        text = f"tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n{tls}{rest}"
        return self.put("web.yml", text.encode())

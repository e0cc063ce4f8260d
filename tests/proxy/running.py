"""A whole proxy, in this process or as one of its own, with a real directory, real certificates and nodes that are not.

site = Site(tmp_path)
alice = site.account("alice")
async with FakeNode(container(A, "alice")) as node:
    site.node("n1", node)
    async with running(site) as proxy, proxy.client(alice) as client:
        assert (await client.ask(f"/v1/{A}/metrics")).status == 200
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self
from uuid import NAMESPACE_DNS, UUID, uuid5

import uvloop

from pymon.config import Address, Listen
from pymon.directory.authority import Authority
from pymon.directory.directory import open_directory
from pymon.dns.options import DnsOptions
from pymon.front.proxy import serve_proxy
from pymon.proxy.build import Proxy
from pymon.proxy.options import ProxyOptions, load_proxy_options
from tests.oracle import parse
from tests.proxy.agents import Agent, Peer, cleanly, until

REPOSITORY = Path(__file__).resolve().parents[2]
ZONE = "pymon.internal"
PATIENCE_SECONDS = 20.0
_LISTENING = re.compile(r'"?part"?[=:] ?"?(\w+)"?,? "?address"?[=:] ?"?127\.0\.0\.1:(\d+)')
A, B, C, D = (f"{digit * 8}-0000-4000-8000-000000000000" for digit in "abcd")
NOBODY = "99999999-0000-4000-8000-000000000000"
EXPOSITION = (
    b"# HELP cpu_seconds_total Time.\n# TYPE cpu_seconds_total counter\ncpu_seconds_total 12.5\n"
    b'# HELP memory_bytes Memory.\n# TYPE memory_bytes gauge\nmemory_bytes{id="x"} 7\n'
)
TEXT = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"


def on_uvloop(test: Callable[..., Coroutine]) -> Callable[..., None]:
    """A test of a coroutine that fails when a task or an error is left behind."""

    @functools.wraps(test)
    def run(**arguments: object) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(cleanly(test(**arguments)))

    run.__signature__ = inspect.signature(test)
    del run.__wrapped__
    return run


# --- nodes ---------------------------------------------------------------------------------------


def container(uuid: str, owner: str | None = None, **fields: Any) -> dict[str, Any]:
    """A container as an agent's inventory tells of it."""
    return {
        "uuid": uuid, "id": "cid", "name": "web", "runtime": "docker", "runtime_id": "r" * 64, "image": "nginx",
        "start": 1700000000.0, "owner": owner, "state": "running", "health": "none", "groups": [], "services": "",
        "namespace": "", "pod": "", "pod_id": "", **fields,
    }  # fmt: skip


def answer(body: bytes = EXPOSITION, status: str = "200 OK", *headers: str, content_type: str = TEXT) -> bytes:
    """An agent's answer, whole."""
    fields = "".join(f"{field}\r\n" for field in (f"Content-Type: {content_type}", *headers))
    return f"HTTP/1.1 {status}\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode() + body


Scrape = Callable[[Peer, bytes], Awaitable[None]]


def says(data: bytes) -> Scrape:
    """A node that answers every scrape with these bytes."""

    async def scrape(peer: Peer, _: bytes) -> None:
        await peer.say(data)

    return scrape


async def silent(peer: Peer, _: bytes) -> None:
    """A node that takes scrapes and says nothing."""
    await peer.closed()


class FakeNode:
    """An agent whose inventory is told and whose scrapes are answered by `scrape`. scrapes: the heads it was sent."""

    def __init__(self, *containers: dict[str, Any], name: str = "n1", scrape: Scrape | None = None) -> None:
        self.uuid = str(uuid5(NAMESPACE_DNS, name))
        self.hostname = name
        self.containers = list(containers)
        self.scrape = scrape or says(answer())
        self.inventory: Scrape | None = None
        self.scrapes: list[bytes] = []
        self.waits = False
        """Whether a poll waits for a change."""
        self.open = 0
        """Connections on which a scrape came and that have not ended."""
        self._changed = asyncio.Event()
        self._agent = Agent(self._handle)

    @property
    def url(self) -> str:
        return self._agent.url

    @property
    def document(self) -> bytes:
        node = {"uuid": self.uuid, "hostname": self.hostname}
        return json.dumps({"version": 1, "node": node, "containers": self.containers}).encode()

    def change(self, *containers: dict[str, Any]) -> None:
        self.containers = list(containers)
        self._changed.set()
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._agent.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._agent.stop()

    async def _handle(self, peer: Peer) -> None:
        scraped = False
        try:
            while True:
                head = await peer.asked()
                if head.startswith(b"GET /v1/containers?"):
                    await self._tell(peer, head)
                    continue
                if head.startswith(b"GET /-/healthy "):  # a proxy that doubts whether it reaches the node
                    await peer.say(answer(b"OK\n"))
                    continue
                self.open += not scraped
                scraped = True
                self.scrapes.append(head)
                await self.scrape(peer, head)
        except RuntimeError as error:
            if "closed" not in str(error):
                raise
            raise ConnectionResetError from None  # uvloop's words for a connection that is gone
        finally:
            self.open -= scraped

    async def _tell(self, peer: Peer, head: bytes) -> None:
        if self.inventory is not None:
            await self.inventory(peer, head)
            return
        tag = f'"{hash(self.document):x}"'
        if f"If-None-Match: {tag}".encode() in head and b"wait=0 " not in head:
            self.waits = True
            await self._changed.wait()
        tag = f'"{hash(self.document):x}"'
        await peer.say(answer(self.document, "200 OK", f"ETag: {tag}", content_type="application/json"))


# --- what is set up ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tenant:
    """An account with a token and a certificate."""

    name: str
    uuid: UUID
    token: str
    cert: Path
    key: Path

    @property
    def bearer(self) -> str:
        return f"Authorization: Bearer {self.token}"


class Site:
    """A data directory with an authority and a server certificate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.data_dir.mkdir()
        self.directory = open_directory(str(self.data_dir / "directory.db"), create=True)
        self.authority = Authority.load_or_create(self.data_dir / "authority")
        self.directory.set_authority(self.authority.der)
        self.ca = self.data_dir / "authority" / "ca-cert.pem"
        names = [f"cmon.{ZONE}", f"*.cmon.{ZONE}", "localhost", "127.0.0.1"]
        self.cert, self.key = self._write("server", *self.authority.issue_server(names, 30))

    def _write(self, name: str, cert: bytes, key: bytes) -> tuple[Path, Path]:
        files = self.folder / f"{name}-cert.pem", self.folder / f"{name}-key.pem"
        for file, data in zip(files, (cert, key), strict=True):
            file.write_bytes(data)
        return files

    def account(self, name: str, *, operator: bool = False) -> Tenant:
        account = self.directory.create_account(name, operator=operator)
        pem, key = self.authority.issue_client(name, 30)
        self.directory.add_certificate(name, ssl.PEM_cert_to_DER_cert(pem.decode()), issued=True)
        token = self.directory.create_token(name)
        return Tenant(name, account.uuid, token, *self._write(name, pem, key))

    def node(self, name: str, node: FakeNode | str) -> None:
        self.directory.create_node(name, node if isinstance(node, str) else node.url)

    def flags(self) -> list[str]:
        return [
            f"--data-dir={self.data_dir}",
            f"--tls.cert-file={self.cert}",
            f"--tls.key-file={self.key}",
            "--web.listen-address=127.0.0.1:0",
            "--telemetry.listen-address=127.0.0.1:0",
            "--drain=0",
        ]

    def options(self, **changes: Any) -> ProxyOptions:
        return replace(load_proxy_options(self.flags(), {}, 0)[0], **changes)


# --- clients -------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """An answer as it came. fields: names in lower case."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes

    def __getitem__(self, name: str) -> str | None:  # type: ignore[override]
        """A header's value, if there is one such header."""
        values = [value for key, value in self.fields if key == name]
        assert len(values) < 2, values
        return values[0] if values else None

    @property
    def told(self) -> tuple[int, list[tuple[str, str]], bytes]:
        """All of it but the time of day and the id of the request."""
        fields = [field for field in self.fields if field[0] not in ("date", "x-request-id")]
        return self.status, fields, self.body

    @property
    def line(self) -> str:
        """The one line of text that an error is."""
        assert self["content-type"] == "text/plain; charset=utf-8", self
        text = self.body.decode()
        assert text.endswith("\n")
        assert text.count("\n") == 1, text
        return text[:-1]


class Client:
    """One connection; what is sent is sent as it is."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *fields: str) -> None:
        self.reader = reader
        self.writer = writer
        self._fields = fields

    async def ask(
        self, target: str, *fields: str | bytes, method: str = "GET", host: str | None = "127.0.0.1"
    ) -> Answer:
        """A request with this target; its own fields follow those of the client."""
        every = [*([f"Host: {host}"] if host is not None else []), *self._fields, *fields]
        lines = [field if isinstance(field, bytes) else field.encode() for field in every]
        await self.send(f"{method} {target} HTTP/1.1\r\n".encode("latin-1") + b"\r\n".join([*lines, b"\r\n"]))
        return await self.answer(method)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, method: str = "GET") -> Answer:
        """The next answer."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            head = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")[:-2]
            fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
            status = int(first.split()[1])
            lengths = [int(value) for name, value in fields if name == "content-length"]
            bodiless = method == "HEAD" or status == 304
            if bodiless:
                body = b""
            elif ("transfer-encoding", "chunked") in fields:
                body = b"".join([chunk async for chunk in self._chunks()])
            else:
                body = await self.reader.readexactly(*lengths)
        return Answer(status, fields, body)

    async def _chunks(self) -> AsyncIterator[bytes]:
        """The chunks of a body up to the last one. IncompleteReadError when the connection ends before it."""
        size = -1
        while size:
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            yield await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"

    async def ended(self) -> bytes:
        """What comes until the connection ends."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    def leave(self) -> None:
        """Go away without a word."""
        self.writer.transport.abort()


@dataclass
class Running:
    """A proxy that serves. proxy: when it is of this process; pid: when it is of its own."""

    site: Site
    addresses: dict[str, Listen]
    proxy: Proxy | None = None
    pid: int = 0
    log_file: Path | None = None

    @property
    def port(self) -> int:
        return self.addresses["proxy"].port

    @property
    def log(self) -> str:
        assert self.log_file
        return self.log_file.read_text()

    @contextlib.asynccontextmanager
    async def client(
        self,
        tenant: Tenant | None = None,
        *fields: str,
        certificate: bool = False,
        source: str = "127.0.0.1",
        part: str = "proxy",
    ) -> AsyncIterator[Client]:
        """tenant: sends its token, or with `certificate` shows that. part: of the proxy that is asked."""
        context = None
        if part == "proxy":
            context = ssl.create_default_context(cafile=str(self.site.ca))
            if tenant is not None and certificate:
                context.load_cert_chain(tenant.cert, tenant.key)
        if tenant is not None and not certificate:
            fields = (tenant.bearer, *fields)
        port = self.addresses[part].port
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, local_addr=(source, 0), limit=1 << 26
        )
        try:
            yield Client(reader, writer, *fields)
        finally:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                await writer.wait_closed()

    async def ask(self, target: str, tenant: Tenant | None = None, *fields: str | bytes, **options: Any) -> Answer:
        """One request on a connection of its own."""
        async with self.client(tenant) as client:
            return await client.ask(target, *fields, **options)

    async def telemetry(self) -> dict[tuple[str, frozenset[tuple[str, str]]], Any]:
        """The proxy's own series."""
        async with self.client(part="telemetry") as client:
            found = await client.ask("/metrics")
        assert found.status == 200
        return parse(found.body)

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of the series of this name and labels."""
        return float(
            sum(
                value
                for (found, pairs), value in (await self.telemetry()).items()
                if found == name and labels.items() <= dict(pairs).items()
            )
        )

    def rss_bytes(self) -> int:
        """The most memory that the process had."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) << 10


@contextlib.asynccontextmanager
async def running(site: Site, *, containers: int | None = None, **changes: Any) -> AsyncIterator[Running]:
    """A proxy of this process, when it is ready. containers: wait for so many instead."""
    options = site.options(**changes)
    proxy = Proxy(options)
    stop = asyncio.Event()
    addresses: dict[str, Listen] = {}
    expected = {
        "telemetry",
        *(["proxy"] if options.tls_cert else []),
        *(["terminator"][: len(options.terminator_addresses)]),
    }
    task = asyncio.create_task(
        serve_proxy(proxy, options, DnsOptions(), stop, lambda name, bound: addresses.setdefault(name, bound[0]))
    )
    try:
        await until(lambda: task.done() or expected == addresses.keys())
        if task.done():
            await task
        if containers is None:
            await until(lambda: proxy.ready() is None)
        else:
            await until(lambda: len(proxy.fleet) == containers)
        yield Running(site, addresses, proxy)
    finally:
        stop.set()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.contextmanager
def process(site: Site, *flags: str) -> Iterator[Running]:
    """A proxy as a process of its own, when it listens; it must end well."""
    log = site.folder / "log"
    with log.open("wb") as stream:
        started = subprocess.Popen(
            [sys.executable, "-m", "pymon", "proxy", *site.flags(), *flags],
            cwd=REPOSITORY, env=environment(), stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS * 2
        addresses: dict[str, Listen] = {}
        while not {"telemetry", "proxy"} <= addresses.keys():
            assert started.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
            for part, port in _LISTENING.findall(log.read_text()):
                addresses[part] = Address("127.0.0.1", int(port))
        yield Running(site, addresses, pid=started.pid, log_file=log)
        started.send_signal(signal.SIGTERM)
        assert started.wait(PATIENCE_SECONDS) == 0, log.read_text()
    finally:
        started.kill()
        started.wait()


def run_proxy(*flags: str) -> subprocess.CompletedProcess[str]:
    """`pymon proxy` to its end, which has to come by itself."""
    return subprocess.run(
        [sys.executable, "-m", "pymon", "proxy", *flags],
        cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def environment() -> dict[str, str]:
    """Without what this shell says to pymon."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYMON_")}

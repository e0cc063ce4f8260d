"""Agents that misbehave and requests that nobody should send: bounded time and memory, the right status.

The agent is no real one, which would not do these things.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.proxy import Client, Proxy, Site
from tests.live.world import until

TEXT = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n"
GOOD = b"# HELP a A.\n# TYPE a gauge\na 1\n"
MIB = b"a 1\n" * (1 << 18)

EXPECTED = {
    "good": 200,
    "silent": 504,
    "slow body": 504,
    "truncated": 502,
    "error": 502,
    "busy": 503,
    "page": 502,
    "2 GiB": 502,
    "2 GiB in chunks": 502,
    "no HTTP": 502,
    "closed": 502,
    "moved": 502,
    "gzip not asked for": 502,
    "two lengths": 502,
    "endless head": 502,
}
UUIDS = {kind: str(uuid.uuid5(uuid.NAMESPACE_OID, kind)) for kind in EXPECTED}
NODE = str(uuid.uuid4())


class Stub:
    """An agent that answers for each container in another way."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._handle, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b" /v1/containers" in head:
                    await self._inventory(head, writer)
                    continue
                found = re.search(rb"/v1/([0-9a-f-]{36})/", head)
                assert found
                kind = next(kind for kind, one in UUIDS.items() if one.encode() == found[1])
                await self._answer(kind, writer)
                if kind in {"truncated", "closed"}:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    @staticmethod
    async def _inventory(head: bytes, writer: asyncio.StreamWriter) -> None:
        if b'if-none-match: "1"' in head.lower() and b"wait=0" not in head:
            await asyncio.sleep(20)
        containers = [
            {
                "uuid": one, "id": f"/{kind}", "name": kind, "runtime": "docker", "runtime_id": "", "image": "",
                "start": 1.0, "owner": "alice", "state": "running", "health": "", "groups": [], "services": "",
                "namespace": "", "pod": "", "pod_id": "",
            }
            for kind, one in UUIDS.items()
        ]  # fmt: skip
        body = json.dumps(
            {"version": "1", "node": {"uuid": NODE, "hostname": "stub"}, "containers": containers}
        ).encode()
        writer.write(b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: %d\r\n\r\n%s' % (len(body), body))
        await writer.drain()

    @staticmethod
    async def _answer(kind: str, writer: asyncio.StreamWriter) -> None:
        match kind:
            case "silent":
                await asyncio.sleep(60)
            case "slow body":
                writer.write(TEXT + b"Content-Length: 400\r\n\r\n")
                for _ in range(100):
                    writer.write(b"a 1\n")
                    await writer.drain()
                    await asyncio.sleep(0.3)
            case "2 GiB":
                writer.write(TEXT + b"Content-Length: 2147483648\r\n\r\n")
                for _ in range(2048):
                    writer.write(MIB)
                    await writer.drain()
            case "2 GiB in chunks":
                writer.write(TEXT + b"Transfer-Encoding: chunked\r\n\r\n")
                for _ in range(2048):
                    writer.write(b"100000\r\n" + MIB + b"\r\n")
                    await writer.drain()
            case "endless head":
                writer.write(TEXT)
                for number in range(1 << 20):
                    writer.write(b"X-%d: %s\r\n" % (number, b"x" * 1000))
                    await writer.drain()
            case _:
                writer.write(
                    {
                        "good": TEXT + b"Content-Length: %d\r\n\r\n" % len(GOOD) + GOOD,
                        "truncated": TEXT + b"Content-Length: 400\r\n\r\na 1\n",
                        "error": b"HTTP/1.1 500 Oh\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nno",
                        "busy": b"HTTP/1.1 503 Oh\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nno",
                        "page": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nno",
                        "no HTTP": b"\0\1 no HTTP at all\r\n\r\n",
                        "closed": b"",
                        "moved": b"HTTP/1.1 302 Oh\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
                        "gzip not asked for": TEXT + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b",
                        "two lengths": TEXT + b"Content-Length: 4\r\nContent-Length: 8\r\n\r\na 1\na 1\n",
                    }[kind]
                )
                await writer.drain()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    stub = Stub()
    try:
        site = Site(tmp_path_factory.mktemp("bad-input"))
        site.pymon("account", "create", "alice")
        site.pymon("node", "create", "stub", stub.url)
        with Proxy(site) as running:
            yield running
    finally:
        stub.close()


@pytest.fixture(scope="module")
def token(proxy: Proxy) -> str:
    text = proxy.site.pymon("token", "create", "alice")
    with proxy.client(authorization=f"Bearer {text}", source="127.0.8.1") as client:
        until("in force", lambda: client.status("/v1/discover") == 200, 5)
    return text


@pytest.fixture
def client(proxy: Proxy, token: str) -> Iterator[Client]:
    with proxy.client(authorization=f"Bearer {token}") as client:
        yield client


def rss_kib(proxy: Proxy) -> int:
    status = Path(f"/proc/{proxy.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def test_what_an_agent_does_wrong_is_told_and_costs_little(proxy: Proxy, client: Client) -> None:
    before = rss_kib(proxy)
    for kind, status in EXPECTED.items():
        begin = time.monotonic()
        answer = client.get(f"/v1/{UUIDS[kind]}/metrics", {"X-Prometheus-Scrape-Timeout-Seconds": "1"})
        assert (answer.status, time.monotonic() - begin < 8) == (status, True), (kind, answer)
        if status == 200:
            assert answer.body == GOOD
        else:
            assert answer.headers["Content-Type"].startswith("text/plain"), kind
            assert answer.body.count(b"\n") == 1, kind
        assert rss_kib(proxy) - before < 64 * 1024, kind
    said = [line for line in proxy.log if "scrape failed: node stub" in line]
    assert len(said) >= 8
    assert len(said) == len({line.partition("msg=")[2] for line in said}), "one line about each trouble"
    whole = client.get("/v1/account/metrics", {"X-Prometheus-Scrape-Timeout-Seconds": "3"})
    assert whole.status == 200
    success = {
        found[1].decode(): found[2] == b"1"
        for found in re.finditer(rb'pymon_container_scrape_success\{uuid="([^"]+)"\} ([01])', whole.body)
    }
    assert success == {UUIDS[kind]: status == 200 for kind, status in EXPECTED.items()}
    assert b'a{uuid="%s",node="stub"} 1' % UUIDS["good"].encode() in whole.body


def test_what_is_no_request(proxy: Proxy, client: Client, token: str) -> None:
    assert proxy.tls is not None
    context = ssl.create_default_context(cafile=str(proxy.tls.ca))
    authorization = f"Authorization: Bearer {token}\r\n".encode()
    path = f"GET /v1/{UUIDS['good']}/metrics HTTP/1.1\r\n".encode()
    for request, status in {
        b"\0\0\0\0\r\n\r\n": 400,
        path + authorization + b"Host: a\r\nHost: b\r\n\r\n": 400,
        path + authorization + b"Host: a\r\nX: " + b"x" * 100_000 + b"\r\n\r\n": 431,
        path + authorization + b"Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET ": 400,
        path + authorization + b"Host: a\r\nContent-Length: 100000000\r\n\r\n": 413,
    }.items():
        with (
            socket.create_connection(("127.0.0.1", proxy.port), 20) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            connection.sendall(request)
            answer = b""
            with contextlib.suppress(ConnectionError):
                while part := connection.recv(65536):
                    answer += part
            assert answer.startswith(b"HTTP/1.1 %d" % status), (request[:200], answer[:200])
            assert answer.count(b"HTTP/1.1") == 1, "one answer"
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 1000, bytes(range(256))):
        with socket.create_connection(("127.0.0.1", proxy.port), 20) as plain:
            plain.sendall(garbage)
            plain.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while plain.recv(65536):
                    pass
    until("counted", lambda: proxy.metric("pymon_proxy_handshakes_total", outcome="failed") >= 3, 5)
    assert client.status("/v1/discover") == 200

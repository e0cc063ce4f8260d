"""Ten thousand connections that bring nothing, or not enough, cost little and keep nobody out."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from pymon.service.gate import GateLimits

ROOT = Path(__file__).parents[2]
DESCRIPTORS = 10_500
SOURCES = 20
ASK_MAX_SECONDS = 5.0
GROWTH_MAX_KIB = 192 * 1024
"""1,024 begun handshakes take 110 MiB; begun heads without TLS 8 MiB, silent connections 2 MiB."""

LAST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture(autouse=True)
def _descriptors():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < DESCRIPTORS:
        pytest.skip(f"needs {DESCRIPTORS} descriptors, the hard limit is {before[1]}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


class Flooded:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        self.pid = process.pid
        self.port = int(process.stdout.readline())

    def rss_kib(self) -> int:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text())
        assert found
        return int(found[1])

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))  # noqa: PTH208  # a Path of each would take longer

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10, source_address=(source, 0))

    def ask(self, context: ssl.SSLContext | None) -> float:
        """Seconds that a request took."""
        begin = time.monotonic()
        with contextlib.ExitStack() as close:
            client = close.enter_context(self.connect())
            if context:
                client = close.enter_context(context.wrap_socket(client, server_hostname="localhost"))
            client.sendall(LAST)
            assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        return time.monotonic() - begin


@contextlib.contextmanager
def flooded(*arguments: str) -> Iterator[Flooded]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.service.flooded", *arguments],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield Flooded(process)
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("secure", "greeting", "connections"),
    [
        pytest.param(True, b"", 10_000, id="silent"),
        pytest.param(True, b"\x16\x03\x01\x02\x00\x01", 3_000, id="begun handshakes"),
        pytest.param(False, b"GET / HTTP/1.1\r\nHost:", 3_000, id="begun heads"),
    ],
)
def test_thousands_of_half_open_connections(secure: bool, greeting: bytes, connections: int, tmp_path: Path) -> None:
    ca = trustme.CA()
    file = tmp_path / "server.pem"
    ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(file)
    context = None
    if secure:
        context = ssl.create_default_context()
        ca.configure_trust(context)
    with flooded(*[str(file)] if secure else []) as server, contextlib.ExitStack() as close:
        for _ in range(20):
            server.ask(context)
        before = server.rss_kib()
        for number in range(connections):
            client = close.enter_context(server.connect(f"127.0.0.{2 + number % SOURCES}"))
            with contextlib.suppress(ConnectionError):
                client.sendall(greeting)
        assert server.ask(context) < ASK_MAX_SECONDS
        assert server.descriptors() < GateLimits().pending + 100
        assert server.rss_kib() - before < GROWTH_MAX_KIB

"""Connections: what is known of them, how long they may take, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop

from pymon.service import serve as serve_module
from pymon.service.answer import Reply, text_reply
from pymon.service.gate import Gate, GateLimits
from pymon.service.server import Connection, Request, Times
from tests.service.running import FixedTLS, client_context, reset, running, until

GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
LAST = GET + b"Connection: close\r\n\r\n"


def run(main: Coroutine[Any, Any, None]) -> None:
    uvloop.run(main)


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(autouse=True)
def _no_errors(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    yield
    for record in caplog.records:
        assert record.levelno < logging.ERROR, record.getMessage()
        assert not record.exc_info


def descriptors() -> int:
    """How many are open, without /dev/null: the loop opens that with its first connection."""
    found = Path("/proc/self/fd").iterdir()
    return sum(1 for file in found if file.is_socket())


# --- what is known of a connection ---------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
def test_the_client_certificate_is_read_once(runner: Any, version: ssl.TLSVersion, ca: trustme.CA) -> None:
    seen: list[Connection] = []

    async def handler(request: Request) -> Reply:
        seen.append(request.client)
        return text_reply(200, "ok")

    async def main() -> None:
        client = client_context(ca, "client.example")
        client.maximum_version = version
        tls = FixedTLS(ca)
        async with running(handler, tls) as server:
            got = await server.raw(GET + b"\r\n", LAST, context=client)
            assert got.count(b"HTTP/1.1 200") == 2
            assert (await server.raw(LAST, context=client_context(ca))).startswith(b"HTTP/1.1 200")
            assert server.gate.handshakes == {"done": 2, "failed": 0, "timeout": 0}
            assert tls.refreshed == 2

    runner(main())
    assert seen[0] is seen[1]
    assert seen[0].certificate_der
    assert b"client.example" in seen[0].certificate_der
    assert seen[2].certificate_der is None
    assert [client.remote for client in seen] == ["127.0.0.1"] * 3


def test_a_certificate_that_is_not_admitted_gets_no_answer(ca: trustme.CA) -> None:
    async def main() -> None:
        async with running(tls=FixedTLS(ca, admit=False)) as server:
            assert await server.raw(LAST, context=client_context(ca)) == b""
            await until(lambda: server.gate.pending == 0)

    run(main())


def test_trouble_with_a_context_closes_the_connection(ca: trustme.CA, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FixedTLS):
        async def refresh(self) -> None:
            raise RuntimeError("broken")

    async def main() -> None:
        async with running(tls=Broken(ca)) as server:
            before = descriptors()
            with pytest.raises((ConnectionError, ssl.SSLError)):
                await server.raw(LAST, context=client_context(ca))
            await until(lambda: server.gate.pending == 0 and descriptors() <= before)

    run(main())
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == ["connection was not made: RuntimeError('broken')"]
    caplog.clear()


# --- connections that bring nothing, or bring it slowly --------------------------------------------


def test_silent_connections_end(ca: trustme.CA) -> None:
    async def main() -> None:
        for tls in (None, FixedTLS(ca)):
            async with running(tls=tls, times=Times(handshake=0.2)) as server:
                assert await server.raw() == b""
                assert server.gate.refused["silent"] == 1
                assert server.gate.pending == 0

    run(main())


def test_handshakes_end_in_time(ca: trustme.CA) -> None:
    async def main() -> None:
        async with running(tls=FixedTLS(ca), times=Times(handshake=0.3)) as server:
            before = descriptors()
            assert await server.raw(b"\x16\x03\x01\x02\x00\x01") == b""
            assert server.gate.handshakes["timeout"] + server.gate.handshakes["failed"] == 1
            await until(lambda: descriptors() <= before)

    run(main())


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", b"this port answers https://, and http:// was asked for\n"),
        (b"G", b""),
        (b"\0", b""),
        (b"SSH-2.0-x\r\n", b""),
        (os.urandom(100_000).lstrip(b"\x16"), b""),
    ],
)
def test_what_is_no_tls_is_closed_without_a_handshake(data: bytes, answer: bytes, ca: trustme.CA) -> None:
    async def main() -> None:
        async with running(tls=FixedTLS(ca)) as server:
            with contextlib.suppress(ConnectionError):
                head, _, body = (await server.raw(data)).partition(b"\r\n\r\n")
                assert body == answer
                assert head.startswith(b"HTTP/1.1 400 ") is bool(answer)
            assert server.gate.handshakes["failed"] == 1
            assert server.gate.pending == 0

    run(main())


def test_garbage_in_a_handshake_is_counted(ca: trustme.CA) -> None:
    async def main() -> None:
        async with running(tls=FixedTLS(ca)) as server:
            with contextlib.suppress(ConnectionError):
                await server.raw(b"\x16\x03\x01\x00\x05hello" * 10)
            await until(lambda: server.gate.handshakes["failed"] == 1)
            assert server.gate.pending == 0

    run(main())


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("head", [b"G", b"GET / HTTP/1.1\r\nHost:", GET])
def test_a_first_head_that_is_not_whole_in_time_ends(head: bytes, secure: bool, ca: trustme.CA) -> None:
    async def main() -> None:
        async with running(tls=FixedTLS(ca) if secure else None, times=Times(head=0.3)) as server:
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                assert await server.raw(head, context=client_context(ca) if secure else None) == b""
            assert server.gate.refused["slow_head"] == 1
            assert server.gate.pending == 0

    run(main())


def test_trickling_does_not_prolong() -> None:
    async def main() -> None:
        async with running(times=Times(head=0.5)) as server:
            for begin in (b"GET /", GET + b"\r\nGET /"):
                reader, writer = await server.open()
                writer.write(begin)
                if begin != b"GET /":
                    await reader.readuntil(b"ok\n")
                end = asyncio.create_task(reader.read())
                while not end.done():
                    writer.write(b"x")
                    await asyncio.wait((end,), timeout=0.05)
                with contextlib.suppress(ConnectionError):
                    assert await end == b""
                writer.close()
            assert server.gate.refused["slow_head"] == 2

    run(main())


def test_whole_requests_keep_a_connection_past_the_time_of_a_head() -> None:
    async def main() -> None:
        async with running(times=Times(head=0.2, handshake=0.2)) as server:
            reader, writer = await server.open()
            for _ in range(3):
                for piece in (GET, b"X-A: b\r\n", b"\r\n"):
                    writer.write(piece)
                    await asyncio.sleep(0)
                assert await reader.readuntil(b"ok\n")
                await asyncio.sleep(0.4)  # what is pinned is that nothing happens
            assert server.gate.pending == 0
            assert server.gate.refused["slow_head"] == 0
            writer.close()

    run(main())


def test_a_head_that_grows_without_end_is_refused() -> None:
    async def main() -> None:
        async with running() as server:
            pieces = [GET, *(b"X-%d: " % n + b"x" * 8000 + b"\r\n" for n in range(9))]
            got = b""
            with contextlib.suppress(ConnectionError):
                got = await server.raw(*pieces)
            assert got.startswith(b"HTTP/1.1 431 ")
            assert server.counts == [431]
            assert server.gate.refused["large_head"] == 1

    run(main())


# --- crowds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("greeting", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_the_oldest_gives_way_to_newcomers(greeting: bytes, ca: trustme.CA) -> None:
    async def main() -> None:
        gate = Gate(GateLimits(pending=10, pending_of_source=10))
        async with running(tls=FixedTLS(ca), gate=gate) as server:
            before = descriptors()
            crowd = []
            for number in range(50):
                crowd.append(await server.open(source=f"127.0.0.{2 + number % 20}"))
                crowd[-1][1].write(greeting)
            await until(lambda: gate.refused["crowded"] == 40)
            assert gate.pending == 10
            assert (await server.raw(LAST, context=client_context(ca))).startswith(b"HTTP/1.1 200")
            for reader, _ in crowd[:40]:
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
            for _, writer in crowd:
                writer.close()
            await until(lambda: gate.pending == 0 and descriptors() <= before)

    run(main())


def test_connections_that_were_served_do_not_count(ca: trustme.CA) -> None:
    async def main() -> None:
        gate = Gate(GateLimits(pending=2, pending_of_source=2))
        async with running(gate=gate) as server:
            served = []
            for _ in range(10):
                reader, writer = await server.open()
                writer.write(GET + b"\r\n")
                await reader.readuntil(b"ok\n")
                served.append((reader, writer))
            for reader, writer in served:
                writer.write(LAST)
                assert (await reader.read()).endswith(b"ok\n")
                writer.close()
            assert sum(gate.refused.values()) == 0

    run(main())


def test_one_address_cannot_begin_handshakes_without_end(ca: trustme.CA) -> None:
    async def main() -> None:
        gate = Gate(GateLimits(handshakes_per_second=0.001, handshakes_burst=3))
        context = client_context(ca)
        async with running(tls=FixedTLS(ca), gate=gate) as server:
            for _ in range(3):
                assert await server.raw(LAST, context=context)
            with pytest.raises((ConnectionError, ssl.SSLError)):
                await server.raw(LAST, context=context)
            assert gate.refused["rate"] == 1
            reader, writer = await server.open(context, "127.0.0.9")
            writer.write(LAST)
            assert await reader.read()
            writer.close()

    run(main())


def test_without_descriptors_the_oldest_gives_way(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = socket.socket.accept
    trouble: list[OSError] = []

    def accept(listener: socket.socket) -> Any:
        if trouble:
            raise trouble.pop()
        return real(listener)

    gate = Gate()
    monkeypatch.setattr(socket.socket, "accept", accept)

    async def main() -> None:
        async with running(gate=gate) as server:
            reader, writer = await server.open()
            await until(lambda: gate.pending == 1)
            trouble.append(OSError(errno.EMFILE, "Too many open files"))
            assert (await server.raw(LAST)).startswith(b"HTTP/1.1 200")
            assert await reader.read() == b""
            writer.close()
            assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
                "connections wait: Too many open files"
            ]

    run(main())


def test_without_descriptors_whoever_is_idle_longest_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket.accept
    trouble: list[OSError] = []

    def accept(listener: socket.socket) -> Any:
        if trouble:
            raise trouble.pop()
        return real(listener)

    monkeypatch.setattr(socket.socket, "accept", accept)
    monkeypatch.setattr(serve_module, "_ACCEPT_BATCH", 2)
    held, release = asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Reply:
        if request.path == "/held":
            held.set()
            await release.wait()
        return text_reply(200, "ok")

    async def main() -> None:
        async with running(handler, times=Times(idle=60)) as server:
            opened = [await server.open() for _ in range(4)]
            for number, (reader, writer) in enumerate(opened):
                writer.write(b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"held" if number == 0 else b"x"))
                if number == 0:
                    await held.wait()
                else:
                    assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200")
                await asyncio.sleep(0.02)  # the loop's clock has milliseconds
            trouble.append(OSError(errno.EMFILE, "Too many open files"))
            assert (await server.raw(LAST)).startswith(b"HTTP/1.1 200")
            for reader, _ in opened[1:3]:
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
            release.set()
            assert (await opened[0][0].readuntil(b"ok\n")).startswith(b"HTTP/1.1 200"), "it was not idle"
            opened[3][1].write(LAST)
            assert (await opened[3][0].read()).startswith(b"HTTP/1.1 200"), "it was idle for a shorter time"
            for _, writer in opened:
                writer.close()

    run(main())


# --- clients that go away, and the end -----------------------------------------------------------


@pytest.mark.parametrize("cancellation", [True, False])
@pytest.mark.parametrize("end", ["close", "reset"])
def test_the_handler_of_a_client_that_goes_away(cancellation: bool, end: str) -> None:
    entered, ended, release = asyncio.Event(), asyncio.Event(), asyncio.Event()
    outcome: list[str] = []
    asking: list[Request] = []

    async def handler(request: Request) -> Reply:
        asking.append(request)
        entered.set()
        outcome.append("cancelled")
        try:
            await release.wait()
            outcome[:] = ["ran to its end"]
        finally:
            ended.set()
        return text_reply(200, "nobody reads this")

    async def main() -> None:
        async with running(handler, cancel_handlers=cancellation, times=Times(half_closed=0.2)) as server:
            _, writer = await server.open()
            writer.write(GET + b"\r\n")
            await entered.wait()
            if end == "reset":
                reset(writer)
            else:
                writer.close()
            if not cancellation:
                if end == "reset":
                    await until(lambda: asking[0].client.transport is None)
                release.set()
            async with asyncio.timeout(10):
                await ended.wait()

    run(main())
    assert outcome == ["cancelled" if cancellation else "ran to its end"]


def test_the_end_takes_everybody_who_waits(ca: trustme.CA) -> None:
    async def main() -> None:
        before = descriptors()
        async with running(tls=FixedTLS(ca)) as server:
            silent = await server.open()
            begun = await server.open()
            begun[1].write(b"\x16\x03\x01\x02\x00\x01")
            idle = await server.open(client_context(ca))
            await until(lambda: server.gate.pending == 3 and server.gate.handshakes["done"] == 1)
            server.stop.set()
            for reader, writer in (silent, begun, idle):
                with contextlib.suppress(ConnectionError, ssl.SSLError):
                    assert await reader.read() == b""
                writer.close()
            async with asyncio.timeout(10):
                await server.task
        await until(lambda: descriptors() <= before)

    run(main())

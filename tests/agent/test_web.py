"""The agent over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import os
import socket
import struct
import time
from pathlib import Path

import pytest

from pymon.agent.scrape import Scrape
from pymon.config import Address
from pymon.exposition.negotiation import Format
from pymon.service.headers import scrape_timeout
from pymon.service.listen import listening
from pymon.service.server import Times
from tests.agent.web_agent import UUID, Files, Stub, descriptors, run, running, until

OM2 = Format.OPENMETRICS_2_0_0
OPENMETRICS = "application/openmetrics-text;version=1.0.0,*/*;q=0.1"

pytestmark = pytest.mark.usefixtures("no_errors")


# --- paths and methods -------------------------------------------------------------------------


def test_scrapes() -> None:
    async def main() -> None:
        async with running() as agent:
            status, headers, body = await agent.get("/metrics", headers={"Accept-Encoding": "identity"})
            assert (status, body) == (200, b"metric 1\n")
            assert headers["Content-Type"] == Format.TEXT_0_0_4.content_type
            assert headers["Vary"] == "Accept, Accept-Encoding"
            assert headers["Content-Length"] == "9"
            assert headers["Server"] == "pymon"
            assert "Content-Encoding" not in headers
            assert agent.stub.calls[-1] == Scrape("all", "", None, None, Format.TEXT_0_0_4, "identity", None)
            asked = time.monotonic()
            status, headers, body = await agent.get(
                f"/v1/{UUID.upper()}/metrics?name[]=a&name%5B%5D=b",
                headers={
                    "Accept": OPENMETRICS, "Accept-Encoding": "gzip", "X-Prometheus-Scrape-Timeout-Seconds": "10",
                },
            )  # fmt: skip
            assert (status, gzip.decompress(body)) == (200, b"metric 1\n")
            assert headers["Content-Type"] == Format.OPENMETRICS_1_0_0.content_type
            assert headers["Content-Encoding"] == "gzip"
            scrape = agent.stub.calls[-1]
            assert scrape == Scrape(
                "container", UUID, None, frozenset("ab"), Format.OPENMETRICS_1_0_0, "gzip", scrape.deadline
            )
            assert asked + 9.5 <= scrape.deadline <= time.monotonic() + 9.5
            assert (await agent.get("/v1/gz/metrics"))[0] == 200
            assert agent.stub.calls[-1].scope == "node"
            assert agent.count("metrics", 200) == agent.count("container", 200) == agent.count("node", 200) == 1
            assert agent.registry.get_sample_value("pymon_http_requests_in_flight") == 0

    run(main())


def test_content_codings() -> None:
    async def main() -> None:
        async with running() as agent:
            for path in ("/metrics", f"/v1/{UUID}/metrics", "/v1/gz/metrics"):
                status, headers, _ = await agent.get(path, headers={"Accept-Encoding": "gzip, deflate, br, zstd"})
                assert (status, headers["Content-Encoding"]) == (200, "zstd")
                assert agent.stub.calls[-1].encoding == "zstd"
            asked = len(agent.stub.calls)
            for path in ("/metrics", "/v1/containers", "/v1/summary", "/"):
                status, headers, body = await agent.get(path, headers={"Accept-Encoding": "br, identity;q=0"})
                assert (status, headers.get("Content-Encoding")) == (406, None), path
                assert body.startswith(b"Accept-Encoding: expected one of "), path
                status, headers, _ = await agent.get(path, headers={"Accept-Encoding": "identity;q=0, gzip;q=0.1"})
                assert (status, headers["Content-Encoding"]) == (200, "gzip"), path
            assert len(agent.stub.calls) == asked + 1, "nothing was collected for the one that was refused"

    run(main())


@pytest.mark.parametrize(
    ("lines", "expected", "coding"),
    [
        (["Accept: text/plain;q=0.5", f"Accept: {OM2.content_type}"], OM2, ""),
        ([f"Accept: {OM2.content_type};q=0", "Accept: */*;q=0"], Format.TEXT_0_0_4, ""),
        (["Accept: application/json", "accept: application/openmetrics-text;q=0.1"], Format.OPENMETRICS_1_0_0, ""),
        (["Accept-Encoding: gzip;q=0.5", "Accept-Encoding: zstd;q=0.7, identity;q=0"], Format.TEXT_0_0_4, "zstd"),
        (["Accept-Encoding: *;q=0", "Accept-Encoding: gzip;q=0.001"], Format.TEXT_0_0_4, "gzip"),
        (["Accept-Encoding: zstd;q=0", "Accept-Encoding: gzip;q=0"], Format.TEXT_0_0_4, ""),
        (["Accept-Encoding: *;q=0"], 406, ""),
        (["Accept-Encoding: identity;q=0", "Accept-Encoding: br"], 406, ""),
        (["Accept: " + "application/openmetrics-text," * 260], Format.TEXT_0_0_4, ""),
        ([f"Accept: application/openmetrics-text;q=0.{number}" for number in range(60)], Format.TEXT_0_0_4, ""),
        (["Accept-Encoding: identity;q=0" + ", br" * 1900], Format.TEXT_0_0_4, ""),
        (["Accept: " + "application/openmetrics-text," * 2200], 431, ""),
        ([f"Accept: application/openmetrics-text;q=0.{number}" for number in range(1200)], 431, ""),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_several_lines_accept_counts_together(lines: list[str], expected: Format | int, coding: str) -> None:
    async def main() -> None:
        async with running() as agent:
            head = "\r\n".join(["GET /metrics HTTP/1.1", "Host: a", "Connection: close", *lines, "", ""])
            begin = time.perf_counter()
            answer, _, _ = (await agent.raw(head.encode())).partition(b"\r\n\r\n")
            assert time.perf_counter() - begin < 5
            status = int(answer.split(b" ", 2)[1])
            if isinstance(expected, int):
                assert status == expected
                return
            assert status == 200
            assert f"\r\nContent-Type: {expected.content_type}".encode() in answer
            assert (b"\r\nContent-Encoding: " + coding.encode() in answer) is bool(coding)
            assert agent.stub.calls[-1].format is expected

    run(main())


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nothing", 404),
        ("/metrics/", 404),
        ("//metrics", 404),
        ("/v1/not-a-uuid/metrics", 404),
        ("/v1/%00/metrics", 404),
        ("/v1/%ff%0a/metrics", 404),
        (f"/v1/{UUID[:-1]}/metrics", 404),
        (f"/v1/{UUID[:-1]}g/metrics", 404),
        (f"/v1/{UUID[:-1]}0/metrics", 404),
        (f"/v1/{UUID}/metrics/x", 404),
        ("/metrics?collect[]=cpu&exclude[]=memory", 400),
        ("/metrics?collect[]=nothing", 400),
        ("/metrics?exclude[]=process", 400),
        ("/metrics?collect[]=", 400),
        (f"/v1/{UUID}/metrics?collect[]=%0a%ff", 400),
        ("/v1/containers?wait=soon", 400),
        ("/v1/containers?wait=-1", 400),
        ("/v1/containers?wait=nan", 400),
        ("/v1/containers?wait=1&wait=inf", 400),
    ],
)
def test_refusals_are_one_line_of_text(path: str, status: int) -> None:
    async def main() -> None:
        async with running() as agent:
            answered = await agent.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            head, _, body = answered.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % status)
            assert b"Content-Type: text/plain; charset=utf-8\r\n" in head
            assert body.count(b"\n") == 1
            assert body.endswith(b"\n")
            if "collect" in path or "exclude" in path:
                assert b"cpu" in body or b"both" in body

    run(main())


def test_narrowing() -> None:
    async def main() -> None:
        async with running() as agent:
            for query, collectors in (
                ("collect[]=cpu&collect[]=memory", {"cpu", "memory"}),
                ("collect%5B%5D=cpu", {"cpu"}),
                ("exclude[]=cpu", {"memory"}),
                ("debug=1", None),
                ("", None),
            ):
                assert (await agent.get(f"/metrics?{query}"))[0] == 200
                assert agent.stub.calls[-1].collectors == collectors

    run(main())


def test_a_refresh_is_taken_and_does_nothing() -> None:
    async def main() -> None:
        async with running() as agent:
            status, headers, body = await agent.get("/v1/refresh", "POST")
            assert (status, body, headers["Content-Length"]) == (200, b"", "0")
            for method in ("GET", "HEAD", "PUT"):
                status, headers, _ = await agent.get("/v1/refresh", method)
                assert (status, headers["Allow"]) == (405, "POST")
            assert agent.stub.calls == []

    run(main())


def test_methods_and_other_paths() -> None:
    async def main() -> None:
        async with running("--web.telemetry-path=/m/x") as agent:
            assert (await agent.get("/metrics"))[0] == 404
            status, headers, body = await agent.get("/m/x", "HEAD", headers={"Accept-Encoding": "gzip"})
            assert (status, body, headers["Content-Length"]) == (200, b"", "29")  # the length that GET would have
            for method in ("POST", "PUT", "DELETE", "OPTIONS"):
                status, headers, body = await agent.get("/m/x", method)
                assert (status, headers["Allow"]) == (405, "GET, HEAD")
            assert (await agent.get("/-/healthy"))[::2] == (200, b"healthy\n")
            assert (await agent.get("/-/ready"))[::2] == (200, b"ready\n")
            agent.stub.reason = "no collection\nyet"
            assert (await agent.get("/-/ready"))[::2] == (503, b"not ready: no collection yet\n")
            status, headers, body = await agent.get("/v1/containers")
            assert (status, headers["Retry-After"], body) == (503, "1", b"no collection yet\n")
            status, headers, body = await agent.get("/", headers={"Accept-Encoding": "identity"})
            assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
            assert b'<a href="/m/x">' in body
            assert (await agent.get(f"/v1/{UUID}%2Fmetrics"))[0] in {200, 404}
            assert (await agent.raw(b"GET http://h/m/x HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
            assert (await agent.raw(b"GET /%6d/x HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")

    run(main())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(None, None), ("10", 9.5), ("0.2", 0.1), ("1", 0.5), ("0", None), ("-1", None), ("nan", None), ("inf", None),
     ("x" * 5000, None), ("", None)],
)  # fmt: skip
def test_scrape_timeout(text: str | None, seconds: float | None) -> None:
    assert scrape_timeout(text) == seconds


def test_keep_alive_and_pipelining() -> None:
    async def main() -> None:
        async with running() as agent:
            got = await agent.raw(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n" * 3 + b"GET /-/ready HTTP/1.0\r\n\r\n")
            assert got.count(b"HTTP/1.1 200 OK\r\n") == 4
            assert got.count(b"Connection: close") == 1
            assert got.count(b"Date: ") == 4
            got = await agent.raw(
                b"GET /-/ready HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /-/ready HTTP/1.0\r\n\r\n"
            )
            assert got.count(b"Connection: keep-alive") == 1

    run(main())


# --- hostile input -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"garbage\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost x\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n", 400),
        (b"GET /metrics HTTP/9.9\r\nHost: x\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"a" * 9000 + b": 1\r\n\r\n", 431),
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"A: 1\r\n" * 500 + b"\r\n", 431),
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999\r\n\r\n" + b"x" * 100, 413),
        (b"POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", 413),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 400),
    ],
)
def test_malformed(data: bytes, status: int) -> None:
    async def main() -> None:
        async with running() as agent:
            got = await agent.raw(data)
            head, _, body = got.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % status)
            assert b"Connection: close" in head
            assert body.count(b"\n") == 1
            assert (await agent.get("/-/healthy"))[0] == 200

    run(main())


def test_small_bodies_are_ignored() -> None:
    async def main() -> None:
        async with running() as agent:
            got = await agent.raw(
                b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
                b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            )
            assert got.count(b"metric 1\n") == 2

    run(main())


def test_idle_and_trickling_connections_end() -> None:
    async def main() -> None:
        async with running(times=Times(handshake=0.2, head=0.2, idle=0.2)) as agent:
            assert await agent.raw(b"") == b""
            assert (await agent.raw(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")).endswith(b"healthy\n")
            assert await agent.raw(b"GET /metrics HTTP/1.1\r\nHost:") == b""

    run(main())


def test_client_goes_away() -> None:
    async def main() -> None:
        async with running(stub=Stub(data=os.urandom(1 << 20) * 16)) as agent:
            for _ in range(3):
                reader, writer = await asyncio.open_connection("127.0.0.1", agent.port)
                writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                await reader.readexactly(100)
                writer.transport.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
                writer.transport.abort()
            await until(lambda: agent.count("metrics", 200) == 3 and agent.stub.lent == 0)
            # gone before its scrape is done
            agent.stub.gate = asyncio.Event()
            agent.stub.entered.clear()
            _, writer = await asyncio.open_connection("127.0.0.1", agent.port)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            await agent.stub.entered.wait()
            writer.transport.abort()
            await asyncio.sleep(0.05)
            agent.stub.gate.set()
            await until(lambda: len(agent.stub.calls) == 4 and agent.stub.lent == 0)

    run(main())


@pytest.mark.parametrize("tls", [False, True])
def test_slow_client_is_cut_off(tls: bool, tmp_path: Path) -> None:
    files = Files(tmp_path)

    async def main() -> None:
        web_file = files.write() if tls else None
        async with running(stub=Stub(data=bytes(1 << 24)), web_file=web_file, times=Times(send=0.3)) as agent:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", agent.port, limit=1024, ssl=files.client() if tls else None
            )
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readexactly(100)
            assert agent.stub.lent == 1
            await until(lambda: agent.stub.lent == 0)
            writer.transport.abort()

    run(main())


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 1 << 23])
def test_body_sizes(tls: bool, size: int, tmp_path: Path) -> None:
    files = Files(tmp_path)

    async def main() -> None:
        data = os.urandom(size)
        web_file, ca = (files.write(), files.client()) if tls else (None, None)
        async with running(stub=Stub(data=data), web_file=web_file, ca=ca) as agent:
            for _ in range(2):
                status, headers, body = await agent.get("/metrics", headers={"Accept-Encoding": "identity"})
                assert (status, body, headers["Content-Length"]) == (200, data, str(size))

    run(main())


def test_scrape_errors(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with running() as agent:
            agent.stub.error = TimeoutError()
            status, _, body = await agent.get("/metrics")
            assert (status, body) == (503, b"the scrape took longer than its timeout\n")
            caplog.set_level(logging.INFO)
            agent.stub.error = ValueError("bad\nthing")
            status, _, body = await agent.get("/metrics")
            assert (status, body) == (500, b"internal error\n")
            assert [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR] == [
                "internal error: metrics: ValueError('bad\\nthing')"
            ]
            caplog.clear()
            assert agent.registry.get_sample_value("pymon_http_requests_in_flight") == 0

    run(main())


def test_max_requests() -> None:
    async def main() -> None:
        async with running("--web.max-requests=2") as agent:
            agent.stub.gate = asyncio.Event()
            first = [asyncio.create_task(agent.get("/metrics")) for _ in range(2)]
            await until(lambda: len(agent.stub.calls) == 2)
            assert agent.registry.get_sample_value("pymon_http_requests_in_flight") == 2
            status, headers, _ = await agent.get(f"/v1/{UUID}/metrics")
            assert (status, headers["Retry-After"]) == (503, "1")
            assert (await agent.get("/-/healthy"))[0] == 200
            agent.stub.gate.set()
            assert [status for status, _, _ in await asyncio.gather(*first)] == [200, 200]
            assert (await agent.get("/metrics"))[0] == 200

    run(main())


# --- inventory ---------------------------------------------------------------------------------


def test_inventory() -> None:
    async def main() -> None:
        async with running() as agent:
            identity = {"Accept-Encoding": "identity"}
            status, headers, body = await agent.get("/v1/containers", headers=identity)
            assert (status, json.loads(body)) == (200, {"version": "v 1"})
            assert headers["ETag"] == '"v%201"'
            status, headers, body = await agent.get("/v1/containers", headers={"Accept-Encoding": "gzip"})
            assert (headers["ETag"], headers["Content-Encoding"]) == ('"v%201-gzip"', "gzip")
            assert json.loads(gzip.decompress(body)) == {"version": "v 1"}
            for condition in ('"v%201"', 'W/"v%201"', '"x", "v%201-gzip"', "*", '"v%201"'):
                status, headers, body = await agent.get(
                    "/v1/containers", headers={**identity, "If-None-Match": condition}
                )
                assert (status, headers["ETag"], body) == (304, '"v%201"', b"")
                assert "Content-Length" not in headers
            for condition in ('"x"', "v%201", "", '"', '"v%202"'):
                assert (await agent.get("/v1/containers", headers={"If-None-Match": condition}))[0] == 200

    run(main())


def test_long_poll() -> None:
    async def main() -> None:
        async with running() as agent:
            tag = {"If-None-Match": '"v%201"'}
            for headers in ({}, {"If-None-Match": '"old"'}, {"If-None-Match": "*"}):
                assert (await agent.get("/v1/containers?wait=100", headers=headers))[0] in {200, 304}
            assert agent.stub.waits == 0
            assert (await agent.get("/v1/containers?wait=0.05", headers=tag))[0] == 304
            assert agent.stub.waits == 1
            poll = asyncio.create_task(agent.get("/v1/containers?wait=1e9", headers=tag))
            await until(lambda: agent.stub.waits == 2)
            agent.stub.change()
            status, headers, _ = await poll
            assert (status, headers["ETag"]) == (200, '"v%202-gzip"')

    run(main())


def test_long_poll_ends_with_its_client_and_the_agent() -> None:
    request = b'GET /v1/containers?wait=300 HTTP/1.1\r\nHost: x\r\nIf-None-Match: "v%201"\r\n\r\n'

    async def main() -> None:
        async with running(max_waiting=1, gone_check_seconds=0.05) as agent:
            _, writer = await asyncio.open_connection("127.0.0.1", agent.port)
            writer.write(request)
            await until(lambda: agent.stub.waits == 1)
            assert (await agent.get("/v1/containers?wait=9", headers={"If-None-Match": '"v%201"'}))[0] == 503
            writer.transport.abort()
            await until(lambda: agent.registry.get_sample_value("pymon_http_requests_in_flight") == 0)
            answered = asyncio.create_task(agent.raw(request))
            await until(lambda: agent.stub.waits == 2)
            agent.stop.set()
            got = await answered
            assert got.startswith(b"HTTP/1.1 304 ")
            assert b"Connection: close" in got

    run(main())


# --- listening and stopping --------------------------------------------------------------------


def test_graceful_stop() -> None:
    async def main() -> None:
        async with running() as agent:
            agent.stub.gate = asyncio.Event()
            idle = asyncio.create_task(agent.raw(b""))
            last = asyncio.create_task(agent.get("/metrics"))
            await agent.stub.entered.wait()
            agent.stop.set()
            assert await idle == b""
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", agent.port)
            assert not agent.task.done()
            agent.stub.gate.set()
            status, headers, _ = await last
            assert (status, headers["Connection"]) == (200, "close")
            await agent.task

    run(main())


def test_several_addresses_and_a_taken_one() -> None:
    async def main() -> None:
        async with running() as agent:
            with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{agent.port}: Address already in use"):
                listening(Address("127.0.0.1", agent.port)).__enter__()
        for address in (Address("", 0), Address("::1", 0), Address("localhost", 0)):
            with listening(address) as sockets:
                assert all(listener.getsockname()[1] > 0 for listener in sockets)
        with pytest.raises(OSError, match=r"cannot listen on no\.invalid:1: "):
            listening(Address("no.invalid", 1)).__enter__()

    run(main())


def test_no_descriptors_are_left() -> None:
    async def main() -> None:
        async with running() as agent:
            await agent.get("/metrics")
            before = descriptors()
            for _ in range(20):
                await agent.raw(b"GET /metrics HTTP/1.0\r\n\r\n")
                await agent.raw(b"garbage\r\n\r\n")
            await until(lambda: descriptors() <= before)

    run(main())

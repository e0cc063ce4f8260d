"""One connection's requests: in order, in time, and bounded while an answer is under way."""

from __future__ import annotations

import asyncio
import logging
import re

import pytest
import uvloop

from pymon.service.answer import Reply, text_reply
from pymon.service.server import Request, Times
from tests.service.running import running, until

HEAD = b" HTTP/1.1\r\nHost: x\r\n\r\n"
GET = b"GET /" + HEAD
RUNNERS = pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])


@RUNNERS
def test_requests_that_come_while_an_answer_is_under_way_are_answered_in_order(runner) -> None:
    async def main() -> None:
        gate, seen = asyncio.Event(), []

        async def handler(request: Request) -> Reply:
            seen.append(request.path)
            if request.path == "/1":
                await gate.wait()
            return text_reply(200, request.path)

        async with running(handler) as server:
            reader, writer = await server.open()
            writer.write(b"GET /1" + HEAD)
            await until(lambda: seen)
            writer.write(b"GET /2" + HEAD)
            await asyncio.sleep(0.05)
            writer.write(b"GET /3" + HEAD + b"GET /4 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            await asyncio.sleep(0.05)
            assert seen == ["/1"]
            gate.set()
            got = await reader.read()
            writer.close()
            assert seen == ["/1", "/2", "/3", "/4"]
            assert re.findall(rb"^/\d", got, re.MULTILINE) == [b"/1", b"/2", b"/3", b"/4"]

    runner(main())


@RUNNERS
def test_a_request_in_two_parts_gets_one_answer(runner) -> None:
    async def main() -> None:
        async with running() as server:
            got = await server.raw(b"GET /-/healthy HTTP/1.1\r\n", b"Host: a\r\nConnection: close\r\n\r\n")
            assert got.count(b"HTTP/1.1 ") == 1
            assert got.startswith(b"HTTP/1.1 200 ")
            assert server.counts == []

    runner(main())


@RUNNERS
def test_what_a_client_sends_while_it_is_answered_is_bounded(runner) -> None:
    async def main() -> None:
        gate, seen = asyncio.Event(), []

        async def handler(request: Request) -> Reply:
            seen.append(request)
            await gate.wait()
            return text_reply(200, "ok")

        async with running(handler) as server:
            reader, writer = await server.open()
            writer.write(GET)
            await until(lambda: seen)
            flood = asyncio.create_task(_flood(writer))
            await asyncio.sleep(0.5)
            assert seen[0].client._reader.buffered_bytes < 1 << 20
            assert not flood.done()
            gate.set()
            async with asyncio.timeout(10):
                assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200")
                assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200")
            flood.cancel()
            writer.transport.abort()

    runner(main())


async def _flood(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(GET * 1000)
        await writer.drain()


@RUNNERS
def test_the_end_waits_for_an_answer_that_is_under_way(runner) -> None:
    async def main() -> None:
        gate, seen = asyncio.Event(), []

        async def handler(request: Request) -> Reply:
            seen.append(request)
            await gate.wait()
            return text_reply(200, "done")

        async with running(handler) as server:
            reader, writer = await server.open()
            writer.write(GET)
            await until(lambda: seen)
            server.stop.set()
            await asyncio.sleep(0.1)
            assert not server.task.done()
            gate.set()
            got = await reader.read()
            assert got.endswith(b"done\n")
            assert b"\r\nConnection: close\r\n" in got
            writer.close()
            await asyncio.wait_for(server.task, 5)

    runner(main())


@RUNNERS
def test_an_old_connection_ends_after_an_answer_and_none_is_cut(runner) -> None:
    async def main() -> None:
        gate = asyncio.Event()
        body = b"x" * 10_000_000

        async def handler(request: Request) -> Reply:
            if request.path == "/large":
                await gate.wait()
                return Reply(200, b"", body)
            return text_reply(200, "ok")

        async with running(handler, times=Times(age=0.0)) as server:
            reader, writer = await server.open()
            writer.write(b"GET /large" + HEAD + GET)
            await until(lambda: [one for one in server.server.connections if one.task is not None])
            gate.set()
            head, _, rest = (await reader.read()).partition(b"\r\n\r\n")
            assert b"\r\nConnection: close\r\n" in head + b"\r\n"
            assert rest == body
            writer.close()
            got = await server.raw(GET + GET)
            assert got.count(b"HTTP/1.1 200") == got.count(b"\r\nConnection: close\r\n") == 1

    runner(main())


@RUNNERS
def test_connections_of_a_server_that_is_about_to_stop_end_with_their_next_answer(runner) -> None:
    async def main() -> None:
        async with running() as server:
            reader, writer = await server.open()
            writer.write(GET)
            assert b"Connection: close" not in await reader.readuntil(b"ok\n")
            server.server.stopping = True
            for _ in range(2):
                writer.write(GET)
                got = await reader.read()
                assert (got.startswith(b"HTTP/1.1 200"), b"\r\nConnection: close\r\n" in got) == (True, True)
                writer.close()
                reader, writer = await server.open()
            writer.close()

    runner(main())


def test_a_handler_that_raises_is_answered_with_500(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request) -> Reply:
        raise RuntimeError("no")

    async def main() -> None:
        async with running(handler) as server:
            got = await server.raw(GET)
            assert got.startswith(b"HTTP/1.1 500 ")
            assert b"no" not in got.partition(b"\r\n\r\n")[2]

    asyncio.run(main())
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [
        "internal error: RuntimeError('no')"
    ]


def test_a_connection_is_not_idle_while_it_is_answered() -> None:
    async def handler(request: Request) -> Reply:
        await asyncio.sleep(0.7)
        return text_reply(200, "ok")

    async def main() -> None:
        async with running(handler, times=Times(idle=0.3)) as server:
            reader, writer = await server.open()
            for _ in range(2):
                writer.write(GET)
                assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200")
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()

    asyncio.run(main())


def test_an_idle_connection_ends_and_one_that_asks_goes_on() -> None:
    async def main() -> None:
        async with running(times=Times(idle=0.5)) as server:
            reader, writer = await server.open()
            loop = asyncio.get_running_loop()
            begun = loop.time()
            while loop.time() - begun < 1.2:
                writer.write(GET)
                assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200")
                await asyncio.sleep(0.1)
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()

    asyncio.run(main())


@RUNNERS
@pytest.mark.parametrize("cancel", [True, False])
def test_a_client_that_sends_no_more_gets_its_answer(runner, cancel: bool) -> None:
    async def handler(request: Request) -> Reply:
        await asyncio.sleep(0.1)
        return text_reply(200, request.path)

    async def main() -> None:
        async with running(handler, cancel_handlers=cancel) as server:
            reader, writer = await server.open()
            writer.write(b"GET /1" + HEAD + b"GET /2" + HEAD)
            writer.write_eof()
            got = await asyncio.wait_for(reader.read(), 10)
            assert re.findall(rb"^/\d", got, re.MULTILINE) == [b"/1", b"/2"]
            assert got.count(b"\r\nConnection: close\r\n") == 1
            writer.close()

    runner(main())


def test_data_is_released_once_whatever_happens() -> None:
    released = []

    async def handler(request: Request) -> Reply:
        data = bytearray(b"x" * (8 << 20))
        return Reply(200, b"", memoryview(data), release=lambda: released.append(request.path))

    async def main() -> None:
        async with running(handler, times=Times(send=0.5)) as server:
            await server.raw(b"GET /read HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            await server.raw(b"HEAD /head HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            _, writer = await server.open()
            writer.write(b"GET /slow" + HEAD)  # and nobody reads
            await until(lambda: len(released) == 3)
            _, other = await server.open()
            other.write(b"GET /gone" + HEAD)
            other.transport.abort()
            writer.transport.abort()
            await asyncio.sleep(0.1)

    uvloop.run(main())
    assert released[:3] == ["/read", "/head", "/slow"]
    assert released.count("/gone") <= 1


@pytest.mark.parametrize(
    ("expect", "status"), [(b"100-continue", b"200"), (b"100-Continue", b"200"), (b"a miracle", b"417")]
)
def test_an_expectation_gets_a_final_answer_and_the_end(expect: bytes, status: bytes) -> None:
    async def main() -> None:
        async with running() as server:
            got = await server.raw(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: " + expect + b"\r\n\r\n")
            assert got.startswith(b"HTTP/1.1 " + status)
            assert got.count(b"HTTP/1.1 ") == 1
            assert b"\r\nConnection: close\r\n" in got

    asyncio.run(main())


def test_a_large_body_is_refused_before_it_comes() -> None:
    async def main() -> None:
        async with running() as server:
            got = await server.raw(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n")
            assert got.startswith(b"HTTP/1.1 413 ")
            assert b"\r\nConnection: close\r\n" in got

    asyncio.run(main())


def test_an_answer_to_a_malformed_request_arrives_while_its_client_still_sends() -> None:
    async def main() -> None:
        async with running() as server:
            reader, writer = await server.open()
            writer.write(b"GET / HTTP/9.9\r\n" + b"x" * 300_000)
            got = await asyncio.wait_for(reader.read(), 10)
            assert got.startswith(b"HTTP/1.1 400 ")
            writer.close()

    uvloop.run(main())

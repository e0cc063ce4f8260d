import asyncio
import http.client
import io
from types import SimpleNamespace

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from pymon.service.answer import send, text_reply
from pymon.service.plain import MAX_BYTES, MAX_FIELDS, PlainHeaders, PlainRequest, plain_request
from tests.service.running import running, until

PLAIN = b"GET /a?b=%20 HTTP/1.1\r\nHost: x.example\r\nAccept: */*\r\nX-Empty:\r\nX-Tab:\t a b \t\r\n\r\n"


def read(data: bytes) -> PlainRequest | None:
    return plain_request(data, SimpleNamespace(plain_headers=PlainHeaders(), transport=None, remote=""))


def test_a_plain_request_is_what_was_sent() -> None:
    request = read(PLAIN)
    assert request is not None
    assert (request.method, request.raw_path) == ("GET", "/a?b=%20")
    assert list(request.headers.items()) == [
        ("Host", "x.example"), ("Accept", "*/*"), ("X-Empty", ""), ("X-Tab", "a b"),
    ]  # fmt: skip
    assert request.headers.get("accept") == "*/*"


@pytest.mark.parametrize(
    "data",
    [
        PLAIN[:-1],
        PLAIN + b"G",
        PLAIN + PLAIN,
        PLAIN.replace(b"\r\n", b"\n"),
        PLAIN.replace(b"GET", b"POST"),
        PLAIN.replace(b"GET", b"get"),
        PLAIN.replace(b"1.1", b"1.0"),
        PLAIN.replace(b" /a", b" http://x/a"),
        PLAIN.replace(b" /a", b"  /a"),
        PLAIN.replace(b"/a", b"/\xc3\xa4"),
        PLAIN.replace(b"/a", b"/a b"),
        PLAIN.replace(b"Host: x.example\r\n", b""),
        PLAIN.replace(b"Accept: */*", b"host: y"),
        PLAIN.replace(b"Accept:", b"Accept :"),
        PLAIN.replace(b"Accept:", b" Accept:"),
        PLAIN.replace(b"*/*", b"a\0b"),
        PLAIN.replace(b"*/*", b"\xff"),
        PLAIN.replace(b"*/*", b"a\rb"),
        PLAIN.replace(b"Accept: */*", b"no colon"),
        PLAIN.replace(b"Accept: */*", b"Content-Length: 0"),
        PLAIN.replace(b"Accept: */*", b"transfer-encoding: chunked"),
        PLAIN.replace(b"Accept: */*", b"CONNECTION: close"),
        PLAIN.replace(b"Accept: */*", b"Upgrade: h2c"),
        PLAIN.replace(b"Accept: */*", b"Expect: 100-continue"),
        PLAIN.replace(b"*/*", b"a" * MAX_BYTES),
        PLAIN.replace(b"Accept: */*\r\n", b"A: 1\r\n" * MAX_FIELDS),
        b"",
        b"\r\n" + PLAIN,
    ],
)
def test_what_is_not_plain_is_left_to_the_parser(data: bytes) -> None:
    assert read(data) is None


def test_a_block_of_headers_that_comes_again_is_the_same_object() -> None:
    protocol = SimpleNamespace(plain_headers=PlainHeaders(), transport=None, remote="")
    first = plain_request(PLAIN, protocol)
    again = plain_request(PLAIN.replace(b"/a", b"/other"), protocol)
    other = plain_request(PLAIN.replace(b"*/*", b"text/plain"), protocol)
    assert again.raw_path == "/other?b=%20"
    assert again.headers is first.headers
    assert other.headers["Accept"] == "text/plain"
    assert first.headers["Accept"] == "*/*"


TOKEN = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=8)
VALUE = st.text([chr(code) for code in range(32, 127)] + ["\t"], max_size=20)


@given(st.lists(st.tuples(TOKEN, VALUE), max_size=10))
def test_headers_are_read_as_the_standard_library_reads_them(fields: list[tuple[str, str]]) -> None:
    text = "".join(f"{name}:{value}\r\n" for name, value in [("Host", "x"), *fields]) + "\r\n"
    request = read(b"GET / HTTP/1.1\r\n" + text.encode())
    if request is None:
        return
    known = http.client.parse_headers(io.BytesIO(text.encode()))
    assert [(name, value.strip(" \t")) for name, value in known.items()] == list(request.headers.items())


@given(
    st.binary(max_size=200)
    | st.builds(lambda at, byte: PLAIN[:at] + byte + PLAIN[at:], st.integers(0, 90), st.binary())
)
def test_anything_is_read_or_left(data: bytes) -> None:
    request = read(data)
    if request is not None:
        assert data.startswith(f"{request.method} {request.raw_path} HTTP/1.1\r\n".encode())
        assert data.count(b"\r\n\r\n") == 1


# --- on a connection -----------------------------------------------------------------------------


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
def test_requests_that_come_while_an_answer_is_under_way_are_answered_in_order(runner) -> None:
    async def main() -> None:
        gate = asyncio.Event()
        seen = []

        async def handler(request):
            seen.append((type(request) is PlainRequest, request.raw_path))
            if request.raw_path == "/1":
                await gate.wait()
            return await send(request, text_reply(200, request.raw_path))

        async with running(handler) as server:
            reader, writer = await server.open()
            head = b" HTTP/1.1\r\nHost: x\r\n\r\n"
            writer.write(b"GET /1" + head)
            await until(lambda: seen)
            writer.write(b"GET /2" + head)
            await asyncio.sleep(0.05)
            writer.write(b"GET /3" + head + b"GET /4 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            await asyncio.sleep(0.05)
            assert len(seen) == 1
            gate.set()
            got = await reader.read()
            writer.close()
            assert [path for _, path in seen] == ["/1", "/2", "/3", "/4"]
            assert seen[0][0]
            assert [line for line in got.split(b"\n") if line.startswith(b"/")] == [b"/1", b"/2", b"/3", b"/4"]

    runner(main())


def test_the_end_waits_for_an_answer_that_is_under_way() -> None:
    async def main() -> None:
        gate, seen = asyncio.Event(), []

        async def handler(request):
            seen.append(request)
            await gate.wait()
            return await send(request, text_reply(200, "done"))

        async with running(handler) as server:
            reader, writer = await server.open()
            writer.write(PLAIN)
            await until(lambda: seen)
            server.stop.set()
            await asyncio.sleep(0.1)
            assert not server.task.done()
            gate.set()
            assert (await reader.read()).endswith(b"done\n")
            writer.close()
            await asyncio.wait_for(server.task, 5)

    asyncio.run(main())


def test_a_handler_that_raises_ends_the_connection() -> None:
    async def main() -> None:
        async def handler(request):
            raise RuntimeError("no")

        async with running(handler) as server:
            assert await server.raw(PLAIN) == b""

    asyncio.run(main())


def test_a_connection_is_not_idle_while_it_is_answered(monkeypatch) -> None:
    monkeypatch.setattr("pymon.service.serve.IDLE_SECONDS", 0.3)

    async def main() -> None:
        async def handler(request):
            await asyncio.sleep(0.7)
            return await send(request, text_reply(200, "ok"))

        async with running(handler) as server:
            reader, writer = await server.open()
            for _ in range(2):
                writer.write(PLAIN)
                assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200")
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()

    asyncio.run(main())


def test_an_idle_connection_ends_and_one_that_asks_goes_on(monkeypatch) -> None:
    monkeypatch.setattr("pymon.service.serve.IDLE_SECONDS", 0.5)

    async def main() -> None:
        async with running() as server:
            reader, writer = await server.open()
            loop = asyncio.get_running_loop()
            begun = loop.time()
            while loop.time() - begun < 1.2:
                writer.write(PLAIN)
                assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200")
                await asyncio.sleep(0.1)
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()

    asyncio.run(main())

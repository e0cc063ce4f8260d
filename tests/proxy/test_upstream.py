"""The client of one agent, against agents that misbehave on purpose."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import resource
import socket
import ssl
import subprocess
from collections.abc import Callable

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from pymon.proxy import upstream as module
from pymon.proxy.upstream import Response, Upstream, UpstreamError
from tests.proxy.agents import Agent, Handle, Peer, always, on_each_loop, once, until

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
TWO = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\ntwo"


@contextlib.contextmanager
def using(url: str, *arguments, **keywords):
    upstream = Upstream(url, *arguments, **keywords)
    try:
        yield upstream
    finally:
        upstream.close()


async def get(upstream: Upstream, path: str = "/", *, seconds: float = 10.0, **keywords) -> Response:
    return await upstream.get(path, timeout_seconds=seconds, **keywords)


async def failure(upstream: Upstream, path: str = "/", *, seconds: float = 10.0, **keywords) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await get(upstream, path, seconds=seconds, **keywords)
    assert "\n" not in str(caught.value)
    return caught.value


def told(error: UpstreamError) -> tuple[int, str]:
    return error.status, error.reason


# --- connections that are kept ---


@on_each_loop
async def test_a_connection_is_used_again():
    async with Agent(always(OK)) as agent:
        with using(agent.url) as upstream:
            for _ in range(5):
                assert await get(upstream) == Response(200, {"content-type": "text/plain"}, b"ok")
            assert agent.connections == upstream.connections == 1


@on_each_loop
async def test_exchanges_at_the_same_time_have_connections_of_their_own():
    async def handle(peer: Peer) -> None:
        while True:
            path = (await peer.asked()).split()[1]
            await until(lambda: len(agent.heads) >= 8)
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    async with Agent(handle) as agent:
        with using(agent.url) as upstream:
            answers = await asyncio.gather(*(get(upstream, f"/{number}") for number in range(8)))
            assert [answer.body for answer in answers] == [b"/%d" % number for number in range(8)]
            assert upstream.connections == 8


@on_each_loop
async def test_a_request_has_the_headers_it_was_given_and_no_others():
    async with Agent(always(OK)) as agent:
        with using(agent.url + "/prefix/") as upstream:
            await get(upstream, "/v1/x?a=b", headers=(("Accept", "a/b"), ("If-None-Match", '"x"')))
    host = agent.url.removeprefix("http://").encode()
    assert agent.heads == [
        b"GET /prefix/v1/x?a=b HTTP/1.1\r\nHost: " + host + b"\r\nUser-Agent: pymon-proxy\r\n"
        b'Accept: a/b\r\nIf-None-Match: "x"\r\n\r\n'
    ]


@on_each_loop
async def test_a_connection_that_the_agent_closed_is_noticed():
    async with Agent(once(OK)) as agent:
        with using(agent.url) as upstream:
            for number in range(3):
                await get(upstream)
                await until(lambda: upstream.connections == 0)
                assert agent.connections == number + 1


@on_each_loop
async def test_a_kept_connection_that_ends_unanswered_is_replaced_once_and_silently():
    async def handle(peer: Peer) -> None:
        await peer.asked()
        await peer.say(OK)
        await peer.asked()  # and hangs up

    async with Agent(handle) as agent:
        with using(agent.url) as upstream:
            await get(upstream)
            assert (await get(upstream)).body == b"ok"
            assert (agent.connections, len(agent.heads)) == (2, 3)


@on_each_loop
@pytest.mark.parametrize("reset", [False, True])
async def test_a_request_is_sent_again_only_once_however_many_connections_are_kept(reset):
    async def handle(peer: Peer) -> None:
        await peer.asked()
        if len(agent.heads) <= 3:
            await until(lambda: len(agent.heads) >= 3)
            await peer.say(OK)
            await peer.asked()
        if reset:
            peer.reset()

    async with Agent(handle) as agent:
        with using(agent.url) as upstream:
            await asyncio.gather(*(get(upstream) for _ in range(3)))
            assert told(await failure(upstream)) == (502, "closed")
            assert len(agent.heads) == 5


@on_each_loop
async def test_nothing_is_sent_again_once_something_was_heard():
    async def handle(peer: Peer) -> None:
        await peer.asked()
        await peer.say(OK)
        await peer.asked()
        await peer.say(b"H")

    async with Agent(handle) as agent:
        with using(agent.url) as upstream:
            await get(upstream)
            assert told(await failure(upstream)) == (502, "truncated")
            assert len(agent.heads) == 2


@on_each_loop
async def test_a_connection_that_was_idle_for_too_long_is_not_used(monkeypatch):
    async with Agent(always(OK)) as agent:
        with using(agent.url) as upstream:
            await get(upstream)
            monkeypatch.setattr(module, "IDLE_SECONDS", 0.0)
            await get(upstream)
            assert agent.connections == 2
            await until(lambda: upstream.connections == 1)


@on_each_loop
@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
async def test_a_connection_is_kept_when_the_agent_says_so(version):
    for header in [b"", b"Connection: close\r\n", b"Connection: keep-alive\r\n"]:
        answer = version + b" 200 OK\r\n" + header + b"Content-Length: 2\r\n\r\nok"
        kept = b"keep-alive" in header or (version == b"HTTP/1.1" and not header)
        async with Agent(always(answer)) as agent:
            with using(agent.url) as upstream:
                for _ in range(2):
                    assert (await get(upstream)).body == b"ok"
                assert agent.connections == (1 if kept else 2)


@on_each_loop
async def test_closing_ends_what_is_under_way_and_what_comes_later():
    async with Agent(lambda peer: peer.closed()) as agent:
        with using(agent.url) as upstream:
            waiting = asyncio.create_task(failure(upstream))
            await until(lambda: agent.open == 1)
            upstream.close()
            assert told(await waiting) == (502, "closed")
            assert told(await failure(upstream)) == (502, "closed")
            await until(lambda: agent.open == 0)
            assert upstream.connections == 0


# --- time ---


@on_each_loop
async def test_a_slow_answer_is_given_up_at_the_deadline_and_the_next_request_works():
    async def handle(peer: Peer) -> None:
        await peer.asked()
        if peer.number == 1:
            await peer.closed()
        await peer.say(OK)
        await peer.closed()

    async with Agent(handle) as agent:
        with using(agent.url) as upstream:
            assert told(await failure(upstream, seconds=0.1)) == (504, "timeout")
            assert (await get(upstream)).body == b"ok"
            await until(lambda: agent.open == 1)
            assert upstream.connections == 1


@on_each_loop
async def test_an_answer_that_stops_half_way_is_given_up_at_the_deadline():
    for part in [
        b"HTT",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        OK[:-1],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok",
    ]:
        async with Agent(once(part, lambda peer: peer.closed())) as agent:
            with using(agent.url) as upstream:
                assert told(await failure(upstream, seconds=0.1)) == (504, "timeout")
                await until(lambda: agent.open == 0)


@on_each_loop
async def test_without_time_nothing_is_sent_and_no_connection_is_lost():
    for seconds in [0.0, -1.0]:
        async with Agent(always(OK)) as agent:
            with using(agent.url) as upstream:
                await get(upstream)
                assert told(await failure(upstream, seconds=seconds)) == (504, "timeout")
                await get(upstream)
                assert (agent.connections, len(agent.heads)) == (1, 2)


@on_each_loop
async def test_cancelling_ends_the_connection():
    async with Agent(once(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", lambda peer: peer.closed())) as agent:
        with using(agent.url) as upstream:
            task = asyncio.create_task(get(upstream))
            await until(lambda: len(agent.heads) == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: agent.open == upstream.connections == 0)


@on_each_loop
async def test_cancelling_at_any_moment_leaks_nothing():
    async with Agent(always(OK)) as agent:
        for steps in range(16):
            with using(agent.url) as upstream:
                task = asyncio.create_task(get(upstream))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                assert (await get(upstream)).body == b"ok"
                await until(lambda: agent.open == upstream.connections == len(upstream._idle) == 1)
            await until(lambda: agent.open == 0)


# --- connecting ---


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@on_each_loop
async def test_a_refused_connection_fails_at_once_and_so_do_the_next_until_the_agent_is_back(monkeypatch):
    attempts = 0
    loop = asyncio.get_running_loop()
    agent = Agent(always(OK))
    agent.port = free_port()
    with using(agent.url) as upstream:
        first = await failure(upstream)
        assert told(first) == (502, "connect")
        await agent.start()
        try:
            monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
            upstream._try_at = loop.time() + 1000
            for _ in range(20):
                assert str(await failure(upstream)) == str(first)
                attempts += 1
            assert agent.connections == 0
            upstream._try_at = loop.time()
            assert (await get(upstream)).body == b"ok"
            assert (await asyncio.gather(*(get(upstream) for _ in range(5))))[4].body == b"ok"
        finally:
            await agent.stop()


@on_each_loop
async def test_an_agent_that_comes_back_is_found_in_time():
    agent = Agent(always(OK))
    agent.port = free_port()
    with using(agent.url) as upstream:
        await failure(upstream)
        async with agent, asyncio.timeout(module.RETRY_SECONDS + 5):
            while True:
                with contextlib.suppress(UpstreamError):
                    assert (await get(upstream)).body == b"ok"
                    break
                await asyncio.sleep(0.02)


@on_each_loop
async def test_one_try_at_a_time_is_made_while_connections_fail(monkeypatch):
    made = []
    loop = asyncio.get_running_loop()

    async def create_connection(*_, **__):
        made.append(1)
        await asyncio.sleep(0.01)
        raise ConnectionRefusedError(111, "Connection refused")

    with using("http://127.0.0.1:9") as upstream:
        await failure(upstream)
        # uvloop's loop has no attributes that can be set.
        monkeypatch.setattr(module.asyncio, "get_running_loop", lambda: _With(loop, create_connection))
        upstream._try_at = 0.0
        await asyncio.gather(*(failure(upstream) for _ in range(20)))
        assert len(made) == 1


class _With:
    def __init__(self, loop: asyncio.AbstractEventLoop, create_connection: Callable) -> None:
        self._loop = loop
        self.create_connection = create_connection

    def __getattr__(self, name: str) -> object:
        return getattr(self._loop, name)


@on_each_loop
async def test_the_background_tries_to_connect_however_lately_that_failed():
    agent = Agent(always(OK))
    agent.port = free_port()
    with using(agent.url) as upstream:
        await failure(upstream)
        upstream._try_at += 1000
        async with agent:
            assert (await get(upstream, background=True)).body == b"ok"
            upstream.close()
    assert upstream._failed is None


@on_each_loop
async def test_the_memory_of_a_failure_keeps_nothing_else_alive():
    with using(f"http://127.0.0.1:{free_port()}") as upstream:
        await failure(upstream)
        await failure(upstream)
        assert upstream._failed.__traceback__ is None


@contextlib.contextmanager
def blackhole():
    """A port that completes no handshake: the queue of its socket is full."""
    with socket.socket() as server, contextlib.ExitStack() as stack:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield server.getsockname()[1]


@on_each_loop
async def test_a_connection_that_does_not_come_is_given_up_and_remembered(monkeypatch):
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.2)
    loop = asyncio.get_running_loop()
    with blackhole() as port, using(f"http://127.0.0.1:{port}") as upstream:
        begin = loop.time()
        assert told(await failure(upstream, seconds=30)) == (504, "connect_timeout")
        assert loop.time() - begin < 5
        upstream._try_at = loop.time() + 1000
        assert told(await failure(upstream, seconds=30)) == (504, "connect_timeout")
        assert upstream.connections == 0


@on_each_loop
async def test_who_has_little_time_to_connect_speaks_for_nobody_else():
    with blackhole() as port, using(f"http://127.0.0.1:{port}") as upstream:
        assert told(await failure(upstream, seconds=0.05)) == (504, "timeout")
        assert upstream._failed is None


@on_each_loop
async def test_names_that_are_none_are_one_line():
    for host in ("no-such-host.invalid", "a" * 64 + ".invalid", "a..b"):
        with using(f"http://{host}:1") as upstream:
            assert told(await failure(upstream)) == (502, "connect")


@on_each_loop
async def test_an_ipv6_address_stands_in_brackets():
    try:
        agent = Agent(always(OK), host="::1")
        await agent.start()
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    try:
        with using(agent.url) as upstream:
            assert (await get(upstream)).body == b"ok"
        assert f"\r\nHost: [::1]:{agent.port}\r\n".encode() in agent.heads[0]
    finally:
        await agent.stop()


@on_each_loop
@pytest.mark.parametrize("url", ["ftp://a:1", "a:1", "http://", "http://:1", "", "unix:/x"])
async def test_a_url_that_is_none_is_refused(url):
    with pytest.raises(ValueError, match="expected http://HOST:PORT"):
        Upstream(url)


def ip(*arguments: str) -> None:
    subprocess.run(("ip", *arguments), check=True, capture_output=True)


@on_each_loop
@pytest.mark.root
async def test_an_agent_whose_machine_lost_its_power_costs_seconds_and_not_its_deadline(monkeypatch):
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.5)
    space = f"pymon{os.getpid()}"
    outer, inner = f"pmo{os.getpid() % 100000}", f"pmi{os.getpid() % 100000}"
    try:
        ip("netns", "add", space)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespace can be made here: {error}")
    try:
        try:
            ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", space)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no virtual link can be made here: {error.stderr.decode().strip()}")
        ip("address", "add", "198.51.100.1/30", "dev", outer)
        ip("link", "set", outer, "up")
        ip("-n", space, "address", "add", "198.51.100.2/30", "dev", inner)
        ip("-n", space, "link", "set", inner, "up")
        code = (
            "import socketserver as s\n"
            "class H(s.StreamRequestHandler):\n"
            "    def handle(self):\n"
            "        while self.rfile.readline() not in (b'', b'\\r\\n'): pass\n"
            f"        self.wfile.write({OK!r})\n"
            "        self.rfile.read()\n"
            "server = s.ThreadingTCPServer(('198.51.100.2', 9161), H)\n"
            "print(flush=True)\n"
            "server.serve_forever()\n"
        )
        command = ("ip", "netns", "exec", space, "python3", "-c", code)
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        try:
            await process.stdout.readline()
            with using("http://198.51.100.2:9161") as upstream:
                assert (await get(upstream)).body == b"ok"
                ip("-n", space, "link", "set", inner, "down")
                begin = asyncio.get_running_loop().time()
                error = await failure(upstream, seconds=60)
                assert error.reason in ("connect_timeout", "connect")
                assert asyncio.get_running_loop().time() - begin < 20
        finally:
            process.kill()
            await process.communicate()
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("link", "delete", outer)
        ip("netns", "delete", space)


# --- answers ---


@on_each_loop
async def test_what_is_no_answer_is_refused_and_ends_the_connection():
    for answer in [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nETag: a\rb\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nETag: a\x00b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nETag: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nok",
    ]:
        async with Agent(once(answer, lambda peer: peer.closed())) as agent:
            with using(agent.url) as upstream:
                assert told(await failure(upstream)) == (502, "malformed")
                await until(lambda: agent.open == upstream.connections == 0)


@on_each_loop
async def test_an_answer_cut_anywhere_is_refused():
    async def handle(peer: Peer) -> None:
        await peer.asked()
        await peer.say(OK[: peer.number])

    async with Agent(handle) as agent:
        with using(agent.url) as upstream:
            for _ in range(1, len(OK)):
                assert told(await failure(upstream)) == (502, "truncated")


@on_each_loop
async def test_a_body_that_ends_with_its_connection_could_be_truncated_and_is_refused():
    for answer in (b"HTTP/1.0 200 OK\r\n\r\nok", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok"):
        async with Agent(once(answer)) as agent:
            with using(agent.url) as upstream:
                assert told(await failure(upstream)) == (502, "truncated")


@on_each_loop
async def test_a_connection_that_is_reset():
    async def handle(peer: Peer) -> None:
        await peer.asked()
        if peer.number == 2:
            await peer.say(OK[:30])
            await asyncio.sleep(0.05)
        peer.reset()

    async with Agent(handle) as agent:
        with using(agent.url) as upstream:
            assert told(await failure(upstream)) == (502, "closed")
            assert told(await failure(upstream)) == (502, "truncated")
            assert agent.connections == 2


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nContent-Type: text/plain\r\n\r\n"
    b"2;extension=x\r\nab\r\n00A\r\n0123456789\r\n0\r\nContent-Type: evil\r\nETag: evil\r\n\r\n"
)


@on_each_loop
async def test_a_chunked_answer_is_put_together_and_its_trailers_are_left_out():
    async def handle(peer: Peer) -> None:
        await peer.asked()
        for position in range(len(CHUNKED)):
            await peer.say(CHUNKED[position : position + 1])
            await asyncio.sleep(0)
        await peer.asked()
        await peer.say(CHUNKED)
        await peer.closed()

    async with Agent(handle) as agent:
        with using(agent.url) as upstream:
            for _ in range(2):
                assert await get(upstream) == Response(200, {"content-type": "text/plain"}, b"ab0123456789")
            assert agent.connections == 1


@on_each_loop
async def test_informational_answers_leave_nothing_in_the_answer():
    early = b"HTTP/1.1 103 Early Hints\r\nETag: evil\r\nContent-Length: 5\r\n\r\n"
    async with Agent(always(b"HTTP/1.1 100 Continue\r\n\r\n" + early + OK)) as agent:
        with using(agent.url) as upstream:
            for _ in range(2):
                assert await get(upstream) == Response(200, {"content-type": "text/plain"}, b"ok")
            assert agent.connections == 1


@on_each_loop
async def test_an_answer_without_a_body_has_none_whatever_length_it_says():
    for status in [204, 304]:
        answer = b'HTTP/1.1 %d X\r\nETag: "a"\r\nContent-Length: 12\r\n\r\n' % status
        async with Agent(always(answer)) as agent:
            with using(agent.url) as upstream:
                for _ in range(2):
                    assert await get(upstream) == Response(status, {"etag": '"a"'}, b"")
                assert agent.connections == 1


@on_each_loop
async def test_a_status_is_handed_on_as_it_is():
    for status in [200, 299, 301, 404, 418, 500, 599, 999]:
        async with Agent(always(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nok" % status)) as agent:
            with using(agent.url) as upstream:
                assert await get(upstream) == Response(status, {}, b"ok")


@on_each_loop
async def test_headers_of_one_name_are_one_and_the_space_behind_them_is_none_of_them():
    answer = OK.replace(
        b"Content-Type", b"CONTENT-ENCODING: gzip\r\nContent-encoding: br \t\r\nSet-Cookie: x\r\nContent-Type"
    )
    async with Agent(always(answer)) as agent:
        with using(agent.url) as upstream:
            assert (await get(upstream)).headers == {"content-type": "text/plain", "content-encoding": "gzip, br"}


@on_each_loop
@pytest.mark.parametrize("first", [OK, OK.replace(b"200", b"204").replace(b"ok", b"")])
async def test_a_second_answer_in_the_same_segment_reaches_nobody(first):
    for rest in [TWO, TWO[:20], b"x", b"HTTP/1.1 100 Continue\r\n\r\n"]:
        async with Agent(once(first + rest, lambda peer: peer.closed())) as agent:
            with using(agent.url) as upstream:
                one = await get(upstream)
                two = await get(upstream)
                assert one.headers == two.headers == {"content-type": "text/plain"}
                assert (one.body, two.body) == (first[-2:].strip(), first[-2:].strip())
                assert agent.connections == 2


@on_each_loop
async def test_a_second_answer_that_comes_later_reaches_nobody():
    async def handle(peer: Peer) -> None:
        await peer.asked()
        await peer.say(OK)
        if peer.number == 1:
            await until(go.is_set)
            await peer.say(TWO)
        await peer.closed()

    go = asyncio.Event()
    async with Agent(handle) as agent:
        with using(agent.url) as upstream:
            await get(upstream)
            go.set()
            await until(lambda: upstream.connections == 0)
            assert (await get(upstream)).body == b"ok"


@on_each_loop
async def test_the_late_answer_to_a_request_that_was_given_up_reaches_nobody():
    async def handle(peer: Peer) -> None:
        await peer.asked()
        if peer.number == 1:
            await until(go.is_set)
            await peer.say(TWO)
        else:
            go.set()
            await peer.say(OK)
            await always(OK)(peer)

    go = asyncio.Event()
    async with Agent(handle) as agent:
        with using(agent.url) as upstream:
            await failure(upstream, seconds=0.05)
            for _ in range(3):
                assert (await get(upstream)).body == b"ok"


@on_each_loop
async def test_an_answer_before_the_question_does_no_harm(tls):
    async def handle(peer: Peer) -> None:
        await peer.say(OK)
        await peer.closed()

    # With TLS 1.2 the agent ends the handshake, so that what it says then comes in the same segment.
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.maximum_version = ssl.TLSVersion.TLSv1_2
    tls.certificate.configure_cert(server)
    for context in (None, tls.server, server):
        async with Agent(handle, tls=context) as agent:
            for _ in range(20):
                # An answer is only known to be early when it is seen before the request is sent.
                with (
                    using(agent.url, tls.client, server_name="agent.example") as upstream,
                    contextlib.suppress(UpstreamError),
                ):
                    assert (await get(upstream)).body == b"ok"
                await until(lambda upstream=upstream: upstream.connections == 0)
            await until(lambda: agent.open == 0)


# --- sizes ---


def flood(head: bytes, piece: bytes, pieces: int) -> Handle:
    async def handle(peer: Peer) -> None:
        await peer.asked()
        await peer.say(head)
        for _ in range(pieces):
            await peer.say(piece)
        await peer.closed()

    return handle


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


FLOODS = {
    "one header of 100 MB": (b"HTTP/1.1 200 OK\r\nETag: ", b"x" * 65536, 1600),
    "one header's name of 100 MB": (b"HTTP/1.1 200 OK\r\n", b"x" * 65536, 1600),
    "100 MB of headers": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 10000, 1600),
    "a reason of 100 MB": (b"HTTP/1.1 200 ", b"x" * 65536, 1600),
    "informational answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 3000, 1600),
    "a body of 2 GB": (b"HTTP/1.1 200 OK\r\nContent-Length: 2147483648\r\n\r\n", b"x" * 65536, 32768),
    "chunks of 2 GB": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"10000\r\n" + b"x" * 65536 + b"\r\n",
        32768,
    ),
    "an extension": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 65536, 1600),
    "trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nETag: ", b"x" * 65536, 1600),
    "a body until the end": (b"HTTP/1.0 200 OK\r\n\r\n", b"x" * 65536, 32768),
}


@on_each_loop
@pytest.mark.parametrize("what", FLOODS)
async def test_what_has_no_end_is_refused_in_bounded_memory(what):
    before = peak_bytes()
    async with Agent(flood(*FLOODS[what])) as agent:
        with using(agent.url) as upstream:
            assert told(await failure(upstream, seconds=60)) == (502, "too_large")
            await until(lambda: agent.open == upstream.connections == 0)
    assert peak_bytes() - before < 64 << 20


@on_each_loop
async def test_a_body_in_tiny_chunks_takes_no_more_memory_than_it_has_bytes():
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    before = peak_bytes()
    async with Agent(flood(head, b"2\r\nab\r\n" * 10000, 60)) as agent:
        with using(agent.url) as upstream:
            assert told(await failure(upstream, seconds=60, max_bytes=1 << 20)) == (502, "too_large")
    assert peak_bytes() - before < 16 << 20


@on_each_loop
async def test_a_body_may_have_as_many_bytes_as_it_may():
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300000
    async with Agent(always(answer)) as agent:
        with using(agent.url) as upstream:
            assert (await get(upstream, max_bytes=300000)).body == b"x" * 300000
            assert [connection._body for connection in upstream._idle] == [b""]
            assert told(await failure(upstream, max_bytes=299999)) == (502, "too_large")


# --- requests ---


@on_each_loop
async def test_a_path_that_is_none_is_not_sent():
    for path in [
        "",
        "x",
        "/ HTTP/1.1",
        "/\r\nX: y",
        "/\n",
        "/\r",
        "/\t",
        "/\0",
        "/\x7f",
        "/\x85",
        "/é",
        "/\u2028",
        "http://a/",
    ]:
        async with Agent(always(OK)) as agent:
            with using(agent.url) as upstream:
                with pytest.raises(ValueError, match="expected the path of a request"):
                    await get(upstream, path)
                assert agent.connections == 0


@settings(max_examples=300)
@given(st.text(alphabet=st.characters(max_codepoint=0x2FF)))
def test_a_path_that_is_taken_is_one_word(text):
    async def main() -> None:
        # Refused by its deadline, when not by its path.
        await Upstream("http://127.0.0.1:1").get("/" + text, timeout_seconds=0)

    try:
        asyncio.run(main())
    except UpstreamError:
        assert text.isascii()
        assert not set(text) & {chr(number) for number in (*range(33), 127)}
    except ValueError:
        assert not text.isascii() or set(text) & {chr(number) for number in (*range(33), 127)}


# --- TLS ---


class TLS:
    def __init__(self) -> None:
        self.authority = trustme.CA()
        self.certificate = self.authority.issue_cert("agent.example")
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.certificate.configure_cert(self.server)
        self.client = self.trusting(self.authority)
        der = ssl.PEM_cert_to_DER_cert(self.certificate.cert_chain_pems[0].bytes().decode())
        self.fingerprint = hashlib.sha256(der).hexdigest()

    @staticmethod
    def trusting(authority: trustme.CA) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(context)
        return context


@pytest.fixture(scope="module")
def tls() -> TLS:
    return TLS()


@on_each_loop
async def test_an_agent_of_a_private_authority(tls):
    async with Agent(always(OK), tls=tls.server) as agent:
        with using(agent.url, tls.client, server_name="agent.example") as upstream:
            for _ in range(3):
                assert (await get(upstream)).body == b"ok"
            assert agent.connections == 1


@on_each_loop
async def test_a_kept_connection_that_tls_ended_is_replaced(tls):
    async def handle(peer: Peer) -> None:
        await peer.asked()
        await peer.say(OK)
        await peer.asked()
        peer.writer.transport.abort()

    async with Agent(handle, tls=tls.server) as agent:
        with using(agent.url, tls.client, server_name="agent.example") as upstream:
            for _ in range(3):
                assert (await get(upstream)).body == b"ok"


@on_each_loop
async def test_a_wrong_name_or_authority_is_refused_and_nothing_is_sent(tls):
    async with Agent(always(OK), tls=tls.server) as agent:
        for context, name in (
            (tls.client, ""),
            (tls.client, "b.example"),
            (TLS.trusting(trustme.CA()), "agent.example"),
        ):
            with using(agent.url, context, server_name=name) as upstream:
                error = await failure(upstream)
                assert told(error) == (502, "tls")
                assert str(error).startswith("TLS: ")
                assert told(await failure(upstream)) == (502, "tls")
    assert agent.heads == []


@on_each_loop
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_an_agent_that_wants_a_certificate(tls, version):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.minimum_version = server.maximum_version = version
    tls.certificate.configure_cert(server)
    tls.authority.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED
    async with Agent(always(OK), tls=server) as agent:
        with using(agent.url, tls.client, server_name="agent.example") as upstream:
            # With TLS 1.3 the client's handshake is over before the agent looks at its certificate.
            assert told(await failure(upstream)) == (502, "connect" if version is ssl.TLSVersion.TLSv1_2 else "closed")
        assert agent.heads == []
        mutual = TLS.trusting(tls.authority)
        tls.authority.issue_cert("proxy.example").configure_cert(mutual)
        with using(agent.url, mutual, server_name="agent.example") as upstream:
            assert (await get(upstream)).body == b"ok"


def pinned() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@on_each_loop
async def test_a_pinned_certificate_is_the_only_one(tls):
    async with Agent(always(OK), tls=tls.server) as agent:
        with using(agent.url, pinned(), fingerprint=tls.fingerprint) as upstream:
            assert (await get(upstream)).body == b"ok"
        heads = len(agent.heads)
        with using(agent.url, pinned(), fingerprint="0" * 64) as upstream:
            assert told(await failure(upstream)) == (502, "tls")
            assert told(await failure(upstream)) == (502, "tls")
            await until(lambda: agent.open == upstream.connections == 0)
        assert len(agent.heads) == heads


@on_each_loop
async def test_a_pinned_certificate_is_never_taken_from_plain_http(tls):
    async with Agent(always(OK)) as agent:
        with using(agent.url, fingerprint=tls.fingerprint) as upstream:
            assert told(await failure(upstream)) == (502, "tls")
        assert agent.heads == []


@on_each_loop
async def test_what_is_no_tls_is_refused(tls, monkeypatch):

    async def handle(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.say(OK)

    async with Agent(handle) as agent:
        with using(agent.url.replace("http:", "https:"), tls.client) as upstream:
            assert told(await failure(upstream)) == (502, "tls")
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.2)
    async with Agent(lambda peer: peer.closed()) as agent:
        with using(agent.url.replace("http:", "https:"), tls.client) as upstream:
            assert told(await failure(upstream)) == (504, "connect_timeout")
            await until(lambda: agent.open == 0)

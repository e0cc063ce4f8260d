"""The client of one agent, against agents that misbehave on purpose: connecting."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
from collections.abc import Callable

import pytest

from pymon.proxy import upstream as module
from pymon.proxy.upstream import Upstream, UpstreamError
from tests.proxy.agents import Agent, always, on_each_loop
from tests.proxy.upstream import OK, failure, get, told, using


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
        assert str(first).endswith("no connection: Connection refused"), "and no address"
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
async def test_a_name_whose_servers_do_not_answer_is_looked_up_once_at_a_time(monkeypatch):
    asked = []
    answer = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def getaddrinfo(host, port, **_):
        asked.append(host)
        await answer.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, port)) for address in ("127.0.0.9", "127.0.0.1")]

    async with Agent(always(OK)) as agent:
        with using(f"http://node.example:{agent.port}") as upstream:
            found = _With(loop, loop.create_connection)
            found.getaddrinfo = getaddrinfo
            monkeypatch.setattr(module.asyncio, "get_running_loop", lambda: found)
            for _ in range(5):
                assert told(await failure(upstream, seconds=0.05)) == (504, "timeout")
            assert asked == ["node.example"]
            answer.set()
            assert (await get(upstream)).body == b"ok", "at the second address"
            assert f"\r\nHost: node.example:{agent.port}\r\n".encode() in agent.heads[0]
            answer.clear()
            upstream.retire()
            assert told(await failure(upstream, seconds=0.05)) == (504, "timeout")
            assert asked == ["node.example"] * 2


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
                async with asyncio.timeout(30):  # a new link may lose the first packets
                    while True:
                        with contextlib.suppress(UpstreamError):
                            assert (await get(upstream)).body == b"ok"
                            break
                        await asyncio.sleep(0.1)
                monkeypatch.setattr(module, "CONNECT_SECONDS", 0.5)
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

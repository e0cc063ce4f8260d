"""Listening sockets, most of them in the file system."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import stat
from pathlib import Path

import pytest
import uvloop

from pymon.config import Address, UnixAddress
from pymon.service.answer import Reply, text_reply
from pymon.service.listen import bound, listening, open_apart, raise_descriptor_limit, reserved
from pymon.service.server import Request
from tests.service.running import running


async def ask(path: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    try:
        return await reader.read()
    finally:
        writer.close()


def test_it_serves_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s"
    seen = []

    async def handler(request: Request) -> Reply:
        seen.append((request.client.remote, request.client.certificate_der))
        return text_reply(200, "ok")

    async def main() -> None:
        async with running(handler, addresses=[UnixAddress(path), Address("127.0.0.1", 0)]) as server:
            assert server.bound[0] == UnixAddress(path)
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            assert (await ask(path)).endswith(b"\r\n\r\nok\n")

    mask = os.umask(0)
    try:
        uvloop.run(main())
    finally:
        os.umask(mask)
    assert seen == [("", None)]
    assert not path.exists()


def test_a_dead_process_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with listening(UnixAddress(path)) as (listener,):
        with (
            pytest.raises(OSError, match=f"cannot listen on unix:{path}: Address already in use"),
            listening(UnixAddress(path)),
        ):
            pass
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            listener.accept()[0].close()
    assert not path.exists()


def test_another_kind_of_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(OSError, match="Address already in use"), listening(UnixAddress(path)):
        pass
    assert path.read_text() == "precious"


def test_what_somebody_else_put_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listening(UnixAddress(path)):
        (tmp_path / "other").write_text("theirs")
        (tmp_path / "other").rename(path)
    assert path.read_text() == "theirs"


@pytest.mark.parametrize("path", [Path("/nowhere/at/all"), Path("/tmp") / ("x" * 200)])
def test_errors_name_the_address(path: Path) -> None:
    with pytest.raises(OSError, match=rf"cannot listen on unix:{path}: \S"), listening(UnixAddress(path)):
        pass


@pytest.mark.parametrize("host", ["", "::", "0.0.0.0", "127.0.0.1"])
def test_what_is_bound_is_called_as_it_was_asked_for(host: str) -> None:
    """Every address of IPv6 alone is another thing than every address of both families."""
    asked = Address(host, 0)
    with listening(asked) as (listener,):
        found = bound(listener, asked)
        assert found == Address(host, listener.getsockname()[1])


@pytest.mark.parametrize("host", ["", "127.0.0.1"])
def test_processes_have_listeners_of_their_own_at_one_address(host: str) -> None:
    with reserved(Address(host, 0)) as (shared, [address]), contextlib.ExitStack() as close:
        assert shared == []
        port = address.port
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        found = [[close.enter_context(listener) for listener in open_apart(address)] for _ in range(3)]
        assert {listener.getsockname()[1] for own in found for listener in own} == {port}
        assert len({listener.fileno() for own in found for listener in own}) == 3
        accepted = 0
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port)):
                for own in found:
                    try:
                        own[0].accept()[0].close()
                    except BlockingIOError:
                        continue
                    accepted += 1
        assert accepted == 20
        # Who does not share the address, and who would, cannot have it: a second proxy has to fail.
        for opened in (listening(Address(host, port)), reserved(Address(host, port))):
            with pytest.raises(OSError, match="Address already in use"), opened:
                pass
    with listening(Address(host, port)):
        pass


def test_processes_share_the_listener_of_a_socket_file(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with reserved(UnixAddress(path)) as (shared, addresses):
        assert len(shared) == 1
        assert addresses == [UnixAddress(path)]
        assert path.exists()
    assert not path.exists()


def test_descriptors_are_raised_to_the_hard_limit() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    try:
        raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

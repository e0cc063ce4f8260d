"""A fetch from applications that answer well, badly, and with the intent to harm."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pymon.apps.fetch import fetch, own_addresses
from pymon.apps.protocol import AppError

LIMIT = 100_000
OK = b"HTTP/1.1 200 OK\r\n"


class Application:
    """A server on loopback. talk: answers one connection, in a thread; it may block until the peer has gone."""

    def __init__(self, talk: Callable[[socket.socket], None], host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self.port: int = self._listener.getsockname()[1]
        self.requests: list[bytes] = []
        self.sent = 0
        self._talk = talk
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(30)
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(65536)
                self.requests.append(request)
                self._talk(connection)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(30)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def application(talk: Callable[[socket.socket], None] | bytes) -> Iterator[Application]:
    data = talk
    running = Application((lambda connection: connection.sendall(data)) if isinstance(data, bytes) else data)
    try:
        yield running
    finally:
        running.close()


def get(port: int, seconds: float = 30.0, path: str = "/metrics", addresses: tuple[str, ...] = ("127.0.0.1",)) -> bytes:
    return fetch(addresses, port, path, until=time.monotonic() + seconds, max_bytes=LIMIT)


def refused(talk: Callable[[socket.socket], None] | bytes, seconds: float = 30.0) -> AppError:
    with application(talk) as running, pytest.raises(AppError) as caught:
        get(running.port, seconds)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK + b"Content-Length: 4\r\n\r\na 1\n", b"a 1\n"),
        (OK + b"Content-Length: 4\r\nContent-Encoding: identity\r\n\r\na 1\nrest", b"a 1\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2;ext=1\r\na \r\n2\r\n1\n\r\n0\r\nT: x\r\n\r\n", b"a 1\n"),
        (b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\na 1\n", b"a 1\n"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.0 200 OK\r\n\r\n", b""),
    ],
)
def test_what_an_application_answers_is_its_body(answer: bytes, body: bytes) -> None:
    with application(answer) as running:
        assert get(running.port) == body


def test_the_request_asks_for_the_text_format_without_codings() -> None:
    with application(OK + b"Content-Length: 0\r\n\r\n") as running:
        get(running.port, path="/a/b%20c")
    (request,) = running.requests
    lines = request.decode().split("\r\n")
    assert lines[0] == "GET /a/b%20c HTTP/1.1"
    assert {f"Host: 127.0.0.1:{running.port}", "Accept-Encoding: identity", "Connection: close"} <= set(lines)
    assert "Accept: text/plain;version=0.0.4" in lines


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with application(OK + b"Content-Length: 7\r\n\r\nsecret 1") as other:
        location = f"http://127.0.0.1:{other.port}/".encode()
        error = refused(b"HTTP/1.1 %d Moved\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % (status, location))
        assert other.requests == []
    assert error.reason == "redirect"


def test_any_other_status_is_no_answer() -> None:
    for status in (201, 204, 206, 404, 500):
        error = refused(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)
        assert (error.reason, str(error).rpartition(" ")[2]) == ("status", str(status))


def test_a_content_coding_is_not_taken_so_nothing_can_burst() -> None:
    bomb = gzip.compress(b"a 1\n" * 10_000_000)
    for coding in (b"gzip", b"deflate", b"br", b"identity, gzip"):
        head = OK + b"Content-Encoding: " + coding + b"\r\nContent-Length: %d\r\n\r\n" % len(bomb)
        assert refused(head + bomb).reason == "coding"
    assert refused(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n").reason == "malformed"


def endless(head: bytes, piece: bytes) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(piece)

    return talk


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (OK + b"Content-Length: 9999999999\r\n\r\n", b"a 1\n" * 1000),
        (b"HTTP/1.0 200 OK\r\n\r\n", b"a 1\n" * 1000),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"4\r\na 1\n\r\n" * 1000),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 4000),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 4000 + b"\r\na\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"T: x\r\n" * 500),
        (OK, b"X: y\r\n" * 500),
        (OK + b"X: ", b"y" * 4000),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        (b"", b"\r\n" * 2000),
    ],
    ids=["length", "close", "chunks", "extension", "extensions", "trailers", "headers", "header", "100", "empty lines"],
)
def test_what_has_no_end_is_refused_long_before_its_time(head: bytes, piece: bytes) -> None:
    assert refused(endless(head, piece), seconds=60).reason in ("too_large", "malformed")


def test_a_body_is_taken_up_to_the_limit() -> None:
    for size, good in ((LIMIT, True), (LIMIT + 1, False)):
        body = b"x" * size
        for head in (OK + b"Content-Length: %d\r\n\r\n" % size, b"HTTP/1.0 200 OK\r\n\r\n"):
            if good:
                with application(head + body) as running:
                    assert get(running.port) == body
            else:
                assert refused(head + body).reason == "too_large"


def slowly(head: bytes) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(b"a")
            time.sleep(0.02)

    return talk


def silent(connection: socket.socket) -> None:
    connection.recv(1)


@pytest.mark.parametrize("talk", [silent, slowly(OK + b"X: "), slowly(OK + b"Content-Length: 9000\r\n\r\n")])
def test_a_slow_answer_ends_at_the_deadline(talk: Callable[[socket.socket], None]) -> None:
    began = time.monotonic()
    error = refused(talk, 0.5)
    assert error.reason == "timeout"
    assert 0.4 < time.monotonic() - began < 20


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"\x15\x03\x01\x00\x02\x02", b"HTTP/1.1 200",
        OK + b"Content-Length: 5\r\n\r\na",
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\na", OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\na 1",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_no_whole_answer_is_malformed(answer: bytes) -> None:
    assert refused(answer).reason in ("malformed", "connect")


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(AppError, match=f"^port {port}: Connection refused$") as caught:
        get(port)
    assert caught.value.reason == "connect"


def test_the_addresses_of_the_namespace_are_tried_in_order() -> None:
    running = Application(lambda connection: connection.sendall(OK + b"Content-Length: 1\r\n\r\n6"), "::1")
    try:
        assert get(running.port, addresses=("127.0.0.1", "::1")) == b"6"
    finally:
        running.close()
    assert own_addresses()[:2] == ("127.0.0.1", "::1")


def test_addresses_are_read_in_bounded_time_and_number(tmp_path: Path) -> None:
    leaves = "".join(f"     |-- 10.{n >> 8 & 255}.{n & 255}.1\n        /32 host LOCAL\n" for n in range(60_000))
    (tmp_path / "fib_trie").write_text(f"Main:\nLocal:\n{leaves}")
    (tmp_path / "if_inet6").write_text("fe80000000000000000000000000abcd 02 40 20 80 eth0\n")
    found = own_addresses(tmp_path)
    assert len(found) == 10
    assert not [address for address in found if "%" in address or address.startswith("fe80")]

"""One GET of HTTP/1.1 over a connection to this network namespace itself.

The address is one of the loopback interface, or one that the kernel says is local here. Names are never looked up, and
an answer leads to no other request.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pymon import __version__
from pymon.apps.protocol import AppError
from pymon.service.http1 import ResponseError, ResponseReader
from pymon.sources.addresses import ipv4_addresses, ipv6_addresses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymon.service.http1 import Response

LOOPBACK = ("127.0.0.1", "::1")
MAX_ADDRESSES = 8
"""The most addresses that are tried, besides those of loopback."""

_TABLE_MAX_BYTES = 64 << 10
_PIECE_BYTES = 64 << 10

_OK = 200
_REDIRECTS = range(300, 400)


def own_addresses(net: Path = Path("/proc/self/net")) -> tuple[str, ...]:
    """Return the addresses of this process' network namespace, loopback first. net: its directory in procfs."""
    found = (*ipv4_addresses(_table(net / "fib_trie")), *ipv6_addresses(_table(net / "if_inet6")))
    return (*LOOPBACK, *map(str, found[:MAX_ADDRESSES]))


def _table(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_TABLE_MAX_BYTES)
    except OSError:
        return b""


def fetch(addresses: Sequence[str], port: int, path: str, *, until: float, max_bytes: int) -> bytes:
    """Return the body of a successful answer.

    addresses: tried in this order until one takes a connection. until: on the clock of time.monotonic(). max_bytes:
    limit of the body. Raises AppError.
    """
    try:
        with _connected(addresses, port, until) as connection:
            response = _exchange(connection, path, until, max_bytes)
    except TimeoutError:
        raise AppError("timeout", f"no answer in time from port {port}") from None
    except ResponseError as error:
        raise AppError("too_large" if error.reason == "too_large" else "malformed", f"port {port}: {error}") from None
    except OSError as error:
        raise AppError("connect", f"port {port}: {error.strerror}") from None
    if response.status in _REDIRECTS:
        raise AppError("redirect", f"port {port} answers {response.status}: redirects are not followed")
    if response.status != _OK:
        raise AppError("status", f"port {port} answers {response.status}")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise AppError("coding", f"port {port} answers in a content coding, and none is accepted")
    return response.body


def _connected(addresses: Sequence[str], port: int, until: float) -> socket.socket:
    """Return a connection to the first address that takes one. Raises OSError, the first one, or TimeoutError."""
    failure: OSError | None = None
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        connection = None
        try:
            connection = socket.socket(family, socket.SOCK_STREAM)
            connection.settimeout(_left(until))
            connection.connect((address, port))
        except OSError as error:
            if connection is not None:
                connection.close()
            if isinstance(error, TimeoutError):
                raise
            failure = failure or error
        else:
            return connection
    raise failure or OSError("no address")


def _exchange(connection: socket.socket, path: str, until: float, max_bytes: int) -> Response:
    host = connection.getpeername()[0]
    host = f"[{host}]" if ":" in host else host
    left = _left(until)
    connection.settimeout(left)
    connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: {host}:{connection.getpeername()[1]}\r\nUser-Agent: pymon/{__version__}\r\n"
        f"Accept: text/plain;version=0.0.4\r\nAccept-Encoding: identity\r\nConnection: close\r\n"
        f"X-Prometheus-Scrape-Timeout-Seconds: {left:.3f}\r\n\r\n".encode("ascii")
    )
    reader = ResponseReader()
    reader.begin(max_bytes)
    while True:
        connection.settimeout(_left(until))
        data = connection.recv(_PIECE_BYTES)
        response = reader.receive(data) if data else reader.closed()
        if response is not None:
            return response
        if not data:
            raise ResponseError("malformed", "the connection ended before its answer did")


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left

"""Listening sockets: UDP and TCP on the same port."""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import NamedTuple

from pymon.config import Address

_BACKLOG = 256
_SEND_BUFFER_BYTES = 131072  # SO_SNDBUF: by default the kernel buffers several MiB for a client that does not read
_TRIES = 16


class Sockets(NamedTuple):
    """A UDP and a TCP socket, bound to the same address and port. address: with the port that was bound."""

    udp: socket.socket
    tcp: socket.socket
    address: Address


def bind(address: Address) -> list[Sockets]:
    """Return a pair of sockets for each address of the host. An empty host is every address of both families.

    Raises OSError whose text names the address.
    """
    try:
        if not address.host and socket.has_dualstack_ipv6():
            return [_pair(socket.AF_INET6, "::", address.port, only=False)]
        found = socket.getaddrinfo(address.host or "0.0.0.0", address.port, type=socket.SOCK_STREAM)  # noqa: S104
        with contextlib.ExitStack() as undo:
            pairs = []
            for family, host in dict.fromkeys((info[0], str(info[4][0])) for info in found):
                pair = _pair(family, host, address.port, only=True)
                undo.callback(close, pair)
                pairs.append(pair)
            undo.pop_all()
            return pairs
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror or error}") from None


def close(pair: Sockets) -> None:
    """Close both sockets of a pair."""
    pair.udp.close()
    pair.tcp.close()


def _pair(family: int, host: str, port: int, *, only: bool) -> Sockets:
    """Bind a pair. port: 0 for any port that is free for UDP and TCP. only: an IPv6 socket does not take IPv4."""
    for attempt in range(_TRIES):
        with contextlib.ExitStack() as undo:
            tcp = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
            udp = undo.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            for each in (tcp, udp):
                if family == socket.AF_INET6:
                    each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
                each.setblocking(False)
            tcp.bind((host, port))
            bound = tcp.getsockname()[1]
            try:
                udp.bind((host, bound))
            except OSError as error:
                if port or error.errno != errno.EADDRINUSE or attempt + 1 == _TRIES:
                    raise
                continue
            tcp.listen(_BACKLOG)
            undo.pop_all()
            return Sockets(udp, tcp, Address("" if host == "::" and not only else host, bound))
    raise OSError(errno.EADDRINUSE, "no port is free for UDP and TCP")

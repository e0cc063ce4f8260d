"""Accepts connections within the gate's limits, starts TLS with the current certificate, and shuts down gracefully.

Until its first byte arrives, an accepted socket takes only a descriptor and a timer. The objects for TLS and HTTP are
created after that.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from typing import TYPE_CHECKING

from pymon.peer import plain_address, source_of
from pymon.service.listen import bound, listening, raise_descriptor_limit
from pymon.service.server import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pymon.config import Listen
    from pymon.service.server import Server

_log = logging.getLogger(__name__)

GRACE_SECONDS = 3.0
"""How long replies in progress may take after the end of the service. It is less than `END_SECONDS`."""

_GOODBYE_SECONDS = 2.0
"""How long a TLS connection waits for the close_notify of the client."""

_ACCEPT_PAUSE_SECONDS = 0.5
_ACCEPT_BATCH = 64
_DISCARD_BYTES = 65536
_TLS_HANDSHAKE_RECORD = b"\x16"
_HTTP = (b"GET ", b"HEAD ", b"POST ")
_NOT_HTTPS = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"this port answers https://, and http:// was asked for\n"
)
"""What a browser or curl gets that was given the wrong scheme, in place of a closed connection."""


class _Arrival:
    """An accepted socket until its first request. It is closed at a time limit, or when the gate drops it."""

    __slots__ = ("_connection", "_ended", "_loop", "_server", "_socket", "_task", "_timer", "_tls", "remote", "source")

    def __init__(self, server: Server, accepted: socket.socket, remote: str, source: str, *, tls: bool) -> None:
        self._server = server
        self._socket = accepted
        self._tls = tls
        self.remote = remote
        self.source = source
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._ended = False
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(server.times.handshake, self._expire)
        self._loop.add_reader(accepted.fileno(), self._readable)

    def _readable(self) -> None:
        """Called when the first byte or the end of input has arrived."""
        try:
            first = self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            first = b""
        if self._tls and first not in (b"", _TLS_HANDSHAKE_RECORD):
            self._server.gate.handshakes["failed"] += 1
            _log.debug("no TLS from %s", self.remote)
            with contextlib.suppress(OSError):
                # Closing a socket with unread input would reset the connection.
                if self._socket.recv(_DISCARD_BYTES).startswith(_HTTP):
                    self._socket.send(_NOT_HTTPS)
            first = b""
        if not first:
            self.done()
            self.give_way()
            return
        self._loop.remove_reader(self._socket.fileno())
        self._task = self._loop.create_task(self._connect())
        self._task.add_done_callback(self._close_if_failed)

    async def _connect(self) -> None:
        """Create the connection, with TLS if there is a context. The current certificate is used."""
        context = None
        tls = self._server.tls
        if self._tls and tls is not None:
            await self._server.handshakes.turn()
            await tls.refresh()
            context = tls.context
        try:
            await self._loop.connect_accepted_socket(
                lambda: Connection(self._server, self),
                self._socket,
                ssl=context,
                ssl_handshake_timeout=self._server.times.handshake if context else None,
                ssl_shutdown_timeout=_GOODBYE_SECONDS if context else None,
            )
        except (OSError, TimeoutError) as error:
            reason = error.reason if isinstance(error, ssl.SSLError) else error
            _log.debug("connection from %s was not made: %s", self.remote, reason)
            if self._tls and self._connection is None:
                self._server.gate.handshakes["failed"] += 1
            self.done()
            self._socket.close()

    def _close_if_failed(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self._socket.close()
        elif error := task.exception():
            _log.error("connection was not made: %r", error)
            self.done()
            self._socket.close()

    def connected(self, connection: Connection) -> bool:
        """Called after the handshake. From now on the connection has its own time limits.

        Returns False if the connection was dropped in the meantime.
        """
        self._timer.cancel()
        self._connection = connection
        if self._tls:
            self._server.gate.handshakes["done"] += 1
        return not self._ended

    def done(self) -> None:
        """Called when the connection is no longer pending."""
        self._timer.cancel()
        self._server.gate.leave(self)

    def _expire(self) -> None:
        gate = self._server.gate
        if self._task is None:
            gate.refused["silent"] += 1
        else:
            gate.handshakes["timeout"] += 1
        gate.leave(self)
        self.give_way()

    def give_way(self) -> None:
        """Close the socket or the connection at once."""
        self._ended = True
        self._timer.cancel()
        if self._connection is not None:
            self._connection.abort()
        elif self._task is not None:
            self._task.cancel()
        else:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()


class _Acceptor:
    """Accepts connections of a listener.

    Out of descriptors or memory, it drops the oldest pending connection, or without one those that are idle longest.
    """

    def __init__(self, server: Server, listener: socket.socket) -> None:
        self._server = server
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._loop.add_reader(listener.fileno(), self._readable)

    def close(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener.fileno())

    def _readable(self) -> None:
        for _ in range(_ACCEPT_BATCH):
            try:
                accepted, peer = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                    self._wait(error)
                    return
                continue
            self._admit(accepted, peer)

    def _wait(self, error: OSError) -> None:
        if not self._server.gate.drop_oldest():
            self._server.drop_idle(_ACCEPT_BATCH)
        _log.warning("connections wait: %s", error.strerror)
        self._loop.remove_reader(self._listener.fileno())
        self._pause = self._loop.call_later(
            _ACCEPT_PAUSE_SECONDS, self._loop.add_reader, self._listener.fileno(), self._readable
        )

    def _admit(self, accepted: socket.socket, peer: tuple[str, int] | str | bytes) -> None:
        accepted.setblocking(False)
        server = self._server
        if not isinstance(peer, tuple):
            server.gate.enter(_Arrival(server, accepted, "", "", tls=False))
            return
        source = source_of(peer[0])
        tls = server.tls is not None and server.tls.context is not None
        if tls and not server.gate.admit(source):
            accepted.close()
            return
        server.gate.enter(_Arrival(server, accepted, plain_address(peer[0]), source, tls=tls))


async def serve(
    server: Server,
    addresses: Sequence[Listen],
    *,
    stop: asyncio.Event,
    stopping: Callable[[], None] | None = None,
    grace_seconds: float = GRACE_SECONDS,
    started: Callable[[tuple[Listen, ...]], None] | None = None,
    opened: Sequence[socket.socket] = (),
) -> None:
    """Serve until `stop` is set. Then close the listeners and wait up to `grace_seconds` for replies in progress.

    Unix sockets are served without TLS. stopping: called when the shutdown starts. started: called with the bound
    addresses. opened: further listeners, which are open already and are closed with the others. Raises OSError if an
    address cannot be bound.
    """
    raise_descriptor_limit()
    with contextlib.ExitStack() as close:
        close.callback(server.gate.drop_all)
        listeners = [
            (listener, address) for address in addresses for listener in close.enter_context(listening(address))
        ]
        for listener in opened:
            close.enter_context(listener)
        for listener in (*opened, *(listener for listener, _ in listeners)):
            close.callback(_Acceptor(server, listener).close)
        if started is not None:
            started(tuple(bound(*listener) for listener in listeners))
        await stop.wait()
    if stopping is not None:
        stopping()
    await server.shut_down(grace_seconds)

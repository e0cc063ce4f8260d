"""Serving: accepting through the gate, TLS with the newest certificate for each connection, a graceful end.

An accepted socket costs its descriptor and a timer until its first byte is there; only then the objects of TLS and HTTP
are made for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import ssl
from typing import TYPE_CHECKING

from aiohttp import web

from pymon.peer import plain_address, source_of
from pymon.service.connection import FIELD_MAX_BYTES, LINE_MAX_BYTES, Connection
from pymon.service.gate import Gate
from pymon.service.listen import bound, listening, raise_descriptor_limit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pymon.config import Listen
    from pymon.service.connection import TLSSource

_log = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 10.0
"""From the accepted socket to the end of its handshake; without TLS, to its first byte."""

IDLE_SECONDS = 150.0
"""A connection that brought no whole request for so long is closed; longer than any usual scrape interval."""

LINGER_SECONDS = 2.0
"""How long the rest of a body that nobody asked for is thrown away before the connection ends."""

_GOODBYE_SECONDS = 2.0
"""How long a TLS connection waits for the other side's close_notify."""

_ACCEPT_PAUSE_SECONDS = 0.5
_ACCEPT_BATCH = 64
_DISCARD_BYTES = 65536
_TLS_HANDSHAKE_RECORD = b"\x16"


class Server(web.Server):
    """Makes the protocol of each connection.

    count: is told the status of answers to malformed requests. handler_cancellation: a handler is cancelled when its
    client goes away.
    """

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        count: Callable[[int], None],
        tls: TLSSource | None,
        *,
        gate: Gate | None = None,
        handler_cancellation: bool = False,
    ) -> None:
        super().__init__(handler, handler_cancellation=handler_cancellation)
        self.count = count
        self.tls = tls
        self.gate = gate or Gate()

    def __call__(self) -> Connection:
        """Make one that no gate knows."""
        return self.connection(None)

    def connection(self, arrival: _Arrival | None) -> Connection:
        """Make one."""
        return Connection(
            self,
            arrival,
            loop=asyncio.get_running_loop(),
            access_log=None,
            logger=_log,
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=LINGER_SECONDS,
            auto_decompress=False,
            max_line_size=LINE_MAX_BYTES,
            max_field_size=FIELD_MAX_BYTES,
        )


class _Arrival:
    """An accepted socket until its first request is there. Ends in time, or when it has to give way."""

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
        self._timer = self._loop.call_later(HANDSHAKE_SECONDS, self._expire)
        self._loop.add_reader(accepted.fileno(), self._readable)

    def _readable(self) -> None:
        """The first byte, or the end, is there."""
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
                self._socket.recv(_DISCARD_BYTES)  # closed with bytes unread, a socket resets the connection
            first = b""
        if not first:
            self.done()
            self.give_way()
            return
        self._loop.remove_reader(self._socket.fileno())
        self._task = self._loop.create_task(self._connect())
        self._task.add_done_callback(self._close_if_failed)

    async def _connect(self) -> None:
        """Give the socket to aiohttp, through TLS with the context of this moment."""
        context = None
        tls = self._server.tls
        if self._tls and tls is not None:
            tls.refresh()
            context = tls.context
        try:
            await self._loop.connect_accepted_socket(
                lambda: self._server.connection(self),
                self._socket,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if context else None,
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
        """The handshake is done: from here on the connection keeps the time."""
        self._timer.cancel()
        self._connection = connection
        if self._tls:
            self._server.gate.handshakes["done"] += 1
        return not self._ended

    def done(self) -> None:
        """The connection is pending no more."""
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
        """End at once."""
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
    """Accepts what comes on a listener. Without descriptors or memory, the oldest pending connection gives way."""

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
        self._server.gate.drop_oldest()
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
    stopping: Callable[[], None],
    grace_seconds: float = 10.0,
    started: Callable[[tuple[Listen, ...]], None] | None = None,
) -> None:
    """Serve until `stop`, then close the listeners and let answers that are under way finish within the grace.

    Sockets in the file system are served without TLS. stopping: called when the end begins. started: called with the
    addresses as bound. OSError when one cannot be had.
    """
    raise_descriptor_limit()
    with contextlib.ExitStack() as close:
        close.callback(server.gate.drop_all)
        listeners = [
            (listener, address) for address in addresses for listener in close.enter_context(listening(address))
        ]
        for listener, _ in listeners:
            close.callback(_Acceptor(server, listener).close)
        if started is not None:
            started(tuple(bound(*listener) for listener in listeners))
        await stop.wait()
    stopping()
    server.pre_shutdown()
    await server.shutdown(grace_seconds)


def stop_on_signals(*signals: signal.Signals) -> asyncio.Event:
    """An event of the running loop that is set by the first of these signals (SIGTERM and SIGINT by default)."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in signals or (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop

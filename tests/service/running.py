"""A server with a handler of the test's own, and raw connections to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import trustme

from pymon.config import Address, Listen
from pymon.service.answer import Reply, text_reply
from pymon.service.gate import Gate
from pymon.service.serve import serve
from pymon.service.server import Request, Server, Times

Handler = Callable[[Request], Awaitable[Reply]]

PATIENCE_SECONDS = 20.0


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.005)


class FixedTLS:
    """A context that stays."""

    def __init__(self, ca: trustme.CA, *, admit: bool = True) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert("localhost").configure_cert(self.context)
        ca.configure_trust(self.context)
        self.context.verify_mode = ssl.CERT_OPTIONAL
        self.admit = admit
        self.refreshed = 0

    async def refresh(self) -> None:
        self.refreshed += 1

    def admits(self, tls: ssl.SSLObject) -> bool:
        return self.admit


def client_context(ca: trustme.CA, name: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    if name:
        ca.issue_cert(name).configure_cert(context)
    return context


@dataclass
class Running:
    server: Server
    bound: tuple[Listen, ...]
    counts: list[int]
    stop: asyncio.Event
    task: asyncio.Task[None]

    @property
    def gate(self) -> Gate:
        return self.server.gate

    @property
    def port(self) -> int:
        assert isinstance(self.bound[0], Address)
        return self.bound[0].port

    async def open(
        self, context: ssl.SSLContext | None = None, source: str = "127.0.0.1"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = "localhost" if context else None
        return await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=context, server_hostname=name, local_addr=(source, 0)
        )

    async def raw(self, *pieces: bytes, context: ssl.SSLContext | None = None) -> bytes:
        """What comes back up to the end of the connection; a piece is sent when the one before was read."""
        reader, writer = await self.open(context)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.02)
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def ok(request: Request) -> Reply:
    return text_reply(200, "ok")


@contextlib.asynccontextmanager
async def running(
    handler: Handler = ok,
    tls: FixedTLS | None = None,
    *,
    addresses: Sequence[Listen] = (Address("127.0.0.1", 0),),
    gate: Gate | None = None,
    cancel_handlers: bool = False,
    times: Times | None = None,
) -> AsyncIterator[Running]:
    counts: list[int] = []
    server = Server(handler, counts.append, tls, gate=gate, cancel_handlers=cancel_handlers, times=times)
    stop = asyncio.Event()
    bound: asyncio.Future[tuple[Listen, ...]] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(server, addresses, stop=stop, stopping=lambda: None, grace_seconds=2, started=bound.set_result)
    )
    try:
        await asyncio.wait((task, bound), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        yield Running(server, bound.result(), counts, stop, task)
    finally:
        stop.set()
        await asyncio.gather(task, return_exceptions=True)
    assert server.gate.pending == 0


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection without a goodbye."""
    peer: socket.socket = writer.get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()

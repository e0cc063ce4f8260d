"""Agents that misbehave on purpose, and loops that notice what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Coroutine
from typing import Self

import pytest
import uvloop

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def on_each_loop(test: Callable[..., Coroutine]) -> Callable[..., None]:
    """A test of a coroutine: on each loop, and it fails when a task, a timer or an error is left behind."""

    @pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)
    @functools.wraps(test)
    def run(new_loop: Callable[[], asyncio.AbstractEventLoop], **arguments: object) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(cleanly(test(**arguments)))

    new_loop = inspect.Parameter("new_loop", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = inspect.Signature([*inspect.signature(test).parameters.values(), new_loop])
    return run


async def cleanly(coroutine: Coroutine) -> None:
    loop = asyncio.get_running_loop()
    told: list[dict] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    await coroutine
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
    gc.collect()
    await asyncio.sleep(0)
    assert told == []
    timers = [timer for timer in getattr(loop, "_scheduled", ()) if not timer.cancelled()]
    assert not [timer for timer in timers if "_expire" in repr(timer)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # what it waits for are counters of another's
            await asyncio.sleep(0.005)


class Peer:
    """A connection as its agent has it. number: counted from 1."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heads: list[bytes]):
        self.number = number
        self.reader = reader
        self.writer = writer
        self._heads = heads

    async def asked(self) -> bytes:
        head = await self.reader.readuntil(b"\r\n\r\n")
        self._heads.append(head)
        return head

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def closed(self) -> None:
        await self.reader.read()

    def reset(self) -> None:
        peer = self.writer.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Handle = Callable[[Peer], Awaitable[None]]


class Agent:
    def __init__(self, handle: Handle, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self._handle = handle
        self._tls = tls
        self._host = host
        self._tasks: set[asyncio.Task] = set()
        self.connections = 0
        self.open = 0
        self.heads: list[bytes] = []
        self.port = 0

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, self._host, self.port, ssl=self._tls, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        try:
            await self._handle(Peer(self.connections, reader, writer, self.heads))
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self._tasks.discard(task)
            if not writer.transport.is_closing():
                writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()


def always(answer: bytes) -> Handle:
    async def handle(peer: Peer) -> None:
        while True:
            await peer.asked()
            await peer.say(answer)

    return handle


def once(answer: bytes, then: Handle | None = None) -> Handle:
    """One answer on each connection, then the end of it."""

    async def handle(peer: Peer) -> None:
        await peer.asked()
        await peer.say(answer)
        if then is not None:
            await then(peer)

    return handle

"""``python -m pymon.front.worker``: a worker process of a proxy, which `pymon.front.workers` starts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys

from pymon.config import ConfigError
from pymon.front.servers import SWITCH_SECONDS, TenantServers
from pymon.front.workers import Task, receive_task
from pymon.log import setup
from pymon.proxy.cells import Cells
from pymon.proxy.worker import Worker
from pymon.service.ending import stop_on_signals
from pymon.service.listen import open_apart
from pymon.service.loop import run as run_loop
from pymon.service.serve import serve
from pymon.service.together import together

_log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    """Serve until SIGTERM, SIGINT or the end of the parent. Return the exit code. argv: a descriptor."""
    try:
        (descriptor,) = map(int, argv)
        parent = socket.socket(fileno=descriptor)
    except (ValueError, OSError):
        sys.stderr.write("pymon: a worker is started by pymon proxy --workers\n")
        return 2
    os.set_inheritable(descriptor, False)
    try:
        run_loop(_run(parent))
    except (ConfigError, OSError) as error:
        _log.error("worker cannot serve: %s", error)
        return 1
    except Exception as error:  # noqa: BLE001  # the last resort against a traceback
        _log.error("internal error: %r", error, exc_info=_log.isEnabledFor(logging.DEBUG))
        return 1
    return 0


async def _run(parent: socket.socket) -> None:
    sys.setswitchinterval(SWITCH_SECONDS)
    reader, writer = await asyncio.open_unix_connection(sock=parent)
    try:
        task = await receive_task(reader)
    except asyncio.IncompleteReadError:
        return
    stop = stop_on_signals(drain_seconds=task.options.drain_seconds)
    setup(task.options.log_level, task.options.log_format)
    cells = Cells(task.options.workers, task.cells)
    worker = Worker(task.options, cells, task.number, port=task.port, hash_key=task.hash_key)
    servers = TenantServers(worker.tenants, worker.metrics, task.options, closing=worker.closing)
    servers.start()
    gone, ended = asyncio.Event(), asyncio.Event()

    async def follow() -> None:
        await worker.follow(reader, writer)
        gone.set()
        stop.set()

    async def drain() -> None:
        await stop.wait()
        servers.drain()
        if not gone.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(task.options.drain_seconds):
                    await gone.wait()
        ended.set()

    async with together() as group:
        following = group.create_task(follow())
        waiting = [group.create_task(event.wait()) for event in (worker.fed, stop)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for one in waiting:
            one.cancel()
        group.create_task(drain())
        # Not before, so that no connection waits for a worker that does not come to answer it.
        serving = [
            group.create_task(serve(server, (), stop=ended, opened=_opened(task, name)))
            for name, (server, _) in servers.by_name.items()
        ]
        await asyncio.wait(serving)
        servers.stop()
        worker.close()
        if not writer.is_closing():
            writer.close()
        following.cancel()


def _opened(task: Task, name: str) -> list[socket.socket]:
    """Return the listening sockets of a server. Raises OSError if an address cannot be bound."""
    apart = [listener for address in dict.fromkeys(task.addresses.get(name, ())) for listener in open_apart(address)]
    return [*apart, *map(_listener, task.listeners.get(name, ()))]


def _listener(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)
    listener = socket.socket(fileno=descriptor)
    listener.setblocking(False)
    return listener


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

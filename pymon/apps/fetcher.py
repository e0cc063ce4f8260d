"""The fetcher: a process with the privilege to enter network namespaces, which an agent asks over a Unix socket.

It forks for each connection and reads nothing itself. The child reads the ask, enters the namespace that it names,
gives up all privileges, fetches, writes the answer and ends. It is killed when its time is over or the agent hangs up.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import stat
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pymon.apps.fetch import fetch, own_addresses
from pymon.apps.namespace import enter
from pymon.apps.privileges import SystemCalls, drop
from pymon.apps.protocol import MAX_LINE_BYTES, MAX_SECONDS, MAX_TEXT, Answer, AppError, line_of, read_ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymon.apps.namespace import Namespace
    from pymon.apps.protocol import Ask

_log = logging.getLogger(__name__)

MAX_CHILDREN = 64
"""The most fetches at a time. Further connections wait in the socket's queue."""

ASK_SECONDS = 2.0
"""How long an agent may take to send its ask, or to take the answer."""

CHILD_SECONDS = MAX_SECONDS + 2 * ASK_SECONDS

_BACKLOG = 128
_PEER = struct.Struct("3i")
_ENDED = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class _Child(NamedTuple):
    """A forked process. ends: when it is killed, on the clock of time.monotonic()."""

    process: int
    connection: socket.socket
    ends: float


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """Listen on a Unix socket that root and this process' group may connect to. A socket at the path is replaced.

    Raises OSError.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise FileExistsError(17, "expected a socket or nothing", str(path))
            path.unlink()
        before = os.umask(0o117)
        try:
            listener.bind(os.fspath(path))
        except OSError as error:
            raise OSError(error.errno, error.strerror or str(error), str(path)) from None
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def may_ask(connection: socket.socket) -> bool:
    """Return whether the peer is the agent: of this process' user, or of its group unless that is root's."""
    peer: tuple[int, int, int] = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    _, uid, gid = peer
    return uid == os.geteuid() or (gid != 0 and gid == os.getegid())


class Fetcher:
    """Answers on a listening socket until a descriptor becomes readable."""

    def __init__(self, listener: socket.socket, host: Namespace, calls: SystemCalls | None) -> None:
        """host: the host's network namespace. calls: what children may do at the end, None for all."""
        self._listener = listener
        self._host = host
        self._calls = calls
        self._children: dict[int, _Child] = {}
        self._poll = select.poll()

    def run(self, stop: int) -> None:
        """Answer until `stop` is readable. Then kill the children."""
        self._listener.setblocking(False)
        self._poll.register(stop, select.POLLIN)
        self._poll.register(self._listener, select.POLLIN)
        try:
            while True:
                ready = {descriptor for descriptor, _ in self._poll.poll(self._wait_ms())}
                if stop in ready:
                    return
                now = time.monotonic()
                for pid, child in tuple(self._children.items()):
                    if child.process in ready or child.connection.fileno() in ready or now >= child.ends:
                        self._end(pid)
                if self._listener.fileno() in ready:
                    self._accept()
        finally:
            for pid in tuple(self._children):
                self._end(pid)

    def _wait_ms(self) -> float | None:
        ends = min((child.ends for child in self._children.values()), default=None)
        return None if ends is None else max(0.0, ends - time.monotonic()) * 1000 + 1

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # the peer has gone, or there are no descriptors
        if not may_ask(connection):
            _log.warning("refused: not the agent")
            connection.close()
            return
        try:
            pid = os.fork()
        except OSError as error:
            _log.error("cannot fork: %s", error.strerror)
            connection.close()
            return
        if not pid:
            self._answer(connection)
        child = _Child(os.pidfd_open(pid), connection, time.monotonic() + CHILD_SECONDS)
        self._children[pid] = child
        self._poll.register(child.process, select.POLLIN)
        self._poll.register(connection, _ENDED)
        if len(self._children) >= MAX_CHILDREN:
            self._poll.unregister(self._listener)

    def _end(self, pid: int) -> None:
        child = self._children.pop(pid)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(child.process, signal.SIGKILL)
        os.waitpid(pid, 0)
        self._poll.unregister(child.process)
        self._poll.unregister(child.connection)
        os.close(child.process)
        child.connection.close()
        if len(self._children) == MAX_CHILDREN - 1:
            self._poll.register(self._listener, select.POLLIN)

    def _answer(self, connection: socket.socket) -> None:
        """Answer one ask, in a process of its own, which ends here."""
        try:
            self._listener.close()
            for child in self._children.values():
                child.connection.close()
                os.close(child.process)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            _serve(connection, self._host, self._calls)
        except BaseException:  # noqa: BLE001  # whatever fails, this process must not go on as the fetcher
            os._exit(1)
        os._exit(0)


def _serve(connection: socket.socket, host: Namespace, calls: SystemCalls | None) -> None:
    began = time.monotonic()
    connection.settimeout(ASK_SECONDS)
    body = b""
    try:
        ask = read_ask(_read_line(connection))
        body = _fetch(ask, began + ask.seconds, host, calls)
        answer = Answer(len(body))
    except AppError as error:
        answer = Answer(reason=error.reason, text=str(error)[:MAX_TEXT])
    except Exception as error:  # noqa: BLE001  # the agent is told whatever fails
        answer = Answer(reason="internal", text=f"internal error of the fetcher: {type(error).__name__}")
    connection.settimeout(ASK_SECONDS)
    connection.sendall(line_of(answer) + body)


def _read_line(connection: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        try:
            data = connection.recv(MAX_LINE_BYTES)
        except TimeoutError:
            data = b""
        line += data
        if not data or len(line) > MAX_LINE_BYTES:
            raise AppError("ask", "no ask")
    return line


def _fetch(ask: Ask, until: float, host: Namespace, calls: SystemCalls | None) -> bytes:
    enter(ask, host)
    addresses = own_addresses()
    drop(calls)
    return fetch(addresses, ask.port, ask.path, until=until, max_bytes=ask.max_bytes)

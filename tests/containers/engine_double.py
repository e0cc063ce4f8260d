"""A container engine on a Unix socket: the answers of Docker's API that pymon asks for, and wrong ones."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EVENT = {"Type": "container", "Action": "start", "scope": "local"}


class EngineDouble:
    """Answers `GET /containers/ID/json` and `GET /events`.

    containers: documents by id. targets: other documents by the target of the request. raw: bytes to answer instead of
    a document, endlessly if they are a list. asked: the request lines. dialled: how many connections there were. hang:
    do not answer at all until `close`.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.containers: dict[str, Any] = {}
        self.targets: dict[str, Any] = {}
        self.raw: bytes | list[bytes] | None = None
        self.hang = False
        self.asked: list[str] = []
        self.dialled = 0
        self.streams: list[socket.socket] = []
        self.kept: list[socket.socket] = []
        self._closing = threading.Event()
        self._listener: socket.socket | None = None
        self.listen()

    def listen(self) -> None:
        """Listen, as after a start."""
        listener = self._listener = socket.socket(socket.AF_UNIX)
        # The path of a test's directory may be too long for a socket's address.
        directory = os.open(self.path.parent, os.O_PATH)
        listener.bind(f"/proc/self/fd/{directory}/{self.path.name}")
        os.close(directory)
        listener.listen(64)
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.dialled += 1
            self.kept.append(connection)
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        request = b""
        with contextlib.suppress(OSError):
            while part := connection.recv(4096):
                request += part
                if b"\r\n\r\n" in request and not self._answered(connection, request.split(b"\r\n")[0].decode()):
                    break
                request = request.partition(b"\r\n\r\n")[2]
        with contextlib.suppress(ValueError):
            self.kept.remove(connection)
        if connection not in self.streams:
            connection.close()

    def _answered(self, connection: socket.socket, line: str) -> bool:
        """Answer a request line. Return whether another may come on this connection."""
        self.asked.append(line)
        if self.hang:
            self._closing.wait()
        elif isinstance(self.raw, list):
            while not self._closing.is_set():
                for part in self.raw:
                    connection.sendall(part)
        elif self.raw is not None:
            connection.sendall(self.raw)
        elif line.startswith("GET /events"):
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            self.streams.append(connection)
        else:
            target = line.split(" ")[1]
            document = self.targets.get(target) or self.containers.get(target.split("/")[2])
            status = b"404 Not Found" if document is None else b"200 OK"
            body = json.dumps(document).encode()
            # As Docker does with what has more than 2 KiB.
            connection.sendall(b"HTTP/1.1 " + status + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
            connection.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
            return True
        return False

    def tell(self, identifier: str, action: str = "health_status: unhealthy") -> None:
        """Send an event to all who listen."""
        event = EVENT | {"Action": action, "status": action, "id": identifier, "Actor": {"ID": identifier}}
        self.send(json.dumps(event).encode() + b"\n")

    def send(self, data: bytes) -> None:
        """Send a chunk to all who listen to events."""
        for stream in self.streams:
            with contextlib.suppress(OSError):
                stream.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def cut(self) -> None:
        """Close all connections, as at a restart."""
        for stream in self.streams:
            stream.close()
        self.streams.clear()
        for connection in list(self.kept):
            # A thread in recv(2) is not woken by close(2).
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End, and remove the socket."""
        self._closing.set()
        self.cut()
        if self._listener is not None:
            # A thread in accept(2) is not woken by close(2).
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def engine_double(path: Path) -> Iterator[EngineDouble]:
    """An engine that listens at a path."""
    double = EngineDouble(path)
    try:
        yield double
    finally:
        double.close()

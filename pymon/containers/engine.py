"""Asks a container engine over its socket, in the HTTP API of Docker, which Podman answers too.

`cri` asks the daemons that have another API, over sockets that are opened in the same way.

Nothing here is trusted: an engine may hang, answer byte by byte, or without end. A socket is opened without following
links and must belong to the engine's user, so that no user can pass another engine off as his own. All functions block;
they are called on threads that may hang.
"""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from .files import UnreadableError, mapping, parse_json, text

ASK_SECONDS = 0.8
"""The longest that a question may take."""

SILENCE_SECONDS = 60.0
"""How long an engine may have no events before it is taken to hang."""

EVENT_LIMIT = 256 * 1024
"""The most bytes of an event, which has all labels of its container."""

ANSWER_LIMIT = 1024 * 1024
"""The most bytes of an answer."""

_T = TypeVar("_T")
_ID = re.compile("[0-9a-f]{64}")
_FILTERS = {
    "type": ["container"],
    "event": ["start", "restart", "pause", "unpause", "rename", "update", "health_status"],
}
"""Without the others: a health check alone makes three events each time that it runs."""
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})\b")


def connect(root: Path, path: Path, uid: int | None) -> socket.socket:
    """Return a connection to the socket at a path below `root`. uid: who must own it, None for the system's engine.

    Raises UnreadableError.
    """
    descriptor = -1
    try:
        descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        for name in path.relative_to(root).parts:
            below = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        status = os.fstat(descriptor)
        if not stat.S_ISSOCK(status.st_mode):
            raise UnreadableError(path, "not a socket")
        owners = {0, os.geteuid()} if uid is None else {uid}
        if status.st_uid not in owners:
            raise UnreadableError(path, f"belongs to uid {status.st_uid}")
        return _connected(descriptor)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | ConnectionRefusedError)
        raise UnreadableError(path, (error.strerror or str(error)).lower(), missing=missing) from error
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def may_connect(path: Path) -> bool:
    """Return whether this process may connect to a socket, for which the kernel asks for write permission."""
    return os.access(path, os.W_OK, effective_ids=True)


def _connected(descriptor: int) -> socket.socket:
    """Connect to the socket that a descriptor stands for, whatever its path is meanwhile."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(ASK_SECONDS)
        connection.connect(f"/proc/self/fd/{descriptor}")
    except BaseException:
        connection.close()
        raise
    return connection


def inspect(root: Path, path: Path, uid: int | None, identifier: str) -> object:
    """Return the document of `GET /containers/ID/json`.

    Raises UnreadableError; it is `missing` if there is no such engine, or if the engine has no such container.
    """
    deadline = time.monotonic() + ASK_SECONDS
    with connect(root, path, uid) as connection:
        try:
            # HTTP/1.0: the body is not chunked, and ends with the connection.
            connection.sendall(f"GET /containers/{identifier}/json HTTP/1.0\r\nHost: engine\r\n\r\n".encode("ascii"))
            head, _, body = _read(connection, deadline, path).partition(b"\r\n\r\n")
        except OSError as error:
            raise UnreadableError(path, "no whole answer in time") from error
    status = _STATUS.match(head)
    if status is None:
        raise UnreadableError(path, "did not answer in HTTP")
    if status[1] != b"200":
        raise UnreadableError(path, f"answered {status[1].decode()}", missing=status[1] == b"404")
    return parse_json(body, path)


def _read(connection: socket.socket, deadline: float, path: Path) -> bytes:
    """Return all that comes until the end of the connection. Raises UnreadableError or OSError."""
    data = bytearray()
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise UnreadableError(path, "no whole answer in time")
        connection.settimeout(left)
        part = connection.recv(65536)
        if not part:
            return bytes(data)
        data += part
        if len(data) > ANSWER_LIMIT:
            raise UnreadableError(path, f"answer of more than {ANSWER_LIMIT} bytes")


def events(connection: socket.socket, path: Path) -> Iterator[str | None]:
    """Yield "" when the engine has begun to tell events, then the id of the container of each event, None without one.

    Ends with the connection. Raises UnreadableError, also after `SILENCE_SECONDS` without an event.
    """
    import http.client  # noqa: PLC0415  # only processes that serve load it
    from urllib.parse import quote  # noqa: PLC0415

    client = http.client.HTTPConnection("engine")
    connection.settimeout(SILENCE_SECONDS)
    client.sock = connection
    try:
        client.request("GET", f"/events?filters={quote(json.dumps(_FILTERS))}")
        with client.getresponse() as response:
            if response.status != http.HTTPStatus.OK:
                raise UnreadableError(path, f"answered {response.status}")
            yield ""
            while line := response.readline(EVENT_LIMIT + 1):
                if len(line) > EVENT_LIMIT:
                    raise UnreadableError(path, f"event of more than {EVENT_LIMIT} bytes")
                event = mapping(parse_json(line, path))
                identifier = text(event.get("id")) or text(mapping(event.get("Actor")).get("ID"))
                yield identifier if _ID.fullmatch(identifier) else None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UnreadableError(path, "no events, or none that are HTTP") from error


class Engines:
    """Asks engines, and leaves one that does not answer alone for a while. May be used by several threads."""

    REST_SECONDS = 5.0
    """How long an engine that did not answer is left alone."""

    def __init__(self) -> None:
        self._rests: dict[Path, float] = {}

    def ask(self, path: Path, question: Callable[[], _T]) -> _T:
        """Return the answer of the engine with this socket. Raises UnreadableError, at once if it is left alone."""
        if self._rests.get(path, 0.0) > time.monotonic():
            raise UnreadableError(path, "did not answer")
        try:
            answer = question()
        except UnreadableError as error:
            if not error.missing:
                self._rests[path] = time.monotonic() + self.REST_SECONDS
            raise
        with suppress(KeyError):
            del self._rests[path]
        return answer

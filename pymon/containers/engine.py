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
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypedDict, TypeVar, cast

from .files import UnreadableError, mapping, text
from .http_client import HttpClient

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
_Actor = TypedDict("_Actor", dict.fromkeys(("ID",), Any), total=False)  # type: ignore[misc]
_MEMBERS = {"id": Any, "Action": Any, "Actor": _Actor}
_Told = TypedDict("_Told", _MEMBERS, total=False)  # type: ignore[misc]
"""What is looked at of an event, which has all labels of its container."""

_FILTERS = {
    "type": ["container"],
    "event": ["start", "restart", "pause", "unpause", "rename", "update", "health_status"],
}
"""Without the others: a health check alone makes three events each time that it runs."""


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


def inspect(client: HttpClient, identifier: str) -> bytes:
    """Return the document of `GET /containers/ID/json`.

    Raises UnreadableError; it is `missing` if the engine has no such container.
    """
    return client.get(f"/containers/{identifier}/json", ANSWER_LIMIT, ASK_SECONDS)


class Started(NamedTuple):
    """An event: the container of this id has started."""

    identifier: str


Event = str | Started | None
"""The id of a container that has changed; "" stands for all, None for none."""


def events(connection: socket.socket, path: Path) -> Iterator[Event]:
    """Yield "" when the engine has begun to tell events, then what each event says.

    Ends with the connection. Raises UnreadableError, also after `SILENCE_SECONDS` without an event.
    """
    from urllib.parse import quote  # noqa: PLC0415  # only processes that serve load these

    import msgspec  # noqa: PLC0415

    decode = msgspec.json.Decoder(_Told).decode
    client = HttpClient(connection, path)
    for line in client.lines(f"/events?filters={quote(json.dumps(_FILTERS))}", EVENT_LIMIT, SILENCE_SECONDS):
        if not line:
            yield line if line is None else ""
            continue
        try:
            told = mapping(decode(line))
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise UnreadableError(path, "event that is not one of Docker's") from error
        identifier = text(told.get("id")) or text(mapping(told.get("Actor")).get("ID"))
        if not _ID.fullmatch(identifier):
            yield None
        else:
            yield Started(identifier) if told.get("Action") == "start" else identifier


class Asked(Protocol):
    """A connection over which a daemon is asked."""

    def alive(self) -> bool:
        """Return whether the next question may be asked over it."""
        ...

    def close(self) -> None:
        """End the connection. It must not be used again."""
        ...


_Client = TypeVar("_Client", bound=Asked)


class Engines:
    """Asks engines over connections that are kept, and leaves one that does not answer alone for a while.

    May be used by several threads, each of which has a connection of its own meanwhile.
    """

    REST_SECONDS = 5.0
    """How long an engine that did not answer is left alone."""

    MOST_KEPT = 32
    """The most connections that are kept: one for each engine, and those of the engines that were asked last."""

    def __init__(self) -> None:
        self._rests: dict[Path, float] = {}
        self._lock = threading.Lock()
        self._kept: dict[Path, tuple[tuple[int, int], Asked]] = {}
        weakref.finalize(self, _close_all, self._kept)

    def ask(self, path: Path, connected: Callable[[], _Client], question: Callable[[_Client], _T]) -> _T:
        """Return the answer of the engine with this socket. connected: opens a connection to it.

        Raises UnreadableError, at once if the engine is left alone.
        """
        if self._rests.get(path, 0.0) > time.monotonic():
            raise UnreadableError(path, "did not answer")
        socket_file = _identity(path)
        client = cast("_Client | None", self._take(path, socket_file))
        try:
            if client is None:
                client = connected()
            answer = question(client)
        except BaseException as error:
            missing = isinstance(error, UnreadableError) and error.missing
            if client is not None:
                self._give_back(path, socket_file, client) if missing else client.close()
            if isinstance(error, UnreadableError) and not missing:
                self._rests[path] = time.monotonic() + self.REST_SECONDS
            raise
        self._give_back(path, socket_file, client)
        with suppress(KeyError):
            del self._rests[path]
        return answer

    def _take(self, path: Path, socket_file: tuple[int, int]) -> Asked | None:
        """Return the connection to an engine that is kept, unless the engine or its socket is another one by now."""
        with self._lock:
            of_file, client = self._kept.pop(path, (socket_file, None))
        if client is None or (of_file == socket_file and client.alive()):
            return client
        client.close()
        return None

    def _give_back(self, path: Path, socket_file: tuple[int, int], client: Asked) -> None:
        with self._lock:
            _, other = self._kept.pop(path, (socket_file, None))
            self._kept[path] = socket_file, client
            if other is None and len(self._kept) > self.MOST_KEPT:
                _, other = self._kept.pop(next(iter(self._kept)))
        if other is not None:
            other.close()


def _close_all(kept: dict[Path, tuple[tuple[int, int], Asked]]) -> None:
    for _, client in kept.values():
        client.close()


def _identity(path: Path) -> tuple[int, int]:
    """Return what tells a socket's file from the one that takes its place."""
    try:
        status = os.stat(path)  # noqa: PTH116  # a tenth of the time
    except OSError:
        return 0, 0
    return status.st_dev, status.st_ino

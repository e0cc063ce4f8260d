"""Asks a container runtime over its socket in CRI, the gRPC interface that the kubelet uses, version v1.

The numbers of fields are those of `runtime.v1` in kubernetes/cri-api. Nothing here is trusted, as in `engine`: answers
and their fields are bounded before they are read. All functions block; they are called on threads that may hang.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from . import engine, protobuf
from .engine import Event
from .files import UnreadableError
from .grpc import Call, Client
from .protobuf import Reader, Value, number, text

ANSWER_LIMIT = 1024 * 1024
"""The most bytes of what is said of one container, and of an event, which has all containers of its pod."""

LIST_LIMIT = 8 * 1024 * 1024
"""The most bytes of a list of containers."""

LIST_SECONDS, LIST_SECONDS_BESIDE_EVENTS = 2.0, 30.0
"""Interval between lists, without events and with them. They show what was missed, and that the runtime is alive."""

LIST_ASK_SECONDS = 10.0
"""The longest that a list may take."""

LIST_SHARE = 0.01
"""Share of a CPU that lists may take. If one takes longer, the next comes later."""

_FIELDS, _LIST_FIELDS = 8192, 262_144
"""The most fields of an answer and of a list."""

_SERVICE = "runtime.v1.RuntimeService"
_ID = re.compile("[0-9a-f]{64}")
_EXITED = 2
_STATES = {0: "created", 1: "running", _EXITED: "exited"}
_STOPPED = 2
_FIRST_CONTAINERD_THAT_TELLS_ALL = 2


@dataclass(frozen=True, slots=True)
class Status:
    """What a runtime says of a container.

    sandbox: whether it holds the namespaces of a pod. name: in its pod. attempt: how often it was started before.
    state: created, running or exited, "" if it is another. started_at, finished_at: seconds since the epoch, None if it
    has not. exit_code: None before the end. reason: of the end, such as OOMKilled. labels: of a pod, those of the pod.
    """

    sandbox: bool = False
    name: str = ""
    attempt: int = 0
    state: str = ""
    started_at: float | None = None
    finished_at: float | None = None
    exit_code: int | None = None
    image: str = ""
    reason: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


def client_of(connection: socket.socket, path: Path) -> Client:
    """Return what asks a runtime over a connection to its socket. Raises UnreadableError."""
    return Client(connection, path, _SERVICE)


def version(client: Client, path: Path) -> tuple[str, str]:
    """Return the name of the runtime and its version. Raises UnreadableError; `missing` if it has no CRI of v1."""
    data = client.answer("Version", b"", ANSWER_LIMIT, engine.ASK_SECONDS)
    fields = _fields(data, path)
    return text(fields.get(2)), text(fields.get(3))


def status(client: Client, path: Path, identifier: str) -> Status:
    """Return what the runtime says of a container, or of the one that holds a pod's namespaces.

    Raises UnreadableError; it is `missing` if there is no such container, or no CRI of v1.
    """
    request = protobuf.field(1, identifier.encode("ascii"))
    try:
        data = client.answer("ContainerStatus", request, ANSWER_LIMIT, engine.ASK_SECONDS)
    except UnreadableError as error:
        if not error.missing:
            raise
        data = client.answer("ListPodSandbox", protobuf.field(1, request), ANSWER_LIMIT, engine.ASK_SECONDS)
        return _sandbox(data, path, identifier)
    return _container(data, path, identifier)


def events(connection: socket.socket, path: Path) -> Iterator[Event]:
    """Yield "" when it is known what has ended, then the id of each container that has ended since, None for the rest.

    Nothing else changes: what a container is does not depend on whether it has started, and it is started once. The ids
    come from the runtime's events where every listener gets all of them, and from lists. Ends with the connection.
    Raises UnreadableError; it is `missing` if there is no CRI of v1.
    """
    client = client_of(connection, path)
    stream: Call | None = None
    if _tells_all(*version(client, path)):
        stream = client.call("GetContainerEvents", b"", ANSWER_LIMIT)
    known: set[str] | None = None
    asked: Call | None = None
    due, used, began = time.monotonic(), 0.0, 0.0
    while True:
        now = time.monotonic()
        if asked is None and now >= due:
            asked, due, used, began = client.call("ListContainers", b"", LIST_LIMIT), now + LIST_ASK_SECONDS, 0.0, now
        elif asked is not None and now >= due:
            raise UnreadableError(path, "no list of containers in time")
        client.receive(due - now)
        cpu = time.thread_time()
        while stream is not None and stream.messages:
            yield _event(stream.messages.popleft(), path)
        if stream is not None and stream.ended:
            stream, due = None, due if asked is not None else time.monotonic()  # it has none: lists alone are left
        if asked is not None and asked.ended:
            asked.check()
            ended = _ended(client.only(asked), path)
            asked = None
            used += time.thread_time() - cpu
            rest = LIST_SECONDS if stream is None else LIST_SECONDS_BESIDE_EVENTS
            due = max(began + rest, time.monotonic() + used / LIST_SHARE)
            if known is None:
                yield ""
            else:
                yield from ended - known
            known = ended
        else:
            used += time.thread_time() - cpu
        yield None


def _tells_all(name: str, release: str) -> bool:
    """Return whether every listener gets all events. Before 2.0, containerd gives each to one listener alone.

    The kubelet would then miss those that pymon got.
    """
    if name == "containerd":
        major = release.removeprefix("v").partition(".")[0]
        return major.isdecimal() and len(major) < len("1000") and int(major) >= _FIRST_CONTAINERD_THAT_TELLS_ALL
    return name == "cri-o"


def _fields(data: bytes, path: Path) -> dict[int, Value]:
    """Return the fields of a message by number, of one that is repeated the last."""
    return dict(Reader(path, _FIELDS).fields(memoryview(data)))


def _container(data: bytes, path: Path, identifier: str) -> Status:
    """Return what a ContainerStatusResponse of the CRI API says of a container.

    Raises UnreadableError if the message is malformed, has too many fields or is about another container.
    """
    reader = Reader(path, _FIELDS)
    outer = dict(reader.fields(memoryview(data)))
    fields: dict[int, Value] = {}
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    for key, value in reader.fields(_message(outer.get(1))):
        if key in (12, 13):
            name, said = reader.texts(value)
            (labels if key == 12 else annotations)[name] = said  # noqa: PLR2004
        else:
            fields[key] = value
    _same(text(fields.get(1)), identifier, path)
    metadata = dict(reader.fields(_message(fields.get(2))))
    image = dict(reader.fields(_message(fields.get(8))))
    state = _STATES.get(number(fields.get(3)), "")
    ended = state == "exited"
    return Status(
        name=text(metadata.get(1)),
        attempt=number(metadata.get(2)),
        state=state,
        started_at=_seconds(fields.get(5)),
        finished_at=_seconds(fields.get(6)) if ended else None,
        exit_code=number(fields.get(7)) if ended else None,
        image=text(image.get(1)),
        reason=text(fields.get(10)) if ended else "",
        labels=labels,
        annotations=annotations,
    )


def _sandbox(data: bytes, path: Path, identifier: str) -> Status:
    """Read a ListPodSandboxResponse. Raises UnreadableError, `missing` if it has no sandbox."""
    reader = Reader(path, _FIELDS)
    items = [value for key, value in reader.fields(memoryview(data)) if key == 1]
    if not items:
        raise UnreadableError(path, f"has no container {identifier}", missing=True)
    fields: dict[int, Value] = {}
    labels: dict[str, str] = {}
    for key, value in reader.fields(_message(items[0])):
        if key == 5:  # noqa: PLR2004
            name, said = reader.texts(value)
            labels[name] = said
        else:
            fields[key] = value
    _same(text(fields.get(1)), identifier, path)
    metadata = dict(reader.fields(_message(fields.get(2))))
    ready = number(fields.get(3)) == 0
    return Status(
        sandbox=True,
        name=text(metadata.get(1)),
        attempt=number(metadata.get(4)),
        state="running" if ready else "exited",
        started_at=_seconds(fields.get(4)),
        labels=labels,
    )


def _ended(data: bytes, path: Path) -> set[str]:
    """Return the ids of the containers in a ListContainersResponse that have ended."""
    reader = Reader(path, _LIST_FIELDS)
    found: set[str] = set()
    for key, value in reader.fields(memoryview(data)):
        if key == 1:
            fields = dict(reader.fields(_message(value)))
            identifier = text(fields.get(1))
            if number(fields.get(6)) == _EXITED and _ID.fullmatch(identifier):
                found.add(identifier)
    return found


def _event(data: bytes, path: Path) -> str | None:
    """Return the id in a ContainerEventResponse if its container has ended, else None."""
    fields = _fields(data, path)
    identifier = text(fields.get(1))
    return identifier if number(fields.get(2)) == _STOPPED and _ID.fullmatch(identifier) else None


def _message(value: Value | None) -> memoryview:
    return value if isinstance(value, memoryview) else memoryview(b"")


def _same(said: str, identifier: str, path: Path) -> None:
    if said != identifier:
        raise UnreadableError(path, "answered about another container")


def _seconds(value: Value | None) -> float | None:
    """Return seconds since the epoch of a time in nanoseconds, None if it is not set."""
    nanoseconds = number(value)
    return nanoseconds / 1e9 if nanoseconds > 0 else None

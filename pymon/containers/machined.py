"""Asks systemd-machined about machines, over a connection to the system's message bus.

Interfaces are those of org.freedesktop.machine1(5). The bus and who may have that name on it are root's; still, a
message is bounded before it is kept, and a question has a deadline. All functions block; they are called on threads
that may hang. machined ends when there are no machines, and is not started for a question.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import engine
from .engine import Event
from .files import UnreadableError

if TYPE_CHECKING:
    from jeepney import Message

MESSAGE_LIMIT = 1024 * 1024
"""The most bytes of a message."""

SILENCE_SECONDS = 60.0
"""How long there may be no signal before the bus is asked whether it is there."""

_NAME = "org.freedesktop.machine1"
_MANAGER = "/org/freedesktop/machine1"
_BUS = "org.freedesktop.DBus"
_BUS_PATH = "/org/freedesktop/DBus"
_NONE = (f"{_NAME}.NoSuchMachine", f"{_BUS}.Error.ServiceUnknown", f"{_BUS}.Error.NameHasNoOwner")
_RULE = f"type='signal',sender='{_NAME}',path='{_MANAGER}',interface='{_NAME}.Manager'"
_SIGNALS = ("MachineNew", "MachineRemoved")
_READ_BYTES = 65536
_MESSAGES_LIMIT = 256
"""The most messages that come before an answer, or between two questions."""


class Bus:
    """Calls over a connection to a message bus, by one thread at a time."""

    def __init__(self, connection: socket.socket, path: Path) -> None:
        """Authenticate as this process's user. path: of the socket. Raises UnreadableError."""
        from jeepney import Parser  # noqa: PLC0415  # only nodes with machines load it
        from jeepney.auth import BEGIN, Authenticator  # noqa: PLC0415

        self._socket = connection
        self._path = path
        self._serial = 0
        self._parser = Parser()
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        deadline = time.monotonic() + engine.ASK_SECONDS
        authenticator = Authenticator()
        for data in authenticator:
            self._send(data, deadline)
            try:
                authenticator.feed(self._receive(deadline))
            except ValueError as error:
                raise UnreadableError(path, "this user is not authenticated") from error
        self._send(BEGIN, deadline)
        self.call(_BUS, _BUS_PATH, _BUS, "Hello")

    def alive(self) -> bool:
        """Return whether the next call may be made. Takes what has come meanwhile."""
        try:
            for _ in range(_MESSAGES_LIMIT):
                if not self._poll.poll(0):
                    return True
                self.next_message(time.monotonic() + engine.ASK_SECONDS)
        except UnreadableError:
            pass
        return False

    def close(self) -> None:
        """End the connection to the bus. It must not be used again."""
        self._socket.close()

    def call(self, service: str, path: str, interface: str, method: str, *arguments: str) -> tuple[Any, ...]:
        """Return what a method of a service returns. Raises UnreadableError, `missing` if there is no such thing."""
        from jeepney import HeaderFields, MessageType  # noqa: PLC0415

        deadline = time.monotonic() + engine.ASK_SECONDS
        self.send(service, path, interface, method, *arguments)
        for _ in range(_MESSAGES_LIMIT):
            reply = self.next_message(deadline)
            if reply.header.fields.get(HeaderFields.reply_serial) != self._serial:
                continue
            if reply.header.message_type is MessageType.error:
                name = str(reply.header.fields.get(HeaderFields.error_name, ""))
                raise UnreadableError(self._path, f"answered {name[:100]!a}", missing=name in _NONE)
            return tuple(reply.body)
        raise UnreadableError(self._path, "sent more than was asked for")

    def send(self, service: str, path: str, interface: str, method: str, *arguments: str) -> None:
        """Call a method, and do not wait for what it returns. Raises UnreadableError."""
        from jeepney import DBusAddress, MessageFlag, new_method_call  # noqa: PLC0415

        message = new_method_call(
            DBusAddress(path, service, interface), method, "s" * len(arguments) or None, arguments
        )
        message.header.flags |= MessageFlag.no_auto_start
        self._serial += 1
        self._send(bytes(message.serialise(serial=self._serial)), time.monotonic() + engine.ASK_SECONDS)

    def message(self, seconds: float) -> Message | None:
        """Return the next message, None if nothing comes for so many seconds. Raises UnreadableError."""
        message, _ = self._parsed()
        if message is not None or not self._poll.poll(seconds * 1000):
            return message
        return self.next_message(time.monotonic() + engine.ASK_SECONDS)

    def next_message(self, deadline: float) -> Message:
        """Return the next message. deadline: on the clock of time.monotonic(). Raises UnreadableError."""
        while True:
            message, wanted = self._parsed()
            if message is not None:
                return message
            if wanted > MESSAGE_LIMIT:
                raise UnreadableError(self._path, f"message of more than {MESSAGE_LIMIT} bytes")
            self._parser.add_data(self._receive(deadline))

    def _parsed(self) -> tuple[Message | None, int]:
        """Return the next message that has come whole, and the bytes that are wanted if there is none."""
        try:
            return self._parser.get_next_message(), self._parser.bytes_desired()
        except Exception as error:  # what the parser raises depends on what is wrong
            raise UnreadableError(self._path, "sent what is no message of D-Bus") from error

    def _send(self, data: bytes, deadline: float) -> None:
        try:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            self._socket.sendall(data)
        except OSError as error:
            raise UnreadableError(self._path, "takes no calls") from error

    def _receive(self, deadline: float) -> bytes:
        try:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            data = self._socket.recv(_READ_BYTES)
        except OSError as error:
            raise UnreadableError(self._path, "no whole answer in time") from error
        if not data:
            raise UnreadableError(self._path, "has ended the connection")
        return data


def machine(bus: Bus, path: Path, name: str) -> Mapping[str, object]:
    """Return the properties of a machine by their names: text, numbers, and others, which are of no use here.

    Raises UnreadableError; it is `missing` if there is no such machine, or no machined.
    """
    (found,) = _only(path, bus.call(_NAME, _MANAGER, f"{_NAME}.Manager", "GetMachine", name), str)
    (properties,) = _only(
        path, bus.call(_NAME, found, "org.freedesktop.DBus.Properties", "GetAll", f"{_NAME}.Machine"), dict
    )
    return {key: value for key, (_, value) in properties.items()}


def events(connection: socket.socket, path: Path) -> Iterator[Event]:
    """Yield "" when machined's signals are heard, then the name of each machine that has come or gone.

    Ends with the connection. Raises UnreadableError.
    """
    from jeepney import HeaderFields, MessageType  # noqa: PLC0415

    bus = Bus(connection, path)
    bus.call(_BUS, _BUS_PATH, _BUS, "AddMatch", _RULE)
    yield ""
    asked = False
    while True:
        message = bus.message(engine.ASK_SECONDS if asked else SILENCE_SECONDS)
        if message is None:
            if asked:
                raise UnreadableError(path, "no whole answer in time")
            bus.send(_BUS, _BUS_PATH, _BUS, "GetId")
            asked = True
            continue
        asked = False
        fields = message.header.fields
        signal = message.header.message_type is MessageType.signal and fields.get(HeaderFields.member) in _SIGNALS
        name = message.body[0] if signal and message.body else None
        yield name if isinstance(name, str) and name else None


def _only(path: Path, values: tuple[Any, ...], kind: type) -> tuple[Any]:
    """Return the value that a method has returned. Raises UnreadableError if it is another kind of answer."""
    if len(values) != 1 or not isinstance(values[0], kind):
        raise UnreadableError(path, "answered something else")
    return (values[0],)

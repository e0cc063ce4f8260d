"""Calls over D-Bus (https://dbus.freedesktop.org/doc/dbus-specification.html), within bounds of time and bytes."""

from __future__ import annotations

import math
import socket
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple, Self

from jeepney import DBusAddress, HeaderFields, Message, MessageFlag, MessageType, Parser, new_method_call
from jeepney.auth import BEGIN, Authenticator

from pymon.sources.errors import SourceError

RECEIVED_MAX = 8 * 2**20
"""The bytes that are taken from a bus in the life of a connection."""

_SECONDS = 5.0
_UNANSWERED_MAX = 32
"""Calls that wait for their answers at a time. A system bus refuses more than 128 by default."""

_READ_BYTES = 65536
_BUS = "org.freedesktop.DBus"

Call = tuple[str, str, str, tuple[str, ...]]
"""Path of the object, interface, method, and arguments, all strings."""


class Answer(NamedTuple):
    """What a service has answered. error: the name of its error, "" for none. values: what the method returned."""

    error: str
    values: tuple[Any, ...]


class SystemBus:
    """A connection to a message bus. Used by one thread.

    All calls together have five seconds, or less if fewer are given. Every method raises SourceError when the bus
    cannot be reached, takes too long, sends too much or is not understood; the connection is then of no use.
    """

    def __init__(self, path: Path, seconds: float = math.inf) -> None:
        """Connect to the socket at `path` and authenticate as this process's user."""
        self._path = path
        self._deadline = monotonic() + min(seconds, _SECONDS)
        self._received = 0
        self._serial = 0
        self._parser = Parser()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection to the bus. It must not be used again."""
        self._socket.close()

    def call(self, service: str, calls: Sequence[Call]) -> list[Answer]:
        """Make calls of a service, which is not started for them, and return their answers in the same order."""
        unsent = deque(enumerate(calls))
        waiting: dict[int, int] = {}
        answers: dict[int, Answer] = {}
        while len(answers) < len(calls):
            data = b""
            while unsent and len(waiting) < _UNANSWERED_MAX:
                index, call = unsent.popleft()
                self._serial += 1
                waiting[self._serial] = index
                data += self._serialised(service, call)
            if data:
                self._send(data)
            message = self._next_message()
            if message.header.message_type in (MessageType.method_return, MessageType.error):
                place = waiting.pop(message.header.fields.get(HeaderFields.reply_serial, 0), None)
                if place is not None:
                    is_error = message.header.message_type is MessageType.error
                    error = message.header.fields.get(HeaderFields.error_name, "unknown") if is_error else ""
                    answers[place] = Answer(str(error), () if is_error else message.body)
        return [answers[index] for index in range(len(calls))]

    def _connect(self) -> None:
        try:
            self._socket.settimeout(self._left())
            self._socket.connect(str(self._path))
        except OSError as error:
            raise self._failed(error) from None
        authenticator = Authenticator()
        for data in authenticator:
            self._send(data)
            try:
                authenticator.feed(self._receive())
            except ValueError:
                raise SourceError("eacces", f"{self._path}: this user is not authenticated") from None
        self._send(BEGIN)
        (hello,) = self.call(_BUS, [("/org/freedesktop/DBus", _BUS, "Hello", ())])
        if hello.error:
            raise SourceError("dbus", f"{self._path}: the bus says {hello.error}")

    def _serialised(self, service: str, call: Call) -> bytes:
        path, interface, method, arguments = call
        try:
            message = new_method_call(
                DBusAddress(path, service, interface), method, "s" * len(arguments) or None, arguments
            )
            message.header.flags |= MessageFlag.no_auto_start
            return bytes(message.serialise(serial=self._serial))
        except (TypeError, ValueError):  # a path that a service has told and that is none
            raise self._misread() from None

    def _next_message(self) -> Message:
        while True:
            try:
                message = self._parser.get_next_message()
                wanted = self._parser.bytes_desired()
            except Exception:  # noqa: BLE001 - what the parser raises depends on what is wrong
                raise self._misread() from None
            if message is not None:
                return message
            if self._received + wanted > RECEIVED_MAX:
                raise SourceError("toomany", f"{self._path}: answers of more than {RECEIVED_MAX >> 20} MiB")
            self._parser.add_data(self._receive())

    def _send(self, data: bytes) -> None:
        try:
            self._socket.settimeout(self._left())
            self._socket.sendall(data)
        except OSError as error:
            raise self._failed(error) from None

    def _receive(self) -> bytes:
        try:
            self._socket.settimeout(self._left())
            data = self._socket.recv(_READ_BYTES)
        except OSError as error:
            raise self._failed(error) from None
        if not data:
            raise SourceError("econnreset", f"{self._path}: the bus has closed the connection")
        self._received += len(data)
        return data

    def _left(self) -> float:
        """Return the seconds that are left, more than 0. Raises TimeoutError."""
        left = self._deadline - monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _failed(self, error: OSError) -> SourceError:
        if isinstance(error, TimeoutError):
            return SourceError("timeout", f"{self._path}: no answer in time")
        if error.errno is None:  # longer than an address of a socket
            return SourceError("enametoolong", f"{self._path}: {error}")
        return SourceError.from_os_error(self._path, error)

    def _misread(self) -> SourceError:
        return SourceError("parse", f"{self._path}: expected messages of D-Bus")

"""Calls of gRPC over a connected socket, by one thread.

Nothing that comes is trusted: the size of a message is looked at before its bytes are kept, and no more bytes are
allowed on their way than a window has. Frames are the library h2's affair.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from .files import UnreadableError

if TYPE_CHECKING:
    from h2.events import Event

_WINDOW = 256 * 1024
_READ_BYTES = 65536
_UNFINISHED_LIMIT = 128 * 1024
"""The most bytes that may come without a whole frame, or whole headers: h2 looks at the size of one at its end."""

_EVENTS_LIMIT = 1024
"""The most frames of one answer, and between two."""

_CALLS_LIMIT = 10_000
"""The most calls over a connection that is kept: h2 remembers each stream that has ended."""

_PREFIX = 5
"""Bytes before a message: whether it is compressed, and its size."""

_SHOWN = 80
_OK, _NOT_FOUND, _UNIMPLEMENTED = "0", "5", "12"


class Call:
    """A call whose answers come. messages: those that have come. ended: whether there will be no more."""

    def __init__(self, path: Path, limit: int) -> None:
        """path: of the socket. limit: the most bytes of a message."""
        self.messages: deque[bytes] = deque()
        self.ended = False
        self._path = path
        self._limit = limit
        self._data = bytearray()
        self._status = ""
        self._said = ""

    def check(self) -> None:
        """Raise UnreadableError if the call has failed; it is `missing` if there is no such method or thing."""
        if not self.ended or self._status == _OK:
            return
        missing = self._status in (_NOT_FOUND, _UNIMPLEMENTED)
        status = self._status if self._status.isdecimal() else "missing"
        why = f"answered {self._said[:_SHOWN]!a} (gRPC status {status})"
        raise UnreadableError(self._path, why, missing=missing)

    def headers(self, headers: dict[bytes, bytes]) -> None:
        """Take headers or trailers."""
        if b"grpc-status" in headers:
            self._status = headers[b"grpc-status"].decode("ascii", "replace")[:_SHOWN]
            self._said = headers.get(b"grpc-message", b"").decode("ascii", "replace")

    def feed(self, data: bytes) -> None:
        """Take bytes. Raises UnreadableError as soon as a message is known to be too large."""
        self._data += data
        while len(self._data) >= _PREFIX:
            if self._data[0]:
                raise UnreadableError(self._path, "sent a compressed message, which was not asked for")
            size = int.from_bytes(self._data[1:_PREFIX], "big")
            if size > self._limit:
                raise UnreadableError(self._path, f"message of more than {self._limit} bytes")
            if len(self._data) < _PREFIX + size:
                return
            self.messages.append(bytes(self._data[_PREFIX : _PREFIX + size]))
            del self._data[: _PREFIX + size]


class Client:
    """Calls over one connection, to the methods of one service."""

    def __init__(self, connection: socket.socket, path: Path, service: str) -> None:
        """path: of the socket. service: with its package. Raises UnreadableError."""
        from h2.config import H2Configuration  # noqa: PLC0415  # only nodes with such a socket load it
        from h2.connection import H2Connection  # noqa: PLC0415
        from h2.settings import SettingCodes, Settings  # noqa: PLC0415

        self._socket = connection
        self._path = path
        self._service = service
        self._calls: dict[int, Call] = {}
        self._unfinished = 0
        self._made = 0
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._http = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        values = {SettingCodes.ENABLE_PUSH: 0, SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW}
        self._http.local_settings = Settings(client=True, initial_values=values)
        self._http.initiate_connection()
        self._http.increment_flow_control_window(_WINDOW)

    def alive(self) -> bool:
        """Return whether the peer takes further calls. Takes what it has sent meanwhile, such as pings."""
        left = _EVENTS_LIMIT if self._made < _CALLS_LIMIT else 0
        try:
            while left > 0 and self._poll.poll(0):
                left -= self.receive(0)
        except UnreadableError:
            return False
        return left > 0

    def close(self) -> None:
        """End the connection and all calls over it. It must not be used again."""
        self._socket.close()

    def call(self, method: str, request: bytes, limit: int) -> Call:
        """Begin a call, whose answers `receive` takes. limit: the most bytes of a message. Raises UnreadableError."""
        from h2.exceptions import H2Error  # noqa: PLC0415

        call = Call(self._path, limit)
        self._made += 1
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": f"/{self._service}/{method}",
            ":authority": "localhost",
            "te": "trailers",
            "content-type": "application/grpc",
            "user-agent": "pymon",
        }
        try:
            stream = self._http.get_next_available_stream_id()
            self._http.send_headers(stream, headers.items())
            self._http.send_data(stream, bytes(1) + len(request).to_bytes(4, "big") + request, end_stream=True)
            self._calls[stream] = call
            self._socket.sendall(self._http.data_to_send())
        except (H2Error, OSError) as error:
            raise UnreadableError(self._path, "takes no calls") from error
        return call

    def receive(self, seconds: float) -> int:
        """Wait for what comes next, and give it to the calls. Return the number of frames, 0 after `seconds`.

        Raises UnreadableError.
        """
        from h2.exceptions import H2Error  # noqa: PLC0415

        try:
            self._socket.settimeout(max(seconds, 0.001))
            data = self._socket.recv(_READ_BYTES)
        except TimeoutError:
            return 0
        except OSError as error:
            raise UnreadableError(self._path, "no whole answer") from error
        if not data:
            raise UnreadableError(self._path, "no whole answer")
        try:
            events = self._http.receive_data(data)
            self._unfinished = 0 if events else self._unfinished + len(data)
            if self._unfinished > _UNFINISHED_LIMIT:
                raise UnreadableError(self._path, f"frame of more than {_UNFINISHED_LIMIT} bytes")
            for event in events:
                self._take(event)
            if out := self._http.data_to_send():
                self._socket.sendall(out)
        except (H2Error, ValueError, OSError) as error:
            raise UnreadableError(self._path, "did not answer in gRPC") from error
        return max(1, len(events))

    def answer(self, method: str, request: bytes, limit: int, seconds: float) -> bytes:
        """Return the answer of a call that has one. seconds: the longest that it may take. Raises UnreadableError."""
        deadline = time.monotonic() + seconds
        call = self.call(method, request, limit)
        left = _EVENTS_LIMIT
        while not call.ended:
            frames = self.receive(deadline - time.monotonic())
            left -= frames
            if not frames or time.monotonic() > deadline or left < 0:
                raise UnreadableError(self._path, "no whole answer in time")
        call.check()
        return self.only(call)

    def only(self, call: Call) -> bytes:
        """Return the answer of a call that has ended well. Raises UnreadableError if it is not one."""
        if len(call.messages) != 1:
            raise UnreadableError(self._path, f"answered {len(call.messages)} messages")
        return call.messages[0]

    def _take(self, event: Event) -> None:
        from h2 import events  # noqa: PLC0415

        if isinstance(event, events.ConnectionTerminated):
            raise UnreadableError(self._path, "ends the connection")
        call = self._calls.get(getattr(event, "stream_id", None) or 0)
        if isinstance(event, events.DataReceived):
            self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if call is not None:
                call.feed(event.data)
        elif isinstance(event, events.ResponseReceived | events.TrailersReceived):
            if call is not None:
                call.headers(dict(event.headers))
        elif isinstance(event, events.StreamEnded | events.StreamReset) and call is not None:
            call.ended = True
            del self._calls[event.stream_id]

"""Questions in HTTP/1.1 over one connection to a container engine, which is kept between them.

Nothing that comes is trusted: an answer has a deadline, and a most of bytes. What follows it on the connection, and was
not asked for, is no answer to the next question: such a connection is not kept.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from .files import UnreadableError

_READ_BYTES = 65536
_OK, _NOT_FOUND = 200, 404
_LENGTHS = (b"content-length", b"transfer-encoding")


class HttpClient:
    """Asks over a connected socket, by one thread at a time."""

    def __init__(self, connection: socket.socket, path: Path) -> None:
        """path: of the socket."""
        self._socket = connection
        self._path = path
        self._kept = True
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    def alive(self) -> bool:
        """Return whether the next question may be asked: the peer has not ended the connection, and says nothing."""
        return self._kept and not self._poll.poll(0)

    def close(self) -> None:
        """End the connection. It must not be used again."""
        self._socket.close()

    def get(self, target: str, limit: int, seconds: float) -> bytes:
        """Return the body of an answer. limit: the most bytes of it, head and body. seconds: the longest that it takes.

        Raises UnreadableError; it is `missing` if the answer is that there is no such thing.
        """
        deadline = time.monotonic() + seconds
        answer = _Answer()
        self._kept = False
        left, size = seconds, 0
        try:
            self._socket.settimeout(seconds)
            self._ask(target)
            while not answer.complete and left > 0:
                self._socket.settimeout(left)
                part = self._socket.recv(_READ_BYTES)
                size += len(part)
                if size > limit:
                    raise UnreadableError(self._path, f"answer of more than {limit} bytes")
                answer.feed(part)
                left = deadline - time.monotonic()
        except OSError as error:
            raise UnreadableError(self._path, "no whole answer in time") from error
        except ValueError as error:
            raise UnreadableError(self._path, "did not answer in HTTP") from error
        if not answer.complete:
            raise UnreadableError(self._path, "no whole answer in time")
        self._kept = answer.keeps
        if answer.status != _OK:
            raise UnreadableError(self._path, f"answered {answer.status}", missing=answer.status == _NOT_FOUND)
        return b"".join(answer.parts)

    def lines(self, target: str, limit: int, seconds: float) -> Iterator[bytes | None]:
        """Yield b"" when an answer that need not end has begun, then its lines, and None when a part had no whole one.

        limit: the most bytes of a line. seconds: the longest silence. Ends with the answer. Raises UnreadableError.
        """
        answer = _Answer()
        self._kept = begun = False
        size = 0
        try:
            self._socket.settimeout(seconds)
            self._ask(target)
            while not answer.complete:
                part = self._socket.recv(_READ_BYTES)
                size += len(part)
                answer.feed(part)
                if not begun:
                    begun = answer.status > 0
                    if begun and answer.status != _OK:
                        raise UnreadableError(self._path, f"answered {answer.status}")
                    yield b"" if begun else None
                if answer.parts and b"\n" in answer.parts[-1]:
                    *whole, rest = b"".join(answer.parts).split(b"\n")
                    answer.parts, size = [rest], len(rest)
                    if max(map(len, whole)) > limit:
                        size = limit + 1
                    else:
                        yield from filter(None, whole)
                else:
                    yield None
                if size > limit:
                    raise UnreadableError(self._path, f"line of more than {limit} bytes")
        except (OSError, ValueError) as error:
            raise UnreadableError(self._path, "no events, or none that are HTTP") from error

    def _ask(self, target: str) -> None:
        self._socket.sendall(f"GET {target} HTTP/1.1\r\nHost: engine\r\n\r\n".encode("ascii"))


class _Answer:
    """An answer as it comes.

    parts: of the body. complete: whether all has come. keeps: whether the connection can be asked again.
    """

    def __init__(self) -> None:
        from httptools import HttpResponseParser  # noqa: PLC0415  # only processes that serve load it

        self.parts: list[bytes] = []
        self.complete = False
        self.keeps = False
        self.status = 0
        self._has_length = False
        self._parser = HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Take bytes; none at the end of the connection. Raises ValueError if they are not HTTP."""
        from httptools import HttpParserError  # noqa: PLC0415

        if not data:
            # Without a length, the body is all until the end.
            self.complete = self.status > 0 and not self._has_length
            if not self.complete:
                raise ValueError
            return
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            raise ValueError from error

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self.complete:
            raise ValueError

    def on_header(self, name: bytes, value: bytes) -> None:
        del value
        self._has_length |= name.lower() in _LENGTHS

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        self.parts.append(data)

    def on_message_complete(self) -> None:
        self.complete = True
        self.keeps = self._parser.should_keep_alive()

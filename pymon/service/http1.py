"""HTTP/1.1 without I/O (RFC 9112): bytes of a connection in, requests or responses out.

The parser is llhttp in its strict mode, through httptools. What is added here is what llhttp leaves to its user:
limits, the Host field, the forms of a request target, and which messages of a connection are given out. There is no
clock, no socket and no event loop in this module.
"""

from __future__ import annotations

import re
from collections import deque
from io import SEEK_END, BytesIO
from typing import TYPE_CHECKING, NamedTuple

import httptools

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

LINE_MAX_BYTES = 8190
"""Limit of a request target, and of the name and value of a header field together."""

FIELDS_MAX = 128
HEAD_MAX_BYTES = 65536
"""Limit of a request line and its header fields, with empty lines before them."""

BODY_MAX_BYTES = 65536
"""Limit of a request body on the wire, with chunk sizes, chunk extensions and trailer fields."""

_PIECE_BYTES = 4096
"""The parser gets at most this much at a time, and nothing while an event waits to be taken. So a client that sends
thousands of requests at once has only a few parsed ones in memory.
"""

_REPEAT_MAX_BYTES = 4096
"""A head up to this size is kept: one with the same header fields is not parsed again."""

_REPEATED_LINE = re.compile(rb"GET (/[A-Za-z0-9/._~-]*)(?:\?([A-Za-z0-9/._~%=&\[\]-]*))? HTTP/1\.1\r\n")
"""Request lines that the parser takes and that need nothing but the parts of their target."""

_ABSOLUTE = re.compile(r"https?://([A-Za-z0-9._~!$&'()*+,;=%:\[\]-]+)((?:[/?].*)?)", re.IGNORECASE | re.DOTALL)


class Headers:
    """The header fields of a message. Names for look-ups must be in lower case.

    memo: for use by the handler. Requests of a connection with the same fields have the same object.
    """

    __slots__ = ("_fields", "memo")

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields: dict[str, list[str]] = {}
        self.memo: object = None
        for name, value in fields:
            self._fields.setdefault(name.lower(), []).append(value)

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return ((name, value) for name, values in self._fields.items() for value in values)

    def all(self, name: str) -> list[str]:
        """Return the values of a field, one for each of its lines, [] if it is absent."""
        return self._fields.get(name, [])

    def get(self, name: str) -> str | None:
        """Return the value of a field, its lines joined by ", " (RFC 9110 section 5.3), None if it is absent."""
        values = self._fields.get(name)
        if values is None:
            return None
        return values[0] if len(values) == 1 else ", ".join(values)


class Head(NamedTuple):
    """A request without its body.

    path, query: of the target, not decoded. The path starts with a slash, or is ``*`` of an OPTIONS request. host: the
    authority of an absolute-form target, else the value of Host; "" if an HTTP/1.0 request has neither. content_length:
    bytes of the body, None for a chunked body. keep_alive: whether the client allows another request on the connection.
    old: the version is HTTP/1.0.
    """

    method: str
    path: str
    query: str
    host: str
    headers: Headers
    content_length: int | None
    keep_alive: bool
    old: bool

    @property
    def has_body(self) -> bool:
        """Whether a body follows. Its end is reported by `BodyEnd`."""
        return self.content_length != 0


class BodyEnd(NamedTuple):
    """The body of the last `Head` is complete."""


class Malformed(NamedTuple):
    """The input is malformed or exceeds a limit. It is the last event of a connection.

    status: HTTP status to reply with. text: one line.
    """

    status: int
    text: str


Event = Head | BodyEnd | Malformed

_BODY_END = BodyEnd()
_MALFORMED = Malformed(400, "malformed request")


class _RefusedError(Exception):
    """Raised in a callback of the parser to stop parsing."""

    def __init__(self, event: Malformed = _MALFORMED) -> None:
        super().__init__(event.text)
        self.event = event


class RequestReader:
    """Parser for the server side of one connection.

    `receive` takes input, `next` returns events. A `Head` is returned when it is complete and the part of its body that
    arrived with it is well-formed. There are no events after `Malformed`, nor after a request whose `keep_alive` is
    false and its `BodyEnd`. Later input is discarded.
    """

    __slots__ = (
        "_begun",
        "_body_bytes",
        "_buffer",
        "_events",
        "_fields",
        "_head",
        "_head_bytes",
        "_last",
        "_last_bytes",
        "_last_fields_at",
        "_last_head",
        "_parser",
        "_target",
    )

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._buffer = b""
        self._events: deque[Event] = deque()
        self._fields: list[tuple[str, str]] = []
        self._target = b""
        self._head: Head | None = None  # of the message whose body is not complete
        self._begun = False  # the parser has a part of a head
        self._head_bytes = 0  # since the previous message
        self._body_bytes = 0
        self._last = False
        self._last_bytes = b""
        self._last_fields_at = 0  # where the header fields begin, 0 if no other request line may come before them
        self._last_head: Head | None = None

    @property
    def buffered_bytes(self) -> int:
        """The number of bytes that were received and not parsed yet."""
        return len(self._buffer)

    @property
    def waiting(self) -> bool:
        """Whether there are events or input that `next` has not handled yet."""
        return bool(self._events or self._buffer)

    @property
    def in_head(self) -> bool:
        """Whether a part of a head was received, but not all of it."""
        return self._begun or (self._head is None and bool(self._buffer))

    @property
    def in_body(self) -> bool:
        """Whether the body of the last `Head` is not complete."""
        return self._head is not None

    @property
    def _between(self) -> bool:
        """Whether the parser is at the start of a message."""
        return self._head is None and not self._begun

    def receive(self, data: bytes) -> None:
        """Add input. The caller must limit `buffered_bytes`."""
        if not self._last:
            self._buffer = self._buffer + data if self._buffer else data

    def next(self) -> Event | None:
        """Return the next event, None if more input is needed."""
        if not self._events and self._buffer:
            if self._last_head is not None and self._between and (head := self._repeated(self._last_head)) is not None:
                return head
            self._parse()
        return self._events.popleft() if self._events else None

    def _repeated(self, last: Head) -> Head | None:
        """Return the head in the buffer if it is as the last one but for its target, as the parser would return it."""
        data = self._buffer
        if data != self._last_bytes:
            begin = self._last_fields_at
            line = _REPEATED_LINE.match(data) if begin and len(data) <= _REPEAT_MAX_BYTES else None
            if line is None or data[line.end() :] != self._last_bytes[begin:]:
                return None
            path, query = line[1].decode("ascii"), (line[2] or b"").decode("ascii")
            last = Head("GET", path, query, last.host, last.headers, 0, keep_alive=True, old=False)
            self._last_bytes, self._last_fields_at, self._last_head = data, line.end(), last
        self._buffer = b""
        return last

    def _parse(self) -> None:
        whole = self._buffer if self._between and len(self._buffer) <= _REPEAT_MAX_BYTES else b""
        while self._buffer and not self._events:
            piece, self._buffer = self._buffer[:_PIECE_BYTES], self._buffer[_PIECE_BYTES:]
            self._feed(piece)
        if whole and len(self._events) == 1 and self._between:
            head = self._events[0]
            if isinstance(head, Head) and head.keep_alive and not head.has_body:
                line = _REPEATED_LINE.match(whole)
                self._last_fields_at = line.end() if line is not None else 0
                self._last_bytes, self._last_head = whole, head

    def _feed(self, piece: bytes) -> None:
        in_body = self._head is not None
        if in_body:
            self._body_bytes += len(piece)
        else:
            self._head_bytes += len(piece)
        malformed = None
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            # An Upgrade is declined. The request is answered, and input after it is not HTTP.
            self._end()
            return
        except httptools.HttpParserError as error:
            malformed = error.__context__.event if isinstance(error.__context__, _RefusedError) else _MALFORMED
        if malformed is None:
            if self._head is None and self._head_bytes > HEAD_MAX_BYTES:
                malformed = Malformed(431, f"request head too large: expected at most {HEAD_MAX_BYTES} bytes")
            elif self._head is not None and self._body_bytes > BODY_MAX_BYTES:
                malformed = Malformed(413, f"body too large: expected at most {BODY_MAX_BYTES} bytes")
        if malformed is not None and not self._last:
            if self._head is not None and self._events and self._events[-1] is self._head:
                self._events.pop()  # its body is malformed
            self._events.append(malformed)
            self._end()

    def _end(self) -> None:
        """Discard all further input."""
        self._last = True
        self._buffer = b""
        self._head = None
        self._begun = False

    # --- callbacks of httptools ---

    def on_message_begin(self) -> None:
        """Called at the first byte of a request line."""
        if self._last:
            raise _RefusedError
        self._begun = True
        self._fields = []
        self._target = b""

    def on_url(self, piece: bytes) -> None:
        """Called with each part of the request target."""
        self._target += piece
        if len(self._target) > LINE_MAX_BYTES:
            raise _RefusedError(Malformed(414, f"URI too long: expected at most {LINE_MAX_BYTES} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called with each complete header or trailer field."""
        if self._head is not None:
            return  # a trailer field
        if len(name) + len(value) > LINE_MAX_BYTES:
            raise _RefusedError(Malformed(431, f"header too large: expected at most {LINE_MAX_BYTES} bytes"))
        self._fields.append((name.decode("ascii"), value.decode("utf-8", "surrogateescape").rstrip(" \t")))
        if len(self._fields) > FIELDS_MAX:
            raise _RefusedError(Malformed(431, f"too many headers: expected at most {FIELDS_MAX}"))

    def on_headers_complete(self) -> None:
        """Called at the end of a head. llhttp checks the transfer coding after this call."""
        parser = self._parser
        version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise _RefusedError
        old = version == "1.0"
        method = parser.get_method().decode("ascii")
        headers = Headers(self._fields)
        chunked = "transfer-encoding" in headers
        if chunked and old:
            raise _RefusedError  # RFC 9112 section 6.1: its framing is faulty
        path, query, host = _target(method, self._target, headers, old=old)
        length = None if chunked else int(headers.get("content-length") or 0)
        keep = parser.should_keep_alive() and not parser.should_upgrade()
        head = Head(method, path, query, host, headers, length, keep, old)
        self._events.append(head)
        self._head = head
        self._begun = False
        self._head_bytes = self._body_bytes = 0

    def on_message_complete(self) -> None:
        """Called at the last byte of a body, or of a head without a body."""
        head, self._head = self._head, None
        if head is None:
            return
        if head.has_body:
            self._events.append(_BODY_END)
        if not head.keep_alive:
            self._end()


def _target(method: str, raw: bytes, headers: Headers, *, old: bool) -> tuple[str, str, str]:
    """Return path, query and host of a request (RFC 9112 sections 3.2 and 3.3). Raises _RefusedError."""
    hosts = headers.all("host")
    if len(hosts) > 1 or (not hosts and not old):
        raise _RefusedError(Malformed(400, "expected one Host"))
    host = hosts[0] if hosts else ""
    target = raw.decode("ascii", "surrogateescape")
    if target[:1] != "/" and not (target == "*" and method == "OPTIONS"):
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None:
            raise _RefusedError
        # The authority of an absolute-form target replaces Host.
        host, target = absolute[1], absolute[2]
        if target[:1] != "/":
            target = "/" + target
    path, _, query = target.partition("?")
    return path, query, host


# --- responses ---

_RESPONSE_FIELDS = (
    "content-type", "content-encoding", "etag", "inventory-version", "retry-after", "x-content-type-options",
)  # fmt: skip
_TAKEN = {name.encode(): name for name in (*_RESPONSE_FIELDS, "content-length", "transfer-encoding")}

_FRAMING_MAX_BYTES = 65536
_BODY_BYTES_PER_FRAMING_BYTE = 32
"""All bytes of an exchange that are not body (informational responses, status line, header and trailer fields, chunk
sizes and extensions, empty lines before the response) are at most `_FRAMING_MAX_BYTES`, and one more for each 32 bytes
of body."""

_PIECES_MAX = 1024
_BODY_BYTES_PER_PIECE = 128
"""The same for reads and chunks: each costs time, however small it is."""

_RESPONSE_FIELDS_MAX = 256
"""Header and trailer fields of an exchange, informational responses included."""


class Response(NamedTuple):
    """A response. headers: those that pymon reads, names in lower case; the lines of one field are joined by ", "."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class ResponseError(Exception):
    """A response that is not taken; the text is one line about "it". reason: ``malformed`` or ``too_large``."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class ResponseReader:
    """The client's side of one connection, one exchange at a time.

    `begin` comes first in each exchange; `receive` takes bytes as they come and returns the response once it is whole.
    After a ResponseError the connection is of no use. keep_alive: whether it takes another request after the response.
    received_bytes, body_bytes: of this exchange so far.
    """

    __slots__ = (
        "_body", "_fields", "_framed", "_headers", "_long_body", "_max_body_bytes", "_parser", "_pieces", "_response",
        "_status", "body_bytes", "keep_alive", "received_bytes",
    )  # fmt: skip

    def begin(self, max_body_bytes: int) -> None:
        """A request was sent; its response may have a body of so many bytes."""
        # A parser made anew carries nothing over from the response before; it costs less than a microsecond.
        self._parser = httptools.HttpResponseParser(self)
        self._status = 0
        self._framed = True
        self._headers: dict[str, str] = {}
        self._body = b""
        self._long_body: BytesIO | None = None
        self._max_body_bytes = max_body_bytes
        self._fields = self._pieces = 0
        self._response: Response | None = None
        self.keep_alive = False
        self.received_bytes = self.body_bytes = 0

    def receive(self, data: bytes) -> Response | None:
        """The response when it is whole with these bytes, else None. Raises ResponseError."""
        self.received_bytes += len(data)
        self._pieces += 1
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.keep_alive = False
            if self._response is None:
                # No variable refers to the cause: it would refer to this frame, and this frame to it.
                if isinstance(error.__context__, ResponseError):
                    raise error.__context__ from None
                raise ResponseError("malformed", "its answer is no HTTP") from None
            return self._response  # what is wrong comes after it
        # Counted by reads, not by fields: the parser keeps a field to itself until its end.
        framing = self.received_bytes - self.body_bytes
        if (
            framing > _FRAMING_MAX_BYTES
            and framing - _FRAMING_MAX_BYTES > self.body_bytes // _BODY_BYTES_PER_FRAMING_BYTE
        ):
            headers = f"its headers have more than {_FRAMING_MAX_BYTES} bytes"
            raise ResponseError("too_large", "too much of it is no body" if self.body_bytes else headers)
        if self._pieces > _PIECES_MAX:
            self._check_pieces()
        return self._response

    def closed(self) -> Response | None:
        """The response whose body only the end of the connection ends (RFC 9112 section 6.3), which has come.

        None where no such response has begun.
        """
        if self._response is None and self._status and not self._framed:
            self.on_message_complete()
        return self._response

    def end(self) -> None:
        """Free the memory of the body when nobody needs the response any more."""
        self._body = b""
        self._long_body = None

    def _check_pieces(self) -> None:
        """Raise ResponseError where the response comes in too many pieces for its size."""
        if self._pieces - _PIECES_MAX > self.body_bytes // _BODY_BYTES_PER_PIECE:
            raise ResponseError("too_large", "it comes in too many pieces")

    # --- httptools' calls ---

    def on_message_begin(self) -> None:
        """The first byte of a status line."""
        if self._response is not None:
            # From here on responses could be taken for another request's.
            raise ResponseError("malformed", "a second answer to one question")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header or trailer field."""
        self._fields += 1
        if self._fields > _RESPONSE_FIELDS_MAX:
            raise ResponseError("too_large", f"it has more than {_RESPONSE_FIELDS_MAX} headers")
        taken = _TAKEN.get(name.lower())
        if taken is None or self._status:  # a trailer field
            return
        text = value.decode("latin-1").rstrip(" \t")
        before = self._headers.get(taken)
        self._headers[taken] = text if before is None else f"{before}, {text}"

    def on_headers_complete(self) -> None:
        """Take the status, and refuse a transfer coding other than chunked. The head is complete."""
        self._status = self._parser.get_status_code()
        coding = self._headers.pop("transfer-encoding", None)
        self._framed = self._headers.pop("content-length", None) is not None or coding is not None
        if coding is not None and coding.lower() != "chunked":
            raise ResponseError("malformed", "its answer has a transfer coding that was not asked for")

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body, within the limits of its bytes and of the number of parts."""
        self.body_bytes += len(data)
        if self.body_bytes > self._max_body_bytes:
            raise ResponseError("too_large", "its body is too large")
        self._pieces += 1
        if self._pieces > _PIECES_MAX:
            self._check_pieces()
        if self._long_body is not None:
            self._long_body.write(data)
        elif not self._body:
            self._body = data  # most bodies come in one piece
        else:
            # Its value is taken over without a copy. A copy of 8 MB would block the event loop for 10 ms.
            self._long_body = BytesIO(self._body)
            self._long_body.seek(0, SEEK_END)
            self._long_body.write(data)
            self._body = b""

    def on_message_complete(self) -> None:
        """The last byte of a response."""
        if self._status < 200:  # noqa: PLR2004  # an informational response, before the one that counts
            self._status = 0
            self._headers.clear()
            return
        body = self._body if self._long_body is None else self._long_body.getvalue()
        self._response = Response(self._status, self._headers, body)
        self.end()
        self.keep_alive = self._parser.should_keep_alive()

"""Replies: what a handler returns, and the head of its wire form."""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

TEXT = b"Content-Type: text/plain; charset=utf-8\r\n"
HTML = b"Content-Type: text/html; charset=utf-8\r\n"

NOT_MODIFIED = HTTPStatus.NOT_MODIFIED.value

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class Reply(NamedTuple):
    """A reply to a request.

    headers: header lines with line ends, without those that `make_head` adds. data: the body. keep: whether the
    connection may be used for another request. release: called once when `data` is no longer needed, also if the client
    disconnects. stream: the body in pieces instead of `data`; it is closed after the reply. If it raises HangUp, the
    connection ends without the end of the body, so that the client takes the reply for broken.
    """

    status: int
    headers: bytes
    data: bytes | memoryview
    keep: bool = True
    release: Callable[[], object] | None = None
    stream: AsyncGenerator[bytes, None] | None = None


class Refusal(Exception):  # noqa: N818  # it is raised to reply, and is not an error of the program
    """Raised by a handler to reply with a status other than 200 and one line of text.

    why: more than the client may know, for the log. "" if the text is all.
    """

    def __init__(self, status: int, text: str, headers: bytes = b"", why: str = "") -> None:
        super().__init__(text)
        self.why = why
        self.reply = text_reply(status, text, headers)


class HangUp(Exception):  # noqa: N818  # it is raised to close, and is not an error of the program
    """Raised by a handler to close the connection without a reply."""


def text_reply(status: int, text: str, headers: bytes = b"", *, keep: bool = True) -> Reply:
    """Return a reply with one line of text/plain."""
    line = " ".join(text.split()) + "\n"
    return Reply(status, TEXT + headers, line.encode("utf-8", "backslashreplace"), keep)


_own_at = 0
_own = b""


def _own_headers() -> bytes:
    """Return the header lines Server and Date. They are formatted at most once a second."""
    global _own_at, _own
    now = int(time.time())
    if now != _own_at:
        _own_at, _own = now, f"Server: pymon\r\nDate: {formatdate(now, usegmt=True)}\r\n".encode("ascii")
    return _own


def make_head(reply: Reply, *, keep: bool, old: bool = False) -> bytes:
    """Return the status line, the header fields and the empty line of a reply. old: the client uses HTTP/1.0."""
    connection = b"Connection: close\r\n" if not keep else b"Connection: keep-alive\r\n" if old else b""
    if reply.stream is not None:
        length = b"" if old else b"Transfer-Encoding: chunked\r\n"
    else:
        length = b"" if reply.status == NOT_MODIFIED else b"Content-Length: %d\r\n" % len(reply.data)
    return b"".join((_STATUS_LINES[reply.status], reply.headers, _own_headers(), connection, length, b"\r\n"))

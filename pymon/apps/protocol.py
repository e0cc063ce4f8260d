r"""What an agent and the fetcher say to each other, on one connection for each fetch. Does no I/O.

The agent sends an `Ask` as one line of JSON. The fetcher sends an `Answer` as one line of JSON, and then the body. The
fetch ends when the agent closes the connection, or its own direction of it.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from pymon.app_labels import is_path, is_port

DEFAULT_SOCKET = "/run/pymon/app-fetcher.sock"

MAX_SECONDS = 15.0
MAX_BODY_BYTES = 4 << 20
"""Limits of what an agent may ask for."""

MAX_LINE_BYTES = 16 << 10
"""Limit of each of the two lines."""

MAX_TEXT = 300

Reason: TypeAlias = Literal[
    "ask", "host", "namespace", "gone", "denied", "connect", "timeout", "status", "redirect", "coding", "too_large",
    "malformed", "exposition", "busy", "fetcher", "internal",
]  # fmt: skip


class AppError(Exception):
    """There is nothing to answer with. The text is one line about "it", the application or its container."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(" ".join(text.split())[:MAX_TEXT])
        self.reason: Reason = reason


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fetch. It names a process and nothing that is looked up: no address, no name, no URL.

    pid, start_ticks: a process of the container, and its start as field 22 of /proc/PID/stat has it. cgroup: path of
    the container's cgroup, each byte a character. namespace: inode of the network namespace that it is expected in.
    port, path: of the application. seconds: time to answer. max_bytes: limit of the body.
    """

    pid: int
    start_ticks: int
    cgroup: str
    namespace: int
    port: int
    path: str
    seconds: float
    max_bytes: int


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """bytes: of the body that follows. reason, text: of an `AppError` instead."""

    bytes: int = 0
    reason: Reason | None = None
    text: str = ""


_ask = msgspec.json.Decoder(Ask)
_answer = msgspec.json.Decoder(Answer)


def line_of(message: Ask | Answer) -> bytes:
    """Return a message as a line."""
    return msgspec.json.encode(message) + b"\n"


def read_ask(line: bytes) -> Ask:
    """Return the ask in a line. Raises AppError unless the fetcher may do all that it says."""
    try:
        ask = _ask.decode(line)
    except (ValueError, RecursionError) as error:
        raise AppError("ask", f"no ask: {error}") from None
    if ask.pid <= 1:
        raise AppError("ask", f"pid: expected that of a container's process, got {ask.pid}")
    if not is_port(ask.port):
        raise AppError("ask", f"port: expected 1 to 65535, got {ask.port}")
    if not is_path(ask.path):
        raise AppError("ask", "path: expected that of a URL")
    if len(ask.cgroup) < 2 or not ask.cgroup.startswith("/"):  # noqa: PLR2004
        raise AppError("ask", "cgroup: expected one below the root")
    if not 0 < ask.seconds <= MAX_SECONDS:
        raise AppError("ask", f"seconds: expected at most {MAX_SECONDS:g}")
    if not 0 < ask.max_bytes <= MAX_BODY_BYTES:
        raise AppError("ask", f"max_bytes: expected at most {MAX_BODY_BYTES}")
    return ask


def read_answer(line: bytes, max_bytes: int) -> int:
    """Return the size of the body that follows a line. Raises the AppError in it, or one of reason ``fetcher``."""
    try:
        answer = _answer.decode(line)
    except (ValueError, RecursionError):
        raise AppError("fetcher", "the fetcher's answer is malformed") from None
    if answer.reason is not None:
        raise AppError(answer.reason, answer.text)
    if not 0 <= answer.bytes <= max_bytes:
        raise AppError("fetcher", "the fetcher's answer is malformed")
    return answer.bytes

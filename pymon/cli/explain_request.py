"""``pymon explain``: why a proxy refused a request, from the id in its answer and the proxy's log."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pymon
from pymon.cli.table import fields
from pymon.config import PATH, STR, ConfigError, Option, load, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_READ_BYTES = 256 << 20
"""The end of a log file in which a request is looked for."""

MAX_LINE_BYTES = 16384
"""Longer lines are no lines of a proxy about a request, and are passed over."""

_BLOCK_BYTES = 1 << 18
_ID = re.compile(r"[0-9a-f]{16}")
_PAIR = re.compile(r'(?:^|(?<=\s))([^\s="]+)=("(?:[^"\\]|\\.)*"|[^\s"]*)')


def _check_id(text: str) -> None:
    if not _ID.fullmatch(text):
        raise ValueError("the X-Request-Id of an answer, 16 hex digits")


_OPTIONS = (
    Option("request", STR, None, "The X-Request-Id of the answer.", check=_check_id),
    Option("log", PATH, None, f"The proxy's log, or its access log. At most its last {MAX_READ_BYTES >> 20} MiB are "
           "read."),
)  # fmt: skip


def option_table() -> tuple[Option, ...]:
    """Return the options of the command."""
    return _OPTIONS


def run(argv: Sequence[str]) -> int:
    """Print what a log file says of a request. Return the exit code, 1 if it says nothing."""
    settings = load(
        _OPTIONS, argv, os.environ,
        program="pymon explain",
        description="Say why a proxy refused a request, from the id in its answer.",
        version=f"pymon {pymon.__version__}",
    )  # fmt: skip
    for option in _OPTIONS:
        if settings[option.name] is None:
            raise ConfigError(f"{option.name}: expected --request ID --log FILE, got no --{option.name}")
    found = find(settings["log"], settings["request"])
    if found is None:
        print(
            f"pymon: {shown(str(settings['log']))}: no line about request {settings['request']}: it may be of another "
            "proxy, in an older file, or one of too many to log",
            file=sys.stderr,
        )
        return 1
    sys.stdout.write(fields((name, str(value)) for name, value in found.items()))
    return 0


def find(file: Path, request: str) -> dict[str, object] | None:
    """Return the fields of the last line about a request, one with a reason if there is one, None without any line.

    Raises ConfigError for what is no regular file, OSError if it cannot be read.
    """
    best: dict[str, object] | None = None
    for line in _lines_backwards(file, request.encode("ascii")):
        said = _parsed(line.decode("utf-8", "replace"))
        if said.get("request") != request:
            continue
        if "reason" in said:
            return said
        best = best or said
    return best


def _parsed(line: str) -> dict[str, object]:
    """Return the fields of a line in logfmt or JSON, {} for another one. There may be a prefix, as of a journal."""
    start = line.find("{")
    if start >= 0:
        try:
            said = json.loads(line[start:])
        except (ValueError, RecursionError):
            pass
        else:
            return said if isinstance(said, dict) else {}
    found: dict[str, object] = {}
    for name, value in _PAIR.findall(line):
        try:
            found[name] = json.loads(value) if value.startswith('"') else value
        except ValueError:
            return {}
    return found


def _lines_backwards(file: Path, wanted: bytes) -> Iterator[bytes]:
    """Yield the lines that contain `wanted`, from the last to the first."""
    # Without O_NONBLOCK, a named pipe would be waited for.
    with open(file, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{file}: expected a regular file")
        at, least = status.st_size, max(0, status.st_size - MAX_READ_BYTES)
        begun = b""  # the end of the line whose beginning was not read yet
        while at > least:
            size = min(_BLOCK_BYTES, at - least)
            at -= size
            stream.seek(at)
            first, *lines = (stream.read(size) + begun).split(b"\n")
            yield from (line for line in reversed(lines) if wanted in line and len(line) <= MAX_LINE_BYTES)
            begun = first[: MAX_LINE_BYTES + 1]
        if wanted in begun and len(begun) <= MAX_LINE_BYTES and at == 0:
            yield begun

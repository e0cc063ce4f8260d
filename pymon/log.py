"""Logging in logfmt or JSON. Each record is exactly one line, whatever its values contain.

Fields besides the message are given as ``extra={"fields": {...}}``.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pymon.config import LogFormat, LogLevel

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_NAMES = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warn", logging.ERROR: "error"}


def time_of(seconds: float) -> str:
    """Return the time of a log line. seconds: since the epoch."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def line_of(items: Iterable[tuple[str, Any]], format: LogFormat) -> str:
    """Return the fields of a log line as one line of ASCII without a line end."""
    if format == "json":
        return json.dumps(dict(items), default=str)
    return " ".join(f"{_logfmt_key(key)}={_logfmt_value(value)}" for key, value in items)


def _items(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    yield "time", time_of(record.created)
    yield "level", _NAMES.get(record.levelno, "error" if record.levelno > logging.ERROR else record.levelname.lower())
    yield "logger", record.name
    yield "msg", record.getMessage()
    yield from getattr(record, "fields", {}).items()
    if record.exc_info and record.exc_info[1] is not None:
        yield "traceback", "".join(traceback.format_exception(record.exc_info[1]))


def _logfmt_value(value: object) -> str:
    text = value if isinstance(value, str) else str(value)
    if text and text.isascii() and text.isprintable() and not set(text) & set(' "=\\'):
        return text
    return json.dumps(text)


def _logfmt_key(key: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() and c not in ' "=' else "_" for c in key) or "_"


class LogfmtFormatter(logging.Formatter):
    """Formats ``key=value`` pairs. A value that is not plain ASCII is written as a JSON string."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line without a line end."""
        return line_of(_items(record), "logfmt")


class JsonFormatter(logging.Formatter):
    """Formats a JSON object. A value that JSON cannot represent is written as a string."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line without a line end."""
        return line_of(_items(record), "json")


def setup(level: LogLevel, format: LogFormat, stream: TextIO | None = None) -> None:
    """Send the records of this process to `stream` (standard error), in place of what was set up before."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LogfmtFormatter() if format == "logfmt" else JsonFormatter())
    logging.basicConfig(level=_LEVELS[level], handlers=[handler], force=True)
    logging.captureWarnings(True)
    # No tracebacks on standard error if the log cannot be written.
    logging.raiseExceptions = False

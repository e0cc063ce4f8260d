"""Log lines on one stream, in logfmt or JSON: one record, one line, whatever its values hold.

Fields beyond the message go in ``extra={"fields": {...}}``.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

Level = Literal["debug", "info", "warn", "error"]
Format = Literal["logfmt", "json"]

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_NAMES = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warn", logging.ERROR: "error"}


def _items(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    yield "time", datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
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
    """``key=value`` pairs; a value with anything but plain ASCII in it is a JSON string."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        return " ".join(f"{_logfmt_key(key)}={_logfmt_value(value)}" for key, value in _items(record))


class JsonFormatter(logging.Formatter):
    """An object; a value that JSON does not know is a string."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        return json.dumps(dict(_items(record)), default=str)


def setup(level: Level, format: Format, stream: TextIO | None = None) -> None:
    """Send the records of this process to `stream` (standard error), in place of what was set up before."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LogfmtFormatter() if format == "logfmt" else JsonFormatter())
    logging.basicConfig(level=_LEVELS[level], handlers=[handler], force=True)
    logging.captureWarnings(True)
    # A log that cannot be written must not print tracebacks.
    logging.raiseExceptions = False

"""The URL of a directory: a path, ``sqlite:///path`` or ``postgresql://...``."""

from __future__ import annotations

import urllib.parse
from pathlib import Path

from pymon.config import ConfigError, shown

_WHERE = ("host", "hostaddr", "port", "dbname", "service")
"""The parameters of a PostgreSQL URL that identify the database."""


def is_postgres(url: str) -> bool:
    """Return whether a URL is one of PostgreSQL."""
    return url.startswith(("postgresql://", "postgres://"))


def sqlite_path(url: str) -> Path:
    """Return the file of a path or of ``sqlite:///path``. Raises ConfigError."""
    path = url
    if url.startswith("sqlite://"):
        path = urllib.parse.unquote(url.removeprefix("sqlite://"))
    if not path or "\0" in path or "://" in path or (path != url and not path.startswith("/")):
        got = shown(url) if "@" not in url else "another URL"
        raise ConfigError(f"directory: expected a path, sqlite:///PATH or postgresql://..., got {got}")
    return Path(path)


def identity(url: str) -> str:
    """Return the identity of a directory: an absolute path, or a URL without user and password. Raises ConfigError."""
    return postgres_label(url) if is_postgres(url) else str(sqlite_path(url).absolute())


def postgres_label(url: str) -> str:
    """Return a PostgreSQL URL without user, password and most parameters. Raises ConfigError."""
    try:
        parts = urllib.parse.urlsplit(url)
        parameters = urllib.parse.parse_qsl(parts.query)
    except ValueError:
        raise ConfigError("directory: expected postgresql://USER@HOST:PORT/DATABASE, got another URL") from None
    where = urllib.parse.urlencode([(name, value) for name, value in parameters if name in _WHERE], safe="/")
    return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}" + (f"?{where}" if where else "")

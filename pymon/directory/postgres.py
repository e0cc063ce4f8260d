"""The directory in PostgreSQL: the tables in a schema ``pymon`` of the database that the URL names."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import psycopg
from psycopg import errors

from pymon.config import ConfigError
from pymon.directory.database import Row, TakenError
from pymon.directory.model import DamagedError, DirectoryError, UnavailableError, VersionError
from pymon.directory.schema import VERSION, statements
from pymon.directory.url import postgres_label

CONNECT_SECONDS = 5
STATEMENT_SECONDS = 20
_LOCK = 0x70796D6E
"""The advisory lock under which the schema is made and changed."""


class PostgresDatabase:
    """One connection, made anew after it broke. Raises DirectoryError; ConfigError when the URL is none."""

    def __init__(self, url: str, *, create: bool = False, read_only: bool = False) -> None:
        self.label = postgres_label(url)
        try:
            psycopg.conninfo.conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            raise ConfigError("directory: expected postgresql://USER@HOST:PORT/DATABASE, got another URL") from None
        self._url = url
        self._read_only = read_only
        self._connection: psycopg.Connection[Row] | None = None
        with self._errors():
            self._connection = self._connect(create=create)

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    def generation(self) -> int:
        """Read the generation row."""
        with self._errors():
            return int(_Transaction(self._current()).execute("SELECT value FROM generation")[0][0])

    @contextmanager
    def reading(self) -> Iterator[_Transaction]:
        """A transaction that sees one moment."""
        with self._errors():
            connection = self._current()
            with connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                yield _Transaction(connection)

    @contextmanager
    def writing(self) -> Iterator[_Transaction]:
        """A transaction that no other writer's overlaps: each holds the generation row from its beginning."""
        with self._errors():
            connection = self._current()
            with connection.transaction():
                connection.execute("SELECT value FROM generation FOR UPDATE")
                yield _Transaction(connection)

    def _current(self) -> psycopg.Connection[Row]:
        if self._connection is None or self._connection.closed:
            self._connection = self._connect(create=False)
        return self._connection

    def _connect(self, *, create: bool) -> psycopg.Connection[Row]:
        milliseconds = STATEMENT_SECONDS * 1000
        connection = psycopg.connect(
            self._url, autocommit=True, connect_timeout=CONNECT_SECONDS, application_name="pymon",
            keepalives_idle=5, keepalives_interval=2, keepalives_count=3, tcp_user_timeout=milliseconds,
        )  # fmt: skip
        try:
            connection.execute("SET search_path TO pymon")
            connection.execute(f"SET statement_timeout TO {milliseconds}")
            self._check_version(connection, create=create)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_version(self, connection: psycopg.Connection[Row], *, create: bool) -> None:
        version = _version(connection)
        if version is None and not create:
            raise UnavailableError(f"{self.label}: no directory there; make one with `pymon account create`")
        if version is not None and version > VERSION:
            raise VersionError(
                f"{self.label}: made by a newer pymon (its schema is version {version}, this one knows {VERSION})"
            )
        if version is not None and version < VERSION and self._read_only:
            raise VersionError(
                f"{self.label}: made by an older pymon (its schema is version {version}, this one's {VERSION}); "
                "`pymon account list` brings it up"
            )
        if version != VERSION:
            _migrate(connection)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """PostgreSQL's errors as ours; after any of them a new connection is made."""
        try:
            yield
        except psycopg.Error as error:
            self.close()
            raise self._translated(error) from None
        except (DamagedError, UnavailableError, VersionError):
            self.close()
            raise

    def _translated(self, error: psycopg.Error) -> DirectoryError:
        said = error.diag.message_primary or str(error).strip().split("\n")[0] or type(error).__name__
        password = psycopg.conninfo.conninfo_to_dict(self._url).get("password") or os.environ.get("PGPASSWORD")
        if password:
            said = said.replace(str(password), "...")
        if isinstance(error, errors.UndefinedTable | errors.UndefinedColumn | errors.DataError):
            return DamagedError(f"{self.label}: not a pymon directory ({said})")
        return UnavailableError(f"{self.label}: {said}")


class _Transaction:
    """A connection, inside a transaction where the caller opened one."""

    def __init__(self, connection: psycopg.Connection[Row]) -> None:
        self._connection = connection

    def execute(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """Run one statement."""
        try:
            cursor = self._connection.execute(sql.replace("?", "%s").encode(), values)
        except errors.UniqueViolation:
            raise TakenError from None
        return cursor.fetchall() if cursor.description else []

    def now(self) -> float:
        """The server's clock."""
        return float(self.execute("SELECT EXTRACT(EPOCH FROM clock_timestamp())")[0][0])


def _version(connection: psycopg.Connection[Row]) -> int | None:
    """The version of the schema, None when there is none."""
    # A scan, not to_regclass: that may answer from what it knew before the wait for the lock.
    found = connection.execute(
        "SELECT 1 FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
        " WHERE nspname = 'pymon' AND relname = 'schema_version'"
    )
    if found.fetchone() is None:
        return None
    row = connection.execute("SELECT version FROM pymon.schema_version").fetchone()
    if row is None:
        raise DamagedError("PostgreSQL: not a pymon directory (pymon.schema_version is empty)")
    return int(row[0])


def _migrate(connection: psycopg.Connection[Row]) -> None:
    """Bring the schema to our version in one transaction; who comes second finds it done."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        version = _version(connection)
        if version is None:
            there = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'pymon'").fetchone()
            if there is None:
                connection.execute("CREATE SCHEMA pymon")
            connection.execute("CREATE TABLE schema_version (version INTEGER NOT NULL)")
            connection.execute("INSERT INTO schema_version VALUES (0)")
        for statement in statements(version or 0, "BYTEA"):
            connection.execute(statement.encode())
        connection.execute("UPDATE generation SET value = %s", (secrets.randbits(62),))
        connection.execute("UPDATE schema_version SET version = %s", (VERSION,))

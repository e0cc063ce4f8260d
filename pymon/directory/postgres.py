"""The directory in PostgreSQL. Its tables are in the schema ``pymon`` of the database that the URL names."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import psycopg
from psycopg import errors, sql

from pymon.config import ConfigError
from pymon.directory.database import Right, Row, Table, TakenError, tables_of
from pymon.directory.model import DamagedError, DirectoryError, UnavailableError, VersionError
from pymon.directory.schema import LEVEL, VERSION, additions, statements
from pymon.directory.url import postgres_label
from pymon.directory.watch import Watch

CONNECT_SECONDS = 3
"""The limit for a connection to each host of the URL."""

STATEMENT_SECONDS = 10
"""The server's own limit for one statement."""

ANSWER_SECONDS = 12.0
"""The limit for one statement on this side, for a server that does not answer at all."""

_LOCK = 0x70796D6E
"""The advisory lock that is held while the schema is created or changed."""


class PostgresDatabase:
    """A `Database` with one connection, which is replaced after an error.

    Methods raise DirectoryError, the constructor also ConfigError if the URL is not valid. may_lack: there may be no
    directory yet, which `writing` then creates.
    """

    def __init__(self, url: str, *, create: bool = False, read_only: bool = False, may_lack: bool = False) -> None:
        self.label = postgres_label(url)
        try:
            psycopg.conninfo.conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            raise ConfigError("directory: expected postgresql://USER@HOST:PORT/DATABASE, got another URL") from None
        self._url = url
        self._read_only = read_only
        self._may_lack = may_lack
        self._connection: psycopg.Connection[Row] | None = None
        self._watch: Watch | None = None
        self._interrupted = False
        with self._errors():
            self._connection = self._connect(create=create)

    def interrupt(self) -> None:
        """Let the current and all later operations fail at once. May be called in any thread."""
        self._interrupted = True
        watch = self._watch
        if watch is not None:
            watch.shut_down()

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    def generation(self) -> int:
        """Return the current value of the generation row."""
        with self._errors():
            connection = self._current()
            with self._watched(connection, ANSWER_SECONDS) as watch:
                return int(_Transaction(connection, watch).execute("SELECT value FROM generation")[0][0])

    @contextmanager
    def reading(self) -> Iterator[_Transaction]:
        """Return a read transaction, which sees a consistent snapshot."""
        with self._errors():
            connection = self._current()
            with self._watched(connection, ANSWER_SECONDS) as watch, connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                yield _Transaction(connection, watch)
                watch.extend()

    @contextmanager
    def writing(self, level: int = LEVEL) -> Iterator[_Transaction]:
        """Return a write transaction. It locks the generation row first, so that only one exists at a time.

        level: of the additions, if the directory is created.
        """
        with self._errors():
            connection = self._current()
            with self._watched(connection, ANSWER_SECONDS) as watch, connection.transaction():
                if self._may_lack and _version(connection) is None:
                    _migrate(connection, level)
                connection.execute("SELECT value FROM generation FOR UPDATE")
                yield _Transaction(connection, watch)
                watch.extend()

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
            with self._watched(connection, ANSWER_SECONDS):
                connection.execute("SET search_path TO pymon")
                connection.execute(f"SET statement_timeout TO {milliseconds}")
                self._check_version(connection, create=create)
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _watched(self, connection: psycopg.Connection[Row], seconds: float) -> Iterator[Watch]:
        """Shut the connection down when the server takes longer for a statement, or on `interrupt`."""
        with Watch(connection, seconds) as watch:
            self._watch = watch
            if self._interrupted:
                watch.shut_down()
            try:
                yield watch
            except psycopg.Error:
                if watch.cut and not self._interrupted:
                    raise UnavailableError(f"{self.label}: no answer within {seconds:g} s") from None
                raise
            finally:
                self._watch = None

    def _check_version(self, connection: psycopg.Connection[Row], *, create: bool) -> None:
        version = _version(connection)
        if version is None and self._may_lack:
            return
        if version is None and not create:
            raise UnavailableError(f"{self.label}: no directory there; create one with `pymon account create`")
        if version is not None and version > VERSION:
            raise VersionError(
                f"{self.label}: made by a newer pymon (its schema is version {version}, this one knows {VERSION})"
            )
        if version is not None and version < VERSION and self._read_only:
            raise VersionError(
                f"{self.label}: made by an older pymon (its schema is version {version}, this one's {VERSION}); "
                "`pymon directory upgrade` brings it up"
            )
        if version != VERSION:
            _migrate(connection)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Translate errors of PostgreSQL to DirectoryError. After an error, the connection is closed."""
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
    """A connection as the protocol `Connection`. The caller starts the transaction."""

    def __init__(self, connection: psycopg.Connection[Row], watch: Watch) -> None:
        self._connection = connection
        self._watch = watch

    def execute(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """Run one statement. Returns its rows. Raises TakenError."""
        self._watch.extend()
        try:
            cursor = self._connection.execute(sql.replace("?", "%s").encode(), values)
        except errors.UniqueViolation:
            raise TakenError from None
        return cursor.fetchall() if cursor.description else []

    def now(self) -> float:
        """Return the time of the server's clock, seconds since the epoch."""
        return float(self.execute("SELECT EXTRACT(EPOCH FROM clock_timestamp())")[0][0])

    def has_table(self, name: str) -> bool:
        """Return whether the table exists in the schema ``pymon``."""
        return _has_table(self._connection, name)

    def tables(self) -> dict[str, Table]:
        """Return the tables in the schema ``pymon``."""
        return tables_of(
            self.execute(
                "SELECT relname, attname, COALESCE(array_position(indkey::int2[], attnum) + 1, 0)"
                " FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
                " JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped"
                " LEFT JOIN pg_index ON indrelid = pg_class.oid AND indisprimary"
                " WHERE nspname = 'pymon' AND relkind = 'r' ORDER BY relname, attnum"
            )
        )

    def share(self, tables: Sequence[str]) -> None:
        """Grant SELECT on the tables to every role that may read the accounts."""
        readers = self.execute(
            "SELECT DISTINCT rolname FROM pg_class CROSS JOIN aclexplode(relacl) AS held"
            " LEFT JOIN pg_roles ON pg_roles.oid = held.grantee"
            " WHERE pg_class.oid = 'pymon.accounts'::regclass AND privilege_type = 'SELECT'"
            " AND held.grantee <> relowner"
        )
        for (role,) in readers:
            to = sql.SQL("PUBLIC") if role is None else sql.Identifier(role)
            names = sql.SQL(", ").join(sql.Identifier("pymon", table) for table in tables)
            self._connection.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(names, to))

    def denied(self, rights: Sequence[Right]) -> list[Right]:
        """Return the rights that the role of this connection does not have."""
        return [right for right in rights if not self._has(right)]

    def _has(self, right: Right) -> bool:
        function = "has_table_privilege" if right.action == "DELETE" else "has_any_column_privilege"
        return bool(self.execute(f"SELECT {function}(?, ?)", (f"pymon.{right.table}", right.action))[0][0])


def _version(connection: psycopg.Connection[Row]) -> int | None:
    """Return the version of the schema, None if there is no schema."""
    if not _has_table(connection, "schema_version"):
        return None
    row = connection.execute("SELECT version FROM pymon.schema_version").fetchone()
    if row is None:
        raise DamagedError("PostgreSQL: not a pymon directory (pymon.schema_version is empty)")
    return int(row[0])


def _has_table(connection: psycopg.Connection[Row], name: str) -> bool:
    # to_regclass() is not used, because it may give a cached answer from before the wait for the lock.
    found = connection.execute(
        "SELECT 1 FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
        " WHERE nspname = 'pymon' AND relname = %s",
        (name,),
    )
    return found.fetchone() is not None


def _migrate(connection: psycopg.Connection[Row], level: int = LEVEL) -> None:
    """Migrate the schema to `VERSION` in one transaction. A concurrent caller waits and then has nothing to do.

    level: of the additions, if there is no schema yet.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        version = _version(connection)
        if version is None:
            there = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'pymon'").fetchone()
            if there is None:
                connection.execute("CREATE SCHEMA pymon")
            connection.execute("CREATE TABLE schema_version (version INTEGER NOT NULL)")
            connection.execute("INSERT INTO schema_version VALUES (0)")
        for statement in [*statements(version or 0, "BYTEA"), *(additions(0, level) if version is None else ())]:
            connection.execute(statement.encode())
        connection.execute("UPDATE generation SET value = %s", (secrets.randbits(62),))
        connection.execute("UPDATE schema_version SET version = %s", (VERSION,))

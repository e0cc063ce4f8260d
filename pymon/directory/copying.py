"""Copies a directory into an empty one, of SQLite or PostgreSQL, and compares each row."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

from pymon.directory import rows, schema, sqlite
from pymon.directory.database import Connection, Row, Table
from pymon.directory.directory import decode, open_database
from pymon.directory.model import DirectoryError, VersionError
from pymon.directory.url import identity, is_postgres, sqlite_path

_BATCH = 200
"""The number of rows in one statement. Both databases limit the number of values."""

_OWN = frozenset({"schema_version", "additions", "generation", "holder_version"})
"""Tables that each directory has for itself."""

_PASSING = frozenset({"leases"})
"""Tables that say nothing after some seconds. They are not copied."""

_FIRST = "accounts"
"""The table to which others refer."""

Progress = Callable[[str, str, int, int], None]
"""Called with what is done ("copied" or "compared"), a table, the number of its rows so far and of all of them."""


def copy(source_url: str, target_url: str, progress: Progress = lambda *_: None) -> int:
    """Copy a directory, as it is at one moment, into an empty or a new one. Return the number of rows.

    The copy is one transaction, in which each row is compared: if it fails, the target is what it was. The copy has a
    generation of its own, so that proxies that follow it read it anew. Raises DirectoryError, also if the target is not
    empty, and ConfigError.
    """
    if identity(source_url) == identity(target_url):
        raise DirectoryError(f"{identity(target_url)}: expected another directory than the one to copy")
    with closing(open_database(source_url, read_only=True)) as database, database.reading() as source:
        decode(rows.read(source), database.label)  # a damaged one is refused
        level = rows.level(source)
        if level > schema.LEVEL:
            raise VersionError(f"{database.label}: made by a newer pymon, which has to copy it")
        try:
            with _filling(target_url, level) as (target, label):
                return _fill(_Source(source), target, label, progress)
        except _SourceError as failed:
            raise failed.error from None


def backup(source_url: str, file: str, progress: Progress = lambda *_: None) -> int:
    """Copy a directory into a new file of SQLite, as `copy` does. Raises DirectoryError if the file exists."""
    path = sqlite_path(file)
    if path.exists():
        raise DirectoryError(f"{file}: exists already; nothing was written")
    return copy(source_url, file, progress)


@contextmanager
def _filling(url: str, level: int) -> Iterator[tuple[Connection, str]]:
    """Return a write transaction of a directory, and its label. One that does not exist is created by it."""
    if is_postgres(url):
        from pymon.directory.postgres import PostgresDatabase  # noqa: PLC0415  # libpq only where it is used

        with closing(PostgresDatabase(url, may_lack=True)) as database, database.writing(level) as connection:
            yield connection, database.label
        return
    path = sqlite_path(url)
    if path.exists():
        with closing(sqlite.SqliteDatabase(path)) as there, there.writing() as connection:
            yield connection, there.label
        return
    try:
        with sqlite.creating(path, level) as new, closing(sqlite.SqliteDatabase(new)) as made:
            made.label = url
            with made.writing() as connection:
                yield connection, made.label
    except FileExistsError:
        raise DirectoryError(f"{url}: another process has made it meanwhile; nothing was written") from None


class _SourceError(Exception):
    """An error of the directory that is copied.

    It passes through the transaction of the target, which must not report it as its own.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class _Source:
    """The connection to read from. `execute` raises _SourceError."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.tables = connection.tables

    def execute(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        try:
            return self._connection.execute(sql, values)
        except Exception as error:
            raise _SourceError(error) from error


def _fill(source: _Source, target: Connection, label: str, progress: Progress) -> int:
    tables = {name: table for name, table in source.tables().items() if name not in _OWN | _PASSING}
    there = target.tables()
    for name, table in tables.items():
        if name not in there or set(there[name].columns) != set(table.columns):
            raise DirectoryError(f"{label}: its table {name} is of another version of pymon; bring both to one level "
                                 "with `pymon directory upgrade`")  # fmt: skip
    for name in sorted(there.keys() - _OWN - _PASSING):
        if count := _count(target, name):
            raise DirectoryError(f"{label}: expected an empty directory, got one with {count} {name}")
    order = sorted(tables, key=lambda name: (name != _FIRST, name))
    counts = {name: _count(source, name) for name in order}
    for name in order:
        done = 0
        for batch in _batches(source, name, tables[name]):
            _insert(target, name, tables[name].columns, batch)
            done += len(batch)
            progress("copied", name, done, counts[name])
    for name in order:
        done = 0
        for batch in _batches(source, name, tables[name]):
            _compare(target, name, tables[name], batch, label)
            done += len(batch)
            progress("compared", name, done, counts[name])
        if (count := _count(target, name)) != done or done != counts[name]:
            raise DirectoryError(f"{label}: {name}: expected {done} rows, got {count}; nothing was copied")
    _renew(source, target)
    return sum(counts.values())


def _renew(source: _Source, target: Connection) -> None:
    """Set versions that no proxy has seen, so that it reads everything."""
    target.execute("UPDATE generation SET value = ?", (secrets.randbits(62),))
    if target.has_table("holder_version"):
        ((version,),) = source.execute("SELECT value FROM holder_version")
        version += 1 + secrets.randbits(30)
        target.execute("UPDATE holder_version SET value = ?, forgotten = ?", (version, version))


def _count(connection: Connection | _Source, name: str) -> int:
    return int(connection.execute(f'SELECT COUNT(*) FROM "{name}"')[0][0])  # noqa: S608  # a name of the schema


def _batches(connection: _Source, name: str, table: Table) -> Iterator[list[Row]]:
    """Yield all rows in the order of the primary key."""
    key = _names(table.key)
    select = f'SELECT {_names(table.columns)} FROM "{name}"'  # noqa: S608  # names of the schema
    order = f"ORDER BY {key} LIMIT {_BATCH}"
    marks = _marks(1, len(table.key))
    positions = [table.columns.index(column) for column in table.key]
    batch = connection.execute(f"{select} {order}")
    while batch:
        yield batch
        last = [batch[-1][position] for position in positions]
        batch = connection.execute(f"{select} WHERE ({key}) > {marks} {order}", last)


def _insert(connection: Connection, name: str, columns: Sequence[str], batch: Sequence[Row]) -> None:
    marks = _marks(len(batch), len(columns))
    statement = f'INSERT INTO "{name}" ({_names(columns)}) VALUES {marks}'  # noqa: S608  # names of the schema
    connection.execute(statement, [value for row in batch for value in row])


def _compare(connection: Connection, name: str, table: Table, batch: Sequence[Row], label: str) -> None:
    """Raise DirectoryError if the rows are not there as they are in the batch."""
    positions = [table.columns.index(column) for column in table.key]
    keys = [[row[position] for position in positions] for row in batch]
    marks = _marks(len(keys), len(table.key))
    found = connection.execute(
        f'SELECT {_names(table.columns)} FROM "{name}"'  # noqa: S608  # names of the schema
        f" WHERE ({_names(table.key)}) IN (VALUES {marks})",
        [value for key in keys for value in key],
    )
    there = {tuple(row[position] for position in positions): tuple(row) for row in found}
    for key, row in zip(keys, batch, strict=True):
        if there.get(tuple(key)) != tuple(row):
            raise DirectoryError(f"{label}: {name}: the row {key[0]} is not what was copied; nothing was copied")


def _names(columns: Sequence[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


def _marks(rows: int, columns: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return ", ".join([row] * rows)

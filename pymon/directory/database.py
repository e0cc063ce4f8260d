"""The interface between the directory and its databases."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

Row = tuple[Any, ...]


class Right(NamedTuple):
    """A privilege on a table. action: ``SELECT``, ``INSERT``, ``UPDATE`` (of at least one column) or ``DELETE``."""

    action: str
    table: str


class Table(NamedTuple):
    """The names of the columns of a table, and of those of its primary key in their order."""

    columns: tuple[str, ...]
    key: tuple[str, ...]


class Connection(Protocol):
    """A connection inside a transaction."""

    def execute(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """Run one statement with ``?`` for each value. Returns the rows of a query, [] for other statements.

        Raises TakenError if a unique column already has the value.
        """

    def now(self) -> float:
        """Return the time in seconds since the epoch, by the clock that all users of this database share."""

    def has_table(self, name: str) -> bool:
        """Return whether a table exists."""

    def tables(self) -> dict[str, Table]:
        """Return all tables of the directory, by name."""

    def share(self, tables: Sequence[str]) -> None:
        """Grant reading of these tables to all who may read the table of accounts."""

    def denied(self, rights: Sequence[Right]) -> list[Right]:
        """Return the rights that this process does not have."""


class Database(Protocol):
    """A database that this process has opened. For one thread at a time. Methods raise DirectoryError."""

    label: str
    """The name for error texts. It contains no password."""

    def reading(self) -> AbstractContextManager[Connection]:
        """Return a read transaction, which sees a consistent snapshot."""

    def writing(self) -> AbstractContextManager[Connection]:
        """Return a write transaction. Only one exists at a time. It is committed unless the block raises."""

    def generation(self) -> int:
        """Return the current value of the generation row. Raises IndexError without that row."""

    def interrupt(self) -> None:
        """Let the current and all later operations fail at once. May be called in any thread."""

    def close(self) -> None:
        """Close the file or the connection to the server, if one is open."""


class TakenError(Exception):
    """A unique column already has the value."""


def tables_of(columns: Sequence[Row]) -> dict[str, Table]:
    """Return the tables of rows (table, column, position in the primary key from 1 on, or 0), in that order."""
    found: dict[str, tuple[list[str], dict[int, str]]] = {}
    for table, column, position in columns:
        names, key = found.setdefault(table, ([], {}))
        names.append(column)
        if position:
            key[position] = column
    return {
        table: Table(tuple(names), tuple(key[position] for position in sorted(key)))
        for table, (names, key) in found.items()
    }

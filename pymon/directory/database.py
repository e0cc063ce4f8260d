"""What the directory needs of a database."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

Row = tuple[Any, ...]


class Connection(Protocol):
    """Inside a transaction."""

    def execute(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """Run one statement with ``?`` for each value; the rows of a query, else none.

        Raises TakenError where a unique column has that value already.
        """

    def now(self) -> float:
        """The time by the one clock that all who use this database share, seconds since the epoch."""


class Database(Protocol):
    """A database of one process, for one thread at a time. What fails raises DirectoryError."""

    label: str
    """What error texts call it; no password is in it."""

    def reading(self) -> AbstractContextManager[Connection]:
        """A transaction that sees one moment."""

    def writing(self) -> AbstractContextManager[Connection]:
        """A transaction that no other writer's overlaps; committed when the block ends well."""

    def generation(self) -> int:
        """The value of the generation row, whoever wrote it."""

    def close(self) -> None:
        """Let go of it."""


class TakenError(Exception):
    """A value is there already that may be there once."""

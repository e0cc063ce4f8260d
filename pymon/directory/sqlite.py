"""The directory in a SQLite file, opened by several processes at once (WAL)."""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
import tempfile
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from pymon.directory.database import Row, TakenError
from pymon.directory.model import DamagedError, DirectoryError, UnavailableError, VersionError
from pymon.directory.schema import VERSION, statements

APPLICATION_ID = 0x70796D6E
"""In the header of the file: whose database it is."""

BUSY_SECONDS = 10.0
_MODE = 0o600
_MIN_BYTES = 512
"""The smallest page; SQLite takes a shorter file for an empty database."""

_INDEX_BYTES = 32768
"""What the index of the log takes at least."""

_Identity = tuple[int, ...]


class SqliteDatabase:
    """A directory file. Raises DirectoryError when it is missing, damaged, or of another version.

    A file that is replaced or overwritten under an open database is opened anew. `read_only` needs no right to write
    but that of WAL mode to its -shm file, and none at all while nobody else has the file open.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path.absolute()
        self.label = str(path)
        self._read_only = read_only
        self._connection: sqlite3.Connection | None = None
        self._identity: _Identity = ()
        self._immutable = False
        self._log = self.path.with_name(self.path.name + "-wal")
        with self._errors():
            self._current()

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def generation(self) -> int:
        """Read the generation row."""
        with self.reading() as connection:
            return int(connection.execute("SELECT value FROM generation")[0][0])

    @contextmanager
    def reading(self) -> Iterator[_Transaction]:
        """A transaction that sees one moment."""
        with self._errors():
            connection = self._current()
            connection.execute("BEGIN")
            try:
                yield _Transaction(connection)
            finally:
                _rollback(connection)
            if self._immutable and self._look() != self._identity:
                raise UnavailableError(f"{self.label}: changed while it was read")

    @contextmanager
    def writing(self) -> Iterator[_Transaction]:
        """A transaction that holds the one lock for writers."""
        with self._errors():
            connection = self._current()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield _Transaction(connection)
                connection.execute("COMMIT")
            finally:
                _rollback(connection)
            with suppress(sqlite3.OperationalError):
                # With nothing in the log, the file alone is the directory: it can be copied, and one put in its place
                # does not meet a log of the one before.
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            identity = self._look()
            if identity[:2] == self._identity[:2]:
                self._identity = identity

    def _current(self) -> sqlite3.Connection:
        """The connection to the file that is there now."""
        identity = self._look()
        if self._connection is None or identity != self._identity:
            self.close()
            self._connection = self._open()
            self._identity = identity
        return self._connection

    def _look(self) -> _Identity:
        """What changes when another file is put in place, another content in the file, or a log beside it."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            raise UnavailableError(f"{self.label}: no directory there; make one with `pymon account create`") from None
        except OSError as error:
            raise UnavailableError(f"{self.label}: {error.strerror}") from None
        if not self.path.is_file():
            raise DamagedError(f"{self.label}: expected a file")
        if not os.access(self.path, os.R_OK):
            raise UnavailableError(f"{self.label}: cannot be read: Permission denied")
        if stat.st_size == 0:
            raise DamagedError(f"{self.label}: not a pymon directory (the file is empty)")
        if stat.st_size < _MIN_BYTES:
            raise DamagedError(f"{self.label}: not a pymon directory (file is not a database)")
        return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, _has_content(self._log)

    def _open(self) -> sqlite3.Connection:
        self._immutable = False
        try:
            return self._connect("ro" if self._read_only else "rw")
        except sqlite3.OperationalError as error:
            # WAL mode makes its index file even for a reader. Where it cannot, a file without a log is whole by itself
            # and nobody writes: who did would have made both.
            refused = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
            if not refused or _has_content(self._log):
                raise
            self._immutable = True
            return self._connect("ro&immutable=1")

    def _connect(self, mode: str) -> sqlite3.Connection:
        uri = f"file:{urllib.parse.quote(os.fsencode(self.path))}?mode={mode}"
        connection = sqlite3.connect(
            uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=32
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA foreign_keys = ON")
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION_ID:
            raise DamagedError(f"{self.label}: not a pymon directory (a database of another program)")
        self._check_version(connection)
        problems = [row[0] for row in connection.execute("PRAGMA quick_check(1)")]
        if problems != ["ok"]:
            raise DamagedError(f"{self.label}: damaged ({problems[0] if problems else 'no answer'})")

    def _check_version(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise VersionError(
                f"{self.label}: made by a newer pymon (its schema is version {version}, this one knows {VERSION})"
            )
        if version < VERSION and self._read_only:
            raise VersionError(
                f"{self.label}: made by an older pymon (its schema is version {version}, this one's {VERSION}); "
                "`pymon account list` brings it up"
            )
        if version < VERSION:
            connection.execute("BEGIN IMMEDIATE")
            try:
                _migrate(connection)
                connection.execute("COMMIT")
            finally:
                _rollback(connection)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """SQLite's errors as ours; after any of them the file is opened anew."""
        try:
            yield
        except sqlite3.Error as error:
            self.close()
            raise translated(error, self.label, self.path.parent) from None
        except UnicodeDecodeError:
            # sqlite3 decodes SQLite's message, which quotes names of the schema as they are in the file.
            self.close()
            raise DamagedError(f"{self.label}: damaged (its schema is no text)") from None
        except (DamagedError, UnavailableError, VersionError):
            self.close()
            raise


class _Transaction:
    """A connection inside a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """Run one statement."""
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorcode in (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY):
                raise TakenError from None
            raise

    def now(self) -> float:
        """All who use a file are on its machine."""
        return time.time()


def translated(error: sqlite3.Error, label: str, folder: Path) -> DirectoryError:
    """An error of SQLite as one of ours; `folder` is where the file is."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return DamagedError(f"{label}: not a pymon directory (file is not a database)")
    if code == sqlite3.SQLITE_CORRUPT:
        return DamagedError(f"{label}: damaged ({error})")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return UnavailableError(f"{label}: another process has been writing for {BUSY_SECONDS:.0f} s, try again")
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_full(folder)):
        return UnavailableError(f"{label}: no space left on its file system")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM):
        return UnavailableError(f"{label}: {error}")
    if code == sqlite3.SQLITE_READONLY:
        return UnavailableError(f"{label}: cannot be written (read-only)")
    # A table or column that is not there, text that is no UTF-8: no file that we wrote has these.
    return DamagedError(f"{label}: not a pymon directory ({error})")


def create(path: Path) -> None:
    """Make an empty directory, mode 0600, unless a file is there. It appears whole or not at all.

    Made by root in a directory of another user, it belongs to that user. Raises DirectoryError.
    """
    label, path = str(path), path.absolute()
    if path.exists():
        return
    if _has_content(path.with_name(path.name + "-wal")):
        raise DamagedError(f"{label}: no directory there, but {path.name}-wal of a lost one; move it away first")
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", ignore_cleanup_errors=True) as made:
            new = Path(made) / path.name
            try:
                _write_new(new)
            except sqlite3.Error as error:
                raise translated(error, label, path.parent) from None
            with suppress(FileExistsError):
                os.link(new, path)
        _sync(path.parent)
    except OSError as error:
        raise UnavailableError(f"{label}: cannot be made: {error.strerror}") from None


def _write_new(new: Path) -> None:
    descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    try:
        os.fchmod(descriptor, _MODE)
        with closing(sqlite3.connect(new, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            _migrate(connection)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("COMMIT")
        if os.geteuid() == 0:
            owner = new.parent.parent.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema to our version, inside the caller's transaction."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for statement in statements(version, "BLOB"):
        connection.execute(statement)
    connection.execute("UPDATE generation SET value = ?", (secrets.randbits(62),))
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _is_full(folder: Path) -> bool:
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < _INDEX_BYTES


def _has_content(log: Path) -> bool:
    """Whether a write-ahead log holds anything; who only reads leaves an empty one."""
    try:
        return log.stat().st_size > 0
    except OSError:
        return False


def _rollback(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _sync(folder: Path) -> None:
    """Make a new name in a directory of the file system last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)

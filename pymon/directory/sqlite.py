"""The directory in a SQLite file, which several processes can open at once (WAL mode)."""

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

from pymon.directory.database import Right, Row, Table, TakenError, tables_of
from pymon.directory.model import DamagedError, DirectoryError, UnavailableError, VersionError
from pymon.directory.schema import LEVEL, VERSION, additions, statements

APPLICATION_ID = 0x70796D6E
"""Identifies a database of pymon in the header of the file."""

BUSY_SECONDS = 10.0
"""How long a command waits for another process that writes. A proxy waits less, so that it can end."""

_MODE = 0o600
_MIN_BYTES = 512
"""The smallest page size. SQLite treats a shorter file as an empty database."""

CHECK_SECONDS = 30.0
"""The least time between two checks of the whole file, unless it was replaced. Every write of another process looks
like one that may have damaged it, and proxies write each second."""

_INDEX_BYTES = 32768
"""The smallest size of the index of the write-ahead log."""

_Identity = tuple[int, ...]


class SqliteDatabase:
    """A `Database` in a file. Raises DirectoryError if the file is missing, damaged, or of another version.

    A file that is replaced or overwritten while it is open is opened again. read_only: needs write access only to the
    -shm file of WAL mode, and no write access at all if no other process has the file open.
    """

    def __init__(self, path: Path, *, read_only: bool = False, busy_seconds: float | None = None) -> None:
        """busy_seconds: how long to wait for another process that writes, None for `BUSY_SECONDS`."""
        self._busy_seconds = BUSY_SECONDS if busy_seconds is None else busy_seconds
        self._interrupted = False
        self._file: _Identity = ()  # device and inode
        self._checked: tuple[_Identity, float] = ((), 0.0)  # the file whose content was checked, and when
        self.path = path.absolute()
        self.label = str(path)
        self._read_only = read_only
        self._connection: sqlite3.Connection | None = None
        self._identity: _Identity = ()
        self._immutable = False
        self._log = self.path.with_name(self.path.name + "-wal")
        with self._errors():
            self._current()

    def interrupt(self) -> None:
        """Let the current and all later operations fail, after `busy_seconds` if they wait for another process."""
        self._interrupted = True
        connection = self._connection
        if connection is not None:
            with suppress(sqlite3.ProgrammingError):  # it was closed meanwhile
                connection.interrupt()

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def generation(self) -> int:
        """Return the current value of the generation row."""
        with self.reading() as connection:
            return int(connection.execute("SELECT value FROM generation")[0][0])

    @contextmanager
    def reading(self) -> Iterator[_Transaction]:
        """Return a read transaction, which sees a consistent snapshot."""
        with self._errors():
            connection = self._current()
            connection.execute("BEGIN")
            try:
                yield _Transaction(connection, self.path)
            finally:
                _rollback(connection)
            if self._immutable and self._look() != self._identity:
                raise UnavailableError(f"{self.label}: changed while it was read")

    @contextmanager
    def writing(self) -> Iterator[_Transaction]:
        """Return a write transaction, which holds SQLite's lock for writers."""
        with self._errors():
            connection = self._current()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield _Transaction(connection, self.path)
                connection.execute("COMMIT")
            finally:
                _rollback(connection)
            with suppress(sqlite3.OperationalError):
                # With an empty log, the file alone is the whole directory. It can then be copied, and a file that
                # replaces it is not mixed up with the log of the old one.
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            identity = self._look()
            if identity[:2] == self._identity[:2]:
                self._identity = identity

    def _current(self) -> sqlite3.Connection:
        """Return a connection to the current file. It is opened again if the file was replaced."""
        if self._interrupted:
            raise UnavailableError(f"{self.label}: interrupted")
        identity = self._look()
        if self._connection is None or identity != self._identity:
            self.close()
            self._file = identity[:2]
            self._connection = self._open()
            self._identity = identity
        return self._connection

    def _look(self) -> _Identity:
        """Return a value that changes when the file is replaced or overwritten, or its log gets content.

        Raises DirectoryError.
        """
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            raise UnavailableError(
                f"{self.label}: no directory there; create one with `pymon account create`"
            ) from None
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
            # In WAL mode even a reader creates the index file. If that fails and there is no log, nobody is writing,
            # since a writer would have created both files. Then the file alone is complete.
            refused = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
            if not refused or _has_content(self._log):
                raise
            self._immutable = True
            return self._connect("ro&immutable=1")

    def _connect(self, mode: str) -> sqlite3.Connection:
        uri = f"file:{urllib.parse.quote(os.fsencode(self.path))}?mode={mode}"
        connection = sqlite3.connect(
            uri,
            uri=True,
            timeout=self._busy_seconds,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=32,
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
        now = time.monotonic()
        if self._checked[0] == self._file and now - self._checked[1] < CHECK_SECONDS:
            return
        problems = [row[0] for row in connection.execute("PRAGMA quick_check(1)")]
        if problems != ["ok"]:
            raise DamagedError(f"{self.label}: damaged ({problems[0] if problems else 'no answer'})")
        self._checked = (self._file, now)

    def _check_version(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise VersionError(
                f"{self.label}: made by a newer pymon (its schema is version {version}, this one knows {VERSION})"
            )
        if version < VERSION and self._read_only:
            raise VersionError(
                f"{self.label}: made by an older pymon (its schema is version {version}, this one's {VERSION}); "
                "`pymon directory upgrade` brings it up"
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
        """Translate errors of SQLite to DirectoryError. After an error, the file is closed."""
        try:
            yield
        except sqlite3.Error as error:
            self.close()
            raise translated(error, self.label, self.path.parent, self._busy_seconds) from None
        except UnicodeDecodeError:
            # sqlite3 decodes SQLite's error message, which contains names from the schema in the file.
            self.close()
            raise DamagedError(f"{self.label}: damaged (its schema is not text)") from None
        except (DamagedError, UnavailableError, VersionError):
            self.close()
            raise


class _Transaction:
    """A connection inside a transaction, as the protocol `Connection`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def execute(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """Run one statement. Returns its rows. Raises TakenError."""
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorcode in (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY):
                raise TakenError from None
            raise

    def now(self) -> float:
        """Return the time of this machine's clock. All processes that use the file are on the same machine."""
        return time.time()

    def has_table(self, name: str) -> bool:
        """Return whether the table exists."""
        return bool(self.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,)))

    def tables(self) -> dict[str, Table]:
        """Return the tables of the file."""
        return tables_of(
            self.execute(
                "SELECT tables.name, columns.name, columns.pk FROM sqlite_master AS tables"
                " JOIN pragma_table_info(tables.name) AS columns"
                " WHERE tables.type = 'table' AND substr(tables.name, 1, 7) <> 'sqlite_'"
                " ORDER BY tables.name, columns.cid"
            )
        )

    def share(self, tables: Sequence[str]) -> None:
        """Do nothing: access is controlled by the mode of the file."""

    def denied(self, rights: Sequence[Right]) -> list[Right]:
        """Return all rights except SELECT if the file or its folder is not writable."""
        writable = os.access(self._path, os.W_OK) and os.access(self._path.parent, os.W_OK)
        return [] if writable else [right for right in rights if right.action != "SELECT"]


def translated(error: sqlite3.Error, label: str, folder: Path, busy_seconds: float = BUSY_SECONDS) -> DirectoryError:
    """Translate an error of SQLite to a DirectoryError. folder: that of the file."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return DamagedError(f"{label}: not a pymon directory (file is not a database)")
    if code == sqlite3.SQLITE_CORRUPT:
        return DamagedError(f"{label}: damaged ({error})")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return UnavailableError(f"{label}: another process has been writing for {busy_seconds:.0f} s, try again")
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_full(folder)):
        return UnavailableError(f"{label}: no space left on its file system")
    if code == sqlite3.SQLITE_INTERRUPT:
        return UnavailableError(f"{label}: interrupted")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM):
        return UnavailableError(f"{label}: {error}")
    if code == sqlite3.SQLITE_READONLY:
        return UnavailableError(f"{label}: cannot be written (read-only)")
    # A missing table or column, or text that is not UTF-8: the file was not written by pymon.
    return DamagedError(f"{label}: not a pymon directory ({error})")


def create(path: Path) -> None:
    """Create an empty directory file atomically, mode 0600, unless the file exists. Raises DirectoryError.

    If root creates it in another user's folder, it belongs to that user.
    """
    if not path.exists():
        with suppress(FileExistsError), creating(path):
            pass


@contextmanager
def creating(path: Path, level: int = LEVEL) -> Iterator[Path]:
    """Return the path of a new, empty directory file, which gets its place at the end of the block.

    If the block raises, or there is a file at the end, nothing is left. level: of the additions. Raises DirectoryError,
    and FileExistsError if there is a file at the end.
    """
    label, path = str(path), path.absolute()
    if _has_content(path.with_name(path.name + "-wal")):
        raise DamagedError(f"{label}: no directory there, but {path.name}-wal of a lost one; move it away first")
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", ignore_cleanup_errors=True) as made:
            new = Path(made) / path.name
            try:
                _write_new(new, level)
            except sqlite3.Error as error:
                raise translated(error, label, path.parent) from None
            yield new
            _sync(new)
            os.link(new, path)
        _sync(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise UnavailableError(f"{label}: cannot be created: {error.strerror}") from None


def _write_new(new: Path, level: int) -> None:
    descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    try:
        os.fchmod(descriptor, _MODE)
        with closing(sqlite3.connect(new, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            _migrate(connection)
            for statement in additions(0, level):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("COMMIT")
        if os.geteuid() == 0:
            owner = new.parent.parent.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    finally:
        os.close(descriptor)


def _migrate(connection: sqlite3.Connection) -> None:
    """Migrate the schema to `VERSION` inside the caller's transaction."""
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
    """Return whether a write-ahead log has content. A process that only reads leaves an empty one."""
    try:
        return log.stat().st_size > 0
    except OSError:
        return False


def _rollback(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _sync(path: Path) -> None:
    """Write a file, or the names in a folder, to disk, so that they survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)

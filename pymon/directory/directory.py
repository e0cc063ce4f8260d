"""The directory: what is in it, and every way to change it."""

from __future__ import annotations

import hashlib
import secrets
import string
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar
from uuid import UUID, uuid4

import bcrypt
from cryptography import x509

from pymon.config import ConfigError, shown
from pymon.directory import model, rows, sqlite
from pymon.directory.database import Connection, Database, Row, TakenError
from pymon.directory.model import Account, Certificate, DamagedError, DirectoryError, Node, Quota, Snapshot, SSHKey
from pymon.directory.rows import Rows
from pymon.directory.sshkey import parse_public_key
from pymon.directory.url import is_postgres, sqlite_path

BCRYPT_COST = 10
MAX_PASSWORD_BYTES = 72
"""What bcrypt reads."""

_ID_ALPHABET = string.ascii_lowercase + string.digits
_ID_CHARACTERS = 12
_SECRET_BYTES = 32

_Value = TypeVar("_Value")


def open_directory(url: str, *, create: bool = False, read_only: bool = False) -> Directory:
    """The directory of a path, of ``sqlite:///path`` or of ``postgresql://...``.

    create: make an empty one where there is none. read_only: for who only looks; needs fewer rights. Raises
    DirectoryError when it is missing, damaged or of another version, ConfigError when the URL is none.
    """
    if is_postgres(url):
        from pymon.directory.postgres import PostgresDatabase  # noqa: PLC0415  # libpq only where it is used

        return Directory(PostgresDatabase(url, create=create, read_only=read_only))
    path = sqlite_path(url)
    if create:
        sqlite.create(path)
    return Directory(sqlite.SqliteDatabase(path, read_only=read_only))


class Directory:
    """An open directory, for one thread at a time.

    A value that is malformed raises ConfigError; what is not there, or is there already, or an unusable database
    raises DirectoryError. An account is given by its name, in either case, or its UUID. Each change is one transaction.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def label(self) -> str:
        """The path or the URL, without what is secret in it."""
        return self._database.label

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    # --- reading ---------------------------------------------------------------------------------

    def generation(self) -> int:
        """A number that another change, of any process, makes another. Cheap."""
        return self._database.generation()

    def rows(self) -> Rows:
        """Every row at one moment."""
        with self._database.reading() as connection:
            return rows.read(connection)

    def snapshot(self) -> Snapshot:
        """Everything at one moment."""
        return decode(self.rows(), self.label)

    # --- accounts --------------------------------------------------------------------------------

    def create_account(self, name: str, *, operator: bool = False, uuid: UUID | None = None) -> Account:
        """Add an account."""
        account = Account(
            uuid or uuid4(), _checked("account", model.parse_name, name), operator, self._clock(), Quota()
        )
        with self._changing(f"account {name}: there is one of that name or UUID already") as connection:
            connection.execute(
                "INSERT INTO accounts (uuid, name, name_folded, operator, created_at) VALUES (?, ?, ?, ?, ?)",
                (str(account.uuid), name, name.lower(), int(operator), account.created_at),
            )
        return account

    def delete_account(self, name: str) -> None:
        """Remove an account with its quota and all its credentials."""
        with self._changing() as connection:
            connection.execute("DELETE FROM accounts WHERE uuid = ?", (_account(connection, name),))

    def set_quota(
        self,
        name: str,
        *,
        requests_per_second: float | None = None,
        burst: int | None = None,
        concurrency: int | None = None,
    ) -> Quota:
        """Change the parts of a quota that are given; those never given stay the defaults."""
        with self._changing() as connection:
            account = _account(connection, name)
            found = connection.execute(
                "SELECT requests_per_second, burst, concurrency FROM quotas WHERE account = ?", (account,)
            )
            old: Row = found[0] if found else (None, None, None)
            values = (
                old[0] if requests_per_second is None else requests_per_second,
                old[1] if burst is None else burst,
                old[2] if concurrency is None else concurrency,
            )
            try:
                quota = rows.quota(*values)
            except ValueError as error:
                raise ConfigError(f"quota: expected {error}") from None
            connection.execute("DELETE FROM quotas WHERE account = ?", (account,))
            connection.execute(
                "INSERT INTO quotas (account, requests_per_second, burst, concurrency) VALUES (?, ?, ?, ?)",
                (account, *values),
            )
        return quota

    def delete_quota(self, name: str) -> None:
        """Back to the defaults."""
        with self._changing() as connection:
            connection.execute("DELETE FROM quotas WHERE account = ?", (_account(connection, name),))

    # --- credentials -----------------------------------------------------------------------------

    def set_password(self, name: str, password: str | None) -> None:
        """Set the password of an account, or take it away."""
        hashed = None if password is None else _hashed(password)
        with self._changing() as connection:
            account = _account(connection, name)
            connection.execute("DELETE FROM passwords WHERE account = ?", (account,))
            if hashed is not None:
                connection.execute("INSERT INTO passwords (account, hash) VALUES (?, ?)", (account, hashed))

    def create_token(self, name: str, label: str = "", expires_at: float | None = None) -> str:
        """Make a token; the text, which nothing can show again."""
        _checked("label", model.parse_label, label)
        id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_CHARACTERS))
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        digest = hashlib.sha256(secret.encode("ascii")).digest()
        with self._changing(f"token {id}: there is one already") as connection:
            connection.execute(
                "INSERT INTO tokens (id, account, sha256, label, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
                (id, _account(connection, name), digest, label, self._clock(), expires_at),
            )
        return f"pymon_{id}_{secret}"

    def revoke_token(self, id: str) -> None:
        """Make a token worthless. It stays listed."""
        self._revoke(
            "token",
            "SELECT 1 FROM tokens WHERE id = ?",
            "UPDATE tokens SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL",
            id,
        )

    def add_key(self, name: str, text: str) -> SSHKey:
        """Register an SSH public key, the text of a .pub file; one that was revoked is in force again."""
        try:
            key = parse_public_key(text)
        except ValueError as error:
            raise ConfigError(f"key: {error}") from None
        now = self._clock()
        with self._changing() as connection:
            account = _account(connection, name)
            where = (key.sha256, account)
            found = connection.execute("SELECT revoked_at FROM keys WHERE fingerprint = ? AND account = ?", where)
            if found and found[0][0] is None:
                raise DirectoryError(f"key {key.sha256}: {name} has it already")
            connection.execute("DELETE FROM keys WHERE fingerprint = ? AND account = ?", where)
            connection.execute(
                "INSERT INTO keys (fingerprint, md5, account, public_key, comment, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (key.sha256, key.md5, account, key.text, key.comment, now),
            )
        return SSHKey(key.sha256, key.md5, UUID(account), key.text, key.comment, now, None)

    def revoke_key(self, fingerprint: str) -> None:
        """Make a key worthless, for every account that has it. It stays listed."""
        self._revoke(
            "key",
            "SELECT 1 FROM keys WHERE fingerprint = ?",
            "UPDATE keys SET revoked_at = ? WHERE fingerprint = ? AND revoked_at IS NULL",
            fingerprint,
        )

    def add_certificate(self, name: str, der: bytes, *, issued: bool, label: str = "") -> Certificate:
        """Register a client certificate of the account; one of its own that was revoked is in force again."""
        _checked("label", model.parse_label, label)
        fingerprint = hashlib.sha256(der).hexdigest()
        try:
            loaded = x509.load_der_x509_certificate(der)
            validity = loaded.not_valid_before_utc.timestamp(), loaded.not_valid_after_utc.timestamp()
        except ValueError:
            raise ConfigError("certificate: expected an X.509 certificate, got something else") from None
        now = self._clock()
        with self._changing() as connection:
            account = _account(connection, name)
            found = connection.execute(
                "SELECT account, revoked_at, issued FROM certificates WHERE fingerprint = ?", (fingerprint,)
            )
            if found and (found[0][0] != account or found[0][1] is None):
                whose = name if found[0][0] == account else "another account"
                raise DirectoryError(f"certificate {fingerprint}: {whose} has it already")
            issued = issued or bool(found and found[0][2])
            connection.execute("DELETE FROM certificates WHERE fingerprint = ?", (fingerprint,))
            connection.execute(
                "INSERT INTO certificates (fingerprint, account, label, issued, not_before, not_after, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (fingerprint, account, label, int(issued), *validity, now),
            )
        return Certificate(fingerprint, UUID(account), label, issued, *validity, now, None)

    def revoke_certificate(self, fingerprint: str) -> None:
        """Make a certificate worthless. It stays listed."""
        self._revoke(
            "certificate",
            "SELECT 1 FROM certificates WHERE fingerprint = ?",
            "UPDATE certificates SET revoked_at = ? WHERE fingerprint = ? AND revoked_at IS NULL",
            _checked("certificate", model.parse_fingerprint, fingerprint),
        )

    def set_authority(self, der: bytes) -> None:
        """Register the authority whose certificates are accepted.

        Another one takes its place only when no certificate of the old one is in force.
        """
        with self._changing() as connection:
            found = connection.execute("SELECT certificate FROM authority")
            if found and bytes(found[0][0]) == der:
                return
            ((live,),) = connection.execute(
                "SELECT COUNT(*) FROM certificates WHERE issued = 1 AND revoked_at IS NULL AND not_after > ?",
                (self._clock(),),
            )
            if found and live:
                raise DirectoryError(
                    f"authority: another one ({hashlib.sha256(found[0][0]).hexdigest()}) issued {live} certificates "
                    "that are in force; bring back its files, or delete those certificates first"
                )
            connection.execute("DELETE FROM authority")
            connection.execute("INSERT INTO authority (id, certificate) VALUES (1, ?)", (der,))

    # --- nodes -----------------------------------------------------------------------------------

    def create_node(
        self, name: str, url: str, *, uuid: UUID | None = None, tls_server_name: str = "", tls_fingerprint: str = ""
    ) -> Node:
        """Add a compute node."""
        node = Node(
            _checked("node", model.parse_name, name),
            uuid,
            _checked("url", model.parse_node_url, url),
            tls_server_name and _checked("tls-server-name", model.parse_server_name, tls_server_name),
            tls_fingerprint and _checked("tls-fingerprint", model.parse_fingerprint, tls_fingerprint),
        )
        if not node.url.startswith("https:") and (tls_server_name or tls_fingerprint):
            raise ConfigError(f"url: expected https://HOST:PORT for a node with a TLS identity, got {shown(url)}")
        with self._changing(f"node {name}: there is one of that name or UUID already") as connection:
            connection.execute(
                "INSERT INTO nodes (name, uuid, url, tls_server_name, tls_fingerprint) VALUES (?, ?, ?, ?, ?)",
                (node.name, str(uuid) if uuid else None, node.url, node.tls_server_name, node.tls_fingerprint),
            )
        return node

    def delete_node(self, name: str) -> None:
        """Remove a compute node."""
        with self._changing() as connection:
            if not connection.execute("SELECT 1 FROM nodes WHERE name = ?", (_text(name),)):
                raise DirectoryError(f"node {shown(name)}: there is none of that name")
            connection.execute("DELETE FROM nodes WHERE name = ?", (name,))

    # --- common ----------------------------------------------------------------------------------

    # --- leases: no part of a snapshot, so they leave the generation as it is ---------------------

    def acquire_lease(self, name: str, holder: str, seconds: float) -> str:
        """Take a lease for so long, or renew it, where nobody else has it; who has it now.

        Time is the database's. An expiry further away than any lease lasts is that of a clock which was put back.
        """
        with self._database.writing() as connection:
            now = connection.now()
            found = connection.execute("SELECT holder, expires_at FROM leases WHERE name = ?", (name,))
            if found and found[0][0] != holder and now < found[0][1] <= now + seconds:
                return str(found[0][0])
            # Those that nobody renews go too: a proxy has a lease of another name after each start.
            connection.execute("DELETE FROM leases WHERE name = ? OR expires_at <= ?", (name, now))
            connection.execute(
                "INSERT INTO leases (name, holder, expires_at) VALUES (?, ?, ?)", (name, holder, now + seconds)
            )
        return holder

    def lease_holder(self, name: str, seconds: float) -> str:
        """Who has a lease that lasts so long; empty when it is free. Nothing is written."""
        with self._database.reading() as connection:
            now = connection.now()
            found = connection.execute("SELECT holder, expires_at FROM leases WHERE name = ?", (name,))
        return str(found[0][0]) if found and now < found[0][1] <= now + seconds else ""

    def leases(self, prefix: str, seconds: float) -> dict[str, str]:
        """Holders of the leases in force that last so long and whose names begin so, by name."""
        with self._database.reading() as connection:
            now = connection.now()
            found = connection.execute("SELECT name, holder, expires_at FROM leases ORDER BY name")
        return {
            str(name): str(holder)
            for name, holder, ends in found
            if str(name).startswith(prefix) and now < ends <= now + seconds
        }

    def release_lease(self, name: str, holder: str) -> None:
        """Give up a lease, where this holder has it."""
        with self._database.writing() as connection:
            connection.execute("DELETE FROM leases WHERE name = ? AND holder = ?", (name, holder))

    @contextmanager
    def _changing(self, taken: str = "") -> Iterator[Connection]:
        """A transaction that makes the generation another; `taken` says what a unique value collided with."""
        try:
            with self._database.writing() as connection:
                yield connection
                connection.execute("UPDATE generation SET value = ?", (secrets.randbits(62),))
        except TakenError:
            raise DirectoryError(taken) from None

    def _revoke(self, what: str, find: str, revoke: str, name: str) -> None:
        with self._changing() as connection:
            if not connection.execute(find, (_text(name),)):
                raise DirectoryError(f"{what} {shown(name)}: there is none of that name")
            connection.execute(revoke, (self._clock(), name))


def decode(found: Rows, label: str) -> Snapshot:
    """The snapshot of rows. Raises DamagedError when they are none of ours."""
    try:
        return rows.snapshot(found)
    except (ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        raise DamagedError(f"{label}: damaged ({error})") from None


def _account(connection: Connection, name: str) -> str:
    """The UUID of an account, as it is stored."""
    text = str(_text(name)).lower()
    found = connection.execute("SELECT uuid FROM accounts WHERE name_folded = ? OR uuid = ?", (text, text))
    if not found:
        raise DirectoryError(f"account {shown(name)}: there is none of that name")
    return str(found[0][0])


def _text(value: object) -> object:
    """A value to look for; no database has one that cannot be stored (NUL, half a surrogate pair)."""
    text = str(value)
    return text if text.isascii() and text.isprintable() else ""


def _checked(what: str, parse: Callable[[str], _Value], text: str) -> _Value:
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError(f"{what}: expected {error}, got {shown(text)}") from None


def _hashed(password: str) -> bytes:
    try:
        encoded = password.encode()
    except UnicodeEncodeError:
        raise ConfigError("password: expected UTF-8, got something else") from None
    if not 1 <= len(encoded) <= MAX_PASSWORD_BYTES or any(byte in encoded for byte in b"\0\r\n"):
        raise ConfigError(f"password: expected one line of 1 to {MAX_PASSWORD_BYTES} bytes, got {len(encoded)}")
    return bcrypt.hashpw(encoded, bcrypt.gensalt(BCRYPT_COST))

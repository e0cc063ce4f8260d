"""The directory: reading it, and all operations that change it."""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
import string
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

import bcrypt
from cryptography import x509

from pymon.config import ConfigError, shown
from pymon.directory import accounts, holders, labels, leases, model, nodes, rows, schema, sqlite, texts
from pymon.directory.accounts import uuids as uuids_of_accounts
from pymon.directory.database import Connection, Database, Right, TakenError
from pymon.directory.model import (
    Account,
    Certificate,
    DamagedError,
    DirectoryError,
    Holder,
    Node,
    Quota,
    Snapshot,
    SSHKey,
)
from pymon.directory.node_lists import NodeLists
from pymon.directory.node_tokens import NodeTokens
from pymon.directory.rows import Rows
from pymon.directory.sshkey import parse_public_key
from pymon.directory.url import is_postgres, sqlite_path

BCRYPT_COST = 10
MAX_PASSWORD_BYTES = 72
"""The number of bytes that bcrypt uses."""

_ID_ALPHABET = string.ascii_lowercase + string.digits
_ID_CHARACTERS = 12
_SECRET_BYTES = 32

_GENERATION = Right("UPDATE", "generation")

_PROXY_RIGHTS = {
    "leases": (_GENERATION, Right("INSERT", "leases"), Right("DELETE", "leases")),
    "UUIDs of nodes": (_GENERATION, Right("UPDATE", "nodes")),
    "holders of UUIDs": (
        _GENERATION, Right("UPDATE", "holder_version"),
        Right("INSERT", "holders"), Right("UPDATE", "holders"), Right("DELETE", "holders"),
        Right("INSERT", "holder_releases"), Right("DELETE", "holder_releases"),
    ),
}  # fmt: skip
"""What a proxy writes -> the rights that it needs for that."""

_ADDED = (
    "limits of nodes to accounts, holders of UUIDs, UUIDs for `pymon node accept`, the unique DNS labels of accounts",
    "nodes that join, lists of nodes",
)
"""Item i: what level i + 1 of the additions is needed for."""


class Unchanged(Enum):
    """The default of arguments for which None is a value: the field is not changed."""

    UNCHANGED = 0


UNCHANGED = Unchanged.UNCHANGED


def open_directory(
    url: str, *, create: bool = False, read_only: bool = False, busy_seconds: float | None = None
) -> Directory:
    """Open the directory at a path, ``sqlite:///path`` or ``postgresql://...``.

    create: create an empty directory if there is none. read_only: the directory is only read, which needs fewer rights.
    busy_seconds: how long to wait for another process that writes to a file, None for the default. Every query has a
    deadline.
    Raises DirectoryError if it is missing, damaged or of another version, and ConfigError if the URL is not valid.
    """
    return Directory(open_database(url, create=create, read_only=read_only, busy_seconds=busy_seconds))


def open_database(
    url: str, *, create: bool = False, read_only: bool = False, busy_seconds: float | None = None
) -> Database:
    """Open the database of a directory, as `open_directory` does."""
    if is_postgres(url):
        from pymon.directory.postgres import PostgresDatabase  # noqa: PLC0415  # libpq only where it is used

        return PostgresDatabase(url, create=create, read_only=read_only)
    path = sqlite_path(url)
    if create:
        sqlite.create(path)
    return sqlite.SqliteDatabase(path, read_only=read_only, busy_seconds=busy_seconds)


class Directory:
    """An open directory. For one thread at a time.

    Methods raise ConfigError for malformed values. They raise DirectoryError if something does not exist, exists
    already, or the database cannot be used. An account is given by its UUID or by its name, whose case does not matter.
    Each change is one transaction.
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
        """The path or the URL without secrets."""
        return self._database.label

    def interrupt(self) -> None:
        """Let the current and all later operations fail at once. May be called in any thread."""
        self._database.interrupt()

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    # --- reading ---------------------------------------------------------------------------------

    def generation(self) -> int:
        """Return a number that differs after each change by any process. Cheap."""
        try:
            return self._database.generation()
        except IndexError:
            raise DamagedError(f"{self.label}: damaged (it has no generation)") from None

    def rows(self) -> Rows:
        """Return all rows of a snapshot, read in one transaction."""
        with self._database.reading() as connection:
            return rows.read(connection)

    def snapshot(self) -> Snapshot:
        """Return a consistent snapshot of the directory."""
        return decode(self.rows(), self.label)

    def off(self) -> list[str]:
        """Return one line for each feature that a proxy cannot use, because of a missing upgrade or missing rights."""
        with self._database.reading() as connection:
            tables = {right.table for rights in _PROXY_RIGHTS.values() for right in rights}
            tables = {table for table in tables if connection.has_table(table)}
            denied = {
                what: connection.denied([right for right in rights if right.table in tables])
                for what, rights in _PROXY_RIGHTS.items()
            }
            level = rows.level(connection)
        found = []
        if level < schema.LEVEL:
            found.append(f"{self.label}: off until `pymon directory upgrade`: {', '.join(_ADDED[level:])}")
        if any(denied.values()):
            missing = dict.fromkeys(f"{right.action} {right.table}" for rights in denied.values() for right in rights)
            what = ", ".join(what for what, rights in denied.items() if rights)
            found.append(f"{self.label}: cannot be written: {what} (no right to {', '.join(missing)})")
        return found

    # --- the schema ------------------------------------------------------------------------------

    def upgrade(self) -> bool:
        """Add the tables and columns that this version of pymon needs. Returns False if nothing was missing.

        Older and newer versions of pymon can go on using the directory.
        """
        with self._database.writing() as connection:
            level = rows.level(connection)
            if level >= schema.LEVEL:
                return False
            for statement in schema.additions(level):
                connection.execute(statement)
            connection.share([table for table in schema.ADDED_TABLES if connection.has_table(table)])
            for label, account in labels.holders(accounts.every(connection)).items():
                connection.execute("UPDATE accounts SET dns_label = ? WHERE uuid = ?", (label, str(account.uuid)))
            _change_generation(connection)
        return True

    # --- accounts --------------------------------------------------------------------------------

    def create_account(self, name: str, *, operator: bool = False, uuid: UUID | None = None) -> Account:
        """Add an account. Raises DirectoryError if its name, UUID or DNS label is already in use."""
        account = Account(
            uuid or uuid4(), texts.checked("account", model.parse_name, name), operator, self._clock(), Quota()
        )
        with self._changing(f"account {name}: an account with this name or UUID exists already") as connection:
            accounts.insert(connection, account)
        return account

    def delete_account(self, name: str) -> None:
        """Remove an account with its quota and all its credentials."""
        with self._changing() as connection:
            connection.execute("DELETE FROM accounts WHERE uuid = ?", (accounts.find(connection, name),))

    def set_quota(
        self,
        name: str,
        *,
        requests_per_second: float | None = None,
        burst: int | None = None,
        concurrency: int | None = None,
    ) -> Quota:
        """Change the given parts of a quota, and return the quota. Parts that were never set have their defaults."""
        with self._changing() as connection:
            account = accounts.find(connection, name)
            return accounts.set_quota(connection, account, requests_per_second, burst, concurrency)

    def delete_quota(self, name: str) -> None:
        """Reset the quota of an account to the defaults."""
        with self._changing() as connection:
            connection.execute("DELETE FROM quotas WHERE account = ?", (accounts.find(connection, name),))

    # --- credentials -----------------------------------------------------------------------------

    def set_password(self, name: str, password: str | None) -> None:
        """Set the password of an account. None removes it."""
        hashed = None if password is None else _hashed(password)
        with self._changing() as connection:
            account = accounts.find(connection, name)
            connection.execute("DELETE FROM passwords WHERE account = ?", (account,))
            if hashed is not None:
                connection.execute("INSERT INTO passwords (account, hash) VALUES (?, ?)", (account, hashed))

    def create_token(self, name: str, label: str = "", expires_at: float | None = None) -> str:
        """Create a token and return its text, which is not stored. expires_at: seconds since the epoch, None never."""
        texts.checked("label", model.parse_label, label)
        id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_CHARACTERS))
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        digest = hashlib.sha256(secret.encode("ascii")).digest()
        with self._changing(f"token {id}: there is one already") as connection:
            connection.execute(
                "INSERT INTO tokens (id, account, sha256, label, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
                (id, accounts.find(connection, name), digest, label, self._clock(), expires_at),
            )
        return f"pymon_{id}_{secret}"

    def revoke_token(self, id: str) -> None:
        """Revoke a token. It stays listed."""
        self._revoke(
            "token",
            "SELECT 1 FROM tokens WHERE id = ?",
            "UPDATE tokens SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL",
            id,
        )

    def add_key(self, name: str, text: str) -> SSHKey:
        """Register an SSH public key. text: the content of a .pub file. A revoked key becomes valid again."""
        try:
            key = parse_public_key(text)
        except ValueError as error:
            raise ConfigError(f"key: {error}") from None
        now = self._clock()
        with self._changing() as connection:
            account = accounts.find(connection, name)
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
        """Revoke a key for every account that has it. It stays listed. fingerprint: as in `SSHKey`."""
        self._revoke(
            "key",
            "SELECT 1 FROM keys WHERE fingerprint = ?",
            "UPDATE keys SET revoked_at = ? WHERE fingerprint = ? AND revoked_at IS NULL",
            fingerprint,
        )

    def add_certificate(self, name: str, der: bytes, *, issued: bool, label: str = "") -> Certificate:
        """Register a client certificate of an account. A revoked certificate of the same account becomes valid again.

        issued: by pymon's own authority.
        """
        texts.checked("label", model.parse_label, label)
        fingerprint = hashlib.sha256(der).hexdigest()
        try:
            loaded = x509.load_der_x509_certificate(der)
            validity = loaded.not_valid_before_utc.timestamp(), loaded.not_valid_after_utc.timestamp()
        except ValueError:
            raise ConfigError("certificate: expected an X.509 certificate, got something else") from None
        now = self._clock()
        with self._changing() as connection:
            account = accounts.find(connection, name)
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
        """Revoke a certificate. It stays listed. fingerprint: SHA-256 in hexadecimal, with or without colons."""
        self._revoke(
            "certificate",
            "SELECT 1 FROM certificates WHERE fingerprint = ?",
            "UPDATE certificates SET revoked_at = ? WHERE fingerprint = ? AND revoked_at IS NULL",
            texts.checked("certificate", model.parse_fingerprint, fingerprint),
        )

    def set_authority(self, der: bytes) -> None:
        """Register the authority whose client certificates are accepted. der: its certificate.

        An existing authority is replaced only if none of the certificates that it has issued is valid. Otherwise raises
        DirectoryError.
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
        self,
        name: str,
        url: str,
        *,
        uuid: UUID | None = None,
        tls_server_name: str = "",
        tls_fingerprint: str = "",
        accounts: Sequence[str] | None = None,
    ) -> Node:
        """Add a compute node. accounts: the accounts whose containers it may have, by name or UUID, None for all."""
        node = nodes.checked(name, uuid, url, tls_server_name, tls_fingerprint)
        with self._changing(f"node {name}: a node with this name or UUID exists already") as connection:
            limit = None if accounts is None else uuids_of_accounts(connection, accounts)
            return nodes.insert(connection, dataclasses.replace(node, accounts=limit))

    def set_node(
        self,
        name: str,
        *,
        url: str | None = None,
        tls_server_name: str | None = None,
        tls_fingerprint: str | None = None,
        accounts: Sequence[str] | Unchanged | None = UNCHANGED,
    ) -> Node:
        """Change the given fields of a node and return the node. The arguments are those of `create_node`."""
        given = {"url": url, "tls_server_name": tls_server_name, "tls_fingerprint": tls_fingerprint}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        with self._changing() as connection:
            if accounts is not UNCHANGED:
                changes["accounts"] = None if accounts is None else uuids_of_accounts(connection, accounts)
            return nodes.change(connection, name, changes)

    def pin_node(self, name: str, uuid: UUID) -> UUID | None:
        """Set the UUID of a node that has none. Returns the UUID that the node has after that.

        Returns None if the node does not exist, or another node or a known container has that UUID.
        """
        with self._database.reading() as connection, self._good_rows():
            pinned, free = nodes.pinned(connection, name, uuid)
        if not free:
            return pinned
        with self._database.writing() as connection, self._good_rows():
            pinned, free = nodes.pinned(connection, name, uuid)
            if not free:
                return pinned
            nodes.give(connection, name, uuid)
            _change_generation(connection)
        return uuid

    def accept_node(self, name: str, uuid: UUID) -> None:
        """Set the UUID of a node, replacing any other. The UUID that `offer_node` stored is removed."""
        with self._changing(f"node {name}: another node has the UUID {uuid}") as connection:
            nodes.accept(connection, name, uuid)

    def offer_node(self, name: str, uuid: UUID) -> None:
        """Store a UUID that a node's agent reports and that differs from the node's own, for `accept_node`.

        Does nothing if the node does not exist. Raises NotUpgradedError.
        """
        with self._database.reading() as connection, self._good_rows():
            rows.need_additions(connection)
            if nodes.offers(connection).get(name) == uuid:
                return
        with self._database.writing() as connection:
            nodes.offer(connection, name, uuid)

    def offers(self) -> dict[str, UUID]:
        """Return node name -> UUID that `offer_node` stored, {} if the directory is not upgraded."""
        with self._database.reading() as connection, self._good_rows():
            return nodes.offers(connection) if rows.level(connection) else {}

    def delete_node(self, name: str) -> None:
        """Remove a compute node."""
        with self._changing() as connection:
            nodes.delete(connection, name)

    @property
    def node_tokens(self) -> NodeTokens:
        """The tokens with which nodes join."""
        return NodeTokens(self._database, self._changing)

    @property
    def node_lists(self) -> NodeLists:
        """The changes that lists of nodes make, each in a transaction of its own."""
        return NodeLists(self._database, self._changing, uuids_of_accounts)

    # --- holders of UUIDs: not part of a snapshot; each method raises NotUpgradedError --------------

    def holders(self, since: int = 0) -> tuple[int, list[Holder], list[UUID]]:
        """Return the current version, the rows that have changed since a version, and the UUIDs released since then.

        since: a version that was returned before, 0 for all rows. If the changes since then are no longer stored, the
        result is (0, [], []), and the caller must read all rows.
        """
        with self._database.reading() as connection:
            rows.need_additions(connection)
            with self._good_rows():
                return holders.changes(connection, since)

    def hold(self, claims: Sequence[Holder]) -> list[Holder]:
        """Insert a row for each claim whose UUID has none. Returns the rows of all claims after that, in their order.

        A claim gets no row if its node already has `holders.MAX_HOLDERS_OF_NODE` rows, or if its UUID is that of a
        node. Such a claim is missing in the result. `changed_at` of a claim is ignored.
        """
        with self._holding() as connection:
            return holders.hold(connection, claims)

    def pass_on(self, before: Holder, after: Holder) -> Holder | None:
        """Replace a row if its node, owner and start still equal those of `before`.

        Returns the row after that, None if there is none.
        """
        with self._holding() as connection:
            return holders.pass_on(connection, before, after)

    def release_claim(self, uuid: UUID) -> Holder:
        """Remove a row and return it. The next claim gets the UUID."""
        with self._holding() as connection:
            found = holders.find(connection, [uuid])
            if not found:
                raise DirectoryError(f"claim {uuid}: nobody holds it")
            holders.release(connection, [found[uuid]])
        return found[uuid]

    def forget_holders(self, node: UUID, uuids: Sequence[UUID]) -> None:
        """Remove those rows of the UUIDs that belong to the node."""
        with self._holding() as connection:
            found = holders.find(connection, uuids).values()
            holders.release(connection, [holder for holder in found if holder.node == node])

    # --- leases: not part of a snapshot, so they do not change the generation ---------------------

    def acquire_lease(self, name: str, holder: str, seconds: float) -> str:
        """Acquire or renew a lease unless another holder has it. Returns the current holder. seconds: its duration."""
        with self._database.writing() as connection:
            return leases.acquire(connection, name, holder, seconds)

    def lease_holder(self, name: str, seconds: float) -> str:
        """Return the holder of a lease, "" if it is free. seconds: duration of the lease. Nothing is written."""
        with self._database.reading() as connection:
            return leases.holder_of(connection, name, seconds)

    def leases(self, prefix: str, seconds: float) -> dict[str, str]:
        """Return name -> holder of the valid leases whose names start with a prefix. seconds: their duration."""
        with self._database.reading() as connection:
            return leases.with_prefix(connection, (prefix,), seconds)

    def put_lease(self, name: str, holder: str, seconds: float) -> None:
        """Write a lease that one process alone uses, whoever the holder was. seconds: duration of the lease."""
        with self._database.writing() as connection:
            leases.put(connection, {name: holder}, seconds)

    def remove_lease(self, name: str) -> None:
        """Remove a lease, whoever the holder is."""
        with self._database.writing() as connection:
            leases.remove(connection, name)

    def renew_leases(
        self, held: Mapping[str, str], seconds: float, prefixes: Sequence[str], longest: float, *, yields: str = ""
    ) -> dict[str, str]:
        """Renew leases that only this process acquires. Returns name -> holder of the valid ones with a prefix.

        held: name -> holder. seconds: their duration. longest: the longest duration of any lease. yields: a prefix. The
        leases of `held` that have it are released instead if another valid lease has it.
        """
        with self._database.writing() as connection:
            return leases.renew(connection, held, seconds, prefixes, longest, yields)

    def release_lease(self, name: str, holder: str) -> None:
        """Release a lease. Does nothing if another holder has it."""
        with self._database.writing() as connection:
            leases.release(connection, name, holder)

    @contextmanager
    def _changing(self, taken: str = "") -> Iterator[Connection]:
        """Return a write transaction that changes the generation. taken: error text for a value that must be unique."""
        try:
            with self._database.writing() as connection:
                with self._good_rows():
                    yield connection
                _change_generation(connection)
        except TakenError:
            raise DirectoryError(taken) from None

    @contextmanager
    def _holding(self) -> Iterator[Connection]:
        with self._database.writing() as connection:
            rows.need_additions(connection)
            with self._good_rows():
                yield connection

    @contextmanager
    def _good_rows(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, TypeError) as error:
            raise DamagedError(f"{self.label}: damaged ({error})") from None

    def _revoke(self, what: str, find: str, revoke: str, name: str) -> None:
        with self._changing() as connection:
            if not connection.execute(find, (texts.findable(name),)):
                raise DirectoryError(f"{what} {shown(name)}: not found")
            connection.execute(revoke, (self._clock(), name))


def decode(found: Rows, label: str) -> Snapshot:
    """Convert rows to a snapshot. label: the directory's name for errors. Raises DamagedError."""
    try:
        return rows.snapshot(found)
    except (ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        raise DamagedError(f"{label}: damaged ({error})") from None


def _change_generation(connection: Connection) -> None:
    connection.execute("UPDATE generation SET value = ?", (secrets.randbits(62),))


def _hashed(password: str) -> bytes:
    try:
        encoded = password.encode()
    except UnicodeEncodeError:
        raise ConfigError("password: expected UTF-8, got something else") from None
    if not 1 <= len(encoded) <= MAX_PASSWORD_BYTES or any(byte in encoded for byte in b"\0\r\n"):
        raise ConfigError(f"password: expected one line of 1 to {MAX_PASSWORD_BYTES} bytes, got {len(encoded)}")
    return bcrypt.hashpw(encoded, bcrypt.gensalt(BCRYPT_COST))

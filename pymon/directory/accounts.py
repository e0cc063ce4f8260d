"""The rows of accounts and of their quotas. All functions run inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from pymon.config import ConfigError, shown
from pymon.directory import rows, texts
from pymon.directory.database import Connection, Row
from pymon.directory.model import Account, DirectoryError, Quota
from pymon.dns_label import label_or_none


def insert(connection: Connection, account: Account) -> None:
    """Insert an account. Raises TakenError, and DirectoryError if another one has its DNS label."""
    name, label = account.name, label_or_none(account.name)
    connection.execute(
        "INSERT INTO accounts (uuid, name, name_folded, operator, created_at) VALUES (?, ?, ?, ?, ?)",
        (str(account.uuid), name, name.lower(), int(account.operator), account.created_at),
    )
    # Accounts that older versions created have no value in the unique column, so the labels are compared here.
    for other in every(connection):
        if label is not None and label_or_none(other.name) == label and other.uuid != account.uuid:
            raise DirectoryError(f"account {name}: is {label} in DNS, as the account {other.name} is")
    if rows.level(connection):
        connection.execute("UPDATE accounts SET dns_label = ? WHERE uuid = ?", (label, str(account.uuid)))


def every(connection: Connection) -> list[Account]:
    """Return all accounts, without their quotas."""
    found = connection.execute("SELECT uuid, name, operator, created_at FROM accounts")
    return [Account(UUID(uuid), name, bool(operator), at, Quota()) for uuid, name, operator, at in found]


def find(connection: Connection, name: str) -> str:
    """Return the UUID of an account as text. name: its name or UUID. Raises DirectoryError if there is none."""
    text = str(texts.findable(name)).lower()
    found = connection.execute("SELECT uuid FROM accounts WHERE name_folded = ? OR uuid = ?", (text, text))
    if not found:
        raise DirectoryError(f"account {shown(name)}: not found")
    return str(found[0][0])


def uuids(connection: Connection, names: Sequence[str]) -> frozenset[UUID]:
    """Return the UUIDs of accounts, each of which is given as for `find`. Raises DirectoryError if one is not there."""
    return frozenset(UUID(find(connection, name)) for name in names)


def set_quota(
    connection: Connection,
    account: str,
    requests_per_second: float | None,
    burst: int | None,
    concurrency: int | None,
) -> Quota:
    """Change the parts of a quota that are not None. Return the quota. Raises ConfigError if a part is not valid."""
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

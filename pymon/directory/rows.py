"""Reads the rows of the directory's tables, and converts them to a snapshot and to JSON."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from pymon.directory.database import Connection, Row
from pymon.directory.model import (
    Account,
    Certificate,
    DamagedError,
    Node,
    NotUpgradedError,
    Quota,
    Snapshot,
    SSHKey,
    Token,
)
from pymon.directory.schema import ADDED_QUERIES, QUERIES

Rows = Mapping[str, list[Row]]
"""Name of a query in `QUERIES` or `ADDED_QUERIES` -> its rows. Those of `ADDED_QUERIES` may be missing."""


def level(connection: Connection) -> int:
    """Return the level of the additions, 0 if there are none. It may be above `schema.LEVEL`. Raises DamagedError."""
    if not connection.has_table("additions"):
        return 0
    found = connection.execute("SELECT level FROM additions")
    if not found:
        raise DamagedError("directory: damaged (additions is empty)")
    return int(found[0][0])


def need_additions(connection: Connection) -> None:
    """Raise NotUpgradedError if the directory has no additions."""
    if not level(connection):
        raise NotUpgradedError("directory: cannot store this before `pymon directory upgrade`")


def read(connection: Connection) -> Rows:
    """Return the rows of all queries."""
    queries = {**QUERIES, **(ADDED_QUERIES if level(connection) else {})}
    return {table: connection.execute(query) for table, query in queries.items()}


def snapshot(rows: Rows) -> Snapshot:
    """Convert rows to a snapshot. Raises ValueError or TypeError if they are malformed."""
    quotas = {UUID(account): values for account, *values in rows["quotas"]}
    limits = {name: accounts_of(text) for name, text in rows.get("node_accounts", ())}
    return Snapshot.of(
        int(rows["generation"][0][0]),
        accounts=(_account(row, quotas) for row in rows["accounts"]),
        certificates=(
            Certificate(fingerprint, UUID(account), label, bool(issued), *times)
            for fingerprint, account, label, issued, *times in rows["certificates"]
        ),
        keys=(SSHKey(fingerprint, md5, UUID(account), *rest) for fingerprint, md5, account, *rest in rows["keys"]),
        tokens=(Token(id, UUID(account), bytes(sha256), *rest) for id, account, sha256, *rest in rows["tokens"]),
        passwords={UUID(account): bytes(hashed) for account, hashed in rows["passwords"]},
        nodes=(
            Node(name, UUID(uuid) if uuid else None, url, server_name, fingerprint, limits.get(name))
            for name, uuid, url, server_name, fingerprint in rows["nodes"]
        ),
        authority=next((bytes(certificate) for (certificate,) in rows["authority"]), None),
    )


def _account(row: Row, quotas: Mapping[UUID, list[Any]]) -> Account:
    uuid, name, operator, created_at = row
    account = UUID(uuid)
    return Account(account, name, bool(operator), created_at, quota(*quotas.get(account, ())))


def quota(requests_per_second: float | None = None, burst: int | None = None, concurrency: int | None = None) -> Quota:
    """Return the quota of a row, in which None means the default. Raises ValueError."""
    given = {"requests_per_second": requests_per_second, "burst": burst, "concurrency": concurrency}
    return Quota(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def accounts_of(text: str) -> frozenset[UUID]:
    """Parse the accounts that a node is limited to: UUIDs separated by blanks. Raises ValueError."""
    return frozenset(map(UUID, text.split()))


def accounts_text(accounts: frozenset[UUID] | None) -> str | None:
    """Return the text of the accounts that a node is limited to, None without a limit."""
    return None if accounts is None else " ".join(sorted(map(str, accounts)))


def to_json(rows: Rows) -> dict[str, list[list[Any]]]:
    """Convert rows to JSON values. Bytes become ``{"base64": ...}``."""
    return {table: [[_jsonable(value) for value in row] for row in found] for table, found in rows.items()}


def from_json(document: Any) -> Rows:
    """Convert the result of `to_json` to rows. Raises ValueError, TypeError, KeyError or AttributeError."""
    tables = [*QUERIES, *(table for table in ADDED_QUERIES if table in document)]
    return {table: [tuple(_value(value) for value in row) for row in document[table]] for table in tables}


def _jsonable(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode("ascii")} if isinstance(value, bytes) else value


def _value(value: Any) -> Any:
    return base64.b64decode(value["base64"], validate=True) if isinstance(value, dict) else value

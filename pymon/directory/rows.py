"""Rows of the directory's tables: read at one moment, as a snapshot, and as JSON."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from pymon.directory.database import Connection, Row
from pymon.directory.model import Account, Certificate, Node, Quota, Snapshot, SSHKey, Token
from pymon.directory.schema import QUERIES

Rows = Mapping[str, list[Row]]
"""The rows of each table of `QUERIES`."""


def read(connection: Connection) -> Rows:
    """Every row."""
    return {table: connection.execute(query) for table, query in QUERIES.items()}


def snapshot(rows: Rows) -> Snapshot:
    """What the rows say. Raises ValueError or TypeError when they are none of ours."""
    quotas = {UUID(account): values for account, *values in rows["quotas"]}
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
        nodes=(Node(name, UUID(uuid) if uuid else None, *rest) for name, uuid, *rest in rows["nodes"]),
        authority=next((bytes(certificate) for (certificate,) in rows["authority"]), None),
    )


def _account(row: Row, quotas: Mapping[UUID, list[Any]]) -> Account:
    uuid, name, operator, created_at = row
    account = UUID(uuid)
    return Account(account, name, bool(operator), created_at, quota(*quotas.get(account, ())))


def quota(requests_per_second: float | None = None, burst: int | None = None, concurrency: int | None = None) -> Quota:
    """A quota of a row, where NULL is the default."""
    given = {"requests_per_second": requests_per_second, "burst": burst, "concurrency": concurrency}
    return Quota(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def to_json(rows: Rows) -> dict[str, list[list[Any]]]:
    """The rows with bytes as ``{"base64": ...}``."""
    return {table: [[_jsonable(value) for value in row] for row in found] for table, found in rows.items()}


def from_json(document: Any) -> Rows:
    """The other way. Raises ValueError, TypeError, KeyError, AttributeError when it is none of ours."""
    return {table: [tuple(_value(value) for value in row) for row in document[table]] for table in QUERIES}


def _jsonable(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode("ascii")} if isinstance(value, bytes) else value


def _value(value: Any) -> Any:
    return base64.b64decode(value["base64"], validate=True) if isinstance(value, dict) else value

"""Rows of holders: which node and account have a container UUID that cannot be recomputed from the container's name.

The rows have a version of their own and are not part of a snapshot. A proxy reads the changes since the version that it
knows. For that, a release leaves a row in ``holder_releases``, which is kept for a day, and at most `MAX_RELEASES` are
kept. All functions run inside the caller's transaction. Those that write need a write transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeVar
from uuid import UUID

from pymon.directory.database import Connection, Row
from pymon.directory.model import Holder

MAX_HOLDERS_OF_NODE = 100_000
MAX_RELEASES = 100_000
RELEASE_SECONDS = 86400.0
_BATCH = 500
"""The number of rows in one statement. Both databases limit the number of values."""

_Item = TypeVar("_Item")

_SELECT = "SELECT uuid, node, owner, start, changed_at FROM holders"


def changes(connection: Connection, since: int) -> tuple[int, list[Holder], list[UUID]]:
    """Return version, changed rows and released UUIDs since a version, as `Directory.holders` describes."""
    ((version, forgotten),) = connection.execute("SELECT value, forgotten FROM holder_version")
    if since == version:
        return version, [], []
    if since and not forgotten <= since < version:
        return 0, [], []
    found = connection.execute(_SELECT + " WHERE version > ?", (since,))
    released = connection.execute("SELECT uuid FROM holder_releases WHERE version > ?", (since,)) if since else []
    return version, [_holder(row) for row in found], [UUID(uuid) for (uuid,) in released]


def find(connection: Connection, uuids: Sequence[UUID]) -> dict[UUID, Holder]:
    """Return UUID -> row, for those UUIDs that have one."""
    found = _each(connection, _SELECT + " WHERE uuid IN", uuids)
    return {holder.uuid: holder for holder in map(_holder, found)}


def hold(connection: Connection, claims: Sequence[Holder]) -> list[Holder]:
    """Insert rows for claims and return the resulting rows, as `Directory.hold` describes."""
    there = find(connection, [claim.uuid for claim in claims])
    of_nodes = {uuid for (uuid,) in connection.execute("SELECT uuid FROM nodes WHERE uuid IS NOT NULL")}
    now = connection.now()
    new: dict[UUID, Holder] = {}
    counts: Counter[UUID] = Counter()
    for claim in claims:
        if claim.uuid in there or claim.uuid in new or str(claim.uuid) in of_nodes:
            continue
        if claim.node not in counts:
            counts[claim.node] = _count(connection, claim.node)
        if counts[claim.node] < MAX_HOLDERS_OF_NODE:
            counts[claim.node] += 1
            new[claim.uuid] = Holder(claim.uuid, claim.node, claim.owner, claim.start, now)
    if new:
        version = _next(connection)
        for batch in _batches(tuple(new.values())):
            values = ", ".join("(?, ?, ?, ?, ?, ?)" for _ in batch)
            connection.execute(
                f"INSERT INTO holders (uuid, node, owner, start, changed_at, version) VALUES {values}",  # noqa: S608  # ?
                [value for holder in batch for value in (*_row(holder), version)],
            )
        _each(connection, "DELETE FROM holder_releases WHERE uuid IN", tuple(new))
    known = {**there, **new}
    return [known[claim.uuid] for claim in claims if claim.uuid in known]


def pass_on(connection: Connection, before: Holder, after: Holder) -> Holder | None:
    """Replace a row if it has not changed, as `Directory.pass_on` describes."""
    there = find(connection, [before.uuid]).get(before.uuid)
    if there is None or (there.node, there.owner, there.start) != (before.node, before.owner, before.start):
        return there
    if after.node != there.node and _count(connection, after.node) >= MAX_HOLDERS_OF_NODE:
        return there
    new = Holder(before.uuid, after.node, after.owner, after.start, connection.now())
    connection.execute(
        "UPDATE holders SET node = ?, owner = ?, start = ?, changed_at = ?, version = ? WHERE uuid = ?",
        (*_row(new)[1:], _next(connection), str(before.uuid)),
    )
    return new


def move(connection: Connection, before: UUID, after: UUID) -> None:
    """A node has another UUID: its rows are of that one."""
    connection.execute(
        "UPDATE holders SET node = ?, changed_at = ?, version = ? WHERE node = ?",
        (str(after), connection.now(), _next(connection), str(before)),
    )


def release(connection: Connection, holders: Sequence[Holder]) -> None:
    """Remove existing rows and record their release."""
    if not holders:
        return
    now, version = connection.now(), _next(connection)
    _each(connection, "DELETE FROM holders WHERE uuid IN", [holder.uuid for holder in holders])
    for batch in _batches(holders):
        values = ", ".join("(?, ?, ?)" for _ in batch)
        connection.execute(
            f"INSERT INTO holder_releases (uuid, released_at, version) VALUES {values}",  # noqa: S608  # ?
            [value for holder in batch for value in (str(holder.uuid), now, version)],
        )
    _forget_releases(connection, now)


def _forget_releases(connection: Connection, now: float) -> None:
    """Remove old releases. A proxy that knows only an older version must then read all rows."""
    ((old,),) = connection.execute(
        "SELECT MAX(version) FROM holder_releases WHERE released_at <= ?", (now - RELEASE_SECONDS,)
    )
    excess = connection.execute(
        "SELECT version FROM holder_releases ORDER BY version DESC LIMIT 1 OFFSET ?", (MAX_RELEASES,)
    )
    last = max([version for (version,) in excess] + ([old] if old is not None else []), default=None)
    if last is not None:
        connection.execute("DELETE FROM holder_releases WHERE version <= ?", (last,))
        connection.execute("UPDATE holder_version SET forgotten = ?", (last,))


def _next(connection: Connection) -> int:
    connection.execute("UPDATE holder_version SET value = value + 1")
    return int(connection.execute("SELECT value FROM holder_version")[0][0])


def _count(connection: Connection, node: UUID) -> int:
    return int(connection.execute("SELECT COUNT(*) FROM holders WHERE node = ?", (str(node),))[0][0])


def _batches(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    for first in range(0, len(items), _BATCH):
        yield items[first : first + _BATCH]


def _each(connection: Connection, statement: str, uuids: Sequence[UUID]) -> list[Row]:
    """Run a statement that ends in ``IN`` for batches of the UUIDs. Returns all rows."""
    rows: list[Row] = []
    for batch in _batches(uuids):
        rows += connection.execute(f"{statement} ({', '.join('?' * len(batch))})", [str(uuid) for uuid in batch])
    return rows


def _holder(row: Row) -> Holder:
    uuid, node, owner, start, changed_at = row
    return Holder(UUID(uuid), UUID(node), UUID(owner) if owner else None, start, changed_at)


def _row(holder: Holder) -> Row:
    owner = str(holder.owner) if holder.owner else None
    return str(holder.uuid), str(holder.node), owner, holder.start, holder.changed_at

"""The rows of compute nodes. All functions run inside the caller's transaction."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from pymon.config import ConfigError, shown
from pymon.directory import holders, model, rows
from pymon.directory.database import Connection
from pymon.directory.model import DirectoryError, Node
from pymon.directory.texts import checked as parsed
from pymon.directory.texts import findable


def checked(name: str, uuid: UUID | None, url: str, tls_server_name: str, tls_fingerprint: str) -> Node:
    """Return a node after checking its fields. Raises ConfigError."""
    node = Node(
        parsed("node", model.parse_name, name),
        uuid,
        parsed("url", model.parse_node_url, url),
        tls_server_name and parsed("tls-server-name", model.parse_server_name, tls_server_name),
        tls_fingerprint and parsed("tls-fingerprint", model.parse_fingerprint, tls_fingerprint),
    )
    if not node.url.startswith("https:") and (tls_server_name or tls_fingerprint):
        raise ConfigError(f"url: expected https://HOST:PORT for a node with a TLS identity, got {shown(url)}")
    return node


def insert(connection: Connection, node: Node) -> Node:
    """Insert a node and return it. Raises TakenError, DirectoryError."""
    if node.uuid is not None:
        _refuse_a_containers(connection, node.name, node.uuid)
    connection.execute(
        "INSERT INTO nodes (name, uuid, url, tls_server_name, tls_fingerprint) VALUES (?, ?, ?, ?, ?)",
        (node.name, str(node.uuid) if node.uuid else None, node.url, node.tls_server_name, node.tls_fingerprint),
    )
    if node.accounts is not None:
        _limit(connection, node)
    return node


def change(connection: Connection, name: str, changes: Mapping[str, Any]) -> Node:
    """Change fields of a node. changes: field name -> value. Returns the changed node."""
    old = _find(connection, name)
    given = dataclasses.replace(old, **changes)
    node = checked(given.name, given.uuid, given.url, given.tls_server_name, given.tls_fingerprint)
    connection.execute(
        "UPDATE nodes SET url = ?, tls_server_name = ?, tls_fingerprint = ? WHERE name = ?",
        (node.url, node.tls_server_name, node.tls_fingerprint, node.name),
    )
    node = dataclasses.replace(node, accounts=given.accounts)
    if "accounts" in changes:
        _limit(connection, node)
    return node


def delete(connection: Connection, name: str) -> None:
    """Remove a node. Raises DirectoryError if it does not exist."""
    connection.execute("DELETE FROM nodes WHERE name = ?", (_find(connection, name).name,))


def join(connection: Connection, node: Node, token: str) -> None:
    """Insert a node that joins, or change the one of its name, which keeps its limit to accounts.

    token: id of the token with which it joins. Raises TakenError, and DirectoryError if the node has another UUID.
    """
    assert node.uuid is not None  # noqa: S101  # every node that joins tells it
    found = connection.execute("SELECT uuid FROM nodes WHERE name = ?", (node.name,))
    if not found:
        insert(connection, node)
    else:
        if found[0][0] is None:
            _refuse_a_containers(connection, node.name, node.uuid)
            give(connection, node.name, node.uuid)
        elif UUID(found[0][0]) != node.uuid:
            raise DirectoryError(
                f"node {node.name}: has the UUID {found[0][0]}, its agent reported {node.uuid}; see `pymon node accept`"
            )
        connection.execute(
            "UPDATE nodes SET url = ?, tls_server_name = ?, tls_fingerprint = '' WHERE name = ?",
            (node.url, node.tls_server_name, node.name),
        )
    connection.execute("UPDATE nodes SET joined = ? WHERE name = ?", (token, node.name))


def pinned(connection: Connection, name: str, uuid: UUID) -> tuple[UUID | None, bool]:
    """Return the UUID of a node or None, and whether the node has no UUID and may get this one."""
    found = connection.execute("SELECT uuid FROM nodes WHERE name = ?", (findable(name),))
    if found and found[0][0]:
        return UUID(found[0][0]), False
    taken = connection.execute("SELECT 1 FROM nodes WHERE uuid = ?", (str(uuid),))
    return None, bool(found and not taken and not _is_a_containers(connection, uuid))


def give(connection: Connection, name: str, uuid: UUID) -> None:
    """Set the UUID of a node. Raises TakenError if another node has it."""
    connection.execute("UPDATE nodes SET uuid = ? WHERE name = ?", (str(uuid), name))


def accept(connection: Connection, name: str, uuid: UUID) -> None:
    """Set the UUID of a node, replacing any other, and remove the stored offer.

    The node goes on holding what it held under the other UUID. Raises TakenError, DirectoryError.
    """
    _refuse_a_containers(connection, name, uuid)
    before = _find(connection, name)
    give(connection, before.name, uuid)
    if rows.level(connection):
        connection.execute("UPDATE nodes SET offered = NULL WHERE name = ?", (name,))
        if before.uuid not in (None, uuid):
            holders.move(connection, before.uuid, uuid)


def offer(connection: Connection, name: str, uuid: UUID) -> None:
    """Store the UUID that the node's agent reports."""
    connection.execute("UPDATE nodes SET offered = ? WHERE name = ?", (str(uuid), findable(name)))


def offers(connection: Connection) -> dict[str, UUID]:
    """Return node name -> UUID that `offer` stored."""
    found = connection.execute("SELECT name, offered FROM nodes WHERE offered IS NOT NULL")
    return {name: UUID(uuid) for name, uuid in found}


def _find(connection: Connection, name: str) -> Node:
    query = "SELECT name, uuid, url, tls_server_name, tls_fingerprint FROM nodes WHERE name = ?"
    found = connection.execute(query, (findable(name),))
    if not found:
        raise DirectoryError(f"node {shown(name)}: not found")
    name, uuid, url, server_name, fingerprint = found[0]
    limit: str | None = None
    if rows.level(connection):
        ((limit,),) = connection.execute("SELECT accounts FROM nodes WHERE name = ?", (name,))
    accounts = None if limit is None else rows.accounts_of(limit)
    return Node(name, UUID(uuid) if uuid else None, url, server_name, fingerprint, accounts)


def _limit(connection: Connection, node: Node) -> None:
    rows.need_additions(connection)
    text = rows.accounts_text(node.accounts)
    connection.execute("UPDATE nodes SET accounts = ? WHERE name = ?", (text, node.name))


def _is_a_containers(connection: Connection, uuid: UUID) -> bool:
    if not rows.level(connection):
        return False
    return bool(connection.execute("SELECT 1 FROM holders WHERE uuid = ?", (str(uuid),)))


def _refuse_a_containers(connection: Connection, name: str, uuid: UUID) -> None:
    if _is_a_containers(connection, uuid):
        raise DirectoryError(f"node {name}: a container has the UUID {uuid}; see `pymon claim release`")

"""Tokens with which nodes join: each for one node, good once and until it expires.

The text of a token is ``pymon-node.ID.SECRET`` or ``pymon-node.ID.SECRET.FINGERPRINT``. The fingerprint is the SHA-256
of the machines' authority in hexadecimal, by which the agent recognises it. The secret is not stored.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

from pymon.config import shown
from pymon.directory import model, nodes, texts
from pymon.directory.authority import node_server_name
from pymon.directory.database import Connection, Database
from pymon.directory.model import DirectoryError, Node, NotUpgradedError

PREFIX = "pymon-node"
KEEP_SECONDS = 30 * 86400.0
"""How long tokens are listed after they have expired."""

_ID_BYTES = 8
_SECRET_BYTES = 32
_TEXT = re.compile(r"pymon-node\.([0-9a-f]{16})\.([A-Za-z0-9_-]{43})(?:\.[0-9a-f]{64})?")


class TokenRefusedError(DirectoryError):
    """A token that is not known, used, expired, or of another node."""


@dataclass(frozen=True, slots=True)
class NodeToken:
    """A token as it is listed. node: name of its node. used_at: None if unused. Times are seconds since the epoch."""

    id: str
    node: str
    created_at: float
    expires_at: float
    used_at: float | None


class Secret(NamedTuple):
    """The parts of a token's text that the directory checks."""

    id: str
    secret: str


def parse_token(text: str) -> Secret | None:
    """Return the parts of a token's text, None if the text is not that of a token."""
    match = _TEXT.fullmatch(text)
    return Secret(match[1], match[2]) if match else None


class NodeTokens:
    """The tokens of a directory, and what depends on them. Methods raise DirectoryError and ConfigError.

    changing: returns a write transaction that changes the generation; its argument is the error text for a value that
    is taken.
    """

    def __init__(self, database: Database, changing: Callable[[str], AbstractContextManager[Connection]]) -> None:
        self._database = database
        self._changing = changing

    def create(self, node: str, seconds: float, authority: str = "") -> str:
        """Create a token for the node of a name, which need not exist, and return its text.

        seconds: how long it is good. authority: SHA-256 of the machines' authority in hexadecimal, "" for none.
        Tokens that expired long ago are removed.
        """
        texts.checked("node", model.parse_name, node)
        node_server_name(node)
        id, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
        with self._database.writing() as connection:
            _need_table(connection)
            now = connection.now()
            connection.execute("DELETE FROM node_tokens WHERE expires_at < ?", (now - KEEP_SECONDS,))
            connection.execute(
                "INSERT INTO node_tokens (id, node, sha256, created_at, expires_at) VALUES (?, ?, ?, ?, ?)",
                (id, node, _digest(secret), now, now + seconds),
            )
        return ".".join(filter(None, (PREFIX, id, secret, authority)))

    def all(self) -> tuple[float, list[NodeToken]]:
        """Return the database's time, and the tokens, the oldest first."""
        with self._database.reading() as connection:
            _need_table(connection)
            found = connection.execute(
                "SELECT id, node, created_at, expires_at, used_at FROM node_tokens ORDER BY created_at, id"
            )
            return connection.now(), [NodeToken(*row) for row in found]

    def delete(self, id: str) -> None:
        """Remove a token. A node that has joined with it stays."""
        with self._database.writing() as connection:
            _need_table(connection)
            if not connection.execute("SELECT 1 FROM node_tokens WHERE id = ?", (texts.findable(id),)):
                raise DirectoryError(f"token {shown(id)}: not found")
            connection.execute("DELETE FROM node_tokens WHERE id = ?", (id,))

    def admit(self, token: Secret, node: Node) -> None:
        """Use up a token and register its node, or neither. node: with its UUID.

        A token that is refused takes no lock. Raises TokenRefusedError, and DirectoryError if the UUID is another's or
        the node has another one.
        """
        with self._database.reading() as connection:
            _check(connection, token, node.name)
        with self._changing(f"node {node.name}: another node has the UUID {node.uuid}") as connection:
            # Again, because only one of two that come together may have it.
            _check(connection, token, node.name)
            connection.execute("UPDATE node_tokens SET used_at = ? WHERE id = ?", (connection.now(), token.id))
            nodes.join(connection, node, token.id)

    def joined(self, name: str) -> str | None:
        """Return the id of the token with which a node joined last, None if it did not or is not there."""
        with self._database.reading() as connection:
            _need_table(connection)
            found = connection.execute("SELECT joined FROM nodes WHERE name = ?", (texts.findable(name),))
        return found[0][0] if found else None


def _need_table(connection: Connection) -> None:
    if not connection.has_table("node_tokens"):
        raise NotUpgradedError("directory: cannot store tokens of nodes before `pymon directory upgrade`")


def _check(connection: Connection, token: Secret, node: str) -> None:
    _need_table(connection)
    found = connection.execute("SELECT node, sha256, expires_at, used_at FROM node_tokens WHERE id = ?", (token.id,))
    if not found or not hmac.compare_digest(str(found[0][1]), _digest(token.secret)):
        raise TokenRefusedError("token: not known")
    of, _, expires_at, used_at = found[0]
    if used_at is not None:
        raise TokenRefusedError(f"token {token.id}: was used already")
    if expires_at <= connection.now():
        raise TokenRefusedError(f"token {token.id}: has expired")
    if of != node:
        raise TokenRefusedError(f"token {token.id}: is for the node {of}, and {shown(node)} used it")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("ascii")).hexdigest()

"""A directory as it was made before there were additions, and what a program of that time does with one."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from pymon.directory.url import is_postgres

SCHEMA = """
CREATE TABLE generation (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    value BIGINT NOT NULL
);
INSERT INTO generation (id, value) VALUES (1, 0);
CREATE TABLE accounts (
    uuid TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    name_folded TEXT NOT NULL UNIQUE,
    operator INTEGER NOT NULL,
    created_at DOUBLE PRECISION NOT NULL
);
CREATE TABLE quotas (
    account TEXT PRIMARY KEY REFERENCES accounts (uuid) ON DELETE CASCADE,
    requests_per_second DOUBLE PRECISION,
    burst BIGINT,
    concurrency BIGINT
);
CREATE TABLE passwords (
    account TEXT PRIMARY KEY REFERENCES accounts (uuid) ON DELETE CASCADE,
    hash {bytes} NOT NULL
);
CREATE TABLE certificates (
    fingerprint TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts (uuid) ON DELETE CASCADE,
    label TEXT NOT NULL,
    issued INTEGER NOT NULL,
    not_before DOUBLE PRECISION NOT NULL,
    not_after DOUBLE PRECISION NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    revoked_at DOUBLE PRECISION
);
CREATE TABLE keys (
    fingerprint TEXT NOT NULL,
    md5 TEXT NOT NULL,
    account TEXT NOT NULL REFERENCES accounts (uuid) ON DELETE CASCADE,
    public_key TEXT NOT NULL,
    comment TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    revoked_at DOUBLE PRECISION,
    PRIMARY KEY (fingerprint, account)
);
CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts (uuid) ON DELETE CASCADE,
    sha256 {bytes} NOT NULL,
    label TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    expires_at DOUBLE PRECISION,
    revoked_at DOUBLE PRECISION
);
CREATE TABLE nodes (
    name TEXT PRIMARY KEY,
    uuid TEXT UNIQUE,
    url TEXT NOT NULL,
    tls_server_name TEXT NOT NULL,
    tls_fingerprint TEXT NOT NULL
);
CREATE TABLE authority (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    certificate {bytes} NOT NULL
);
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    expires_at DOUBLE PRECISION NOT NULL
);
"""

READS = (
    "SELECT value FROM generation",
    "SELECT uuid, name, operator, created_at FROM accounts ORDER BY name_folded",
    "SELECT name, uuid, url, tls_server_name, tls_fingerprint FROM nodes ORDER BY name",
    "SELECT name, holder, expires_at FROM leases ORDER BY name",
)

INSERT_ACCOUNT = "INSERT INTO accounts (uuid, name, name_folded, operator, created_at) VALUES (?, ?, ?, ?, ?)"
INSERT_NODE = "INSERT INTO nodes (name, uuid, url, tls_server_name, tls_fingerprint) VALUES (?, ?, ?, ?, ?)"
CHANGE = "UPDATE generation SET value = ?"


class OldProgram:
    """Statements of the old program, on a connection that it keeps open."""

    def __init__(self, url: str) -> None:
        self._postgres = is_postgres(url)
        self._connection: Any = (
            psycopg.connect(url, autocommit=True, options="-c search_path=pymon")
            if self._postgres
            else sqlite3.connect(url, isolation_level=None)
        )

    def close(self) -> None:
        self._connection.close()

    def run(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        if self._postgres:
            statement = statement.replace("?", "%s")
        cursor = self._connection.execute(statement, values)
        return cursor.fetchall() if cursor.description else []

    def version(self) -> int:
        """What it compares with its own, which was 2."""
        statement = "SELECT version FROM schema_version" if self._postgres else "PRAGMA user_version"
        return int(self.run(statement)[0][0])

    def make_older(self) -> None:
        """Make it a directory of version 1."""
        self.run("DROP TABLE leases")
        self.run("UPDATE schema_version SET version = 1" if self._postgres else "PRAGMA user_version = 1")


def make(url: str) -> None:
    """An empty directory of the old program."""
    statements = [part for part in SCHEMA.split(";") if part.strip()]
    if is_postgres(url):
        with psycopg.connect(url) as connection:
            connection.execute("CREATE SCHEMA pymon")
            connection.execute("SET search_path TO pymon")
            connection.execute("CREATE TABLE schema_version (version INTEGER NOT NULL)")
            connection.execute("INSERT INTO schema_version VALUES (2)")
            for statement in statements:
                connection.execute(statement.format(bytes="BYTEA").encode())
        return
    path = Path(url)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(SCHEMA.format(bytes="BLOB"))
        connection.execute(f"PRAGMA application_id = {0x70796D6E}")
        connection.execute("PRAGMA user_version = 2")
    path.chmod(0o600)

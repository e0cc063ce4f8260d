"""The tables of the directory, in SQL that SQLite and PostgreSQL both read."""

from __future__ import annotations

from types import MappingProxyType

_VERSION_1 = """
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
"""

_VERSION_2 = """
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    expires_at DOUBLE PRECISION NOT NULL
);
"""

MIGRATIONS: tuple[str, ...] = (_VERSION_1, _VERSION_2)
"""Statements that bring a schema from version i to i + 1."""

VERSION = len(MIGRATIONS)


def statements(version: int, bytes_type: str) -> list[str]:
    """What brings a schema of that version to `VERSION`."""
    text = "".join(MIGRATIONS[version:]).format(bytes=bytes_type)
    return [statement for part in text.split(";") if (statement := part.strip())]


QUERIES = MappingProxyType({
    "generation": "SELECT value FROM generation",
    "accounts": "SELECT uuid, name, operator, created_at FROM accounts ORDER BY name_folded",
    "quotas": "SELECT account, requests_per_second, burst, concurrency FROM quotas",
    "passwords": "SELECT account, hash FROM passwords",
    "certificates": "SELECT fingerprint, account, label, issued, not_before, not_after, created_at, revoked_at"
    " FROM certificates ORDER BY created_at, fingerprint",
    "keys": "SELECT fingerprint, md5, account, public_key, comment, created_at, revoked_at"
    " FROM keys ORDER BY created_at, fingerprint",
    "tokens": "SELECT id, account, sha256, label, created_at, expires_at, revoked_at"
    " FROM tokens ORDER BY created_at, id",
    "nodes": "SELECT name, uuid, url, tls_server_name, tls_fingerprint FROM nodes ORDER BY name",
    "authority": "SELECT certificate FROM authority",
})  # fmt: skip
"""What a snapshot reads of each table, columns in the order of the fields."""

"""The tables of the directory, in SQL that both SQLite and PostgreSQL accept.

A schema has a version. A program refuses a schema with a larger version than its own. Additions that older programs can
ignore, which are new tables and columns that may be NULL, do not change the version. They have a level in the table
``additions``, which `pymon directory upgrade` raises.
"""

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
"""Item i has the statements that migrate a schema from version i to i + 1."""

VERSION = len(MIGRATIONS)


_LEVEL_1 = """
CREATE TABLE additions (
    level INTEGER NOT NULL
);
INSERT INTO additions (level) VALUES (1);
ALTER TABLE accounts ADD COLUMN dns_label TEXT;
CREATE UNIQUE INDEX accounts_dns_label ON accounts (dns_label);
ALTER TABLE nodes ADD COLUMN accounts TEXT;
ALTER TABLE nodes ADD COLUMN offered TEXT;
CREATE TABLE holder_version (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    value BIGINT NOT NULL,
    forgotten BIGINT NOT NULL
);
INSERT INTO holder_version (id, value, forgotten) VALUES (1, 1, 0);
CREATE TABLE holders (
    uuid TEXT PRIMARY KEY,
    node TEXT NOT NULL,
    owner TEXT,
    start DOUBLE PRECISION NOT NULL,
    changed_at DOUBLE PRECISION NOT NULL,
    version BIGINT NOT NULL
);
CREATE INDEX holders_node ON holders (node);
CREATE INDEX holders_version ON holders (version);
CREATE TABLE holder_releases (
    uuid TEXT PRIMARY KEY,
    released_at DOUBLE PRECISION NOT NULL,
    version BIGINT NOT NULL
);
CREATE INDEX holder_releases_version ON holder_releases (version);
"""

_LEVEL_2 = """
ALTER TABLE nodes ADD COLUMN joined TEXT;
ALTER TABLE nodes ADD COLUMN source TEXT;
CREATE TABLE node_tokens (
    id TEXT PRIMARY KEY,
    node TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    expires_at DOUBLE PRECISION NOT NULL,
    used_at DOUBLE PRECISION
);
UPDATE additions SET level = 2;
"""

_ADDITIONS: tuple[str, ...] = (_LEVEL_1, _LEVEL_2)
"""Item i has the statements that raise the additions from level i to i + 1 and store the new level.

Changes of `accounts` come before changes of `nodes`. A snapshot reads the tables in this order, so another order could
deadlock.
"""

LEVEL = len(_ADDITIONS)

ADDED_TABLES = ("additions", "holder_version", "holders", "holder_releases", "node_tokens")


def statements(version: int, bytes_type: str) -> list[str]:
    """Return the statements that migrate a schema from a version to `VERSION`. bytes_type: SQL type of bytes."""
    return _split("".join(MIGRATIONS[version:]).format(bytes=bytes_type))


def additions(level: int, to: int | None = None) -> list[str]:
    """Return the statements that raise the additions of a schema of `VERSION` from a level to another.

    to: None for `LEVEL`.
    """
    return _split("".join(_ADDITIONS[level:to]))


def _split(text: str) -> list[str]:
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
"""The queries of a snapshot. The columns are in the order of the fields of the types in `model`."""

ADDED_QUERIES = MappingProxyType({
    "node_accounts": "SELECT name, accounts FROM nodes WHERE accounts IS NOT NULL",
})  # fmt: skip
"""Further queries of a snapshot, for a schema with the additions."""

"""The data types of the directory. Times are in seconds since the epoch."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from pymon import account_name
from pymon.directory import labels

if TYPE_CHECKING:
    from pymon.directory.changes import Changes

MAX_LABEL_CHARACTERS = 200
MAX_REQUESTS_PER_SECOND = 1e6
MAX_BURST = 1_000_000_000
MAX_CONCURRENCY = 1_000_000


class DirectoryError(Exception):
    """An operation failed, or the directory cannot be used. The text is one line with the directory and the reason."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class UnavailableError(DirectoryError):
    """The directory is temporarily unavailable: it is missing, locked or unreadable, or there is no connection."""


class DamagedError(DirectoryError):
    """The database is not a directory of pymon, or it is damaged."""


class VersionError(DirectoryError):
    """The schema is of a newer version, or of an older version and the directory was opened read-only."""


class NotUpgradedError(DirectoryError):
    """The operation needs a table that `pymon directory upgrade` adds."""


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits of an account at all proxies together.

    requests_per_second: 0 for no limit. concurrency: the most requests at the same time.
    """

    requests_per_second: float = 100.0
    burst: int = 1000
    concurrency: int = 512

    def __post_init__(self) -> None:
        """Raise ValueError if a value is out of range. Its text is what was expected."""
        rate = self.requests_per_second
        if not (math.isfinite(rate) and 0 <= rate <= MAX_REQUESTS_PER_SECOND):
            raise ValueError(f"requests a second from 0 to {MAX_REQUESTS_PER_SECOND:.0f}")
        if not 1 <= self.burst <= MAX_BURST:
            raise ValueError(f"a burst from 1 to {MAX_BURST}")
        if not 1 <= self.concurrency <= MAX_CONCURRENCY:
            raise ValueError(f"a concurrency from 1 to {MAX_CONCURRENCY}")


@dataclass(frozen=True, slots=True)
class Account:
    """An account of a tenant or an operator. An operator also sees the nodes."""

    uuid: UUID
    name: str
    operator: bool
    created_at: float
    quota: Quota


@dataclass(frozen=True, slots=True)
class Certificate:
    """A registered client certificate.

    fingerprint: SHA-256 of the DER, 64 lower-case hex digits. issued: by pymon's own authority.
    """

    fingerprint: str
    account: UUID
    label: str
    issued: bool
    not_before: float
    not_after: float
    created_at: float
    revoked_at: float | None


@dataclass(frozen=True, slots=True)
class SSHKey:
    """An SSH public key of an account.

    fingerprint: in the format of ``ssh-keygen -l`` (``SHA256:`` and base64 without padding). md5: 32 hex digits without
    colons. public_key: type and base64, without the comment.
    """

    fingerprint: str
    md5: str
    account: UUID
    public_key: str
    comment: str
    created_at: float
    revoked_at: float | None


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token. Its text is ``pymon_<id>_<secret>``. sha256: of the secret, which is not stored, 32 bytes."""

    id: str
    account: UUID
    sha256: bytes
    label: str
    created_at: float
    expires_at: float | None
    revoked_at: float | None


@dataclass(frozen=True, slots=True)
class Node:
    """A compute node and the address of its agent.

    uuid: None until the agent first answers, which sets it. url: ``http://host:port`` or ``https://host:port``.
    tls_server_name: "" for the host of the URL. tls_fingerprint: SHA-256 of the agent's certificate, 64 lower-case hex
    digits, "" for any. accounts: the accounts whose containers it may have, None for all; some may no longer exist.
    """

    name: str
    uuid: UUID | None
    url: str
    tls_server_name: str = ""
    tls_fingerprint: str = ""
    accounts: frozenset[UUID] | None = None


@dataclass(frozen=True, slots=True)
class Holder:
    """The node and the account that hold a container UUID which cannot be recomputed from the container's name.

    uuid: of the container. node: UUID of its node. owner: UUID of its account, None without one. start: start time of
    the container. changed_at: time of the last change, by the database's clock.
    """

    uuid: UUID
    node: UUID
    owner: UUID | None
    start: float
    changed_at: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError if the start is not finite."""
        if not math.isfinite(self.start):
            raise ValueError("expected a finite start")


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def _frozen(items: Iterable[tuple[_Key, _Value]]) -> Mapping[_Key, _Value]:
    return MappingProxyType(dict(items))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A consistent, indexed snapshot of what a proxy needs. Revoked credentials are included.

    generation: differs between different snapshots. labels: DNS label -> account. keys, passwords: by account; a
    password is a bcrypt hash. authority: DER of the certificate of the registered authority, None without one. changes:
    what differs from an earlier snapshot, if that was found out; see `changes_since`.
    """

    generation: int
    accounts: Mapping[UUID, Account]
    accounts_by_name: Mapping[str, Account]
    labels: Mapping[str, Account]
    certificates: Mapping[str, Certificate]
    keys: Mapping[UUID, tuple[SSHKey, ...]]
    tokens: Mapping[str, Token]
    passwords: Mapping[UUID, bytes]
    nodes: Mapping[str, Node]
    authority: bytes | None
    changes: Changes | None = field(default=None, compare=False)

    @classmethod
    def of(
        cls,
        generation: int = 0,
        *,
        accounts: Iterable[Account] = (),
        certificates: Iterable[Certificate] = (),
        keys: Iterable[SSHKey] = (),
        tokens: Iterable[Token] = (),
        passwords: Mapping[UUID, bytes] | None = None,
        nodes: Iterable[Node] = (),
        authority: bytes | None = None,
    ) -> Snapshot:
        """Build a snapshot and its indexes."""
        accounts = tuple(accounts)
        by_account: dict[UUID, list[SSHKey]] = {}
        for key in keys:
            by_account.setdefault(key.account, []).append(key)
        return cls(
            generation,
            _frozen((account.uuid, account) for account in accounts),
            _frozen((account.name, account) for account in accounts),
            _frozen(labels.holders(accounts).items()),
            _frozen((certificate.fingerprint, certificate) for certificate in certificates),
            _frozen((account, tuple(owned)) for account, owned in by_account.items()),
            _frozen((token.id, token) for token in tokens),
            _frozen((passwords or {}).items()),
            _frozen((node.name, node) for node in nodes),
            authority,
        )


# --- parsers; each raises ValueError whose text is what was expected ------------------------------

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HEX_UUID = re.compile(r"[0-9a-fA-F]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_URL = re.compile(r"(https?)://(?:\[([0-9A-Fa-f:.]{2,45})\]|([^\[\]:/]{1,253})):([0-9]{1,5})/?")
_MAX_PORT = 65535


def parse_name(text: str) -> str:
    """Check the name of an account or a node and return it."""
    if account_name.folded(text) is None:
        raise ValueError(f"a name of {account_name.EXPECTED}")
    if _HEX_UUID.fullmatch(text.replace("-", "")):
        raise ValueError("a name that is no UUID")
    return text


def parse_uuid(text: str) -> UUID:
    """Parse a UUID of 36 characters."""
    if not _UUID.fullmatch(text):
        raise ValueError("a UUID such as 0f6d2f6e-8a50-4c39-9d3a-0f4c1d2e3b4a")
    return UUID(text)


def parse_label(text: str) -> str:
    """Check the description of a credential, one line of printable characters, and return it."""
    if len(text) > MAX_LABEL_CHARACTERS or not text.isprintable():
        raise ValueError(f"at most {MAX_LABEL_CHARACTERS} printable characters")
    return text


def parse_fingerprint(text: str) -> str:
    """Parse a SHA-256 fingerprint in hexadecimal, with or without colons. Returns 64 lower-case hex digits."""
    digits = text.replace(":", "").lower()
    if not _SHA256.fullmatch(digits):
        raise ValueError("the SHA-256 fingerprint of a certificate, 64 hex digits")
    return digits


def parse_server_name(text: str) -> str:
    """Check a host name or an IP address and return it."""
    if not _HOST.fullmatch(text) and not (":" in text and _is_ipv6(text)):
        raise ValueError("a host name or an IP address")
    return text


def parse_node_url(text: str) -> str:
    """Check the URL of an agent, which must be only scheme, host and port. Returns it without a final slash."""
    match = _URL.fullmatch(text)
    if not match or not 0 < int(match[4]) <= _MAX_PORT or not (_is_ipv6(match[2]) if match[2] else _is_host(match[3])):
        raise ValueError("http://HOST:PORT or https://HOST:PORT")
    return text.removesuffix("/")


def _is_host(text: str) -> bool:
    return _HOST.fullmatch(text) is not None


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True

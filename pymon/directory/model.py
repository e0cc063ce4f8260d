"""What the directory holds, as values. Times are seconds since the epoch."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar
from uuid import UUID

MAX_LABEL_CHARACTERS = 200
MAX_REQUESTS_PER_SECOND = 1e6
MAX_BURST = 1_000_000_000
MAX_CONCURRENCY = 1_000_000


class DirectoryError(Exception):
    """The directory cannot do that, or cannot be used; the text is one line that names it and says why."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class UnavailableError(DirectoryError):
    """The directory does not answer now, and may later: not there, locked, not readable, no connection."""


class DamagedError(DirectoryError):
    """What is there is no directory of pymon, or one that is broken."""


class VersionError(DirectoryError):
    """A directory whose schema this pymon does not know, or one that is older and may only be read."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What an account may ask of each proxy. Zero requests a second is unlimited."""

    requests_per_second: float = 100.0
    burst: int = 1000
    concurrency: int = 512

    def __post_init__(self) -> None:
        """Raise ValueError with what was expected."""
        rate = self.requests_per_second
        if not (math.isfinite(rate) and 0 <= rate <= MAX_REQUESTS_PER_SECOND):
            raise ValueError(f"requests a second from 0 to {MAX_REQUESTS_PER_SECOND:.0f}")
        if not 1 <= self.burst <= MAX_BURST:
            raise ValueError(f"a burst from 1 to {MAX_BURST}")
        if not 1 <= self.concurrency <= MAX_CONCURRENCY:
            raise ValueError(f"a concurrency from 1 to {MAX_CONCURRENCY}")


@dataclass(frozen=True, slots=True)
class Account:
    """A tenant, or an operator, who sees the nodes as well."""

    uuid: UUID
    name: str
    operator: bool
    created_at: float
    quota: Quota


@dataclass(frozen=True, slots=True)
class Certificate:
    """A client certificate by its SHA-256 over the DER, 64 lower-case hex digits.

    issued: by pymon's own authority; others are registered as they are.
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

    fingerprint: as ``ssh-keygen -l`` shows it (``SHA256:`` and base64 without padding). md5: 32 hex digits without
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
    """A bearer token, shown once as ``pymon_<id>_<secret>``; sha256 is that of the secret's text."""

    id: str
    account: UUID
    sha256: bytes
    label: str
    created_at: float
    expires_at: float | None
    revoked_at: float | None


@dataclass(frozen=True, slots=True)
class Node:
    """A compute node and how its agent is reached.

    uuid: None is learned from the agent. url: ``http://host:port`` or ``https://host:port``. tls_server_name: empty is
    the host of the URL. tls_fingerprint: empty, or SHA-256 of the agent's certificate, 64 lower-case hex digits.
    """

    name: str
    uuid: UUID | None
    url: str
    tls_server_name: str = ""
    tls_fingerprint: str = ""


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def _frozen(items: Iterable[tuple[_Key, _Value]]) -> Mapping[_Key, _Value]:
    return MappingProxyType(dict(items))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a proxy needs at one moment, indexed. Credentials that were revoked are in it, marked so.

    generation: differs whenever anything differs. keys: by account. passwords: bcrypt hashes by account. authority:
    DER of the authority's certificate, where one is registered.
    """

    generation: int
    accounts: Mapping[UUID, Account]
    accounts_by_name: Mapping[str, Account]
    certificates: Mapping[str, Certificate]
    keys: Mapping[UUID, tuple[SSHKey, ...]]
    tokens: Mapping[str, Token]
    passwords: Mapping[UUID, bytes]
    nodes: Mapping[str, Node]
    authority: bytes | None

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
        """Build the indexes."""
        accounts = tuple(accounts)
        by_account: dict[UUID, list[SSHKey]] = {}
        for key in keys:
            by_account.setdefault(key.account, []).append(key)
        return cls(
            generation,
            _frozen((account.uuid, account) for account in accounts),
            _frozen((account.name, account) for account in accounts),
            _frozen((certificate.fingerprint, certificate) for certificate in certificates),
            _frozen((account, tuple(owned)) for account, owned in by_account.items()),
            _frozen((token.id, token) for token in tokens),
            _frozen((passwords or {}).items()),
            _frozen((node.name, node) for node in nodes),
            authority,
        )


# --- texts that become values; each raises ValueError with what was expected ---------------------

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HEX_UUID = re.compile(r"[0-9a-fA-F]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_URL = re.compile(r"(https?)://(?:\[([0-9A-Fa-f:.]{2,45})\]|([^\[\]:/]{1,253})):([0-9]{1,5})/?")
_MAX_PORT = 65535


def parse_name(text: str) -> str:
    """The name of an account or a node."""
    if not _NAME.fullmatch(text):
        raise ValueError("a name of 1 to 63 letters, digits and _ . @ -, a letter or digit first")
    if _HEX_UUID.fullmatch(text.replace("-", "")):
        raise ValueError("a name that is no UUID")
    return text


def parse_uuid(text: str) -> UUID:
    """A UUID in the usual form."""
    if not _UUID.fullmatch(text):
        raise ValueError("a UUID such as 0f6d2f6e-8a50-4c39-9d3a-0f4c1d2e3b4a")
    return UUID(text)


def parse_label(text: str) -> str:
    """What a person calls a credential: one line that can be shown."""
    if len(text) > MAX_LABEL_CHARACTERS or not text.isprintable():
        raise ValueError(f"at most {MAX_LABEL_CHARACTERS} printable characters")
    return text


def parse_fingerprint(text: str) -> str:
    """SHA-256 of a certificate, as hex in either case, with or without the colons of openssl."""
    digits = text.replace(":", "").lower()
    if not _SHA256.fullmatch(digits):
        raise ValueError("the SHA-256 fingerprint of a certificate, 64 hex digits")
    return digits


def parse_server_name(text: str) -> str:
    """The name that an agent's certificate is for."""
    if not _HOST.fullmatch(text) and not (":" in text and _is_ipv6(text)):
        raise ValueError("a host name or an IP address")
    return text


def parse_node_url(text: str) -> str:
    """The URL of an agent: scheme, host and port and nothing else."""
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

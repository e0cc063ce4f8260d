"""Who asks: client certificates of three kinds, bearer tokens and passwords, judged by what the directory holds.

The subject's common name names the account. What else a certificate must be:

- registered: the directory has its fingerprint, for that account. If pymon's authority issued it, the signature is its.
- Triton's for Container Monitor: extended key usage joyentCmon, signed by an SSH key of the account. Triton's tools
  name it in the issuer's common name by its fingerprint; others do not. The certificate's own key is a throw-away one.
- Triton's older: self-signed by an SSH key of the account, for clients as far as it says what for.

That the client holds the certificate's key was proven by TLS, here or in the terminator.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import re
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from pymon.config import shown
from pymon.directory.sshkey import parse_public_key
from pymon.proxy.certificates import CMON, ClientCertificate, parse_certificate, ssh_fingerprint
from pymon.service.passwords import BusyError, Passwords, parse_basic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from uuid import UUID

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from pymon.directory.model import Account, Snapshot, SSHKey

_log = logging.getLogger(__name__)

REASONS = (
    "bad_signature",
    "busy",
    "expired",
    "malformed",
    "no_credential",
    "not_yet_valid",
    "revoked",
    "unknown_account",
    "unknown_certificate",
    "unknown_key",
    "unknown_token",
    "weak_key",
    "wrong_eku",
    "wrong_password",
)
"""Why a credential is refused: the label of a metric."""

MAX_REMEMBERED = 10_000
"""Certificates, and as many Authorization headers, that are known to be good."""

MAX_TRIED_KEYS = 32
"""Of an account, where a certificate does not say which of them signed it."""

_REMEMBERED_MAX_BYTES = 4_096
"""Larger certificates are looked at each time."""

_TOKEN = re.compile(r"pymon_([a-z0-9]{12})_([A-Za-z0-9_-]{43})")
_NO_DIGEST = bytes(32)


class AuthError(Exception):
    """A credential that is not taken. `reason` is one of REASONS; the text is one line for the log."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Principal:
    """An account that asks.

    method: certificate, ssh-certificate, token or password. expires_at: infinite where the credential has no end.
    """

    account: UUID
    name: str
    operator: bool
    method: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class _Keys:
    """The SSH keys of an account, by their two fingerprints and by SubjectPublicKeyInfo."""

    by_fingerprint: dict[str, tuple[SSHKey, PublicKeyTypes]]
    by_der: dict[bytes, tuple[SSHKey, PublicKeyTypes]]


class Authenticator:
    """Judges credentials. What it found good is remembered until the snapshot is another one or the validity ends.

    Not thread-safe. `clock` gives seconds since the epoch. With `allow_expired_self_signed` Triton's older
    certificates have no end.
    """

    def __init__(
        self, snapshot: Callable[[], Snapshot], *, clock: Callable[[], float], allow_expired_self_signed: bool = False
    ) -> None:
        self._snapshot = snapshot
        self._clock = clock
        self._lenient = allow_expired_self_signed
        self._passwords = Passwords()
        self._hash_key = secrets.token_bytes(32)
        self._certificates: OrderedDict[bytes, Principal] = OrderedDict()
        self._headers: OrderedDict[bytes, Principal] = OrderedDict()
        self._keys: dict[UUID, _Keys] = {}
        self._authority: tuple[ClientCertificate, PublicKeyTypes] | None = None
        self._costliest: dict[str, bytes] = {}
        self._forget(snapshot())

    def close(self) -> None:
        """Let the thread of the passwords go."""
        self._passwords.close()

    def _forget(self, snapshot: Snapshot) -> None:
        """Begin again with what the directory holds now."""
        self._seen = snapshot
        self._certificates.clear()
        self._headers.clear()
        self._keys.clear()
        self._authority = _load_authority(snapshot.authority)
        hashes = snapshot.passwords.values()
        self._costliest = {"": max(hashes, key=lambda hashed: hashed[4:6])} if hashes else {}

    def _current(self) -> Snapshot:
        snapshot = self._snapshot()
        if snapshot is not self._seen:
            self._forget(snapshot)
        return snapshot

    def _recall(self, memory: OrderedDict[bytes, Principal], name: bytes) -> Principal | None:
        if self._snapshot() is not self._seen:
            return None
        principal = memory.get(name)
        if principal is None or principal.expires_at <= self._clock():
            return None
        memory.move_to_end(name)
        return principal

    # --- certificates ---

    def known(self, der: bytes) -> Principal | None:
        """Who shows this certificate, if that is known already."""
        return self._recall(self._certificates, der)

    def certificate(self, der: bytes) -> Principal:
        """Who shows this certificate. Raises AuthError."""
        snapshot = self._current()
        principal = self.known(der)
        if principal is not None:
            return principal
        principal = self._judge(der, snapshot)
        _remember(self._certificates, der, principal, MAX_REMEMBERED)
        return principal

    def _judge(self, der: bytes, snapshot: Snapshot) -> Principal:
        try:
            certificate = parse_certificate(der)
        except ValueError as error:
            raise AuthError("malformed", f"no certificate: {error}") from None
        subject = f"certificate of {shown(certificate.subject)}"
        account = snapshot.accounts_by_name.get(certificate.subject or "")
        if account is None:
            raise AuthError("unknown_account", subject)
        if certificate.weak:
            raise AuthError("weak_key", subject)
        try:
            method, ends = self._kind(certificate, account, snapshot)
        except AuthError as error:
            raise AuthError(error.reason, f"{subject}: {error.detail}") from None
        now = self._clock()
        if now < certificate.not_before:
            raise AuthError("not_yet_valid", subject)
        if now >= ends:
            raise AuthError("expired", subject)
        return Principal(account.uuid, account.name, account.operator, method, ends)

    def _kind(self, certificate: ClientCertificate, account: Account, snapshot: Snapshot) -> tuple[str, float]:
        """The method and the end of validity of a certificate that is right in everything else."""
        usages = certificate.usages
        old = certificate.self_issued and (usages is None or CMON not in usages)
        ends = math.inf if old and self._lenient else certificate.not_after
        registered = snapshot.certificates.get(certificate.fingerprint)
        if registered is not None and registered.account == account.uuid:
            if registered.revoked_at is not None:
                raise AuthError("revoked", f"fingerprint {certificate.fingerprint}")
            if not certificate.for_clients:
                raise AuthError("wrong_eku", "not for clients")
            return "certificate", self._authority_ends(certificate) if registered.issued else ends
        if certificate.self_issued and not certificate.for_clients:
            raise AuthError("wrong_eku", "not for clients")
        keys = self._keys_of(account, snapshot)
        own = keys.by_der.get(certificate.public_key_der) if certificate.self_issued else None
        key, public_key = own or _signing_key(certificate, keys)
        if key.revoked_at is not None:
            raise AuthError("revoked", f"SSH key {key.fingerprint}")
        if not certificate.signed_by(public_key):
            raise AuthError("bad_signature", f"not made by SSH key {key.fingerprint} with SHA-2")
        return "ssh-certificate", ends

    def _authority_ends(self, certificate: ClientCertificate) -> float:
        """The end of validity of a certificate that pymon's authority has issued."""
        if self._authority is None:
            raise AuthError("bad_signature", "the directory has no authority")
        authority, public_key = self._authority
        if not certificate.signed_by(public_key):
            raise AuthError("bad_signature", "not made by the authority")
        return min(certificate.not_after, authority.not_after)

    def _keys_of(self, account: Account, snapshot: Snapshot) -> _Keys:
        """The keys of an account, loaded once for each snapshot."""
        keys = self._keys.get(account.uuid)
        if keys is None:
            keys = self._keys[account.uuid] = _load_keys(snapshot.keys.get(account.uuid, ()))
        return keys

    # --- Authorization headers ---

    def _header_name(self, header: str) -> bytes:
        return hashlib.blake2b(header.encode("utf-8", "surrogatepass"), digest_size=16, key=self._hash_key).digest()

    def known_authorization(self, header: str) -> Principal | None:
        """Who sends this Authorization header, if that is known already."""
        return self._recall(self._headers, self._header_name(header))

    async def authorization(self, header: str) -> Principal:
        """Who sends this Authorization header. Raises AuthError."""
        snapshot = self._current()
        name = self._header_name(header)
        principal = self._recall(self._headers, name)
        if principal is not None:
            return principal
        scheme, _, value = header.strip().partition(" ")
        basic = parse_basic(header.strip())
        if scheme.lower() == "bearer":
            principal = self._token(value.strip(), snapshot)
        elif basic is None:
            raise AuthError("malformed" if header.strip() else "no_credential", "expected Bearer or Basic credentials")
        elif _TOKEN.fullmatch(password := basic[1].decode("utf-8", "replace")):
            principal = self._token(password, snapshot, user=basic[0])
        else:
            principal = await self._password(header.strip(), basic[0], snapshot)
        if self._snapshot() is self._seen is snapshot:
            _remember(self._headers, name, principal, MAX_REMEMBERED)
        return principal

    def _token(self, text: str, snapshot: Snapshot, *, user: str | None = None) -> Principal:
        match = _TOKEN.fullmatch(text)
        if match is None:
            raise AuthError("malformed", "no token of pymon")
        token = snapshot.tokens.get(match[1])
        digest = hashlib.sha256(match[2].encode("ascii")).digest()
        right = hmac.compare_digest(digest, token.sha256 if token is not None else _NO_DIGEST)
        if token is None or not right:
            raise AuthError("unknown_token", f"token {match[1]}")
        account = snapshot.accounts.get(token.account)
        if account is None or (user is not None and user != account.name):
            raise AuthError(
                "unknown_account", f"token {token.id}" + (f" for {shown(user)}" if user is not None else "")
            )
        if token.revoked_at is not None:
            raise AuthError("revoked", f"token {token.id} of {account.name}")
        ends = math.inf if token.expires_at is None else token.expires_at
        if self._clock() >= ends:
            raise AuthError("expired", f"token {token.id} of {account.name}")
        return Principal(account.uuid, account.name, account.operator, "token", ends)

    async def _password(self, header: str, user: str, snapshot: Snapshot) -> Principal:
        account = snapshot.accounts_by_name.get(user)
        hashed = snapshot.passwords.get(account.uuid) if account is not None else None
        try:
            # Nobody's password takes as long as somebody's: `check` hashes for unknown users what the others cost.
            right = await self._passwords.check(header, {user: hashed} if hashed is not None else self._costliest)
        except BusyError:
            raise AuthError("busy", "too many passwords wait to be checked") from None
        if account is None:
            raise AuthError("unknown_account", f"password of {shown(user)}")
        if not right or hashed is None:
            raise AuthError("wrong_password", account.name)
        now = self._current()
        account = now.accounts.get(account.uuid)
        if account is None or now.passwords.get(account.uuid) != hashed:
            raise AuthError("wrong_password", f"{user}: it changed meanwhile")
        return Principal(account.uuid, account.name, account.operator, "password", math.inf)


_Value = TypeVar("_Value")


def _remember(memory: OrderedDict[bytes, _Value], name: bytes, value: _Value, bound: int) -> None:
    if len(name) <= _REMEMBERED_MAX_BYTES:
        memory[name] = value
        memory.move_to_end(name)
        if len(memory) > bound:
            memory.popitem(last=False)


def _signing_key(certificate: ClientCertificate, keys: _Keys) -> tuple[SSHKey, PublicKeyTypes]:
    """The key that a certificate for Container Monitor alone is said, or if nothing is said found, to be signed by."""
    name = ssh_fingerprint(certificate.issuer)
    if certificate.usages is None or CMON not in certificate.usages:
        if name is not None:
            raise AuthError("wrong_eku", f"signed by SSH key {name}, not for Container Monitor")
        if not certificate.self_issued:
            raise AuthError("unknown_certificate", f"fingerprint {certificate.fingerprint}")
        found = None
    elif name is not None:
        found = keys.by_fingerprint.get(name)
    else:
        in_force_first = islice(reversed(keys.by_der.values()), MAX_TRIED_KEYS)
        found = next((pair for pair in in_force_first if certificate.signed_by(pair[1])), None)
    if found is None:
        raise AuthError("unknown_key", f"signed by no SSH key of the account: {shown(certificate.issuer)}")
    return found


def _load_keys(keys: Iterable[SSHKey]) -> _Keys:
    loaded = _Keys({}, {})
    for key in sorted(keys, key=lambda key: key.revoked_at is None):  # one that is in force wins over a revoked one
        try:
            public_key = parse_public_key(key.public_key).load()
        except ValueError:
            _log.warning("SSH key %s of the directory is not usable", shown(key.fingerprint))
            continue
        loaded.by_fingerprint[key.md5] = loaded.by_fingerprint[key.fingerprint] = key, public_key
        loaded.by_der[public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)] = key, public_key
    return loaded


def _load_authority(der: bytes | None) -> tuple[ClientCertificate, PublicKeyTypes] | None:
    if der is None:
        return None
    try:
        certificate = parse_certificate(der)
        return certificate, load_der_public_key(certificate.public_key_der)
    except (ValueError, UnsupportedAlgorithm) as error:
        _log.error("the authority's certificate in the directory is not usable: %s", error)
        return None

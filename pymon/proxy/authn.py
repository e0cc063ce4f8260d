"""Authenticates clients by three kinds of certificates, bearer tokens and passwords, checked against the directory.

The subject's common name of a certificate names the account. The kinds of certificates are:

- registered: the directory has its fingerprint for this account. If pymon's authority issued it, the authority's
  signature is verified.
- Triton's for Container Monitor: extended key usage joyentCmon, signed by an SSH key of the account. Triton's tools put
  that key's fingerprint into the issuer's common name; other tools do not. The certificate's own key is ephemeral.
- Triton's older: self-signed by an SSH key of the account. Its extended key usage, if present, allows clients.

TLS, here or in the terminator, has proven that the client holds the certificate's private key.
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
"""Why a credential is refused; values of a metric's label."""

MAX_REMEMBERED = 10_000
"""Limit of cached valid certificates, and of cached valid Authorization headers."""

MAX_TRIED_KEYS = 32
"""SSH keys of an account that are tried when a certificate does not say which one signed it."""

HASH_KEY_BYTES = 32

_REMEMBERED_MAX_BYTES = 4_096
"""Larger certificates are not cached."""

_TOKEN = re.compile(r"pymon_([a-z0-9]{12})_([A-Za-z0-9_-]{43})")
_NO_DIGEST = bytes(32)


class AuthError(Exception):
    """A refused credential. reason: one of REASONS. The text is one line for the log."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated account.

    method: ``certificate``, ``ssh-certificate``, ``token`` or ``password``. expires_at: when the credential expires, in
    seconds since the epoch; infinite when it does not.
    """

    account: UUID
    name: str
    operator: bool
    method: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class _Keys:
    """The SSH keys of an account, by MD5 and SHA-256 fingerprint, and by SubjectPublicKeyInfo in DER."""

    by_fingerprint: dict[str, tuple[SSHKey, PublicKeyTypes]]
    by_der: dict[bytes, tuple[SSHKey, PublicKeyTypes]]


class Authenticator:
    """Authenticates credentials. Valid ones are cached until the snapshot changes or they expire.

    snapshot: returns the current directory. clock: returns seconds since the epoch. allow_expired_self_signed: ignore
    the expiry of Triton's older certificates. hash_key: of the digests of credentials; workers of a proxy have the same
    one. found_good: called with the digest of each credential that is found valid for the first time. Not thread-safe.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        *,
        clock: Callable[[], float],
        allow_expired_self_signed: bool = False,
        hash_key: bytes = b"",
        found_good: Callable[[bytes], None] | None = None,
    ) -> None:
        self._snapshot = snapshot
        self._clock = clock
        self._lenient = allow_expired_self_signed
        self._passwords = Passwords()
        self._hash_key = hash_key or secrets.token_bytes(HASH_KEY_BYTES)
        self._found_good = found_good
        self._certificates: OrderedDict[bytes, Principal] = OrderedDict()
        self._headers: OrderedDict[bytes, Principal] = OrderedDict()
        self._good_before: OrderedDict[bytes, None] = OrderedDict()
        self._keys: dict[UUID, _Keys] = {}
        self._authority: tuple[ClientCertificate, PublicKeyTypes] | None = None
        self._costliest: dict[str, bytes] = {}
        self._forget(snapshot())

    def close(self) -> None:
        """Stop the thread that hashes passwords."""
        self._passwords.close()

    def _forget(self, snapshot: Snapshot) -> None:
        """Clear the caches for a new snapshot. Remember digests of the credentials that were valid."""
        self._seen = snapshot
        for name in (*map(self._digest, self._certificates), *self._headers):
            _remember(self._good_before, name, None, 2 * MAX_REMEMBERED)
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
        """Return the cached principal of a certificate in DER, or None."""
        return self._recall(self._certificates, der)

    def was_good(self, credential: bytes | str) -> bool:
        """Return whether a certificate or an Authorization header was valid, here before the directory changed or at
        another worker.

        Such a credential is no guess, so it is checked again even when its source address is blocked.
        """
        self._current()
        name = self._digest(credential) if isinstance(credential, bytes) else self._header_name(credential)
        return name in self._good_before

    def learn_good(self, digest: bytes) -> None:
        """Take over that a credential was valid, from another worker: see `was_good`."""
        _remember(self._good_before, digest, None, 2 * MAX_REMEMBERED)

    def _announce(self, digest: bytes, found_good: Callable[[bytes], None]) -> None:
        if digest not in self._good_before:
            self.learn_good(digest)
            found_good(digest)

    def certificate(self, der: bytes) -> Principal:
        """Return the principal of a certificate in DER. Raises AuthError."""
        snapshot = self._current()
        principal = self.known(der)
        if principal is not None:
            return principal
        principal = self._judge(der, snapshot)
        _remember(self._certificates, der, principal, MAX_REMEMBERED)
        if self._found_good is not None:
            self._announce(self._digest(der), self._found_good)
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
        """Return the method and the expiry of a certificate, after checks of revocation, usage and signature.

        Raises AuthError.
        """
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
        """Return the expiry of a certificate issued by pymon's authority. Raises AuthError for a wrong signature."""
        if self._authority is None:
            raise AuthError("bad_signature", "the directory has no authority")
        authority, public_key = self._authority
        if not certificate.signed_by(public_key):
            raise AuthError("bad_signature", "not made by the authority")
        return min(certificate.not_after, authority.not_after)

    def _keys_of(self, account: Account, snapshot: Snapshot) -> _Keys:
        """Return the keys of an account, which are loaded once for each snapshot."""
        keys = self._keys.get(account.uuid)
        if keys is None:
            keys = self._keys[account.uuid] = _load_keys(snapshot.keys.get(account.uuid, ()))
        return keys

    # --- Authorization headers ---

    def _header_name(self, header: str) -> bytes:
        return self._digest(header.encode("utf-8", "surrogatepass"))

    def _digest(self, credential: bytes) -> bytes:
        """Return a keyed digest of a credential, so that the caches do not hold the credential itself."""
        return hashlib.blake2b(credential, digest_size=16, key=self._hash_key).digest()

    def known_authorization(self, header: str) -> Principal | None:
        """Return the cached principal of an Authorization header, or None."""
        return self._recall(self._headers, self._header_name(header))

    async def authorization(self, header: str) -> Principal:
        """Return the principal of an Authorization header. Raises AuthError."""
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
            if self._found_good is not None:
                self._announce(name, self._found_good)
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
                "unknown_account", f"token {token.id}" + (f" for {_named(user)}" if user is not None else "")
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
            # For an unknown user `check` hashes at the highest cost in use, so that its time does not reveal users.
            right = await self._passwords.check(header, {user: hashed} if hashed is not None else self._costliest)
        except BusyError:
            raise AuthError("busy", "too many passwords wait to be checked") from None
        if account is None:
            raise AuthError("unknown_account", f"password of {_named(user)}")
        if not right or hashed is None:
            raise AuthError("wrong_password", account.name)
        now = self._current()
        account = now.accounts.get(account.uuid)
        if account is None or now.passwords.get(account.uuid) != hashed:
            raise AuthError("wrong_password", f"{user}: it changed meanwhile")
        return Principal(account.uuid, account.name, account.operator, "password", math.inf)


def _named(user: str) -> str:
    """Return a user name for the log, but nothing that may be a token in the place of one."""
    return "a name that looks like a token" if "pymon_" in user else shown(user)


_Value = TypeVar("_Value")


def _remember(memory: OrderedDict[bytes, _Value], name: bytes, value: _Value, bound: int) -> None:
    if len(name) <= _REMEMBERED_MAX_BYTES:
        memory[name] = value
        memory.move_to_end(name)
        if len(memory) > bound:
            memory.popitem(last=False)


def _signing_key(certificate: ClientCertificate, keys: _Keys) -> tuple[SSHKey, PublicKeyTypes]:
    """Return the SSH key that signed a certificate: the one that its issuer names, else the one that verifies.

    Only a certificate for Container Monitor may be signed by a key other than its own. Raises AuthError. The caller
    must still verify the signature.
    """
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
    for key in sorted(keys, key=lambda key: key.revoked_at is None):  # a valid key overwrites an equal revoked one
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

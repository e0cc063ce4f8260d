"""Accounts, snapshots of the directory, and what the authenticator makes of a certificate in one."""

from __future__ import annotations

import datetime as dt
import time
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from pymon.directory.model import Account, Certificate, Quota, Snapshot, SSHKey
from pymon.directory.sshkey import PublicKey
from pymon.proxy.authn import REASONS, Authenticator, AuthError, Principal
from pymon.proxy.certificates import parse_certificate
from tests.proxy.certs import CMON, SSHPair

ALICE = Account(UUID(int=1), "alice", operator=False, created_at=0.0, quota=Quota())
BOB = Account(UUID(int=2), "bob", operator=True, created_at=0.0, quota=Quota())
DAY = 86400.0
NOW = time.time() + 2700
"""Later than any test of this run, as they make their certificates when they begin."""
SSHPK_NOW = 1_798_761_600.0
"""2027-01-01, when the certificates of tests/proxy/sshpk are valid."""

CLIENT = "extendedKeyUsage = clientAuth"


def ssh_key(public: PublicKey, account: Account = ALICE, *, revoked_at: float | None = None) -> SSHKey:
    return SSHKey(public.sha256, public.md5, account.uuid, public.text, "", 0.0, revoked_at)


def registered(der: bytes, account: Account = ALICE, *, issued: bool = False, revoked_at: float | None = None):
    parsed = parse_certificate(der)
    times = (parsed.not_before, parsed.not_after, 0.0)
    return Certificate(parsed.fingerprint, account.uuid, "", issued, *times, revoked_at)


def snapshot(*keys: SSHKey, certificates: tuple[Certificate, ...] = (), authority: bytes | None = None) -> Snapshot:
    return Snapshot.of(accounts=(ALICE, BOB), keys=keys, certificates=certificates, authority=authority)


def judge(der: bytes, directory: Snapshot, *, now: float = NOW, lenient: bool = False) -> Principal:
    authenticator = Authenticator(lambda: directory, clock=lambda: now, allow_expired_self_signed=lenient)
    try:
        return authenticator.certificate(der)
    finally:
        authenticator.close()


def reason(der: bytes, directory: Snapshot, *, now: float = NOW, lenient: bool = False) -> str:
    with pytest.raises(AuthError) as caught:
        judge(der, directory, now=now, lenient=lenient)
    assert caught.value.reason in REASONS
    assert "\n" not in str(caught.value)
    return caught.value.reason


def built(pair: SSHPair, key: object) -> bytes:
    """A certificate by Python's cryptography."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "alice")])
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, pair.public.sha256)])
    now = dt.datetime.fromtimestamp(NOW, dt.UTC)
    builder = x509.CertificateBuilder(issuer, name, key, x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(1)).not_valid_after(now + dt.timedelta(1))
    builder = builder.add_extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier(CMON)]), critical=False)
    return builder.sign(load_pem_private_key(pair.pem.read_bytes(), None), hashes.SHA256()).public_bytes(Encoding.DER)

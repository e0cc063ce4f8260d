"""pymon's own certificate authority: client certificates of accounts, server certificates of proxies and agents.

The profile is RFC 5280's: P-256 keys, one level below the authority, key usages critical, no revocation lists: what
is revoked is known from the directory.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import re
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pymon.config import ConfigError, shown
from pymon.directory.model import DirectoryError

CERTIFICATE_FILE = "ca-cert.pem"
KEY_FILE = "ca-key.pem"
DAYS = 3650
MAX_DAYS = 3650
MAX_NAMES = 100
_SKEW = dt.timedelta(minutes=5)
"""Certificates are valid from this long ago, for clocks that are behind ours."""

_COMMON_NAME_CHARACTERS = 64
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DNS_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate and its key, which sign."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def load_or_create(cls, folder: Path) -> Authority:
        """The authority of a directory of files, made there at first.

        Raises DirectoryError when the files are damaged, or one of the two is gone: never a silent new one.
        """
        if not (folder / KEY_FILE).exists() and not (folder / CERTIFICATE_FILE).exists():
            _create(folder)
        return cls.load(folder)

    @classmethod
    def load(cls, folder: Path) -> Authority:
        """The authority whose files are there."""
        certificate_file, key_file = folder / CERTIFICATE_FILE, folder / KEY_FILE
        try:
            certificate = x509.load_pem_x509_certificate(_read(certificate_file))
        except ValueError:
            raise DirectoryError(f"{certificate_file}: expected a certificate in PEM") from None
        try:
            key = load_pem_private_key(_read(key_file), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise DirectoryError(f"{key_file}: expected a private key in PEM, without a passphrase") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise DirectoryError(f"{key_file}: not the key of {certificate_file}")
        return cls(certificate, key)

    @property
    def der(self) -> bytes:
        """The certificate as the directory keeps it."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        """The certificate as files hold it."""
        return self.certificate.public_bytes(Encoding.PEM)

    def issue_client(self, account_name: str, days: int) -> tuple[bytes, bytes]:
        """A client certificate of an account: certificate and key in PEM. `days` from 1 to `MAX_DAYS`."""
        return self._issue(account_name, days, [ExtendedKeyUsageOID.CLIENT_AUTH], None)

    def issue_server(self, names: Sequence[str], days: int) -> tuple[bytes, bytes]:
        """A certificate of a server that has these DNS names and addresses: certificate and key in PEM.

        It is good for a client as well, so that a proxy can show it to agents.
        """
        if not 1 <= len(names) <= MAX_NAMES:
            raise ConfigError(f"expected 1 to {MAX_NAMES} names, got {len(names)}")
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        common = names[0] if len(names[0]) <= _COMMON_NAME_CHARACTERS else names[0][:_COMMON_NAME_CHARACTERS]
        return self._issue(
            common, days, [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH], alternatives
        )

    def _issue(
        self,
        common_name: str,
        days: int,
        usages: list[x509.ObjectIdentifier],
        alternatives: x509.SubjectAlternativeName | None,
    ) -> tuple[bytes, bytes]:
        if not 1 <= days <= MAX_DAYS:
            raise ConfigError(f"days: expected 1 to {MAX_DAYS}, got {days}")
        now = dt.datetime.now(dt.UTC)
        end = min(now + dt.timedelta(days=days), self.certificate.not_valid_after_utc)
        if end <= now:
            raise DirectoryError(f"the authority's certificate expired on {end:%Y-%m-%d}")
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(common_name, key, now - _SKEW, end)
            .issuer_name(self.certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if alternatives is not None:
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM), _key_pem(key)


def _create(folder: Path) -> None:
    """Make both files in a directory that appears with both of them, or not because another process was faster."""
    now = dt.datetime.now(dt.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    # Two authorities of one name would be mistaken for one another where both are trusted.
    common_name = f"pymon authority {secrets.token_hex(4)}"
    builder = (
        _builder(common_name, key, now - _SKEW, now + dt.timedelta(days=DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
    )
    certificate = builder.issuer_name(_name(common_name)).sign(key, hashes.SHA256())
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as made:
            new = Path(made) / folder.name
            new.mkdir(mode=0o700)
            _write(new / KEY_FILE, _key_pem(key), 0o600)
            _write(new / CERTIFICATE_FILE, certificate.public_bytes(Encoding.PEM), 0o644)
            try:
                new.rename(folder)
            except OSError:
                if not (folder / KEY_FILE).exists():
                    raise
    except OSError as error:
        raise DirectoryError(f"{folder}: the authority cannot be made: {error.strerror}") from None


def _builder(
    common_name: str, key: ec.EllipticCurvePrivateKey, start: dt.datetime, end: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        if not _DNS_NAME.fullmatch(name):
            raise ConfigError(f"expected a DNS name or an IP address, got {shown(name)}") from None
        return x509.DNSName(name)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DirectoryError(f"{file}: cannot be read: {error.strerror}") from None


def _write(file: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as stream:  # noqa: PTH123  # a descriptor
        os.fchmod(stream.fileno(), mode)
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())

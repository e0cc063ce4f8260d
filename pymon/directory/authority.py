"""pymon's own certificate authorities. Each is a certificate and its key in a folder.

`TENANTS` issues the client certificates of accounts. `MACHINES` issues the server certificates of proxies and agents,
and the client certificates that proxies present to agents. A client or server refuses certificates of the other
authority, and certificates that were issued for the other side of a connection.

The profile is that of RFC 5280: P-256 keys, one level below the authority, key usages critical. Revoked certificates of
accounts are recorded in the directory. For proxies there is a revocation list.
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
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
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
SERVER_DAYS = 825
"""The default validity of a server certificate."""

PROXY_LIFETIME = dt.timedelta(hours=24)
"""The validity of a proxy's client certificate."""

PROXY_PREFIX = "pymon:proxy:"
"""The name in a proxy's client certificate is a URI: this prefix and the proxy's name."""

NODE_LIFETIME = dt.timedelta(days=30)
"""The validity of the server certificate of a node that joined."""

NODE_PREFIX = "pymon:node:"
"""The certificate of a node that joined has a URI: this prefix, the node's name, a colon, the id of its token."""

_NODE_SUFFIX = ".node.pymon.invalid"
"""The DNS name in that certificate is the node's name and this. No resolver knows it (RFC 6761 section 6.4), so a node
can be mistaken for no other server, whatever its name.
"""

TENANTS = "tenants"
MACHINES = "machines"
MAX_NAMES = 100
_SKEW = dt.timedelta(minutes=5)
"""Certificates are valid from this long before their creation, for machines whose clocks are behind."""

_COMMON_NAME_CHARACTERS = 64
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_PROXY_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,50}[a-z0-9])?")
"""A name that fits into a common name with its prefix."""

_OLD_NAME = "pymon authority "
"""The prefix of the common name of old authorities, which issued certificates for both clients and servers."""

_DNS_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority: its certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def load_or_create(cls, folder: Path, issues_for: str = TENANTS) -> Authority:
        """Load the authority of a folder, or create it if neither file exists. issues_for: `TENANTS` or `MACHINES`.

        Raises DirectoryError if a file is damaged or only one of the two exists. A damaged authority is never replaced.
        """
        if not (folder / KEY_FILE).exists() and not (folder / CERTIFICATE_FILE).exists():
            _create(folder, issues_for)
        return cls.load(folder)

    @classmethod
    def load(cls, folder: Path) -> Authority:
        """Load the authority of a folder. Raises DirectoryError."""
        certificate_file, key_file = folder / CERTIFICATE_FILE, folder / KEY_FILE
        certificate = load_certificate(certificate_file)
        try:
            key = load_pem_private_key(_read(key_file), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise DirectoryError(f"{key_file}: expected a private key in PEM, without a passphrase") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise DirectoryError(f"{key_file}: not the key of {certificate_file}")
        return cls(certificate, key)

    @property
    def der(self) -> bytes:
        """The certificate in DER, as the directory stores it."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        """The certificate in PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def issued_for_both_sides(self) -> bool:
        """Whether it is an old authority, which may have issued certificates for servers as well."""
        return is_old(self.certificate)

    def issue_client(self, account_name: str, days: int) -> tuple[bytes, bytes]:
        """Issue a client certificate of an account. Returns certificate and key in PEM.

        days: from 1 to `MAX_DAYS`. Raises ConfigError, or DirectoryError if the authority has expired.
        """
        return self._issue(account_name, _lifetime(days), ExtendedKeyUsageOID.CLIENT_AUTH, None)

    def issue_server(self, names: Sequence[str], days: int) -> tuple[bytes, bytes]:
        """Issue a certificate for a server with these DNS names and addresses. Returns certificate and key in PEM.

        Clients cannot use it, so a stolen key of a node gives no access to other nodes. Raises ConfigError,
        DirectoryError.
        """
        if not 1 <= len(names) <= MAX_NAMES:
            raise ConfigError(f"expected 1 to {MAX_NAMES} names, got {len(names)}")
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        common = names[0] if len(names[0]) <= _COMMON_NAME_CHARACTERS else names[0][:_COMMON_NAME_CHARACTERS]
        return self._issue(common, _lifetime(days), ExtendedKeyUsageOID.SERVER_AUTH, alternatives)

    def issue_proxy(self, name: str) -> tuple[bytes, bytes]:
        """Issue a client certificate for a proxy, valid for `PROXY_LIFETIME`. Returns certificate and key in PEM.

        Its subject cannot be the name of an account. Raises ConfigError, DirectoryError.
        """
        uri = proxy_uri(name)
        alternatives = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        return self._issue(uri, PROXY_LIFETIME, ExtendedKeyUsageOID.CLIENT_AUTH, alternatives)

    def issue_node(self, name: str, token: str, key: ec.EllipticCurvePublicKey) -> bytes:
        """Issue a server certificate for the key of a node, valid for `NODE_LIFETIME`. Returns it in PEM.

        token: id of the token with which the node joined. Raises ConfigError, DirectoryError.
        """
        dns = x509.DNSName(node_server_name(name))
        uri = x509.UniformResourceIdentifier(f"{NODE_PREFIX}{name}:{token}")
        alternatives = x509.SubjectAlternativeName([dns, uri])
        return self._sign(key, f"node {name}"[:_COMMON_NAME_CHARACTERS], NODE_LIFETIME,
                          ExtendedKeyUsageOID.SERVER_AUTH, alternatives)  # fmt: skip

    def _issue(
        self,
        common_name: str,
        lifetime: dt.timedelta,
        usage: x509.ObjectIdentifier,
        alternatives: x509.SubjectAlternativeName | None,
    ) -> tuple[bytes, bytes]:
        """Return a certificate and its new key in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._sign(key.public_key(), common_name, lifetime, usage, alternatives), _key_pem(key)

    def _sign(
        self,
        key: ec.EllipticCurvePublicKey,
        common_name: str,
        lifetime: dt.timedelta,
        usage: x509.ObjectIdentifier,
        alternatives: x509.SubjectAlternativeName | None,
    ) -> bytes:
        now = dt.datetime.now(dt.UTC)
        end = min(now + lifetime, self.certificate.not_valid_after_utc)
        if end <= now:
            raise DirectoryError(f"the authority's certificate expired on {end:%Y-%m-%d}")
        builder = (
            _builder(common_name, key, now - _SKEW, end)
            .issuer_name(self.certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if alternatives is not None:
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def load_certificate(file: Path) -> x509.Certificate:
    """Load the certificate in a PEM file. Raises DirectoryError."""
    try:
        return x509.load_pem_x509_certificate(_read(file))
    except ValueError:
        raise DirectoryError(f"{file}: expected a certificate in PEM") from None


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return whether the issuer's key has signed the certificate."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def is_old(certificate: x509.Certificate) -> bool:
    """Return whether this is the certificate of an old authority, which issued for both clients and servers."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return any(str(name.value).startswith(_OLD_NAME) for name in names)


def proxy_uri(name: str) -> str:
    """Return the URI in the certificate of a proxy. Raises ConfigError if the proxy's name is not valid."""
    if not _PROXY_NAME.fullmatch(name):
        raise ConfigError(
            "expected a proxy's name, up to 52 of a-z, 0-9, dot and dash, a letter or digit at both ends, got "
            + shown(name)
        )
    return PROXY_PREFIX + name


def node_server_name(name: str) -> str:
    """Return the DNS name in the certificate of a node that joined.

    Raises ConfigError if the node's name cannot be a part of one.
    """
    server_name = name + _NODE_SUFFIX
    # Lower case only, because DNS names that differ in case are the same name.
    if name != name.lower() or not _DNS_NAME.fullmatch(server_name):
        raise ConfigError(f"node: expected a name of a-z, 0-9, dots and dashes, as of a host, got {shown(name)}")
    return server_name


def _lifetime(days: int) -> dt.timedelta:
    if not 1 <= days <= MAX_DAYS:
        raise ConfigError(f"days: expected 1 to {MAX_DAYS}, got {days}")
    return dt.timedelta(days=days)


def _create(folder: Path, issues_for: str) -> None:
    """Create the folder with both files atomically. Does nothing if another process creates it at the same time."""
    now = dt.datetime.now(dt.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    # The name is unique. Two trusted authorities with the same name could not be told apart.
    common_name = f"pymon {issues_for} {secrets.token_hex(4)}"
    builder = (
        _builder(common_name, key.public_key(), now - _SKEW, now + dt.timedelta(days=DAYS))
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
        raise DirectoryError(f"{folder}: the authority cannot be created: {error.strerror}") from None


def _builder(
    common_name: str, key: ec.EllipticCurvePublicKey, start: dt.datetime, end: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
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

"""The authority of machines, with a record of each client certificate of a proxy, to revoke a proxy by name.

A record is an empty file named END-SERIAL-NAME: seconds since the epoch, hexadecimal digits, the proxy's name. It is in
the folder ``issued`` beside the authority's files, and is moved to ``revoked`` when the proxy is revoked. A record is
removed when its certificate has expired, so there are only those of the last 24 hours.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from pymon.directory.authority import (
    CERTIFICATE_FILE,
    KEY_FILE,
    MACHINES,
    SERVER_DAYS,
    Authority,
    load_certificate,
    proxy_uri,
)
from pymon.directory.model import DirectoryError

_ISSUED, _REVOKED = "issued", "revoked"
_NOTE = re.compile(r"([0-9]{1,12})-([0-9a-f]{1,40})-([a-z0-9.-]+)")
_SKEW = dt.timedelta(minutes=5)
"""A revocation list is valid from this long before its creation, for machines whose clocks are behind."""


@dataclass(frozen=True, slots=True)
class Machines:
    """The authority of machines in a folder. Methods raise DirectoryError if a file cannot be read or written."""

    folder: Path
    authority: Authority

    @classmethod
    def load_or_create(cls, folder: Path) -> Machines:
        """Load the authority of a folder, or create it if it does not exist."""
        return cls(folder, Authority.load_or_create(folder, MACHINES))

    @classmethod
    def load(cls, folder: Path) -> Machines:
        """Load the authority of a folder."""
        return cls(folder, Authority.load(folder))

    def issue_proxy(self, name: str) -> bytes:
        """Issue a client certificate for a proxy and record it. Returns the key and the certificate as one PEM text.

        Raises ConfigError if the name is not valid.
        """
        certificate, key = self.authority.issue_proxy(name)
        loaded = x509.load_pem_x509_certificate(certificate)
        note = f"{int(loaded.not_valid_after_utc.timestamp())}-{loaded.serial_number:x}-{name}"
        try:
            self._forget_expired()
            issued = self.folder / _ISSUED
            issued.mkdir(mode=0o700, exist_ok=True)
            (issued / note).touch(mode=0o600)
        except OSError as error:
            raise DirectoryError(f"{self.folder}: a certificate cannot be noted: {error.strerror}") from None
        return key + certificate

    def revoke_proxy(self, name: str) -> int:
        """Revoke all valid certificates of a proxy. Returns their number.

        Raises ConfigError if the name is not valid.
        """
        proxy_uri(name)
        revoked = self.folder / _REVOKED
        try:
            revoked.mkdir(mode=0o700, exist_ok=True)
            self._forget_expired()
            found = [note for note, _, _, proxy in _notes(self.folder / _ISSUED) if proxy == name]
            for note in found:
                os.utime(note)
                note.replace(revoked / note.name)
        except OSError as error:
            raise DirectoryError(f"{self.folder}: a proxy cannot be revoked: {error.strerror}") from None
        return len(found)

    def revocation_list(self) -> bytes:
        """Return the revocation list of unexpired certificates of proxies in PEM (RFC 5280 section 5)."""
        now = dt.datetime.now(dt.UTC)
        certificate, key = self.authority.certificate, self.authority.key
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(certificate.subject)
            .last_update(now - _SKEW)
            # A late date, because an expired list would lock out all proxies.
            .next_update(certificate.not_valid_after_utc)
            .add_extension(x509.CRLNumber(time.time_ns() // 1_000_000), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        )
        try:
            self._forget_expired()
            for note, _, serial, _ in _notes(self.folder / _REVOKED):
                revoked_at = dt.datetime.fromtimestamp(int(note.stat().st_mtime), dt.UTC)
                entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(revoked_at)
                builder = builder.add_revoked_certificate(entry.build())
        except OSError as error:
            raise DirectoryError(f"{self.folder}: the revoked proxies cannot be read: {error.strerror}") from None
        return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def _forget_expired(self) -> None:
        now = time.time()
        for folder in (_ISSUED, _REVOKED):
            for note, end, _, _ in _notes(self.folder / folder):
                if end < now:
                    note.unlink(missing_ok=True)


def _notes(folder: Path) -> list[tuple[Path, int, int, str]]:
    """Return (file, end in seconds since the epoch, serial number, proxy's name) for each record of a folder."""
    if not folder.exists():
        return []
    named = ((file, _NOTE.fullmatch(file.name)) for file in sorted(folder.iterdir()))
    return [(file, int(match[1]), int(match[2], 16), match[3]) for file, match in named if match]


def machines_trust(folder: Path, tenants: Authority) -> bytes:
    """Return the certificates that clients of proxies should trust, in PEM.

    That is the authority of machines. It is created if neither of its files exists; the key may be missing. If the
    authority of tenants is an old one, which also issued certificates for servers, these may be valid for another
    `SERVER_DAYS`. For that time it is included.
    """
    file = folder / CERTIFICATE_FILE
    if file.exists() and not (folder / KEY_FILE).exists():
        certificate = load_certificate(file)
    else:
        certificate = Authority.load_or_create(folder, MACHINES).certificate
    pem = certificate.public_bytes(Encoding.PEM)
    age = dt.datetime.now(dt.UTC) - certificate.not_valid_before_utc
    return pem + tenants.pem if tenants.issued_for_both_sides and age < dt.timedelta(days=SERVER_DAYS) else pem

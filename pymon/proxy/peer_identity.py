"""Decides whether a client certificate is that of another proxy.

A proxy's certificate is signed by an authority of machines, is for clients, and has one name: the URI
``pymon:proxy:NAME``. A tenant's certificate has another authority, and an agent's is for servers. The handshake has
proved that the client has the certificate's key.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

from pymon.directory.authority import CERTIFICATE_FILE, PROXY_PREFIX, is_issued_by
from pymon.directory.data_dir import MACHINES_FOLDER
from pymon.proxy.certificates import MAX_BYTES
from pymon.service.files import fingerprint
from pymon.service.reload import LOOK_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_log = logging.getLogger(__name__)

_REMEMBERED = 256
_END = b"-----END X509 CRL-----"


def authorities(data_dir: Path, upstream_ca: Path | None) -> list[Path]:
    """Return the files with the authorities of machines, which sign the certificates of other proxies."""
    own = data_dir / MACHINES_FOLDER / CERTIFICATE_FILE
    return [own, *([upstream_ca] if upstream_ca is not None else [])]


class _Known(NamedTuple):
    """What was found of a certificate. name: "" if it is none of a proxy. Times are seconds since the epoch."""

    name: str
    begin: float = 0.0
    end: float = 0.0


class _Trust:
    """What decides about certificates, until one of the files changes.

    It is replaced as a whole, so that no certificate is judged by new authorities and old lists, and what was found by
    old ones is not remembered among what was found by new ones.
    """

    def __init__(
        self, authorities: tuple[x509.Certificate, ...], lists: tuple[x509.CertificateRevocationList, ...]
    ) -> None:
        self._authorities = authorities
        self._lists = lists
        self._known: dict[bytes, _Known] = {}

    def known(self, der: bytes) -> _Known:
        """Return what a certificate in DER is."""
        known = self._known.get(der)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[der] = self._found(der)
        return known

    def _found(self, der: bytes) -> _Known:
        try:
            certificate = x509.load_der_x509_certificate(der)
            extensions = certificate.extensions
            constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
            usages = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            names = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
            serial = certificate.serial_number
            begin, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
        except (ValueError, TypeError, x509.ExtensionNotFound, x509.DuplicateExtension, UnsupportedAlgorithm):
            return _Known("")
        if constraints.ca or ExtendedKeyUsageOID.CLIENT_AUTH not in usages or len(names) != 1:
            return _Known("")
        (name,) = names
        if not isinstance(name, x509.UniformResourceIdentifier) or not name.value.startswith(PROXY_PREFIX):
            return _Known("")
        issuer = next((one for one in self._authorities if is_issued_by(certificate, one)), None)
        if issuer is None:
            return _Known("")
        for revoked in self._lists:
            if revoked.issuer == issuer.subject and revoked.get_revoked_certificate_by_serial_number(serial):
                return _Known("")
        end = min(end, issuer.not_valid_after_utc.timestamp())
        return _Known(name.value.removeprefix(PROXY_PREFIX), begin, end)


class PeerIdentity:
    """Knows proxies by their certificates.

    authorities: files with certificates in PEM. One that is missing counts as empty; of one that cannot be read, what
    was read before stays. crl: file with revocation lists in PEM, None for none. `refresh` reads files, so call it in a
    thread. `name_of` may be called meanwhile.

    error: why the revocation list cannot be used, one line, or "". No certificate is then a proxy's.
    """

    def __init__(self, authorities: Sequence[Path], crl: Path | None) -> None:
        self._files = tuple(authorities)
        self._crl_file = crl
        self._seen: object = None
        self._read: dict[Path, list[x509.Certificate]] = {}
        self._trust: _Trust | None = None
        self.error = ""

    def refresh(self) -> None:
        """Read the files again if one of them changed."""
        files = (*self._files, *((self._crl_file,) if self._crl_file is not None else ()))
        seen = fingerprint(files)
        if seen == self._seen:
            return
        self._seen = seen
        for file in self._files:
            try:
                self._read[file] = x509.load_pem_x509_certificates(file.read_bytes())
            except FileNotFoundError:
                self._read[file] = []
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else "no certificates in PEM"
                _log.warning("authorities of proxies are not usable, the last good ones stay: %s: %s", file, reason)
        authorities = tuple(one for file in self._files for one in self._read.get(file, ()))
        before = self.error
        try:
            self._trust, self.error = _Trust(authorities, self._lists(authorities)), ""
        except (OSError, ValueError) as error:
            self._trust, self.error = None, f"{self._crl_file}: {error}"
            if before != self.error:
                _log.error("no other proxy is admitted, the revocation list cannot be used: %s", self.error)

    async def follow(self) -> None:
        """Read the files again whenever they change, until cancelled."""
        while True:
            await asyncio.to_thread(self.refresh)
            await asyncio.sleep(LOOK_SECONDS)

    def _lists(self, authorities: tuple[x509.Certificate, ...]) -> tuple[x509.CertificateRevocationList, ...]:
        """Return the revocation lists. Raises OSError, and ValueError if there is none or one of somebody else."""
        if self._crl_file is None:
            return ()
        texts = self._crl_file.read_bytes().split(_END)[:-1]
        lists = tuple(x509.load_pem_x509_crl(text + _END) for text in texts)
        if not lists or not all(_is_signed(one, authorities) for one in lists):
            raise ValueError("expected lists of the authority of machines")
        return lists

    def name_of(self, der: bytes | None, now: float) -> str:
        """Return the name of the proxy that a certificate in DER is of, or "". now: seconds since the epoch."""
        trust = self._trust
        if der is None or trust is None or len(der) > MAX_BYTES:
            return ""
        known = trust.known(der)
        return known.name if known.begin <= now < known.end else ""


def _is_signed(found: x509.CertificateRevocationList, authorities: tuple[x509.Certificate, ...]) -> bool:
    try:
        return any(found.is_signature_valid(one.public_key()) for one in authorities)  # type: ignore[arg-type]
    except (TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False

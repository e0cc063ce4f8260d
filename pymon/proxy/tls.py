"""The proxy's server-side TLS: the handshake accepts any client certificate, and requests are authenticated later."""

from __future__ import annotations

import logging
import math
import ssl
from typing import TYPE_CHECKING, Any, Literal, overload

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from pymon._native.tls import accept_any_certificate
from pymon.config import ConfigError
from pymon.service.files import fingerprint
from pymon.service.key_pair import load_pair
from pymon.service.reload import Reload, first_end

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)

MAX_CHAIN_BYTES = 32_768
"""Limit of a client's certificate chain: more than ten certificates of RSA-4096. OpenSSL's default is 100 KB."""

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_TICKETS = 1
"""Session tickets for each handshake. Each ticket contains the client's certificate."""


class _TLS(ssl.SSLObject):
    """A TLS connection that returns the peer's certificate only as DER.

    Event loops request the decoded form after each handshake. Decoding an untrusted certificate may raise an error,
    which they log with a traceback. It may also leave an error in OpenSSL's per-thread queue, which the next read would
    report as its own.
    """

    @overload
    def getpeercert(self, binary_form: Literal[False] = False) -> dict[str, Any]: ...
    @overload
    def getpeercert(self, binary_form: Literal[True]) -> bytes | None: ...
    @overload
    def getpeercert(self, binary_form: bool) -> dict[str, Any] | bytes | None: ...
    def getpeercert(self, binary_form: bool = False) -> dict[str, Any] | bytes | None:
        """Return the peer's certificate in DER, or an empty dictionary, as for a certificate that was not validated."""
        return super().getpeercert(binary_form=True) if binary_form else {}


def server_context(cert_file: Path, key_file: Path) -> ssl.SSLContext:
    """Return a server context for a certificate chain and its key in PEM.

    Raises ConfigError, which names the file that cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = _TLS
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = _TICKETS
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    for file in (cert_file, key_file):
        try:
            file.open("rb").close()
        except OSError as error:
            raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    try:
        load_pair(context, cert_file, key_file)
    except ValueError as error:
        raise ConfigError(f"{cert_file}: expected a certificate in PEM and its key in {key_file}: {error}") from None
    context.verify_mode = ssl.CERT_OPTIONAL
    try:
        accept_any_certificate(context, max_chain_bytes=MAX_CHAIN_BYTES)
    except RuntimeError as error:
        raise ConfigError(f"{error}; let a TLS terminator hand the certificates over instead") from None
    return context


def fingerprint_of(cert_file: Path) -> str:
    """Return the SHA-256 of the first certificate of a PEM file, in hexadecimal. Raises ConfigError."""
    try:
        (first, *_) = x509.load_pem_x509_certificates(cert_file.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{cert_file}: expected a certificate in PEM: {error}") from None
    return first.fingerprint(SHA256()).hex()


class LiveContext:
    """The server context of a certificate file and a key file, rebuilt when one of them changes.

    fingerprint: SHA-256 of the certificate, in hexadecimal. The constructor raises ConfigError. Later errors are logged
    and stored in `error`, and the last good context stays. `refresh` is for one thread at a time.
    """

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        self._files = (cert_file, key_file)
        self._seen = fingerprint(self._files)
        self.context: ssl.SSLContext | None = server_context(*self._files)
        self.fingerprint = fingerprint_of(cert_file)
        self.error: ConfigError | None = None
        self.reload = Reload("server")
        self.reload.worked(_end(cert_file))

    def refresh(self) -> None:
        """Read both files again if one of them changed."""
        seen = fingerprint(self._files)
        if seen == self._seen:
            return
        # Taken before the files are read, so that a change during the read is seen next time.
        self._seen = seen
        try:
            self.context, self.fingerprint = server_context(*self._files), fingerprint_of(self._files[0])
        except ConfigError as error:
            self.error = error
            self.reload.failed("TLS certificate", error)
        else:
            self.error = None
            self.reload.worked(_end(self._files[0]))
            _log.info("TLS certificate was read again: %s", self._files[0])

    def admits(self, tls: ssl.SSLObject) -> bool:  # noqa: ARG002
        """Return True: every client is admitted after the handshake, because each request is authenticated."""
        return True


class FollowedContext:
    """A `LiveContext` whose files another thread looks at, so that no handshake waits for them."""

    def __init__(self, live: LiveContext) -> None:
        self._live = live
        self.admits = live.admits

    @property
    def context(self) -> ssl.SSLContext | None:
        """The context of the next connection."""
        return self._live.context

    async def refresh(self) -> None:
        """Do nothing: the other thread calls `LiveContext.refresh`."""


def _end(cert_file: Path) -> float:
    """Return when the first certificate of a file ends; infinite if the file has gone since it was used."""
    try:
        return first_end(cert_file.read_bytes())
    except OSError:
        return math.inf

"""The proxy's own TLS: any client certificate is taken, and judged when its key is proven."""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING, Any, Literal, overload

from pymon._native.tls import accept_any_certificate
from pymon.config import ConfigError
from pymon.service.files import fingerprint

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)

MAX_CHAIN_BYTES = 32_768
"""What a client may show: ten certificates of RSA-4096 and then some. OpenSSL would hold 100 KB for each handshake."""

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_TICKETS = 1
"""For each handshake; each carries the client's certificate."""


def _no_password() -> str:
    raise ValueError("the key is encrypted")


class _TLS(ssl.SSLObject):
    """A connection whose peer's certificate is had as DER alone.

    Event loops ask for the decoded form after each handshake. Decoding what a stranger wrote may raise, which they log
    with a traceback, and may leave an error in OpenSSL's queue of the thread, which the next read takes for its own.
    """

    @overload
    def getpeercert(self, binary_form: Literal[False] = False) -> dict[str, Any]: ...
    @overload
    def getpeercert(self, binary_form: Literal[True]) -> bytes | None: ...
    @overload
    def getpeercert(self, binary_form: bool) -> dict[str, Any] | bytes | None: ...
    def getpeercert(self, binary_form: bool = False) -> dict[str, Any] | bytes | None:
        """The DER of the peer's certificate, or as of one that was not validated: an empty dictionary."""
        return super().getpeercert(binary_form=True) if binary_form else {}


def server_context(cert_file: Path, key_file: Path) -> ssl.SSLContext:
    """A server's context for a chain and its key in PEM. ConfigError names the file that cannot be used."""
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
        context.load_cert_chain(cert_file, key_file, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        reason = (error.reason or "no PEM") if isinstance(error, ssl.SSLError) else error
        raise ConfigError(f"{cert_file}: expected a certificate in PEM and its key in {key_file}: {reason}") from None
    context.verify_mode = ssl.CERT_OPTIONAL
    try:
        accept_any_certificate(context, max_chain_bytes=MAX_CHAIN_BYTES)
    except RuntimeError as error:
        raise ConfigError(f"{error}; let a TLS terminator hand the certificates over instead") from None
    return context


class LiveContext:
    """The context of a certificate and a key file, made again when one of them changes.

    The constructor raises ConfigError. Later the last good context stays, `error` says what is wrong with the files,
    and one line is logged each time. Not thread-safe.
    """

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        self._files = (cert_file, key_file)
        self._seen = fingerprint(self._files)
        self.context: ssl.SSLContext | None = server_context(*self._files)
        self.error: ConfigError | None = None

    def refresh(self) -> None:
        """Look whether a file changed, and read both if so."""
        seen = fingerprint(self._files)
        if seen == self._seen:
            return
        # Older than the bytes, so a change while reading is seen next time.
        self._seen = seen
        try:
            self.context = server_context(*self._files)
        except ConfigError as error:
            if str(error) != str(self.error):
                _log.error("TLS certificate is not usable, the last good one stays: %s", error)
            self.error = error
        else:
            self.error = None
            _log.info("TLS certificate was read again: %s", self._files[0])

    def admits(self, tls: ssl.SSLObject) -> bool:  # noqa: ARG002
        """Whoever finished the handshake: requests are authenticated one by one."""
        return True

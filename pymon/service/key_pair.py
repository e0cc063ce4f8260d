"""Loads a certificate and its key into a TLS context."""

from __future__ import annotations

from pathlib import Path
from ssl import SSLContext, SSLError


def load_pair(context: SSLContext, certificate: Path | str, key: Path | str) -> None:
    """Load a certificate chain and its key from files in PEM, which may be one file.

    Raises ValueError, whose text is the reason in one line. An encrypted key is one: nobody is asked for its password.
    """
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except SSLError as error:
        raise ValueError(error.reason or "no PEM") from None


def _no_password() -> str:
    raise ValueError("the key is encrypted")

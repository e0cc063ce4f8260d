"""Reads the client's certificate and address from the headers of a trusted TLS terminator. Pure.

The terminator must set these headers itself on every request. The caller must check that the peer is a terminator.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from pymon.proxy.authn import AuthError

if TYPE_CHECKING:
    from collections.abc import Sequence

_PEM = re.compile(r"\s*-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----\s*")


def certificate_of(values: Sequence[str]) -> bytes | None:
    """Return the client's certificate in DER, or None when the header is absent or empty.

    values: of the header that carries the certificate. Accepted forms are ``:base64 of DER:`` (RFC 9440), a
    percent-encoded PEM (nginx's ``$ssl_client_escaped_cert``), and the base64 of DER alone (HAProxy's
    ``ssl_c_der,base64``). Raises AuthError for anything else, and for more than one header.
    """
    if len(values) > 1:
        raise AuthError("malformed", "two headers with a client certificate")
    text = values[0].strip() if values else ""
    if not text:
        return None
    if text.startswith("-----BEGIN"):
        match = _PEM.fullmatch(unquote(text))
        encoded = "".join(match[1].split()) if match else ""
    elif len(text) > 1 and text[0] == text[-1] == ":":
        encoded = text[1:-1]
    else:
        encoded = text
    try:
        der = base64.b64decode(encoded.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        der = b""
    if not der:
        raise AuthError("malformed", "the header of the terminator holds no certificate")
    return der


def source_address(values: Sequence[str]) -> str | None:
    """Return the client's address: the last one in X-Forwarded-For, which the terminator added. None without one.

    values: of the header X-Forwarded-For. Raises AuthError when the last element is not an IP address.
    """
    text = values[-1].rpartition(",")[2].strip() if values else ""
    if not text:
        return None
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise AuthError("malformed", "the last of X-Forwarded-For is no IP address") from None

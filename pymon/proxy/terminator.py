"""What a trusted TLS terminator says of the client: its certificate and its address. Pure.

The terminator must set these headers itself on every request; that it is one is for the caller to know.
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
    """The client's certificate in DER by the values of the header that hands it over; None when there is none.

    ``:base64 of DER:`` (RFC 9440), a percent-encoded PEM (nginx's ``$ssl_client_escaped_cert``) or the base64 of DER
    alone (HAProxy's ``ssl_c_der,base64``). Raises AuthError for anything else, and for two headers.
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
    """The client's address by the values of X-Forwarded-For: the last one, which the terminator added; None without.

    Raises AuthError when that is no IP address.
    """
    text = values[-1].rpartition(",")[2].strip() if values else ""
    if not text:
        return None
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise AuthError("malformed", "the last of X-Forwarded-For is no IP address") from None

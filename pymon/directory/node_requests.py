"""What nodes send to join and to renew their certificates. Does no I/O.

All of it comes from strangers until it has been verified. The functions raise ValueError, whose text says what was
expected.
"""

from __future__ import annotations

import datetime as dt
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from pymon.directory.authority import NODE_PREFIX, is_issued_by

MAX_BYTES = 4096
"""Limit of a request's or a certificate's size in DER. Those of agents have a tenth of it."""

RENEWAL = b"pymon node renewal\n"
"""An agent that renews signs these bytes and its certificate request with the key of its certificate."""


class JoinedNode(NamedTuple):
    """The node that a certificate was issued for, and the id of the token with which it had joined."""

    name: str
    token: str


def requested_key(der: bytes) -> ec.EllipticCurvePublicKey:
    """Return the key of a certificate request, after checking that its sender has the private key."""
    if len(der) > MAX_BYTES:
        raise ValueError(f"a certificate request of at most {MAX_BYTES} bytes")
    try:
        request = x509.load_der_x509_csr(der)
        key = request.public_key()
        # The kind of key is checked first: verifying a huge RSA key takes long.
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ValueError("a key of the curve P-256")  # noqa: TRY301, TRY004
        valid = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature):
        raise ValueError("a certificate request with a key of the curve P-256, signed with that key") from None
    if not valid:
        raise ValueError("a certificate request that is signed with its key")
    return key


def renewing_node(
    certificate: bytes, request: bytes, signature: bytes, authority: x509.Certificate, now: dt.datetime
) -> JoinedNode:
    """Return the node whose certificate's key has signed a renewal.

    certificate, request: in DER. authority: that of machines, which must have issued the certificate.
    """
    if len(certificate) > MAX_BYTES:
        raise ValueError(f"a certificate of at most {MAX_BYTES} bytes")
    try:
        found = x509.load_der_x509_certificate(certificate)
        key = found.public_key()
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound):
        raise ValueError("the certificate of a node that joined") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not is_issued_by(found, authority):
        raise ValueError("a certificate of the machines' authority")
    (node,) = [uri.removeprefix(NODE_PREFIX) for uri in uris if uri.startswith(NODE_PREFIX)] or [""]
    name, _, token = node.rpartition(":")
    if not name or not token:
        raise ValueError("the certificate of a node that joined")
    if not found.not_valid_before_utc <= now < found.not_valid_after_utc:
        raise ValueError("a certificate that is in force; join again with a new token")
    try:
        key.verify(signature, RENEWAL + request, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise ValueError("a signature of the certificate's key") from None
    return JoinedNode(name, token)

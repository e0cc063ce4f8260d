"""Parses the parts of X.509 certificates that authentication needs, from DER. Pure.

This is a parser of its own because clients' certificates are not always strict DER: node-sshpk, which makes Triton's
certificates, writes ``BOOLEAN FALSE`` where DER omits the default, and a malformed extension that is not used must not
matter. The structure is parsed strictly (definite and shortest lengths, no extra bytes), so a certificate has one
interpretation. The client's public key is never loaded: the keys that verify signatures come from the directory.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

MAX_BYTES = 8_192
"""Limit of a certificate in DER: five times the usual size, and what fits into a terminator's header."""

RSA_MIN_BITS = 2048

_MAX_ELEMENTS = 64
"""Limit of the elements in one SEQUENCE or SET. Real certificates have at most ten extensions."""

_INTEGER, _BIT_STRING, _OCTET_STRING, _OID = 0x02, 0x03, 0x04, 0x06
_BOOLEAN, _SEQUENCE, _SET = 0x01, 0x30, 0x31
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_VERSION, _ISSUER_ID, _SUBJECT_ID, _EXTENSIONS = 0xA0, 0x81, 0x82, 0xA3


def _oid(dotted: str) -> bytes:
    """Return the content octets of an OBJECT IDENTIFIER in dotted form."""
    first, second, *rest = map(int, dotted.split("."))
    octets = bytearray()
    for number in (40 * first + second, *rest):
        septets = [number & 0x7F]
        while number := number >> 7:
            septets.append(number & 0x7F | 0x80)
        octets += bytes(reversed(septets))
    return bytes(octets)


_COMMON_NAME = _oid("2.5.4.3")
_EXTENDED_KEY_USAGE = _oid("2.5.29.37")
_RSA = frozenset({_oid("1.2.840.113549.1.1.1"), _oid("1.2.840.113549.1.1.10")})
_EC = _oid("1.2.840.10045.2.1")
_EDWARDS = frozenset({_oid("1.3.101.112"), _oid("1.3.101.113")})

CLIENT_AUTH = _oid("1.3.6.1.5.5.7.3.2")
ANY_USAGE = _oid("2.5.29.37.0")
CMON = _oid("1.3.6.1.4.1.38678.1.4.2")
"""Triton's joyentCmon: a key for Container Monitor only."""

_SIGNATURES: dict[bytes, tuple[type[PublicKeyTypes], type[HashAlgorithm]]] = {
    _oid("1.2.840.113549.1.1.11"): (rsa.RSAPublicKey, SHA256),
    _oid("1.2.840.113549.1.1.12"): (rsa.RSAPublicKey, SHA384),
    _oid("1.2.840.113549.1.1.13"): (rsa.RSAPublicKey, SHA512),
    _oid("1.2.840.10045.4.3.2"): (ec.EllipticCurvePublicKey, SHA256),
    _oid("1.2.840.10045.4.3.3"): (ec.EllipticCurvePublicKey, SHA384),
    _oid("1.2.840.10045.4.3.4"): (ec.EllipticCurvePublicKey, SHA512),
    _oid("1.3.101.112"): (ed25519.Ed25519PublicKey, SHA512),
}
"""Accepted signature algorithms by OID, with key type and hash. SHA-1, MD5 and RSASSA-PSS are not accepted."""

_TEXTS = {0x0C: "utf-8", 0x13: "ascii", 0x16: "ascii", 0x14: "latin-1", 0x1E: "utf-16-be"}
"""Encodings by the ASN.1 tag: of UTF8String, PrintableString, IA5String, T61String and BMPString."""

_TIMES = {_UTC_TIME: re.compile(rb"\d{12}Z"), _GENERALIZED_TIME: re.compile(rb"\d{14}Z")}


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """The fields of a certificate. Times are seconds since the epoch. Fields named ``_der`` hold the original bytes."""

    fingerprint: str
    """SHA-256 of the whole certificate, as 64 lower-case hexadecimal digits."""
    subject: str | None
    """The common name; None unless there is exactly one."""
    issuer: str | None
    subject_der: bytes
    issuer_der: bytes
    not_before: float
    not_after: float
    public_key_der: bytes
    """The public key with its algorithm: SubjectPublicKeyInfo in DER."""
    weak: bool
    """Whether the public key is none of RSA with at least `RSA_MIN_BITS`, EC with at least 256 bits, Ed25519, Ed448."""
    usages: frozenset[bytes] | None
    """OIDs of the extended key usage; None without that extension."""
    signed: bytes
    """The signed bytes (TBSCertificate)."""
    algorithm: bytes
    signature: bytes

    @property
    def self_issued(self) -> bool:
        """Whether subject and issuer are equal."""
        return self.subject_der == self.issuer_der

    @property
    def for_clients(self) -> bool:
        """Whether the extended key usage, if present, allows client authentication."""
        return self.usages is None or bool(self.usages & {CMON, CLIENT_AUTH, ANY_USAGE})

    def signed_by(self, key: PublicKeyTypes) -> bool:
        """Return whether this key made the signature with an accepted algorithm."""
        wanted, digest = _SIGNATURES.get(self.algorithm, (None, None))
        if wanted is None or digest is None or not isinstance(key, wanted):
            return False
        try:
            if isinstance(key, rsa.RSAPublicKey):
                key.verify(self.signature, self.signed, padding.PKCS1v15(), digest())
            elif isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(self.signature, self.signed, ec.ECDSA(digest()))
            elif isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(self.signature, self.signed)
        except InvalidSignature:
            return False
        return True


# A DER element: its tag, and the offsets of its start, of its content, and of its end.
_Element = tuple[int, int, int, int]


def _element(data: bytes, at: int, end: int) -> _Element:
    """Return the element at offset `at`, which must end at or before `end`. Raises ValueError."""
    if end - at < 2:  # noqa: PLR2004
        raise ValueError("an element is cut short")
    tag, length, start = data[at], data[at + 1], at + 2
    if tag & 0x1F == 0x1F:  # noqa: PLR2004
        raise ValueError("a tag has more than one octet")
    if length >= 0x80:  # noqa: PLR2004
        count = length & 0x7F
        start += count
        length = int.from_bytes(data[at + 2 : start], "big")
        if not 1 <= count <= 3 or start > end or length < 0x80 or length >> 8 * (count - 1) == 0:  # noqa: PLR2004
            raise ValueError("a length is not DER")
    if length > end - start:
        raise ValueError("an element is cut short")
    return tag, at, start, start + length


def _elements(data: bytes, parent: _Element) -> list[_Element]:
    """Return the elements inside a constructed element. Raises ValueError."""
    _, _, at, end = parent
    found: list[_Element] = []
    while at < end:
        if len(found) == _MAX_ELEMENTS:
            raise ValueError("too many elements")
        element = _element(data, at, end)
        found.append(element)
        at = element[3]
    return found


def _expect(element: _Element, tag: int) -> _Element:
    if element[0] != tag:
        raise ValueError(f"expected tag {tag:#04x}, got {element[0]:#04x}")
    return element


def _content(data: bytes, element: _Element, tag: int) -> bytes:
    _expect(element, tag)
    return data[element[2] : element[3]]


def _whole(data: bytes, element: _Element) -> bytes:
    return data[element[1] : element[3]]


def _bits(data: bytes, element: _Element) -> bytes:
    """Return the octets of a BIT STRING. Raises ValueError when it has unused bits."""
    content = _content(data, element, _BIT_STRING)
    if content[:1] != b"\0":
        raise ValueError("a BIT STRING is not of whole octets")
    return content[1:]


def _common_name(data: bytes, name: _Element) -> str | None:
    found: list[str | None] = []
    for attributes in _elements(data, _expect(name, _SEQUENCE)):
        for attribute in _elements(data, _expect(attributes, _SET)):
            kind, value = _elements(data, _expect(attribute, _SEQUENCE))
            if _content(data, kind, _OID) == _COMMON_NAME:
                try:
                    found.append(data[value[2] : value[3]].decode(_TEXTS[value[0]]))
                except (KeyError, UnicodeDecodeError):
                    found.append(None)
    return found[0] if len(found) == 1 else None


def _time(data: bytes, element: _Element) -> float:
    """Return a time of RFC 5280 §4.1.2.5 in seconds since the epoch. Raises ValueError."""
    tag, _, start, end = element
    text = data[start:end]
    if tag not in _TIMES or not _TIMES[tag].fullmatch(text):
        raise ValueError("a time is not as RFC 5280 requires")
    if tag == _UTC_TIME:
        text = (b"20" if text < b"50" else b"19") + text
    year, *rest = (int(text[:4]), *(int(text[at : at + 2]) for at in range(4, 14, 2)))
    return datetime(year, *rest, tzinfo=UTC).timestamp()  # type: ignore[arg-type,misc]


def _is_weak(data: bytes, info: _Element) -> bool:
    algorithm, key = _elements(data, _expect(info, _SEQUENCE))
    kind, *_ = _elements(data, _expect(algorithm, _SEQUENCE))
    oid, octets = _content(data, kind, _OID), _bits(data, key)
    if oid in _RSA:
        modulus, _exponent = _elements(octets, _expect(_element(octets, 0, len(octets)), _SEQUENCE))
        return int.from_bytes(_content(octets, modulus, _INTEGER), "big").bit_length() < RSA_MIN_BITS
    if oid == _EC:  # a point: a form octet and one coordinate or two
        return (len(octets) - 1) // (1 if octets[:1] in {b"\2", b"\3"} else 2) < 32  # noqa: PLR2004
    return oid not in _EDWARDS


def _usages(data: bytes, extensions: _Element) -> frozenset[bytes] | None:
    """Return the OIDs of the extended key usage, None without it. The content of other extensions is not parsed."""
    found: frozenset[bytes] | None = None
    (inner,) = _elements(data, extensions)
    for extension in _elements(data, _expect(inner, _SEQUENCE)):
        oid, *critical, value = _elements(data, _expect(extension, _SEQUENCE))
        if len(critical) > 1 or (critical and critical[0][0] != _BOOLEAN):
            raise ValueError("an extension is more than a name, a switch and a value")
        octets = _content(data, value, _OCTET_STRING)
        if _content(data, oid, _OID) != _EXTENDED_KEY_USAGE:
            continue
        if found is not None:
            raise ValueError("extended key usage is there twice")
        usages = _element(octets, 0, len(octets))
        if usages[3] != len(octets):
            raise ValueError("extended key usage goes on after its end")
        found = frozenset(_content(octets, usage, _OID) for usage in _elements(octets, _expect(usages, _SEQUENCE)))
    return found


def parse_certificate(der: bytes) -> ClientCertificate:
    """Parse a certificate in DER (RFC 5280 §4.1). Raises ValueError when it is malformed."""
    if len(der) > MAX_BYTES:
        raise ValueError(f"expected at most {MAX_BYTES} bytes, got {len(der)}")
    certificate = _expect(_element(der, 0, len(der)), _SEQUENCE)
    if certificate[3] != len(der):
        raise ValueError("bytes after the end")
    signed, outer_algorithm, signature = _elements(der, certificate)
    fields = _elements(der, _expect(signed, _SEQUENCE))
    if fields and fields[0][0] == _VERSION:
        del fields[0]
    serial, algorithm, issuer, validity, subject, public_key, *optional = fields
    _expect(serial, _INTEGER)
    if _whole(der, algorithm) != _whole(der, outer_algorithm):
        raise ValueError("two signature algorithms")
    algorithm_oid, *_ = _elements(der, _expect(algorithm, _SEQUENCE))
    not_before, not_after = _elements(der, _expect(validity, _SEQUENCE))
    usages = None
    for tag in (_ISSUER_ID, _SUBJECT_ID, _EXTENSIONS):
        if optional and optional[0][0] == tag:
            element = optional.pop(0)
            usages = _usages(der, element) if tag == _EXTENSIONS else None
    if optional:
        raise ValueError("something after the extensions")
    return ClientCertificate(
        fingerprint=hashlib.sha256(der).hexdigest(),
        subject=_common_name(der, subject),
        issuer=_common_name(der, issuer),
        subject_der=_whole(der, subject),
        issuer_der=_whole(der, issuer),
        not_before=_time(der, not_before),
        not_after=_time(der, not_after),
        public_key_der=_whole(der, public_key),
        weak=_is_weak(der, public_key),
        usages=usages,
        signed=_whole(der, signed),
        algorithm=_content(der, algorithm_oid, _OID),
        signature=_bits(der, signature),
    )


_MD5_HEX = re.compile(r"(?:MD5:)?([0-9A-Fa-f]{2}(?::?[0-9A-Fa-f]{2}){15})")
_BASE64 = re.compile(r"(MD5|SHA256):([A-Za-z0-9+/]+)={0,2}")
_DIGEST_BYTES = {"MD5": 16, "SHA256": 32}


def ssh_fingerprint(text: str | None) -> str | None:
    """Return an SSH key's fingerprint in the directory's form, or None when the text is not a fingerprint.

    ``MD5:<base64>`` (node-sshpk), ``MD5:<hex>`` and ``<hex>`` with or without colons become 32 hexadecimal digits,
    ``SHA256:<base64>`` loses its padding.
    """
    if text is None:
        return None
    if match := _MD5_HEX.fullmatch(text):
        return match[1].replace(":", "").lower()
    if match := _BASE64.fullmatch(text):
        kind, encoded = match.groups()
        try:
            digest = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        except binascii.Error:
            return None
        if len(digest) == _DIGEST_BYTES[kind]:
            return digest.hex() if kind == "MD5" else f"SHA256:{encoded}"
    return None

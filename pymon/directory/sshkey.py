"""SSH public keys: the format of a .pub file (RFC 4253 §6.6, RFC 5656 §3.1, RFC 8709 §4)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

from pymon.config import shown
from pymon.directory.model import MAX_LABEL_CHARACTERS

MAX_TEXT_CHARACTERS = 16384
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 16384

TYPES = ("ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-ed25519")

_EXPECTED = "expected one line of an OpenSSH public key (ssh-rsa AAAA... comment)"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An SSH public key. blob: the decoded base64."""

    type: str
    blob: bytes
    comment: str

    @property
    def text(self) -> str:
        """Type and base64, without the comment."""
        return f"{self.type} {base64.b64encode(self.blob).decode('ascii')}"

    @property
    def sha256(self) -> str:
        """The SHA-256 fingerprint in the format of ``ssh-keygen -l``."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode("ascii").rstrip("=")

    @property
    def md5(self) -> str:
        """The MD5 fingerprint of ``ssh-keygen -l -E md5``, without colons."""
        return hashlib.md5(self.blob, usedforsecurity=False).hexdigest()

    def load(self) -> RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey:
        """Return the key object that verifies signatures. Raises ValueError."""
        return _load(self.text)


def _load(text: str) -> RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey:
    """Load a key from its type and base64. Raises ValueError."""
    try:
        key = load_ssh_public_key(text.encode("ascii"))
    except NotImplementedError:
        raise ValueError("expected a key whose point is not compressed") from None
    except (UnsupportedAlgorithm, ValueError, OverflowError) as error:
        raise ValueError(f"not a usable key ({' '.join(str(error).split())[:100]})") from None
    if not isinstance(key, RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey):
        raise ValueError(f"expected a key of {', '.join(TYPES)}")  # noqa: TRY004
    return key


def parse_public_key(text: str) -> PublicKey:
    """Parse the text of a .pub file. Raises ValueError with one line.

    Accepted are RSA from 2048 bits, ECDSA on P-256, P-384 and P-521, and Ed25519. Only the canonical encoding is
    accepted, so that a key has only one fingerprint.
    """
    if len(text) > MAX_TEXT_CHARACTERS:
        raise ValueError(f"{_EXPECTED}, got more than {MAX_TEXT_CHARACTERS} characters")
    if "PRIVATE KEY" in text:
        raise ValueError("expected a public key, got a private one (give the .pub file)")
    lines = [line.strip() for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    if len(lines) != 1:
        raise ValueError(f"{_EXPECTED}, got {len(lines)} lines")
    type_, *rest = lines[0].split(None, 2)
    if type_ not in TYPES:
        raise ValueError(f"expected a key of {', '.join(TYPES)}, got {shown(type_)}")
    try:
        blob = base64.b64decode(rest[0].encode("ascii"), validate=True) if rest else b""
    except (binascii.Error, UnicodeEncodeError):
        blob = b""
    key = PublicKey(type_, blob, _comment(rest[1]) if len(rest) > 1 else "")
    loaded = _load(key.text)
    canonical = loaded.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    if canonical != key.text.encode("ascii"):
        raise ValueError("not a usable key (its encoding is not the canonical one)")
    if isinstance(loaded, RSAPublicKey) and not MIN_RSA_BITS <= loaded.key_size <= MAX_RSA_BITS:
        raise ValueError(f"expected RSA of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, got {loaded.key_size}")
    return key


def _comment(text: str) -> str:
    """Return a comment that is safe to print. Users can put any text there."""
    return "".join(c if c.isprintable() else "?" for c in text.strip())[:MAX_LABEL_CHARACTERS]

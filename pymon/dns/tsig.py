"""TSIG (RFC 8945): key files in BIND's format, checking of signed requests, and signing of their answers."""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import dns.exception
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.tsig
from dns.rdtypes.ANY.TSIG import TSIG

from pymon.config import ConfigError, read_file, shown

Keys: TypeAlias = Mapping[dns.name.Name, dns.tsig.Key]

ALGORITHMS = {
    "hmac-sha256": dns.tsig.HMAC_SHA256,
    "hmac-sha384": dns.tsig.HMAC_SHA384,
    "hmac-sha512": dns.tsig.HMAC_SHA512,
}

FUDGE_SECONDS = 300

_SECRET_MIN_BYTES = 16
_TOKEN = re.compile(r'/\*.*?\*/|(?:#|//)[^\n]*|"([^"\n]*)"|([{};])|((?:(?!/\*|//)[^\s{};"#])+)|(\S)', re.DOTALL)
_RECORD = struct.Struct("!HHIH")


def key_name(text: str) -> dns.name.Name:
    """Parse the name of a key. Raises ValueError if it is not a domain name."""
    try:
        name = dns.name.from_text(text)
    except (dns.exception.DNSException, UnicodeError, ValueError):
        raise ValueError("the name of a key") from None
    if name == dns.name.root:
        raise ValueError("the name of a key")
    return name


class LiveKeys(dict[dns.name.Name, dns.tsig.Key]):
    """The keys of a file, which `refresh` reads again.

    Whoever holds one of its keys uses the new secret after that. path: of the file. check: yields an error for keys
    that do not fit the options. The constructor raises ConfigError if the file cannot be used.
    """

    def __init__(self, path: Path, check: Callable[[Keys], Iterator[str]]) -> None:
        self.path = path
        self._check = check
        super().__init__(load_keys(path))

    def refresh(self) -> bool:
        """Read the file. Return whether it has other keys. Raises ConfigError, and the keys stay what they were."""
        found = load_keys(self.path)
        for error in self._check(found):
            raise ConfigError(f"{self.path}: {error}")
        if found == self:
            return False
        for name, key in found.items():
            mine = self.setdefault(name, key)
            mine.secret, mine.algorithm = key.secret, key.algorithm
        for name in self.keys() - found.keys():
            del self[name]
        return True


def load_keys(path: Path) -> dict[dns.name.Name, dns.tsig.Key]:
    """Read the keys of a file, at least one. Raises ConfigError with file and line; it never shows a secret."""
    try:
        text = read_file(path).decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: expected text in UTF-8") from None
    return parse_keys(text, str(path))


def parse_keys(text: str, where: str) -> dict[dns.name.Name, dns.tsig.Key]:
    """Parse the text of a key file, with at least one key. where: the name for errors. Raises ConfigError."""
    words = _Words(text, where)
    keys: dict[dns.name.Name, dns.tsig.Key] = {}
    while not words.at_end():
        words.expect("key")
        line = words.line
        try:
            name = key_name(words.take("the name of a key"))
        except ValueError as error:
            raise words.error(str(error)) from None
        if name in keys:
            raise words.error("each key once")
        keys[name] = _key(name, words, line)
    if not keys:
        raise ConfigError(f'{where}: expected key "NAME" {{ algorithm hmac-sha256; secret "..."; }};, got nothing')
    return keys


def _key(name: dns.name.Name, words: _Words, line: int) -> dns.tsig.Key:
    """Parse the rest of a key clause: ``{ algorithm ...; secret ...; };``."""
    algorithm: dns.name.Name | None = None
    secret: bytes | None = None
    words.expect("{")
    while (word := words.take("algorithm, secret or }")) != "}":
        if word == "algorithm" and algorithm is None:
            algorithm = ALGORITHMS.get(words.take("an algorithm").lower())
            if algorithm is None:
                raise words.error(f"one of {', '.join(ALGORITHMS)}")
        elif word == "secret" and secret is None:
            try:
                secret = base64.b64decode(words.take("a secret", secret=True), validate=True)
            except (binascii.Error, ValueError):
                secret = b""
            if len(secret) < _SECRET_MIN_BYTES:
                raise words.error(f"a secret of {_SECRET_MIN_BYTES} octets or more in base64", shown_too=False)
        else:
            raise words.error("algorithm and secret, each once", shown_too=word in {"algorithm", "secret"})
        words.expect(";")
    words.expect(";")
    if algorithm is None or secret is None:
        raise ConfigError(f"{words.where}: line {line}: expected algorithm and secret in the key {name}")
    return dns.tsig.Key(name, secret, algorithm)


class _Words:
    """Tokenizer of BIND's configuration syntax. It skips comments."""

    def __init__(self, text: str, where: str) -> None:
        self.where = where
        self.line = 1
        self._words = self._split(text)
        self._next = next(self._words, None)
        self._last = ""

    def _split(self, text: str) -> Iterator[tuple[int, str]]:
        line, seen = 1, 0
        for match in _TOKEN.finditer(text):
            line += text.count("\n", seen, match.start())
            seen = match.start()
            if match[4] is not None:
                raise ConfigError(f"{self.where}: line {line}: expected a key, got a quote or a comment without end")
            word = next((group for group in match.groups() if group is not None), None)
            if word is not None:
                yield line, word

    def at_end(self) -> bool:
        return self._next is None

    def take(self, expected: str, *, secret: bool = False) -> str:
        if self._next is None:
            raise ConfigError(f"{self.where}: line {self.line}: expected {expected}, got the end")
        self.line, word = self._next
        self._last = "" if secret else word
        self._next = next(self._words, None)
        return word

    def expect(self, word: str) -> None:
        if self.take(word, secret=True) != word:
            raise self.error(word, shown_too=False)

    def error(self, expected: str, *, shown_too: bool = True) -> ConfigError:
        got = f", got {shown(self._last)}" if shown_too else ""
        return ConfigError(f"{self.where}: line {self.line}: expected {expected}{got}")


@dataclass(frozen=True, slots=True)
class Signature:
    """The TSIG record of a message. start: its offset in the message."""

    name: dns.name.Name
    data: TSIG
    start: int


class Signing:
    """Signs the answers to one signed request.

    error: TSIG error of the request, 0 for none; the answer carries it. key: None if the answer cannot be signed. If
    several messages answer the request, each signature covers the previous ones.
    """

    def __init__(self, signature: Signature, key: dns.tsig.Key | None, error: dns.rcode.Rcode) -> None:
        self.error = error
        self.key = key
        self._request = signature
        self._context: dns.tsig.HMACTSig | dns.tsig.GSSTSig | None = None

    @property
    def size(self) -> int:
        """The number of octets that a signature adds to a message."""
        request = self._request
        mac = dns.tsig.mac_sizes[self.key.algorithm] if self.key else 0
        return len(request.name.to_digestable()) + _RECORD.size + len(request.data.algorithm.to_digestable()) + 22 + mac

    def sign(self, message: bytes, now: float, *, more: bool = False) -> bytes:
        """Return the message with a TSIG record. now: seconds since the epoch. more: one of several messages."""
        seconds = int(now)
        asked = self._request.data
        other = b""
        if self.error == dns.rcode.BADTIME:  # signed with the request's time; our time is in other data (§5.2.3)
            other = seconds.to_bytes(6, "big")
        if self.error:
            seconds = asked.time_signed
        data = TSIG(  # type: ignore[no-untyped-call]
            dns.rdataclass.ANY, dns.rdatatype.TSIG, asked.algorithm, seconds, FUDGE_SECONDS, b"",
            int.from_bytes(message[:2], "big"), self.error, other,
        )  # fmt: skip
        if self.key is not None:
            data, self._context = dns.tsig.sign(  # type: ignore[no-untyped-call]
                message, self.key, data, seconds, None if self._context else asked.mac, self._context, more
            )
        rdata = data.to_digestable()
        count = int.from_bytes(message[10:12], "big") + 1
        head = _RECORD.pack(dns.rdatatype.TSIG, dns.rdataclass.ANY, 0, len(rdata))
        return b"".join(
            (message[:10], count.to_bytes(2, "big"), message[12:], self._request.name.to_digestable(), head, rdata)
        )


def check(message: bytes, signature: Signature, keys: Keys, now: float) -> Signing:
    """Check the signature of a request (RFC 8945 §5.2). now: seconds since the epoch.

    Returns a `Signing`, whose error is set if the signature is not valid. Raises dns.exception.FormError if the record
    is an error response and not a signature.
    """
    key = keys.get(signature.name)
    if key is None or key.algorithm != signature.data.algorithm:
        return Signing(signature, None, dns.rcode.BADKEY)
    try:
        dns.tsig.validate(  # type: ignore[no-untyped-call]
            message, key, signature.name, signature.data, int(now), b"", signature.start
        )
    except dns.tsig.BadTime:
        return Signing(signature, key, dns.rcode.BADTIME)
    except dns.tsig.BadSignature:
        return Signing(signature, None, dns.rcode.BADSIG)
    except dns.tsig.PeerError:
        raise dns.exception.FormError from None
    return Signing(signature, key, dns.rcode.NOERROR)

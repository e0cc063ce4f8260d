"""A cache of refused credentials, so that a repeated one costs little and counts as one failed authentication.

A client with a revoked credential sends it with every scrape. If each failure counted against its source address,
clients with valid credentials at the same address would be blocked too. Pure.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from typing import NamedTuple

MAX_REFUSALS = 4096

_PASSING = frozenset(("busy", "not_yet_valid"))
"""Reasons that may pass without a change of the directory; these are not cached."""


class Refused(NamedTuple):
    """Why a credential was refused, as in `AuthError`."""

    reason: str
    detail: str


class Refusals:
    """Refusals by credential, for one generation of the directory. Credentials are stored as digests."""

    def __init__(self, bound: int = MAX_REFUSALS) -> None:
        self._bound = bound
        self._key = secrets.token_bytes(32)
        self._reasons: OrderedDict[bytes, Refused] = OrderedDict()
        self._generation = -1

    def find(self, credential: str | bytes, generation: int) -> Refused | None:
        """Return why a credential was refused in this generation of the directory, or None when unknown."""
        if generation != self._generation:
            return None
        return self._reasons.get(self.digest(credential))

    def add(self, credential: str | bytes, generation: int, refused: Refused) -> None:
        """Remember a refusal in this generation of the directory. Refusals of older generations are dropped."""
        if refused.reason in _PASSING:
            return
        if generation != self._generation:
            self._generation = generation
            self._reasons.clear()
        self._reasons[self.digest(credential)] = refused
        if len(self._reasons) > self._bound:
            self._reasons.popitem(last=False)

    def digest(self, credential: str | bytes) -> bytes:
        """Return a keyed digest. Certificates in DER and Authorization headers are never the same bytes."""
        data = credential.encode("utf-8", "surrogatepass") if isinstance(credential, str) else credential
        return hashlib.blake2b(data, digest_size=16, key=self._key).digest()

"""Credentials that were refused, so that one which is sent again and again costs nothing and counts once.

A client with a revoked credential sends it at every scrape. If each of these counted against its address, clients with
good credentials behind the same address would be held up with it. Pure.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict

MAX_REFUSALS = 4096

_PASSING = frozenset(("busy", "not_yet_valid"))
"""Reasons that may be none a moment later, though the directory is the same."""


class Refusals:
    """Reasons of refusals by credential, kept as digests, as long as the directory stays the same."""

    def __init__(self, bound: int = MAX_REFUSALS) -> None:
        self._bound = bound
        self._key = secrets.token_bytes(32)
        self._reasons: OrderedDict[bytes, str] = OrderedDict()
        self._generation = -1

    def find(self, credential: str | bytes, generation: int) -> str | None:
        """Why a credential was refused by this generation of the directory; None when it was not."""
        if generation != self._generation:
            return None
        return self._reasons.get(self._digest(credential))

    def add(self, credential: str | bytes, generation: int, reason: str) -> None:
        """Remember a refusal, which this generation of the directory led to."""
        if reason in _PASSING:
            return
        if generation != self._generation:
            self._generation = generation
            self._reasons.clear()
        self._reasons[self._digest(credential)] = reason
        if len(self._reasons) > self._bound:
            self._reasons.popitem(last=False)

    def _digest(self, credential: str | bytes) -> bytes:
        """A certificate in DER and the text of an Authorization header are never the same bytes."""
        data = credential.encode("utf-8", "surrogatepass") if isinstance(credential, str) else credential
        return hashlib.blake2b(data, digest_size=16, key=self._key).digest()

"""When the credentials of accounts expire, for metrics."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from pymon.directory.model import Snapshot

SOON_SECONDS = 30 * 86400.0
"""Credentials that expire later have no value, so that an account without trouble has no series."""


class CredentialEnds:
    """The next expiry of each account. snapshot: returns the directory. clock: seconds since the epoch."""

    def __init__(self, snapshot: Callable[[], Snapshot], clock: Callable[[], float]) -> None:
        self._snapshot = snapshot
        self._clock = clock
        self._of: Snapshot | None = None
        self._changes_at = 0.0
        self._ends: dict[tuple[object, ...], float] = {}

    def values(self) -> dict[tuple[object, ...], float]:
        """Return when the next of an account's credentials of a kind expires, by name of the account and kind.

        Those that have expired, were revoked, or expire later than `SOON_SECONDS` from now do not count.
        """
        snapshot, now = self._snapshot(), self._clock()
        if self._of is not snapshot or now >= self._changes_at:
            self._of, self._changes_at, self._ends = snapshot, math.inf, {}
            for account, kind, end in _ends(snapshot):
                known = snapshot.accounts.get(account)
                if known is None or end <= now:
                    continue
                if end - now > SOON_SECONDS:
                    self._changes_at = min(self._changes_at, end - SOON_SECONDS)
                    continue
                self._changes_at = min(self._changes_at, end)
                key = known.name, kind
                self._ends[key] = min(end, self._ends.get(key, math.inf))
        return self._ends


def _ends(snapshot: Snapshot) -> Iterator[tuple[UUID, str, float]]:
    """Yield account, kind and expiry of each credential that was not revoked and expires."""
    for certificate in snapshot.certificates.values():
        if certificate.revoked_at is None:
            yield certificate.account, "certificate", certificate.not_after
    for token in snapshot.tokens.values():
        if token.revoked_at is None and token.expires_at is not None:
            yield token.account, "token", token.expires_at

"""Counts refused claims by node and reason, and keeps those that are not logged yet. No I/O.

The reasons are:

node_uuid: the UUID belongs to a node. uuid_name: the text of the claim gives another UUID. account: the node may not
claim for the account. held: another node holds the UUID. owner: the UUID belongs to another account. start: the start
is not newer than the holder's. future: the start is in the future. directory: the directory is unavailable. limit: the
node has too many rows, or creates them too fast.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

CONFLICTS = frozenset(("held", "owner", "start"))
"""Reasons that mean that another node has the UUID."""


class News(NamedTuple):
    """Newly refused claims of one node for one reason.

    containers: their number. uuid: the first of them. other: name of the node that holds that one, or "".
    """

    containers: int
    uuid: str
    other: str


class Refusals:
    """Refused claims.

    counts: their number by (node name, reason). news: those since the reader last removed the entry, by the same key.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.news: dict[tuple[str, str], News] = {}

    def add(self, name: str, reason: str, uuid: str, holder: str | None) -> None:
        """Count a claim of a node. holder: name of the node that holds the UUID, None when none does."""
        self.counts[name, reason] += 1
        known = self.news.get((name, reason))
        self.news[name, reason] = (
            News(1, uuid, holder or "") if known is None else known._replace(containers=known.containers + 1)
        )

    def forget(self, name: str) -> None:
        """Remove the counts of a node."""
        for key in [key for key in self.counts if key[0] == name]:
            del self.counts[key]

    def rename(self, name: str, to: str) -> None:
        """Rename a node. It keeps its counts."""
        for key in [key for key in self.counts if key[0] == name]:
            self.counts[to, key[1]] += self.counts.pop(key)

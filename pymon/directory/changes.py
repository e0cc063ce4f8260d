"""What differs between two snapshots of the directory, found in the thread that reads it.

With tens of thousands of accounts a comparison takes longer than an event loop may be held up. So a snapshot carries
its differences from the one before, and whoever follows the directory looks at those alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from pymon.directory.model import Snapshot


@dataclass(frozen=True, slots=True)
class Changes:
    """The differences of a snapshot from an earlier one.

    since: the generation of the earlier one. owners: accounts by the texts by which containers name them: the name in
    lower case, and the UUID. other_owners: the texts that stand for another account than before, or for one and none.
    gone: accounts that are no longer there. nodes: names of nodes that came, went or differ.
    """

    since: int
    owners: Mapping[str, UUID]
    other_owners: frozenset[str]
    gone: frozenset[UUID]
    nodes: frozenset[str]


def changes_since(before: Snapshot | None, after: Snapshot) -> Changes:
    """Return the differences of a snapshot from an earlier one, None for an empty one.

    If `after` carries them, this takes no time, else the time of a comparison.
    """
    found = after.changes
    if before is not None and found is not None and found.since == before.generation:
        return found
    owners, old = _owners(after), _owners(before) if before is not None else {}
    nodes: Mapping[str, object] = before.nodes if before is not None else {}
    return Changes(
        before.generation if before is not None else 0,
        owners,
        frozenset(text for text in owners.keys() | old.keys() if owners.get(text) != old.get(text)),
        frozenset(before.accounts.keys() - after.accounts.keys() if before is not None else ()),
        frozenset(name for name in nodes.keys() | after.nodes.keys() if nodes.get(name) != after.nodes.get(name)),
    )


def with_changes(before: Snapshot, after: Snapshot) -> Snapshot:
    """Return `after`, which carries its differences from `before`."""
    return replace(after, changes=changes_since(before, after))


def _owners(snapshot: Snapshot) -> Mapping[str, UUID]:
    if snapshot.changes is not None:
        return snapshot.changes.owners
    owners = {account.name.lower(): account.uuid for account in snapshot.accounts.values()}
    return owners | {str(uuid): uuid for uuid in snapshot.accounts}

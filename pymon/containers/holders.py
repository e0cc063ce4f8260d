"""Decides which container of a node holds a UUID that several containers claim.

A claim by a cgroup path wins over a claim by a runtime's id, which wins over a claim by a label. So no container can
take a UUID that is derived from another container's path or id. Between claims of the same basis, for example by a
container and by the cgroup that an earlier run left behind, the container with processes wins. If both have processes,
or neither has, the present holder keeps the UUID. If there is no holder, as when the agent starts, the older container
wins.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from .identity import Basis, Claim

LOOKS = 64
"""A review stops once it has checked this many containers for processes; the next review continues with other UUIDs.

Tenants control how many containers claim a UUID, so the work of one review is bounded.
"""

LOOKS_EACH = 16
"""The most rivals for one UUID that one decision checks for processes, besides its holder."""


class _Rival(NamedTuple):
    """A container's claim to a UUID. Rivals sort by preference: strongest basis first, then oldest container."""

    basis: Basis
    age: int
    row: int


class Holders:
    """The UUIDs that containers claim and hold. A container is identified by its row.

    Only UUIDs that several containers claim need to be reviewed.
    """

    def __init__(self, populated: Callable[[int], bool]) -> None:
        """populated: returns whether the container of a row has processes."""
        self._populated = populated
        self._claims: dict[int, tuple[Claim, ...]] = {}
        self._ages: dict[int, int] = {}
        self._held: dict[int, Claim] = {}
        self._rivals: dict[UUID, list[_Rival]] = {}
        self._winner: dict[UUID, int] = {}
        self._contested: dict[UUID, None] = {}
        self._turn = 0
        self._looks = 0

    def held(self, row: int) -> Claim:
        """Return the claim by which a container holds its UUID. Raises KeyError for an unknown row."""
        return self._held[row]

    def missed(self, row: int) -> Claim | None:
        """Return a container's claim by label if another container holds that UUID, else None."""
        first = self._claims[row][0]
        return first if first.basis is Basis.LABEL and self._held[row] != first else None

    def claim(self, row: int, claims: Sequence[Claim], age: int) -> dict[int, Claim]:
        """Replace the claims of a container. Return the new claims of the other containers that this affects, by row.

        claims: in order of preference; the last one must be the claim by path.
        age: a number that is smaller for older containers. Only the age in a container's first call counts.
        """
        before = self._claims.get(row, ())
        self._claims[row] = tuple(claims)
        age = self._ages.setdefault(row, age)
        gone, new = set(before) - set(claims), set(claims) - set(before)
        for claim in gone:
            self._withdraw(claim, row, age)
        for claim in new:
            rivals = self._rivals.setdefault(claim.uuid, [])
            insort(rivals, _Rival(claim.basis, age, row))
            if len(rivals) > 1:
                self._contested[claim.uuid] = None
        changes = self._settle({claim.uuid for claim in (*gone, *new)}, (row,))
        changes.pop(row, None)
        return changes

    def release(self, row: int) -> dict[int, Claim]:
        """Remove a container. Return the new claims of the other containers that this affects, by row."""
        claims = self._claims.pop(row, ())
        self._held.pop(row, None)
        age = self._ages.pop(row, 0)
        for claim in claims:
            self._withdraw(claim, row, age)
        return self._settle({claim.uuid for claim in claims})

    def review(self) -> dict[int, Claim]:
        """Decide some of the contested UUIDs again, because which containers have processes may have changed.

        Successive calls go through the contested UUIDs in turn. Return the new claims of the affected containers, by
        row.
        """
        if not self._contested:
            return {}
        self._looks = 0
        self._turn += 1
        changes: dict[int, Claim] = {}
        for uuid in tuple(islice(self._contested, LOOKS)):
            if self._looks >= LOOKS:
                break
            changes |= self._settle((uuid,))
            del self._contested[uuid]
            self._contested[uuid] = None
        return changes

    def begin(self) -> dict[int, Claim]:
        """Decide all contested UUIDs as if they had no holder.

        Return the new claims of the affected containers, by row.
        """
        return self._settle(self._contested, fresh=True)

    def _withdraw(self, claim: Claim, row: int, age: int) -> None:
        rivals = self._rivals[claim.uuid]
        del rivals[bisect_left(rivals, _Rival(claim.basis, age, row))]
        if self._winner.get(claim.uuid) == row:
            del self._winner[claim.uuid]
        if len(rivals) <= 1:
            self._contested.pop(claim.uuid, None)
        if not rivals:
            del self._rivals[claim.uuid]

    def _settle(self, uuids: Iterable[UUID], rows: Iterable[int] = (), *, fresh: bool = False) -> dict[int, Claim]:
        """Decide the holder of each of `uuids`.

        Return the new claims, by row, of those containers whose held claim changed. Only containers that lost or won
        one of `uuids`, and those in `rows`, are considered. fresh: ignore the present holders.
        """
        affected = dict.fromkeys(rows)
        for uuid in uuids:
            if uuid not in self._rivals:
                continue
            before = self._winner.get(uuid)
            winner = self._winner[uuid] = self._best(uuid, None if fresh else before)
            if winner != before:
                affected |= dict.fromkeys((winner,) if before is None else (before, winner))
        changes: dict[int, Claim] = {}
        for row in affected:
            claims = self._claims[row]
            held = next((claim for claim in claims if self._winner[claim.uuid] == row), claims[-1])
            if self._held.get(row) != held:
                self._held[row] = changes[row] = held
        return changes

    def _best(self, uuid: UUID, holder: int | None) -> int:
        rivals = self._rivals[uuid]
        basis = rivals[0].basis
        if len(rivals) == 1 or rivals[1].basis != basis:
            return rivals[0].row
        turn = 0
        if holder is not None and any(claim.uuid == uuid and claim.basis == basis for claim in self._claims[holder]):
            if self._has_processes(holder):
                return holder
            turn = self._turn * LOOKS_EACH % bisect_left(rivals, (basis + 1,))
        else:
            holder = None
        for rival in rivals[turn : turn + LOOKS_EACH]:
            if rival.basis == basis and rival.row != holder and self._has_processes(rival.row):
                return rival.row
        return rivals[0].row if holder is None else holder

    def _has_processes(self, row: int) -> bool:
        self._looks += 1
        return self._populated(row)

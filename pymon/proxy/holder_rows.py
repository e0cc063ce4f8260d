"""The rows of holders as a proxy knows them, and those that it wants written. No I/O.

UUIDs of containers and nodes are text in lower case.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from uuid import UUID

MAX_WANTED = 2000
"""Maximum number of pending row writes. A write that does not fit is requested again later."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """The holder of a container UUID.

    node: UUID of the holding node. owner: account of the container, or None. start: start of the container.
    changed_at: when the row was written. Times are seconds since the epoch. The garbage collector does not look through
    rows: there may be hundreds of thousands.
    """

    node: str
    owner: UUID | None
    start: float
    changed_at: float


class Wanted(NamedTuple):
    """A row to write. before: the row it replaces, None for a new row."""

    before: Row | None
    after: Row


class HolderRows:
    """Rows by container UUID, and the writes of rows that are pending.

    A write is pending from `ask` until `answered`, also while `take` has handed it out.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.wanted: dict[str, Wanted] = {}
        """Pending writes that `take` has not handed out."""
        self._of: dict[str, dict[str, None]] = {}  # container UUIDs by node UUID, last change at the end
        self._asked: set[str] = set()

    def of(self, node: str) -> Mapping[str, None]:
        """Return the UUIDs of the containers that a node holds, the one whose row changed last at the end."""
        return self._of.get(node, {})

    def put(self, uuid: str, row: Row) -> None:
        """Insert or replace the row of a container."""
        self.remove(uuid)
        self.rows[uuid] = row
        self._of.setdefault(row.node, {})[uuid] = None

    def remove(self, uuid: str) -> Row | None:
        """Remove and return the row of a container, None when there is none."""
        row = self.rows.pop(uuid, None)
        if row is not None:
            held = self._of[row.node]
            del held[uuid]
            if not held:
                del self._of[row.node]
        return row

    def may_ask(self, uuid: str) -> bool:
        """Return whether a write for a container can be requested: none is pending, and not too many are."""
        return len(self.wanted) < MAX_WANTED and uuid not in self._asked

    def ask(self, uuid: str, wanted: Wanted) -> None:
        """Request the write of a row."""
        self._asked.add(uuid)
        self.wanted[uuid] = wanted

    def withdraw(self, uuid: str) -> Wanted | None:
        """Cancel and return the write for a container, None when there is none or `take` has handed it out."""
        wanted = self.wanted.pop(uuid, None)
        if wanted is not None:
            self._asked.discard(uuid)
        return wanted

    def answered(self, uuids: Iterable[str]) -> None:
        """Record that the writes for these UUIDs are no longer pending."""
        self._asked.difference_update(uuids)

    def take(self, new: int, changed: int) -> dict[str, Wanted]:
        """Remove and return pending row writes by UUID: at most `new` new rows and `changed` changed rows."""
        made = (item for item in self.wanted.items() if item[1].before is None)
        found = dict(islice(made, new))
        found |= islice((item for item in self.wanted.items() if item[1].before is not None), changed)
        for uuid in found:
            del self.wanted[uuid]
        return found

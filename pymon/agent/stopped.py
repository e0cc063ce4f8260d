"""Keeps containers that have ended for a while, with their last numbers, in a table that scrapes render.

A container that runs again keeps its restarts, its last exit code and the kills of its earlier runs. It is then known
by the path of its cgroup, which is also what tells its series from those of others, and by its owner: who gets the path
of another account's container gets nothing of that one's past.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pymon._native.table import Table
from pymon.catalogue.stopped import COLUMNS, STATES, TABLE
from pymon.exposition.compile import label_block

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pymon.agent.ends import End
    from pymon.containers.identity import Container
    from pymon.containers.model import Details

MAX_STOPPED = 1000
MAX_BYTES = 4 << 20
"""Limits of the containers that are kept: their number, and the bytes of their labels and inventory entries. The oldest
of the party that takes most is dropped first."""

EARLY_SECONDS = 1.0
"""A runtime may tell of an end this long before the start that is known; an earlier one is that of another run."""

STOPPED = "stopped"
"""The state of such a container in the inventory, whatever its runtime calls it."""

_Pairs = tuple[tuple[str, str], ...]
_Party = tuple[str | None, int | None]
"""Owner, and the uid of a user who makes containers: one of them must not push out the containers of the others."""


@dataclass(slots=True, eq=False)
class _Kept:
    """A container that has ended, or that has ended before and runs again.

    container: as it was, with its end. party: that it belongs to. pairs: its labels. slot: its row in the table. cells:
    of that row. until: when it is forgotten, on the clock of time.monotonic(). size: in bytes, as `MAX_BYTES` counts.
    row: that of the registry while it runs again. ooms: kills of its earlier runs. killed: whether one of its last run
    is counted.
    """

    container: Container
    party: _Party
    pairs: _Pairs
    slot: int
    cells: dict[str, int] = field(default_factory=dict)
    until: float = math.inf
    size: int = 0
    row: int | None = None
    ooms: int = 0
    killed: bool = False


class StoppedContainers:
    """The containers of a node that have ended. All methods but `ended` are called on the loop.

    texts: path and inventory entry of each, by UUID. ooms: kills of earlier runs, by the row of the container that runs
    again.
    """

    def __init__(
        self,
        keep_seconds: float,
        document: Callable[[Container], str],
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """keep_seconds: how long a container is kept, 0 for not at all. document: returns its inventory entry.

        clock: seconds since the epoch.
        """
        self.keep_seconds = keep_seconds
        self.texts: dict[str, tuple[str, str]] = {}
        self.ooms: dict[int, int] = {}
        self._again: dict[int, _Kept] = {}
        self._document = document
        self._clock = clock
        self._monotonic = monotonic
        self._kept: dict[str, _Kept] = {}
        self._by_uuid: dict[str, _Kept] = {}
        self._number_of: Counter[_Party] = Counter()
        self._bytes_of: Counter[_Party] = Counter()
        self._free: list[int] = []
        self._table = Table(TABLE, COLUMNS)
        self._snapshot: Table | None = None

    def __len__(self) -> int:
        return len(self.texts)

    # Changes. Each returns the UUIDs whose place in the inventory has changed.

    def add(self, container: Container, pairs: _Pairs, end: End) -> list[str]:
        """Keep a container that has just ended, also if it had ended before."""
        if not self.keep_seconds:
            return []
        before = self._kept.pop(container.id, None)
        changed = [] if before is None else self._drop(before)
        if before is not None and _is_of_another(before, container):
            before = None
        ended = end.at if end.at is not None else self._clock()
        party = (container.owner, container.subject.match.uid if container.subject is not None else None)
        # Without what nothing is told of: labels of a runtime may have 64 KiB.
        container = replace(container, state=STOPPED, health="", ended=ended, labels={}, subject=None, problems=())
        cells = {name: value for name, value in end.numbers._asdict().items() if value is not None}
        cells |= {
            "start_seconds": int(container.start_seconds),
            "end_ms": int(ended * 1000),
            "restarts": before.cells.get("restarts", 0) if before is not None else 0,
            "exact": int(end.exact),
            STATES[0]: 1,
        }
        ooms = before.ooms if before is not None else 0
        killed = bool(cells.get("oom_kills"))
        if ooms or "oom_kills" in cells:
            cells["oom_kills"] = ooms = ooms + cells.get("oom_kills", 0)
        if end.code is not None:
            cells["exit_code"] = end.code
        until = self._monotonic() + self.keep_seconds
        kept = _Kept(container, party, pairs, self._slot(), cells, until, ooms=ooms, killed=killed)
        uuid, text = str(container.uuid), self._document(container)
        kept.size = len(text) + sum(len(name) + len(value) for name, value in pairs)
        self._kept[container.id] = self._by_uuid[uuid] = kept
        self.texts[uuid] = (container.id, text)
        self._number_of[party] += 1
        self._bytes_of[party] += kept.size
        self._write(kept)
        changed.append(uuid)
        while len(self._kept) > MAX_STOPPED:
            changed += self._drop_of(self._number_of)
        while self._bytes_of.total() > MAX_BYTES:
            changed += self._drop_of(self._bytes_of)
        return changed

    def describe(self, path: str, start_seconds: float, details: Details) -> bool:
        """Take over what the runtime tells of an end. Return whether it told the exit code.

        start_seconds: of the container that had this path; what is about another run of it is left out.
        """
        kept = self._kept.get(path)
        if kept is None or kept.row is not None or kept.container.start_seconds != start_seconds:
            return True  # it is forgotten, or runs again
        if details.restarts is not None:
            kept.cells["restarts"] = max(kept.cells["restarts"], details.restarts)
        told = details.exit_code is not None and (
            details.finished_at is None or details.finished_at >= start_seconds - EARLY_SECONDS
        )
        if told and details.exit_code is not None:
            kept.cells["exit_code"] = details.exit_code
            if details.finished_at is not None and details.finished_at <= self._clock():
                kept.cells["end_ms"] = int(details.finished_at * 1000)
        if told and details.oom_killed and not kept.killed:
            # The kernel's count was read before the kill, or went with the group.
            kept.killed = True
            kept.ooms += 1
            kept.cells["oom_kills"] = kept.ooms
        if told and details.end_state in STATES:
            for state in STATES:
                kept.cells.pop(state, None)
            kept.cells[details.end_state] = 1
        self._write(kept)
        return told

    def returned(self, path: str, row: int) -> list[str]:
        """Note that the container of a path runs again, in a row of the registry."""
        kept = self._kept.get(path)
        if kept is None:
            return []
        uuid = str(kept.container.uuid)
        self._by_uuid.pop(uuid, None)
        del self.texts[uuid]
        kept.row, kept.until = row, math.inf
        kept.cells = {name: kept.cells[name] for name in ("exit_code", "restarts") if name in kept.cells}
        kept.cells["restarts"] += 1
        self._again[row] = kept
        if kept.ooms:
            self.ooms[row] = kept.ooms
        self._write(kept)
        return [uuid]

    def relabel(self, container: Container, pairs: _Pairs) -> None:
        """Take over the labels of a container that runs again. Forget what was before if it has another owner now."""
        kept = self._kept.get(container.id)
        if kept is None or kept.row is None:
            return
        if _is_of_another(kept, container):
            del self._kept[container.id]
            self._drop(kept)
        elif kept.pairs != pairs:
            kept.pairs = pairs
            self._write(kept)

    def forget_ended(self) -> list[str]:
        """Forget the containers that do not run again: whose they are is decided in another way from now on."""
        there = list(self._by_uuid.values())
        for kept in there:
            del self._kept[kept.container.id]
        return [uuid for kept in there for uuid in self._drop(kept)]

    def forget(self, uuid: str) -> None:
        """Forget a container whose UUID another one holds now."""
        kept = self._by_uuid.get(uuid)
        if kept is not None:
            del self._kept[kept.container.id]
            self._drop(kept)

    def expire(self) -> list[str]:
        """Forget the containers that have been kept for long enough."""
        now = self._monotonic()
        over = [kept for kept in self._kept.values() if kept.until <= now]
        for kept in over:
            del self._kept[kept.container.id]
        return [uuid for kept in over for uuid in self._drop(kept)]

    def ended(self) -> list[tuple[Container, Mapping[str, int]]]:
        """Return the containers that have ended and do not run again, with their numbers by column.

        May be called by any thread.
        """
        there = list(self._by_uuid.values())  # in one step, as the loop goes on changing it
        return [(kept.container, dict(kept.cells)) for kept in there]

    # Scrapes.

    def table(self) -> Table:
        """Return the table of all. It does not change later."""
        if self._snapshot is None:
            self._snapshot = Table(TABLE, COLUMNS)
            self._snapshot.assign(self._table)
        return self._snapshot

    def one(self, uuid: str) -> tuple[Table, bytes] | None:
        """Return the table of one container that has ended, and its label block, or None."""
        kept = self._by_uuid.get(uuid)
        if kept is None:
            return None
        table = Table(TABLE, COLUMNS)
        self._copy(kept, table)
        return table, label_block(kept.pairs)

    def copy_row(self, row: int, target: Table) -> None:
        """Make a table one row, that of a container that runs again; or none if it has not ended before."""
        kept = self._again.get(row)
        if kept is None:
            target.clear()
        else:
            self._copy(kept, target)

    # Internals.

    def _copy(self, kept: _Kept, target: Table) -> None:
        """Make a table one row, without its labels: those of the one container are the scrape's."""
        target.assign_row(self._table, kept.slot)
        target.relabel(0, ())

    def _slot(self) -> int:
        return self._free.pop() if self._free else self._table.add_row()

    def _write(self, kept: _Kept) -> None:
        self._table.unset(kept.slot)
        self._table.relabel(kept.slot, kept.pairs)
        for name, value in kept.cells.items():
            self._table.set(kept.slot, name, value)
        self._snapshot = None

    def _drop_of(self, taken: Counter[_Party]) -> list[str]:
        """Forget the oldest container of the party that has taken most."""
        party = max(taken, key=taken.__getitem__)
        path = next(path for path, kept in self._kept.items() if kept.party == party)
        return self._drop(self._kept.pop(path))

    def _drop(self, kept: _Kept) -> list[str]:
        """Forget a container that is no longer in `_kept`."""
        uuid = str(kept.container.uuid)
        for counts, count in ((self._number_of, 1), (self._bytes_of, kept.size)):
            counts[kept.party] -= count
            if not counts[kept.party]:
                del counts[kept.party]
        self._table.unset(kept.slot)
        self._table.relabel(kept.slot, ())
        self._snapshot = None
        self._free.append(kept.slot)
        if kept.row is not None:
            del self._again[kept.row]
            self.ooms.pop(kept.row, None)
        if self._by_uuid.get(uuid) is not kept:
            return []
        del self._by_uuid[uuid], self.texts[uuid]
        return [uuid]


def _is_of_another(kept: _Kept, container: Container) -> bool:
    """Return whether a container has another owner than the one that had its path before.

    One without an owner, as each is before its runtime's files are read, is shown to no tenant.
    """
    return container.owner is not None and container.owner != kept.container.owner

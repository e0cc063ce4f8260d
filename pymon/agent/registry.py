"""The containers of this node: from the groups of the cgroup trees to rows of tables, label blocks and the inventory.

Python runs here once when a container comes or goes, never for a container at a scrape.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from pymon.agent.addresses import AddressWatch, Followed
from pymon.agent.rows import ContainerRows
from pymon.containers.identity import identify
from pymon.sources.addresses import AddressReader
from pymon.sources.cgroup import procs_root
from pymon.sources.tree import CgroupTree, Group, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pymon.containers.identity import NodeIdentity
    from pymon.containers.labels import LabelExport
    from pymon.containers.model import Match
    from pymon.containers.owner import OwnerRules
    from pymon.containers.recognise import Recogniser
    from pymon.containers.runtimes import Runtimes
    from pymon.sources.cgroup import CgroupSource

_log = logging.getLogger(__name__)

DESCRIBE_AGAIN_SECONDS = (0.5, 2.0, 10.0)
"""A runtime may write what it knows of a container after it made the group: look again after these times."""


class Registry(ContainerRows):
    """Containers by row, kept in step with the trees and the readers."""

    def __init__(
        self,
        source: CgroupSource,
        recogniser: Recogniser,
        runtimes: Runtimes,
        owners: OwnerRules,
        export: LabelExport,
        node: NodeIdentity,
        *,
        procfs: Path,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Raises SourceError when a hierarchy cannot be listed."""
        super().__init__(node, clock_ns=clock_ns)
        self._source = source
        self._recogniser = recogniser
        self._runtimes = runtimes
        self._owners = owners
        self._export = export
        self._clock_ns = clock_ns
        self._matches: dict[str, Match] = {}
        self._rows: dict[str, int] = {}
        self._created: list[float] = []
        self._followed: list[Followed | None] = []
        self._free: list[int] = []
        self._vague: dict[str, int] = {}
        self._btime_ns = _boot_time_ns(procfs)
        self._procfs = procfs
        self._addresses = AddressWatch(AddressReader(procfs, procs_root(source.hierarchies)))
        self._roots = source.hierarchies.roots
        self._tree = CgroupTree(
            self._roots, self._judge, appeared=self._appeared, spread=self._spread, vanished=self._vanished
        )
        # Now and not on the thread: after a restart of the agent nobody's names are to be gone for a moment.
        self._set_addresses(self._addresses.look())

    @property
    def tree(self) -> CgroupTree:
        """What follows the cgroup trees."""
        return self._tree

    def refresh(self) -> None:
        """Bring the registry, and with it the readers, up to date with the trees."""
        self._tree.refresh()

    def follow_addresses(self) -> None:
        """Keep the addresses up to date from now on, by calls on the running loop."""
        self._addresses.start(asyncio.get_running_loop(), self._set_addresses)

    def close(self) -> None:
        """Stop following the trees and the addresses."""
        self._tree.close()
        self._addresses.close()

    # The tree's calls.

    def _judge(self, path: str) -> Verdict:
        match = self._recogniser.recognise(path)
        if match is None:
            return Verdict.PASS
        self._matches[path] = match
        return Verdict.GROUP_AND_BELOW if match.descend else Verdict.GROUP

    def _appeared(self, group: Group) -> None:
        row = self._free.pop() if self._free else self.rows
        if row == self.rows:
            self.reserve(row + 1)
            self._created.append(0)
            self._followed.append(None)
        created_ns = self._creation_ns(group)
        self._rows[group.path] = row
        self._created[row] = created_ns / 1e9
        self._source.add(row, group.path[1:], created_ns)
        self._followed[row] = self._addresses.add(group.path)
        self._describe(group.path, row, 0)

    def _spread(self, group: Group) -> None:
        self._source.refresh(self._rows[group.path])

    def _vanished(self, group: Group) -> None:
        row = self._rows.pop(group.path)
        self._matches.pop(group.path, None)
        self._vague.pop(group.path, None)
        self._source.remove(row)
        followed = self._followed[row]
        if followed is not None:
            self._addresses.remove(followed)
        self._followed[row] = None
        self._free.append(row)
        self.vacate(row)

    def _describe(self, path: str, row: int, attempt: int) -> None:
        match = self._matches[path]
        details = self._runtimes.describe(match)
        before = self.container(row)
        self._forget_uuid(row)  # its own is not taken
        container = identify(
            self.node.uuid, match, details, self._owners, self._created[row], taken=self._by_uuid.keys()
        )
        if before is not None:  # a start, once told, stays: it is part of what the container is
            container = replace(container, start_seconds=before.start_seconds, addresses=before.addresses)
        labels = zip(self._export.names, self._export.values(container.labels), strict=True)
        self.place(row, container, labels, self._created[row])
        for problem in container.problems if attempt == 0 else ():
            _log.debug("container", extra={"fields": {"path": path, "problem": problem}})
        if details.reason and attempt < len(DESCRIBE_AGAIN_SECONDS):
            self._describe_later(path, row, attempt)

    def _set_addresses(self, changed: Iterable[tuple[Followed, tuple[str, ...]]]) -> None:
        changes = 0
        for followed, addresses in changed:
            row = self._rows.get(followed.path)
            container = None if row is None else self.container(row)
            if row is None or container is None or self._followed[row] is not followed:
                continue  # it went, or came again, meanwhile
            self.replace(row, replace(container, addresses=addresses))
            changes += 1
        if changes:
            self.tell()

    def _describe_later(self, path: str, row: int, attempt: int) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        self._vague[path] = row

        def again() -> None:
            if self._vague.get(path) == row:
                del self._vague[path]
                self._describe(path, row, attempt + 1)

        loop.call_later(DESCRIBE_AGAIN_SECONDS[attempt], again)

    def _creation_ns(self, group: Group) -> int:
        """When the group was made. kernfs makes its inodes, and their times, again when memory was short, so for a
        group that was there before us the start of its first process says it better where it is earlier.
        """
        now_ns = self._clock_ns()
        tree = next(iter(group.inodes))
        directory = self._roots[tree] / group.path[1:]
        created_ns = now_ns
        try:
            created_ns = directory.stat().st_mtime_ns
            with (directory / "cgroup.procs").open(encoding="ascii") as file:
                pid = int(file.readline() or "0")
            if pid:
                status = (self._procfs / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
                ticks = int(status.rpartition(")")[2].split()[19])
                created_ns = min(created_ns, self._btime_ns + ticks * 10_000_000)
        except (OSError, ValueError, IndexError):
            pass  # what is known so far is the answer
        return max(min(created_ns, now_ns), self._btime_ns)


def _boot_time_ns(procfs: Path) -> int:
    try:
        for line in (procfs / "stat").read_text().splitlines():
            if line.startswith("btime "):
                return int(line.split()[1]) * 1_000_000_000
    except (OSError, ValueError, IndexError):
        pass
    return 0

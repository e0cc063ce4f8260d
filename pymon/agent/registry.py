"""The containers of this node: from the groups of the cgroup trees to rows of tables, label blocks and the inventory.

Python runs here once when a container comes or goes, never for a container at a scrape.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from pymon._native.renderer import Labels
from pymon._native.table import Table
from pymon.agent.addresses import AddressWatch, Followed
from pymon.containers.identity import Container, NodeIdentity, identify
from pymon.exposition.compile import label_block
from pymon.sources.addresses import AddressReader
from pymon.sources.cgroup import procs_root
from pymon.sources.tree import CgroupTree, Group, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from uuid import UUID

    from pymon.containers.labels import LabelExport
    from pymon.containers.model import Match
    from pymon.containers.owner import OwnerRules
    from pymon.containers.recognise import Recogniser
    from pymon.containers.runtimes import Runtimes
    from pymon.sources.cgroup import CgroupSource

_log = logging.getLogger(__name__)

DESCRIBE_AGAIN_SECONDS = (0.5, 2.0, 10.0)
"""A runtime may write what it knows of a container after it made the group: look again after these times."""

CONTAINER_COLUMNS = ("last_seen", "start_seconds", "creation_seconds", "health")
HEALTH = {"healthy": 1, "none": -1}
"""Values of the column `health`; every other state is 0, and what the runtime does not tell is absent."""


class Registry:
    """Containers by row, kept in step with the trees, the readers and the table `container`.

    Implements the inventory of `pymon.agent.ports`.
    """

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
        self.node = node
        self.table = Table("container", CONTAINER_COLUMNS)
        self._source = source
        self._recogniser = recogniser
        self._runtimes = runtimes
        self._owners = owners
        self._export = export
        self._clock_ns = clock_ns
        self._matches: dict[str, Match] = {}
        self._rows: dict[str, int] = {}
        self._containers: list[Container | None] = []
        self._created: list[float] = []
        self._followed: list[Followed | None] = []
        self._blocks: list[bytes | None] = []
        self._free: list[int] = []
        self._by_uuid: dict[UUID, int] = {}
        self._by_text: dict[str, int] = {}
        self._vague: dict[str, int] = {}
        self._labels: Labels | None = None
        self._generation = 0
        self._epoch = f"{os.getpid():x}{clock_ns():x}"
        self._changed: asyncio.Event | None = None
        self._btime_ns = _boot_time_ns(procfs)
        self._procfs = procfs
        self._addresses = AddressWatch(AddressReader(procfs, procs_root(source.hierarchies)))
        self._roots = source.hierarchies.roots
        self._tree = CgroupTree(
            self._roots, self._judge, appeared=self._appeared, spread=self._spread, vanished=self._vanished
        )
        # Now and not on the thread: after a restart of the agent nobody's names are to be gone for a moment.
        self._set_addresses(self._addresses.look())

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> int:
        """Rows that tables need: as many as containers were ever there at once."""
        return len(self._containers)

    @property
    def tree(self) -> CgroupTree:
        """What follows the cgroup trees."""
        return self._tree

    def containers(self) -> list[Container]:
        """The containers that are there, by path."""
        return sorted((item for item in self._containers if item is not None), key=lambda item: item.id)

    def refresh(self) -> None:
        """Bring the registry, and with it the readers, up to date with the trees."""
        self._tree.refresh()

    def row_of(self, uuid: str) -> int | None:
        """The row of a container that is there; `uuid` in lower case."""
        return self._by_text.get(uuid)

    def block(self, row: int) -> bytes:
        """The label block of a row that has a container."""
        return self._blocks[row] or b""

    def labels(self) -> Labels:
        """The label blocks of all rows as they are now."""
        if self._labels is None:
            self._labels = Labels(self._blocks)
        return self._labels

    def follow_addresses(self) -> None:
        """Keep the addresses up to date from now on, by calls on the running loop."""
        self._addresses.start(asyncio.get_running_loop(), self._set_addresses)

    def close(self) -> None:
        """Stop following the trees and the addresses."""
        self._tree.close()
        self._addresses.close()

    # The inventory.

    @property
    def version(self) -> str:
        """An opaque word that changes with every change."""
        return f"{self._epoch}-{self._generation:x}"

    def document(self) -> bytes:
        """The inventory as JSON: the node, and its containers by path."""
        return json.dumps(
            {
                "version": self.version,
                "node": {"uuid": str(self.node.uuid), "hostname": os.uname().nodename},
                "containers": [_document(container) for container in self.containers()],
            },
            separators=(",", ":"),
        ).encode()

    async def wait_change(self, version: str, timeout_seconds: float) -> None:
        """Return when the version is another than this, or after the timeout."""
        deadline = time.monotonic() + timeout_seconds
        while self.version == version and (left := deadline - time.monotonic()) > 0:
            if self._changed is None:
                self._changed = asyncio.Event()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                return

    def _touch(self) -> None:
        self._labels = None
        self._tell()

    def _tell(self) -> None:
        """The inventory has changed."""
        self._generation += 1
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    # The tree's calls.

    def _judge(self, path: str) -> Verdict:
        match = self._recogniser.recognise(path)
        if match is None:
            return Verdict.PASS
        self._matches[path] = match
        return Verdict.GROUP_AND_BELOW if match.descend else Verdict.GROUP

    def _appeared(self, group: Group) -> None:
        row = self._free.pop() if self._free else len(self._containers)
        if row == len(self._containers):
            self._containers.append(None)
            self._blocks.append(None)
            self._created.append(0)
            self._followed.append(None)
            self.table.grow(row + 1)
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
        self.table.unset(row)
        self._forget_uuid(row)
        followed = self._followed[row]
        if followed is not None:
            self._addresses.remove(followed)
        self._followed[row] = None
        self._containers[row] = None
        self._blocks[row] = None
        self._free.append(row)
        self._touch()

    def _describe(self, path: str, row: int, attempt: int) -> None:
        match = self._matches[path]
        details = self._runtimes.describe(match)
        before = self._containers[row]
        self._forget_uuid(row)
        container = identify(
            self.node.uuid, match, details, self._owners, self._created[row], taken=self._by_uuid.keys()
        )
        if before is not None:  # a start, once told, stays: it is part of what the container is
            container = replace(container, start_seconds=before.start_seconds, addresses=before.addresses)
        self._by_uuid[container.uuid] = self._by_text[str(container.uuid)] = row
        self._containers[row] = container
        self._blocks[row] = label_block(
            (
                *zip(self._export.names, self._export.values(container.labels), strict=True),
                ("id", path),
                ("image", container.image),
                ("name", container.name),
            )
        )
        self.table.set(row, "last_seen", 0)
        self.table.set(row, "start_seconds", int(container.start_seconds))
        self.table.set(row, "creation_seconds", int(self._created[row]))
        if container.health:
            self.table.set(row, "health", HEALTH.get(container.health, 0))
        for problem in container.problems if attempt == 0 else ():
            _log.debug("container", extra={"fields": {"path": path, "problem": problem}})
        if details.reason and attempt < len(DESCRIBE_AGAIN_SECONDS):
            self._describe_later(path, row, attempt)
        self._touch()

    def _set_addresses(self, changed: Iterable[tuple[Followed, tuple[str, ...]]]) -> None:
        told = self._generation
        for followed, addresses in changed:
            row = self._rows.get(followed.path)
            container = None if row is None else self._containers[row]
            if row is None or container is None or self._followed[row] is not followed:
                continue  # it went, or came again, meanwhile
            self._containers[row] = replace(container, addresses=addresses)
            if self._generation == told:
                self._tell()

    def _forget_uuid(self, row: int) -> None:
        container = self._containers[row]
        if container is not None:
            del self._by_uuid[container.uuid]
            del self._by_text[str(container.uuid)]

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


def _document(container: Container) -> dict[str, object]:
    return {
        "uuid": str(container.uuid),
        "id": container.id,
        "name": container.name,
        "runtime": container.runtime,
        "runtime_id": container.runtime_id,
        "image": container.image,
        "start": container.start_seconds,
        "owner": container.owner,
        "state": container.state,
        "health": container.health,
        "groups": list(container.groups),
        "services": container.services,
        "namespace": container.namespace,
        "pod": container.pod,
        "pod_id": container.pod_id,
        "addresses": list(container.addresses),
    }

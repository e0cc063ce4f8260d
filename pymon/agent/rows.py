"""Containers by row, and the inventory of them."""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from pymon._native.renderer import Labels
from pymon._native.table import Table
from pymon.agent.journal import Journal
from pymon.catalogue.stopped import RUNNING_STATES
from pymon.containers.holders import Holders
from pymon.containers.identity import Container
from pymon.containers.model import PodNames
from pymon.exposition.compile import label_block
from pymon.inventory_document import Container as Told
from pymon.inventory_document import told

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from uuid import UUID

    from pymon.containers.identity import Claim
    from pymon.containers.node_identity import NodeIdentity
    from pymon.containers.owner import OwnerRules

    _Pairs: TypeAlias = tuple[tuple[str, str], ...]

CONTAINER_COLUMNS = ("last_seen", "start_seconds", "creation_seconds", "health", *RUNNING_STATES)
MAX_DOCUMENT_BYTES = 32 << 20
"""Largest inventory; proxies refuse one of more than 40 MiB. If it would be larger, the containers with the longest
entries are listed without the fields that tenants control. So no tenant can make proxies refuse a node's inventory.
"""

MAX_CHANGES_BYTES = 1 << 20
"""Largest list of changes. If it would be larger, the whole inventory is sent instead."""

_SAME = sorted({field.name for field in fields(Container)} & set(Told.__struct_fields__) - {"uuid", "uuid_name"})
"""Fields that the inventory takes from a container unchanged."""

_HEX = re.compile("[0-9a-f]{1,16}")
_encode = json.JSONEncoder(separators=(",", ":")).encode
HEALTH = {"healthy": 1, "none": -1}
"""Values of the column `health`. Every other state is 0. The cell is absent if the runtime reports no state."""


class ContainerRows:
    """Containers and their label blocks by row. Row numbers are those of the table `container`.

    Implements `pymon.agent.ports.Inventory`.
    """

    def __init__(
        self,
        node: NodeIdentity,
        *,
        populated: Callable[[int], bool] = lambda _: True,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Create an empty registry.

        populated: whether the container of a row has processes; called when several containers claim one UUID.
        clock_ns: nanoseconds since the epoch.
        """
        self.node = node
        self._holders = Holders(populated)
        self.table = Table("container", CONTAINER_COLUMNS)
        self._containers: list[Container | None] = []
        self._label_pairs: list[_Pairs] = []
        self._unnamed: PodNames | None = None
        self._blocks: list[bytes | None] = []
        self._json: list[str] = []
        self._by_uuid: dict[UUID, int] = {}
        self._by_text: dict[str, int] = {}
        self._labels: Labels | None = None
        self._generation = 0
        self._journal = Journal()
        self._epoch = f"{os.getpid():x}{clock_ns():x}"
        self._ended: Mapping[str, tuple[str, str]] = {}
        self._changed: asyncio.Event | None = None
        self._on_gone: Callable[[str], None] | None = None
        self._on_row: list[Callable[[int], None]] = []

    def __len__(self) -> int:
        return len(self._by_uuid)

    def use_owners(self, owners: OwnerRules) -> None:
        """Decide by other rules who owns a container."""
        raise NotImplementedError

    @property
    def rows(self) -> int:
        """Number of rows that tables need, including rows that are vacant."""
        return len(self._containers)

    def containers(self) -> list[Container]:
        """Return the current containers, sorted by path."""
        return sorted((item for item in self._containers if item is not None), key=lambda item: item.id)

    def started(self) -> list[tuple[int, str, float]]:
        """Return row, group and start of the current containers."""
        found = ((row, item) for row, item in enumerate(self._containers) if item is not None)
        return [(row, item.id, item.start_seconds) for row, item in found]

    def container(self, row: int) -> Container | None:
        """Return the container of a row, None if the row is vacant or does not exist."""
        return self._containers[row] if row < len(self._containers) else None

    def row_of(self, uuid: str) -> int | None:
        """Return the row of the container with this UUID in lower case, None if there is none."""
        return self._by_text.get(uuid)

    def block(self, row: int) -> bytes:
        """Return the label block of a row, empty if it is vacant or left out of scrapes of all containers."""
        return self._blocks[row] or b""

    def label_pairs(self, row: int) -> tuple[tuple[str, str], ...]:
        """Return the label names and values of a row that has a container."""
        return self._label_pairs[row]

    def labels(self) -> Labels:
        """Return the current label blocks of all rows. The result does not change later."""
        if self._labels is None:
            self._labels = Labels(self._blocks)
        return self._labels

    # Changes.

    def reserve(self, rows: int) -> None:
        """Grow to at least this many rows."""
        more = rows - len(self._containers)
        if more > 0:
            self._containers += [None] * more
            self._label_pairs += [()] * more
            self._blocks += [None] * more
            self._json += [""] * more
            self.table.grow(rows)

    def claim(self, row: int, claims: Sequence[Claim], age: int) -> Claim:
        """Set the UUIDs that the container of a row claims, as `Holders.claim` does. Return the claim that it holds.

        Other containers whose UUID changes because of this are updated at once. The caller calls `place` next.
        """
        self._pass_on(self._holders.claim(row, claims, age))
        return self._holders.held(row)

    def review(self) -> None:
        """Check again which of the containers that claim the same UUID have processes, and reassign UUIDs."""
        self._pass_on(self._holders.review())

    def begin(self) -> None:
        """Assign the UUIDs that several containers claim. Called once, when all containers of the start are placed."""
        self._pass_on(self._holders.begin())

    def _pass_on(self, changes: Mapping[int, Claim]) -> None:
        for row, claim in changes.items():
            container = self._containers[row]
            if container is not None:
                self.replace(row, replace(container, uuid=claim.uuid, uuid_name=claim.name))
        if changes:
            self.tell()

    def place(
        self,
        row: int,
        container: Container,
        labels: Iterable[tuple[str, str]],
        created_seconds: float,
        *,
        shown: bool = True,
        hold_seconds: float = 0.0,
    ) -> None:
        """Put a container, or its new description, into a row, and announce the change.

        labels: exported names and values of the runtime's labels. created_seconds: since the epoch. shown: whether the
        container is in scrapes of all containers. hold_seconds: as for `tell`.
        """
        self.replace(row, container)
        named = (("id", container.id), ("image", container.image), ("name", container.name))
        self._label_pairs[row] = self._with_names((*labels, *named), container.kubernetes)
        self._blocks[row] = label_block(self._label_pairs[row]) if shown else None
        self.table.unset(row)
        self.table.set(row, "last_seen", 0)
        self.table.set(row, "start_seconds", int(container.start_seconds))
        self.table.set(row, "creation_seconds", int(created_seconds))
        if container.health:
            self.table.set(row, "health", HEALTH.get(container.health, 0))
        if container.told_state in RUNNING_STATES:
            self.table.set(row, container.told_state, 1)
        self._labels = None
        self.tell(hold_seconds)

    def measure(self, row: int, path: str, labels: Iterable[tuple[str, str]], created_seconds: float) -> None:
        """Put a cgroup that is no container into a row. It is in scrapes of all containers, and not in the inventory.

        labels, created_seconds: as for `place`.
        """
        self.call(row, path, labels, None)
        self.table.set(row, "last_seen", 0)
        self.table.set(row, "start_seconds", int(created_seconds))
        self.table.set(row, "creation_seconds", int(created_seconds))

    def call(self, row: int, path: str, labels: Iterable[tuple[str, str]], names: PodNames | None) -> None:
        """Set the labels of a row that `measure` has filled. names: of the pod whose cgroup it is."""
        self._label_pairs[row] = self._with_names((*labels, ("id", path), ("image", ""), ("name", "")), names)
        self._blocks[row] = label_block(self._label_pairs[row])
        self._labels = None

    def _with_names(self, pairs: _Pairs, names: PodNames | None) -> _Pairs:
        names = names or self._unnamed
        if names is None:
            return pairs
        return (("container", names.container), *pairs, ("namespace", names.namespace), ("pod", names.pod))

    def on_kubernetes(self) -> None:
        """Give every row the labels of Kubernetes, empty ones if Kubernetes has not started it, from now on.

        The kubelet does that, too. Prometheus gives a series without a label the one of its target, and where
        Kubernetes runs the agent that would be the agent's pod.
        """
        if self._unnamed is not None:
            return
        self._unnamed = PodNames("", "", "")
        for row, pairs in enumerate(self._label_pairs):
            self._label_pairs[row] = self._with_names(pairs, None)
            if self._blocks[row] is not None:
                self._blocks[row] = label_block(self._label_pairs[row])
        self._labels = None

    def unmeasure(self, row: int) -> None:
        """Remove a cgroup that is no container from a row."""
        for listener in self._on_row:
            listener(row)
        self.table.unset(row)
        self._blocks[row] = None
        self._labels = None

    def replace(self, row: int, container: Container) -> None:
        """Replace the description of a row's container, without its labels. The caller calls `tell`."""
        before = self._containers[row]
        if before is None or before.uuid != container.uuid:
            self._forget_uuid(row)
            self._by_uuid[container.uuid] = self._by_text[str(container.uuid)] = row
        self._containers[row] = container
        text = entry(container)
        if text != self._json[row]:
            self._json[row] = text
            self._journal.add(str(container.uuid), self._generation + 1)

    def tell_of_row(self, listener: Callable[[int], None]) -> None:
        """Add a function that is called with each row that a container or another cgroup leaves."""
        self._on_row.append(listener)

    def tell_of_gone(self, listener: Callable[[str], None]) -> None:
        """Set the function that is called with each UUID that a container loses."""
        self._on_gone = listener

    def vacate(self, row: int) -> None:
        """Remove the container of a row, and announce the change."""
        self._pass_on(self._holders.release(row))
        self._forget_uuid(row)
        for listener in self._on_row:
            listener(row)
        self.table.unset(row)
        self._containers[row] = None
        self._blocks[row] = None
        self._json[row] = ""
        self._labels = None
        self.tell()

    def tell(self, hold_seconds: float = 0.0) -> None:
        """Start a new version of the inventory and wake the waiters.

        hold_seconds: delay before they are woken, so that changes which follow soon reach them together with this one.
        """
        self._generation += 1
        if self._changed is None:
            return
        if hold_seconds:
            from asyncio import get_running_loop  # noqa: PLC0415  # only processes that serve load asyncio

            get_running_loop().call_later(hold_seconds, self._wake)
        else:
            self._wake()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def _forget_uuid(self, row: int) -> None:
        container = self._containers[row]
        if container is None:
            return
        if self._by_uuid.get(container.uuid) == row:  # otherwise another container has it already
            del self._by_uuid[container.uuid], self._by_text[str(container.uuid)]
            self._journal.add(str(container.uuid), self._generation + 1)
        if self._on_gone is not None:
            self._on_gone(str(container.uuid))

    # The inventory.

    def ready(self) -> str | None:
        """Return None when the inventory is complete, else the reason why not, on one line."""
        return None

    @property
    def version(self) -> str:
        """An opaque string that differs after every change."""
        return f"{self._epoch}-{self._generation:x}"

    def document(self) -> bytes:
        """Return the inventory as JSON: the version, the node, and its containers sorted by path."""
        # Join entries that are encoded already: encoding 10,000 at once would block the loop for 0.2 s.
        there = [(item.id, text) for item, text in zip(self._containers, self._json, strict=True) if item is not None]
        if sum(len(text) for _, text in there) > MAX_DOCUMENT_BYTES:
            there = self._brief()
        there += self._ended.values()
        containers = ",".join(text for _, text in sorted(there))
        return f'{{"version":{_encode(self.version)},"node":{self._node_json()},"containers":[{containers}]}}'.encode()

    def list_ended(self, ended: Mapping[str, tuple[str, str]]) -> None:
        """Set the containers that are in the inventory although they have ended: path and JSON, by UUID."""
        self._ended = ended

    def ended(self) -> Sequence[tuple[Container, Mapping[str, int]]]:
        """Return the containers that have ended and are kept, with their last numbers by `pymon.catalogue.stopped`."""
        return ()

    def tell_of(self, uuids: Sequence[str]) -> None:
        """Announce that containers which have ended came to the inventory or left it."""
        for uuid in uuids:
            self._journal.add(uuid, self._generation + 1)
        if uuids:
            self.tell()

    def changes(self, version: str) -> bytes | None:
        """Return the changes since a version as JSON, None if they are not known or too large.

        Keys: version, since, node, total: number of containers now, changed: containers that are new or have changed,
        removed: UUIDs of containers that have gone.
        """
        epoch, _, digits = version.rpartition("-")
        if epoch != self._epoch or not _HEX.fullmatch(digits):
            return None
        generation = int(digits, 16)
        uuids = self._journal.since(generation) if generation <= self._generation else None
        if uuids is None or sum(map(len, self._json)) > MAX_DOCUMENT_BYTES:
            return None
        ended = self._ended
        texts = [self._json[self._by_text[uuid]] for uuid in uuids if uuid in self._by_text]
        texts += (ended[uuid][1] for uuid in uuids if uuid in ended)
        if sum(map(len, texts)) > MAX_CHANGES_BYTES:
            return None
        changed = ",".join(texts)
        removed = _encode([uuid for uuid in uuids if uuid not in self._by_text and uuid not in ended])
        return (
            f'{{"version":{_encode(self.version)},"since":{_encode(version)},"node":{self._node_json()},'
            f'"total":{len(self) + len(ended)},"changed":[{changed}],"removed":{removed}}}'
        ).encode()

    def _node_json(self) -> str:
        return _encode({"uuid": str(self.node.uuid), "hostname": os.uname().nodename})

    def _brief(self) -> list[tuple[str, str]]:
        """Return path and JSON of each container, the longest ones shortened until all fit in `MAX_DOCUMENT_BYTES`."""
        rows = [row for row, text in enumerate(self._json) if text]
        rows.sort(key=lambda row: len(self._json[row]), reverse=True)
        left = sum(len(self._json[row]) for row in rows)
        found: list[tuple[str, str]] = []
        for row in rows:
            text, container = self._json[row], self._containers[row]
            if container is None:
                continue
            if left > MAX_DOCUMENT_BYTES:
                brief = replace(
                    container, name="", image="", groups=(), services="", cns={}, namespace="", pod="", ports=None
                )
                brief = replace(brief, app_ports=None, app_path=None, app_fetched=None)
                left -= len(text)
                text = _encode(_document(brief))
                left += len(text)
            found.append((container.id, text))
        return found

    async def wait_change(self, version: str, timeout_seconds: float) -> None:
        """Return when the version differs from this one, or after the timeout."""
        import asyncio  # noqa: PLC0415  # only processes that serve load asyncio

        deadline = time.monotonic() + timeout_seconds
        while self.version == version and (left := deadline - time.monotonic()) > 0:
            if self._changed is None:
                self._changed = asyncio.Event()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                return


def entry(container: Container) -> str:
    """Return the entry of a container in the inventory, as JSON."""
    return _encode(_document(container))


def _document(container: Container) -> dict[str, object]:
    """Return the entry of a container in the inventory."""
    found: dict[str, Any] = {name: getattr(container, name) for name in _SAME} | dict(container.cns)
    start, name = container.start_seconds, container.uuid_name
    return told(Told(uuid=str(container.uuid), start=start, uuid_name=name or None, **found))

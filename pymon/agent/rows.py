"""Containers by row, and the inventory that is made of them."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import TYPE_CHECKING

from pymon._native.renderer import Labels
from pymon._native.table import Table
from pymon.exposition.compile import label_block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from uuid import UUID

    from pymon.containers.identity import Container, NodeIdentity

CONTAINER_COLUMNS = ("last_seen", "start_seconds", "creation_seconds", "health")
_encode = json.JSONEncoder(separators=(",", ":")).encode
HEALTH = {"healthy": 1, "none": -1}
"""Values of the column `health`; every other state is 0, and what the runtime does not tell is absent."""


class ContainerRows:
    """Containers and their label blocks by row, in step with the table `container`.

    Implements the inventory of `pymon.agent.ports`.
    """

    def __init__(self, node: NodeIdentity, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.node = node
        self.table = Table("container", CONTAINER_COLUMNS)
        self._containers: list[Container | None] = []
        self._label_pairs: list[tuple[tuple[str, str], ...]] = []
        self._blocks: list[bytes | None] = []
        self._json: list[str] = []
        self._by_uuid: dict[UUID, int] = {}
        self._by_text: dict[str, int] = {}
        self._labels: Labels | None = None
        self._generation = 0
        self._epoch = f"{os.getpid():x}{clock_ns():x}"
        self._changed: asyncio.Event | None = None
        self._on_gone: Callable[[str], None] | None = None

    def __len__(self) -> int:
        return len(self._by_uuid)

    @property
    def rows(self) -> int:
        """Rows that tables need: as many as containers were ever there at once."""
        return len(self._containers)

    def containers(self) -> list[Container]:
        """The containers that are there, by path."""
        return sorted((item for item in self._containers if item is not None), key=lambda item: item.id)

    def container(self, row: int) -> Container | None:
        """The container of a row."""
        return self._containers[row] if row < len(self._containers) else None

    def row_of(self, uuid: str) -> int | None:
        """The row of a container that is there; `uuid` in lower case."""
        return self._by_text.get(uuid)

    def block(self, row: int) -> bytes:
        """The label block of a row that has a container."""
        return self._blocks[row] or b""

    def label_pairs(self, row: int) -> tuple[tuple[str, str], ...]:
        """The labels of a row that has a container."""
        return self._label_pairs[row]

    def labels(self) -> Labels:
        """The label blocks of all rows as they are now."""
        if self._labels is None:
            self._labels = Labels(self._blocks)
        return self._labels

    # Changes.

    def reserve(self, rows: int) -> None:
        """Have at least this many rows."""
        more = rows - len(self._containers)
        if more > 0:
            self._containers += [None] * more
            self._label_pairs += [()] * more
            self._blocks += [None] * more
            self._json += [""] * more
            self.table.grow(rows)

    def place(
        self,
        row: int,
        container: Container,
        labels: Iterable[tuple[str, str]],
        created_seconds: float,
        *,
        shown: bool = True,
    ) -> None:
        """Put a container, or what is now known of it, into a row. labels: those of the runtime, by exported name.

        shown: whether it is in expositions of all containers.
        """
        self._forget_uuid(row)
        self._by_uuid[container.uuid] = self._by_text[str(container.uuid)] = row
        self.replace(row, container)
        self._label_pairs[row] = (
            *labels,
            ("id", container.id),
            ("image", container.image),
            ("name", container.name),
        )
        self._blocks[row] = label_block(self._label_pairs[row]) if shown else None
        self.table.set(row, "last_seen", 0)
        self.table.set(row, "start_seconds", int(container.start_seconds))
        self.table.set(row, "creation_seconds", int(created_seconds))
        if container.health:
            self.table.set(row, "health", HEALTH.get(container.health, 0))
        self._labels = None
        self.tell()

    def replace(self, row: int, container: Container) -> None:
        """Another description of a row's container, with the same UUID and labels. The caller calls `tell`."""
        self._containers[row] = container
        self._json[row] = _encode(_document(container))

    def tell_of_gone(self, listener: Callable[[str], None]) -> None:
        """Call it from now on with the UUID of each container that goes."""
        self._on_gone = listener

    def vacate(self, row: int) -> None:
        """The row's container has gone."""
        gone = self._containers[row]
        if gone is not None and self._on_gone is not None:
            self._on_gone(str(gone.uuid))
        self._forget_uuid(row)
        self.table.unset(row)
        self._containers[row] = None
        self._blocks[row] = None
        self._json[row] = ""
        self._labels = None
        self.tell()

    def tell(self) -> None:
        """The inventory has changed."""
        self._generation += 1
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def _forget_uuid(self, row: int) -> None:
        container = self._containers[row]
        if container is not None:
            self._by_uuid.pop(container.uuid, None)
            self._by_text.pop(str(container.uuid), None)

    # The inventory.

    def ready(self) -> str | None:
        """None when what is written of the containers has been read, else why not, on one line."""
        return None

    @property
    def version(self) -> str:
        """An opaque word that changes with every change."""
        return f"{self._epoch}-{self._generation:x}"

    def document(self) -> bytes:
        """The inventory as JSON: the node, and its containers by path."""
        # With what has been written of each: writing 10,000 at once would hold the loop for 0.2 s.
        there = [(item.id, text) for item, text in zip(self._containers, self._json, strict=True) if item is not None]
        containers = ",".join(text for _, text in sorted(there))
        node = _encode({"uuid": str(self.node.uuid), "hostname": os.uname().nodename})
        return f'{{"version":{_encode(self.version)},"node":{node},"containers":[{containers}]}}'.encode()

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
        **container.cns,
    }

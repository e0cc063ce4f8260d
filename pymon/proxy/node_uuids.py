"""Which node has which UUID: by the directory, by what this proxy assigned, and by what nodes report. No I/O.

UUIDs are text in lower case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pymon.directory.model import Snapshot


class NodeUuids:
    """The UUIDs of nodes.

    names: node names by UUID, for nodes whose UUID the directory or `pin` assigned.
    """

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self._accounts: Snapshot | None = None
        self._pins: dict[str, str] = {}  # UUIDs by name that the directory does not have
        self._told: dict[str, str] = {}  # UUIDs by name, as reported by nodes that are not pinned

    def of(self, name: str) -> str | None:
        """Return the UUID that is assigned to a node, None when there is none."""
        known = self._accounts.nodes.get(name) if self._accounts is not None else None
        return str(known.uuid) if known is not None and known.uuid is not None else self._pins.get(name)

    def told(self, uuid: str) -> set[str]:
        """Return the names of nodes that report this UUID and have none assigned."""
        return {name for name, other in self._told.items() if other == uuid} if self._told else set()

    def tell(self, name: str, uuid: str) -> None:
        """Record the UUID that a node reports. It is not assigned to the node."""
        self._told[name] = uuid

    def set_directory(self, accounts: Snapshot, changed: Iterable[str]) -> set[str]:
        """Take over a snapshot of nodes. Return the UUIDs that became a node's UUID or ceased to be one.

        changed: names of the nodes that came, went or differ.
        """
        before, self._accounts = self._accounts, accounts
        had: list[tuple[str, str]] = []
        have: dict[str, str] = {}
        for name in changed:
            old = before.nodes.get(name) if before is not None else None
            if old is not None and old.uuid is not None:
                had.append((str(old.uuid), name))
            known = accounts.nodes.get(name)
            if known is not None and known.uuid is not None:
                have[str(known.uuid)] = name
        for name in [*self._pins.keys() | self._told.keys()]:
            known = accounts.nodes.get(name)
            if known is not None and known.uuid is not None:
                self._told.pop(name, None)
                if (pinned := self._pins.pop(name, None)) is not None:
                    had.append((pinned, name))
        touched = {uuid for uuid, _ in had} | have.keys()
        were = touched & self.names.keys()
        for uuid, name in had:
            if self.names.get(uuid) == name:
                del self.names[uuid]
        for name, uuid in self._pins.items() if had else ():
            if uuid in touched:
                self.names.setdefault(uuid, name)
        self.names |= have
        return were ^ (touched & self.names.keys())

    def pin(self, name: str, uuid: str) -> bool:
        """Assign a UUID to a node. Return False when the node has one already."""
        self._told.pop(name, None)
        if self.of(name) is not None:
            return False
        self._pins[name] = uuid
        self.names.setdefault(uuid, name)
        return True

    def forget(self, name: str) -> None:
        """Remove what `pin` and `tell` recorded of a node."""
        self._told.pop(name, None)
        if self._pins.pop(name, None) is not None:
            self._renew_names()

    def rename(self, name: str, to: str) -> None:
        """Rename a node. It keeps its UUID."""
        for known in (self._pins, self._told):
            if name in known:
                known[to] = known.pop(name)
        # Not `_renew_names`, whose cost is that of all nodes: all of them may get new names at once.
        pinned = self._pins.get(to)
        if pinned is not None and self.names.get(pinned) == name:
            self.names[pinned] = to

    def _renew_names(self) -> None:
        """Rebuild `names`."""
        self.names = {uuid: name for name, uuid in self._pins.items()}
        if self._accounts is not None:
            self.names |= {str(node.uuid): name for name, node in self._accounts.nodes.items() if node.uuid}

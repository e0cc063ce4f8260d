"""Decides which node holds a UUID, as its own UUID or as the UUID of its container. No I/O; clocks are arguments.

A claim is a node's statement that it runs a container with a given UUID. The UUID of a node is never the UUID of a
container. A claim that carries the text from which its UUID was derived (`uuid_name`) is verified without state: the
same text on another node gives another UUID. Any other claim needs a row that names the holder of the UUID. The first
claim creates the row, and only the rules in `Claims` pass it on to another node. Rows are stored in the directory, so
all proxies agree and a restart changes nothing.

UUIDs of containers and nodes are text in lower case.
"""

from __future__ import annotations

import math
from enum import Enum, auto
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pymon.directory.changes import changes_since
from pymon.directory.holders import MAX_HOLDERS_OF_NODE
from pymon.proxy.claim_refusals import Refusals
from pymon.proxy.claimant import FRESH_SECONDS, Claimant
from pymon.proxy.holder_rows import HolderRows, Row, Wanted
from pymon.proxy.node_uuids import NodeUuids
from pymon.uuid_name import MAX_BYTES, container_uuid_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from uuid import UUID

    from pymon.directory.model import Snapshot
    from pymon.inventory_document import Container

FUTURE_SECONDS = 300.0
"""A claim whose container start is further in the future than this is refused."""

MAX_CONTAINERS = 20_000
"""Default limit of containers for one node."""

FORGET_AT_ONCE = 1000

_STOPPED = "stopped"


class _Passes(Enum):
    """Which claims of the same account may take a container from its holder."""

    NOTHING = auto()
    NEWER = auto()
    """Claims with a newer start."""
    EQUAL = auto()
    """Claims with a newer or an equal start."""


class Identity(NamedTuple):
    """The verdict on a node that reports a UUID as its own.

    pinned: whether the directory, or this proxy, already assigned the UUID to the node. problem: why the node cannot
    have the UUID, one line, or "".
    """

    pinned: bool
    problem: str = ""


class Claims:
    """Decides claims from the inventories of nodes, the directory, and the rows of holders.

    durable: rows are stored in the directory. A row to write is put into `wanted`; after the write, `learn` or `failed`
    reports the outcome. If false, rows exist in this object only, and a first claim gets its row at once.
    away: the directory cannot be written now.
    rows, wanted: as in `HolderRows`. counts, news: as in `Refusals`.
    stopped_at: returns the name of the node where a container with a verified UUID stopped recently, or None.
    """

    def __init__(self, *, durable: bool = False, max_containers: int = MAX_CONTAINERS) -> None:
        self.durable = durable
        self.away = False
        self.max_containers = max_containers
        self._refusals = Refusals()
        self.counts, self.news = self._refusals.counts, self._refusals.news
        self._holders = HolderRows()
        self.rows, self.wanted = self._holders.rows, self._holders.wanted
        self.unneeded: dict[str, list[str]] = {}
        """Rows to delete: container UUIDs by the UUID of the node that holds them."""
        self.returns: dict[str, str] = {}
        """UUID of the node that lost a running container because it was silent, by container UUID.

        That node may take the container back.
        """
        self.stopped_at: Callable[[str], str | None] = lambda _: None
        self.owners_version = 0
        """Increases when results of `owner` or `allowed` may have changed."""
        self._released: dict[str, str] = {}
        self._moved: set[str] = set()  # new UUIDs of nodes that rows name, but `NodeUuids.names` does not yet
        self._nodes: dict[str, Claimant] = {}
        self._claimants: dict[str, tuple[str, ...]] = {}  # node names by UUID, in order of claim
        self._open: dict[str, None] = {}  # an ordered set of UUIDs with a claim that is not granted
        self._ticked_at = -math.inf
        self._accounts: Snapshot | None = None
        self._owners: Mapping[str, UUID] = {}  # see `Changes`
        self._uuids = NodeUuids()

    # --- the directory ---

    def set_directory(self, accounts: Snapshot) -> set[str]:
        """Take over a snapshot of accounts and nodes. Return the UUIDs to decide again.

        Returns at once when the snapshot is the current one.
        """
        before = self._accounts
        if accounts is before:
            return set()
        self._accounts = accounts
        changes = changes_since(before, accounts)
        self._owners = changes.owners
        again: set[str] = set()
        if other := changes.other_owners:
            self.owners_version += 1
            for node in self._nodes.values():
                again.update(uuid for uuid, container in node.containers.items() if container.owner in other)
        if changes.gone:
            gone = {uuid.int for uuid in changes.gone}  # a UUID is hashed and compared in Python, an integer in C
            again.update(uuid for uuid, row in self.rows.items() if row.owner is not None and row.owner.int in gone)
        for name in sorted(changes.nodes):
            known = accounts.nodes.get(name)
            if known is None:
                continue
            node = self._node(name)
            old = before.nodes.get(name) if before is not None else None
            if old is None or old.accounts != known.accounts:
                self.owners_version += 1
            if old is not None and old.accounts != known.accounts:
                again.update(node.containers)
            if old is not None and old.uuid and known.uuid and old.uuid != known.uuid:
                again |= self._move(str(old.uuid), str(known.uuid))
        for name in [name for name, node in self._nodes.items() if name not in accounts.nodes and not node.uuid]:
            del self._nodes[name]
        again |= self._uuids.set_directory(accounts, changes.nodes)
        self._moved.clear()
        return again & self._claimants.keys()

    def owner(self, container: Container) -> UUID | None:
        """Return the UUID of a container's account, or None when it has no owner or the account does not exist."""
        owner = container.owner
        return self._owners.get(owner) if owner is not None else None

    def allowed(self, name: str, owner: UUID | None) -> bool:
        """Return whether a node may claim containers of an account.

        Every node may claim containers without an owner, since only operators see those.
        """
        known = self._accounts.nodes.get(name) if self._accounts is not None else None
        return known is None or known.accounts is None or owner is None or owner in known.accounts

    def may_have_had(self, name: str, container: Container) -> bool:
        """Return whether a container can have run on a node, for one that another proxy remembers as stopped there."""
        node = self._nodes.get(name)
        if node is None or self._wrong(node, container):
            return False
        row = self.rows.get(container.uuid)
        return container.uuid_name is not None or row is None or row.node == node.uuid

    # --- nodes ---

    def identity(self, name: str, uuid: str) -> Identity:
        """Check whether a node of the directory can have this UUID.

        The result depends on the directory and on what other nodes hold. Remembers the UUID as reported when it is
        neither pinned nor refused.
        """
        own = self._uuids.of(name)
        if own is not None:
            return Identity(True) if own == uuid else Identity(False, f"expected the node {own}, got {uuid}")
        other = self._uuids.names.get(uuid)
        if other is not None:
            return Identity(False, f"the node {uuid} is {other} in the directory")
        for claimant in self._claimants.get(uuid, ()):
            if claimant != name and uuid not in self._nodes[claimant].refused:
                return Identity(False, f"the node {uuid} is a container of the node {claimant}")
        if uuid in self.rows or self.stopped_at(uuid) not in (None, name):
            return Identity(False, f"the node {uuid} was a container of another node")
        self._uuids.tell(name, uuid)
        return Identity(False)

    def pin(self, name: str, uuid: str) -> set[str]:
        """Assign a UUID to a node. Return the UUIDs to decide again."""
        return {uuid} & self._claimants.keys() if self._uuids.pin(name, uuid) else set()

    def node(self, name: str, uuid: str) -> dict[str, Container]:
        """Register a node and its UUID. Return the dictionary of its containers by UUID.

        The caller updates this dictionary, and reports each change with `claim` or `drop`.
        """
        node = self._node(name)
        node.uuid = uuid
        return node.containers

    def answers(self, name: str) -> None:
        """Record that a node answered and that processing of its answer begins."""
        self._node(name).answers()

    def heard(self, name: str) -> set[str]:
        """Record that a node answered and that its answer was processed. Return the UUIDs to decide again."""
        node = self._node(name)
        node.answers()
        return node.heard() & self._claimants.keys()

    def forget(self, name: str) -> list[str]:
        """Remove a node that left the directory or is another machine now. Return the UUIDs to decide again."""
        node = self._nodes.pop(name, None)
        self._uuids.forget(name)
        self._refusals.forget(name)
        if node is None:
            return []
        uuids = list(node.containers)
        for uuid in uuids:
            self._leave(uuid, name)
        if self._accounts is not None and name in self._accounts.nodes:
            self._node(name)
        return uuids

    def rename(self, name: str, to: str) -> None:
        """Rename a node. It keeps its claims, its rows and its counters."""
        node = self._nodes.pop(name)
        node.name, node.alone = to, (to,)
        self._nodes[to] = node
        self._uuids.rename(name, to)
        self._refusals.rename(name, to)
        for uuid in node.containers:
            names = self._claimants[uuid]
            self._claimants[uuid] = tuple(to if one == name else one for one in names) if len(names) > 1 else node.alone

    def waiting(self, name: str) -> list[str]:
        """Return the UUIDs of a node's claims that wait for a row. Empty while rows cannot be written."""
        node = self._nodes.get(name)
        if node is None or not self.durable or self.away:
            return []
        return [uuid for uuid, reason in node.refused.items() if not reason]

    # --- time ---

    def tick(self, at: float) -> None:
        """Update which nodes are fresh and which are silent. at: seconds of a monotonic clock.

        Silence is measured only while this is called. If the last call is more than `FRESH_SECONDS` ago, as after a
        stopped process, no node could be heard meanwhile, and every node counts as heard now.
        """
        absent = at - self._ticked_at > FRESH_SECONDS
        self._ticked_at = at
        for node in self._nodes.values():
            node.tick(at, absent=absent)

    def again(self, count: int) -> list[str]:
        """Return up to `count` UUIDs with claims that are not granted, in rotation.

        The passing of time may change their decisions.
        """
        found = list(islice(self._open, count))
        for uuid in found:
            del self._open[uuid]
            self._open[uuid] = None
        return found

    # --- containers ---

    def first(self, name: str, container: Container) -> bool:
        """Record the claim to a verified UUID that nobody else claims, and return whether that was done.

        Its holder is this node, as `decide` would return. The container must already be in the node's dictionary. This
        is the case of nearly all containers when a proxy starts, and takes less time than `claim` and `decide`.
        """
        uuid, text = container.uuid, container.uuid_name
        node = self._nodes[name]
        if text is None or uuid in self._claimants or self._wrong(node, container):
            return False
        self._claimants[uuid] = node.alone
        return True

    def claim(self, name: str, uuid: str) -> None:
        """Record a new claim. The container must already be in the node's dictionary."""
        names = self._claimants.get(uuid)
        if names is None:
            self._claimants[uuid] = self._nodes[name].alone
        elif name not in names:
            self._claimants[uuid] = (*names, name)

    def drop(self, name: str, uuid: str) -> None:
        """Remove a claim. The container must already be gone from the node's dictionary."""
        self._leave(uuid, name)
        node = self._nodes[name]
        node.refused.pop(uuid, None)
        if self.returns.get(uuid) == node.uuid:
            del self.returns[uuid]

    def decide(self, uuid: str, now: float) -> str | None:
        """Return the name of the node that holds a container, or None when no claim is granted.

        now: seconds since the epoch. May write a row or request its write.
        """
        self._unask(uuid)
        names = self._claimants.get(uuid, ())
        if len(names) == 1 and uuid not in self._open:
            # Nearly all containers: one claim, which needs no row, and none was refused before.
            node = self._nodes[names[0]]
            container = node.containers[uuid]
            if container.uuid_name is not None and uuid not in node.refused and not self._wrong(node, container):
                return names[0]
        reasons: dict[str, str] = {}
        unchecked: list[str] = []
        holder = None
        for name in names:
            node = self._nodes[name]
            container = node.containers[uuid]
            reason = self._wrong(node, container)
            if reason:
                reasons[name] = reason
            elif container.uuid_name is None:
                unchecked.append(name)
            else:
                holder = name
        if holder is not None:
            reasons |= dict.fromkeys(unchecked, "held")
        elif unchecked:
            holder = self._by_row(uuid, unchecked, reasons, now)
        self._tell(uuid, names, reasons, holder)
        return holder

    # --- rows ---

    def learn(self, rows: Mapping[str, Row], released: Iterable[str] = ()) -> set[str]:
        """Take over changed rows, and UUIDs whose rows were released. Return the UUIDs to decide again."""
        again: set[str] = set()
        for uuid in released:
            before = self._holders.remove(uuid)
            if before is not None and uuid in self._claimants:
                self._released[uuid] = before.node
            again.add(uuid)
        self._holders.answered(rows)
        for uuid, row in rows.items():
            before = self.rows.get(uuid)
            if before == row:
                again.add(uuid)
                continue
            self._holders.put(uuid, row)
            same = before is not None and (before.owner, before.start) == (row.owner, row.start)
            if same and row.node not in self._uuids.names:
                self._moved.add(row.node)
            self._released.pop(uuid, None)
            if before is not None and before.node != row.node:
                self._lost(uuid, before)
            holder = self._by_uuid(row.node)
            if holder is not None and uuid not in holder.containers:
                holder.unconfirmed.add(uuid)
            again.add(uuid)
        return again & self._claimants.keys()

    def failed(self, uuids: Iterable[str]) -> None:
        """Record that the writes for these UUIDs are no longer pending. They may be requested again."""
        self._holders.answered(uuids)

    def take(self, new: int, changed: int) -> dict[str, Wanted]:
        """Remove and return pending row writes by UUID: at most `new` new rows and `changed` changed rows."""
        return self._holders.take(new, changed)

    # --- internals ---

    def _node(self, name: str) -> Claimant:
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = Claimant(name, self.max_containers)
        return node

    def _by_uuid(self, uuid: str) -> Claimant | None:
        """Return the node to which a UUID is assigned, None when there is none."""
        return self._nodes.get(self._uuids.names.get(uuid, ""))

    def _move(self, before: str, after: str) -> set[str]:
        """Move all rows of a node to its new UUID. Return the UUIDs to decide again."""
        moved = self._holders.of(before)
        return self.learn({uuid: msgspec.structs.replace(self.rows[uuid], node=after) for uuid in moved})

    def _leave(self, uuid: str, name: str) -> None:
        names = tuple(one for one in self._claimants[uuid] if one != name)
        if names:
            self._claimants[uuid] = names
            return
        del self._claimants[uuid]
        self._open.pop(uuid, None)
        self._released.pop(uuid, None)
        self._holders.withdraw(uuid)
        self._holders.answered((uuid,))

    def _wrong(self, node: Claimant, container: Container) -> str:
        """Return the reason to refuse a claim regardless of other claims, or ""."""
        if container.uuid in self._uuids.names:
            return "node_uuid"
        text = container.uuid_name
        if text is not None and not _is_made_of(container.uuid, node.uuid, text):
            return "uuid_name"
        return "" if self.allowed(node.name, self.owner(container)) else "account"

    def _by_row(self, uuid: str, names: list[str], reasons: dict[str, str], now: float) -> str | None:
        row = self.rows.get(uuid)
        if row is None:
            return self._first(uuid, names, reasons, now)
        mine = next((name for name in names if self._nodes[name].uuid == row.node), None)
        if mine is not None:
            self._refresh(uuid, row, self._nodes[mine], now)
        if len(names) == (mine is not None):
            return mine
        passes = self._passes(uuid, row, mine)
        takers = []
        for name in names:
            if name == mine:
                continue
            node = self._nodes[name]
            back = self.returns.get(uuid) == node.uuid and not node.silent
            reasons[name] = self._against(row, node.containers[uuid], _Passes.EQUAL if back else passes, now)
            if not reasons[name] and (node.fresh or not self.durable):
                takers.append((-node.containers[uuid].start, name))
            elif back and node.fresh and not node.answering:
                del self.returns[uuid]
        if not takers:
            return mine
        taker = self._nodes[min(takers)[1]]
        after = Row(taker.uuid, self._account(row.owner), taker.containers[uuid].start, now)
        if self._write(uuid, Wanted(row, after), taker, now):
            return self._again(uuid, names, reasons, now)
        return mine

    def _passes(self, uuid: str, row: Row, mine: str | None) -> _Passes:
        """Return which claims may take a container from its holder now.

        mine: the holder's name when it lists the container, else None.
        """
        name = mine if mine is not None else self._uuids.names.get(row.node)
        if name is None:  # the node left the directory, or its new UUID is not known yet
            return _Passes.NOTHING if row.node in self._moved else _Passes.EQUAL
        node = self._nodes.get(name)
        if node is None:
            return _Passes.NOTHING
        if mine is not None:
            gone = node.containers[uuid].state == _STOPPED
        else:
            gone = node.uuid == row.node and node.answered and uuid not in node.unconfirmed
        return _Passes.NEWER if gone or node.silent else _Passes.NOTHING

    def _against(self, row: Row, container: Container, passes: _Passes, now: float) -> str:
        """Return the reason why a container cannot take over another node's row, or ""."""
        if container.start > now + FUTURE_SECONDS:
            return "future"
        if passes is _Passes.NOTHING or container.state == _STOPPED:
            return "held"
        if self.owner(container) != self._account(row.owner):
            return "owner"
        older = container.start < row.start if passes is _Passes.EQUAL else container.start <= row.start
        return "start" if older else ""

    def _refresh(self, uuid: str, row: Row, node: Claimant, now: float) -> None:
        """Update owner and start of a row from the holder's claim."""
        if self.durable and not node.fresh:
            return
        container = node.containers[uuid]
        owner = row.owner if self._account(row.owner) is not None else self.owner(container)
        start = container.start if container.start <= now + FUTURE_SECONDS else row.start
        if (owner, start) != (row.owner, row.start):
            self._write(uuid, Wanted(row, Row(row.node, owner, start, now)), node, now)

    def _first(self, uuid: str, names: list[str], reasons: dict[str, str], now: float) -> str | None:
        """Create the row of a UUID that has none. Return the holder's name, or None while there is no row.

        Running containers come before stopped ones, and other nodes before the node whose row was released.
        """
        released = self._released.get(uuid)
        stopped_at = self.stopped_at(uuid)
        told = self._uuids.told(uuid)

        def rank(name: str) -> tuple[bool, bool]:
            node = self._nodes[name]
            return node.containers[uuid].state == _STOPPED, node.uuid == released

        for name in sorted(names, key=rank):
            node = self._nodes[name]
            if stopped_at not in (None, name):
                reasons[name] = "held"
            elif told - {name}:
                reasons[name] = "node_uuid"
            elif node.containers[uuid].start > now + FUTURE_SECONDS:
                reasons[name] = "future"
            elif self.durable and self.away:
                reasons[name] = "directory"
            elif self.durable and not node.fresh:
                reasons[name] = ""
            elif not self._room(node, now):
                reasons[name] = "limit"
            else:
                container = node.containers[uuid]
                after = Row(node.uuid, self.owner(container), container.start, now)
                if self._write(uuid, Wanted(None, after), node, now):
                    return self._again(uuid, names, reasons, now)
                break
        for name in names:
            reasons.setdefault(name, "")
        return None

    def _again(self, uuid: str, names: list[str], reasons: dict[str, str], now: float) -> str | None:
        """Decide again by the row that was just written."""
        for name in names:
            reasons.pop(name, None)
        return self._by_row(uuid, names, reasons, now)

    def _write(self, uuid: str, wanted: Wanted, node: Claimant, now: float) -> bool:
        """Write a row, or request its write in the directory. Return whether it was written at once."""
        if not self.durable:
            self.learn({uuid: wanted.after})
            return True
        if not self.away and self._holders.may_ask(uuid) and not node.bucket.take(now):
            self._holders.ask(uuid, wanted)
        return False

    def _unask(self, uuid: str) -> None:
        """Withdraw the pending write of a UUID, because the new decision may differ. Give its token back."""
        wanted = self._holders.withdraw(uuid)
        if wanted is not None:
            node = self._by_uuid(wanted.after.node)
            if node is not None:
                node.bucket.give_back()

    def _room(self, node: Claimant, now: float) -> bool:
        """Return whether a node may have another row, by its number of rows and its rate of writes.

        A node may have twice as many rows as containers, so that rows of removed containers can stay. At this limit,
        rows of containers that the node no longer lists are released.
        """
        if self.durable and node.bucket.wait(now):
            return False
        held = self._holders.of(node.uuid)
        if len(held) < min(2 * self.max_containers, MAX_HOLDERS_OF_NODE):
            return True
        if node.answered and node.uuid not in self.unneeded:
            gone = (uuid for uuid in held if uuid not in node.containers and uuid not in node.unconfirmed)
            found = list(islice(gone, FORGET_AT_ONCE))
            if found and self.durable:
                self.unneeded[node.uuid] = found
            elif found:
                self.learn({}, found)
                return True
        return False

    def _lost(self, uuid: str, before: Row) -> None:
        """Record that a silent node lost a container that it still lists, so that it may take it back."""
        node = self._by_uuid(before.node)
        if node is not None and node.silent and uuid in node.containers:
            self.returns[uuid] = before.node
        else:
            self.returns.pop(uuid, None)

    def _account(self, uuid: UUID | None) -> UUID | None:
        """Return the account UUID of a row, or None when the account no longer exists."""
        return uuid if self._accounts is not None and uuid in self._accounts.accounts else None

    def _tell(self, uuid: str, names: Iterable[str], reasons: Mapping[str, str], holder: str | None) -> None:
        """Store the reasons of claims that are not granted, and count those that are newly refused."""
        for name in names:
            refused = self._nodes[name].refused
            reason = reasons.get(name)
            if reason == refused.get(uuid):
                continue
            if reason is None:
                del refused[uuid]
                continue
            refused[uuid] = reason
            if reason:
                self._refusals.add(name, reason, uuid, holder)
        if reasons:
            self._open[uuid] = None
        else:
            self._open.pop(uuid, None)


def _is_made_of(uuid: str, node: str, text: str) -> bool:
    """Return whether a container UUID derives from a node's UUID and a text.

    A text longer than `MAX_BYTES` is rejected without hashing; no agent sends one.
    """
    return len(text) <= MAX_BYTES and container_uuid_text(node, text) == uuid

"""The fleet gives the same answers as a model that starts anew."""

from __future__ import annotations

from collections.abc import Generator
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pymon.directory.changes import with_changes
from pymon.directory.model import Snapshot
from pymon.inventory_document import Container
from pymon.proxy.agent_document import Difference, Inventory
from pymon.proxy.fleet import STOPPED_SECONDS, Fleet, IdentityError
from tests.proxy.inventories import (
    ACCOUNTS,
    ALICE,
    BOB,
    account,
    inventory,
    names,
    row,
    uuid_of,
)

# --- against a model ---


NODES = ("n1", "n2", "n3")
OWNERS = (None, "alice", "bob", str(ALICE), "nobody")
SNAPSHOTS = st.builds(
    lambda pairs: Snapshot.of(0, accounts=[account(uuid, name) for name, uuid in pairs.items()]),
    st.dictionaries(st.sampled_from(("Alice", "bob", "nobody")), st.sampled_from((ALICE, BOB, UUID(int=9)))).filter(
        lambda pairs: len(set(pairs.values())) == len(pairs)
    ),
)
ROWS = st.builds(
    lambda number, start, owner: row(number, start=start, owner=owner),
    st.integers(1, 5),
    st.integers(1, 3),
    st.sampled_from(OWNERS),
)


class Model:
    """Recomputes everything from the last documents; keeps only the rows of holders, and what stopped when."""

    def __init__(self) -> None:
        self.documents: dict[str, Inventory] = {}
        self.claims: dict[str, list[str]] = {}  # names of nodes, the first that claimed first
        self.accounts = ACCOUNTS
        self.rows: dict[str, tuple[str, UUID | None, float]] = {}
        self.holder: dict[str, str] = {}
        self.stops: dict[str, tuple[Container, str, float]] = {}

    def settle(self) -> None:
        for name, document in self.documents.items():
            for uuid in document.containers:
                claimants = self.claims.setdefault(uuid, [])
                if name not in claimants:
                    claimants.append(name)
        self.holder = {}
        for uuid, claimants in self.claims.items():
            claimants[:] = [
                name for name in claimants if name in self.documents and uuid in self.documents[name].containers
            ]
            if claimants:
                self.settle_one(uuid, claimants)
        for uuid in self.holder:
            self.stops.pop(uuid, None)

    def settle_one(self, uuid: str, claimants: list[str]) -> None:
        found = {name: self.documents[name].containers[uuid] for name in claimants}
        nodes = {item.uuid: name for name, item in self.documents.items()}
        node, owner, start = self.rows.get(uuid, (None, None, 0.0))
        owner = owner if owner in self.accounts.accounts else None
        name = nodes.get(node or "")
        if node is None:
            name = claimants[0]
        elif name not in found:
            newest = max(
                (one for one in sorted(claimants) if self.owner(found[one].owner) == owner),
                key=lambda one: found[one].start,
                default=None,
            )
            if newest is None or not (found[newest].start > start or (name is None and found[newest].start == start)):
                return
            name = newest
        assert name is not None
        self.holder[uuid] = name
        self.rows[uuid] = (self.documents[name].uuid, owner or self.owner(found[name].owner), found[name].start)

    def owner(self, text: str | None) -> UUID | None:
        for found in self.accounts.accounts.values():
            if text in (found.name.lower(), str(found.uuid)):
                return found.uuid
        return None

    def running(self) -> dict[str, tuple[Container, str, str, UUID | None]]:
        found = {}
        for uuid, name in self.holder.items():
            container = self.documents[name].containers[uuid]
            found[uuid] = (container, name, self.documents[name].uuid, self.owner(container.owner))
        return found


class FleetMachine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.fleet = Fleet()
        self.model = Model()
        self.now = 0.0
        self.fleet.resolve_owners(ACCOUNTS)
        self.seen: tuple[int, object] = (0, None)

    @rule(
        name=st.sampled_from(NODES),
        rows=st.lists(ROWS, max_size=5),
        node=st.integers(1, 3),
        hostname=st.sampled_from(("", "h")),
    )
    def replace(self, name: str, rows: list[dict[str, Any]], node: int, hostname: str) -> None:
        found = inventory(*rows, node=node, hostname=hostname)
        pinned = {known: item.uuid for known, item in self.model.documents.items()}
        if pinned.get(name, found.uuid) != found.uuid or (found.uuid in pinned.values() and name not in pinned):
            with pytest.raises(IdentityError):
                self.fleet.replace(name, found, self.model.accounts, self.now)
            return
        had = {uuid for uuid, holder in self.model.holder.items() if holder == name}
        before = self.model.documents.get(name)
        self.model.documents[name] = found
        self.model.settle()
        for uuid in sorted(had - self.model.holder.keys()):
            assert before
            self.model.stops[uuid] = (before.containers[uuid], name, self.now)
        self.fleet.replace(name, found, self.model.accounts, self.now)

    @rule(name=st.sampled_from(NODES))
    def forget(self, name: str) -> None:
        self.model.documents.pop(name, None)
        self.model.settle()
        self.model.stops = {uuid: stop for uuid, stop in self.model.stops.items() if stop[1] != name}
        self.fleet.forget(name)

    @rule(name=st.sampled_from(NODES), to=st.sampled_from(NODES))
    def rename(self, name: str, to: str) -> None:
        if name not in self.model.documents or to in self.model.documents:
            return
        self.model.documents[to] = self.model.documents.pop(name)
        for claimants in self.model.claims.values():
            claimants[:] = [to if node == name else node for node in claimants]
        self.model.stops = {
            uuid: (container, to if node == name else node, since)
            for uuid, (container, node, since) in self.model.stops.items()
        }
        self.model.settle()
        self.fleet.rename(name, to)

    @rule(accounts=SNAPSHOTS, told=st.booleans())
    def resolve_owners(self, accounts: Snapshot, told: bool) -> None:
        if told:
            accounts = with_changes(self.model.accounts, accounts)
        self.model.accounts = accounts
        self.model.settle()
        self.fleet.resolve_owners(accounts)

    @rule(seconds=st.sampled_from((1.0, STOPPED_SECONDS / 2)))
    def expire(self, seconds: float) -> None:
        self.now += seconds
        self.fleet.expire(self.now)
        self.model.stops = {
            uuid: stop for uuid, stop in self.model.stops.items() if self.now - stop[2] < STOPPED_SECONDS
        }

    @invariant()
    def answers_are_the_models(self) -> None:
        if not hasattr(self, "fleet"):
            return
        self.fleet.settle(self.now, 0.0, 1000)
        running = self.model.running()
        owners = (None, ALICE, BOB, UUID(int=9))
        for number in range(1, 6):
            place = self.fleet.find(uuid_of(number))
            assert (place and (place.container, place.node.name, place.node.uuid, place.owner)) == running.get(
                uuid_of(number)
            )
        for owner in owners:
            places = self.fleet.owned(owner)
            assert {place.container.uuid for place in places} == {
                u for u, found in running.items() if found[3] == owner
            }
            assert {
                (place.container.uuid, place.container.start, place.node.name, place.container.state)
                for place in self.fleet.stopped(owner)
            } == {
                (uuid, container.start, name, "stopped")
                for uuid, (container, name, _) in self.model.stops.items()
                if self.model.owner(container.owner) == owner
            }
        assert len(self.fleet) == len(running)
        assert {view.uuid for view in self.fleet.nodes()} == {item.uuid for item in self.model.documents.values()}

    @invariant()
    def what_changed_has_another_version(self) -> None:
        if not hasattr(self, "fleet"):
            return
        answers = (
            [self.fleet.find(uuid_of(number)) for number in range(1, 6)],
            sorted(self.fleet.nodes(), key=lambda view: view.uuid),
            [names(self.fleet.stopped(owner)) for owner in (None, ALICE, BOB)],
        )
        version, before = self.seen
        if answers != before and before is not None:
            assert self.fleet.version > version
        self.seen = (self.fleet.version, answers)


TestFleetMachine = FleetMachine.TestCase
TestFleetMachine.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


# --- only what changed ---


def difference(before: Inventory, after: Inventory) -> Difference:
    old, new = before.containers, after.containers
    changed = {uuid: container for uuid, container in new.items() if old.get(uuid) != container}
    removed = frozenset(old.keys() - new.keys())
    found = Difference(after.uuid, after.hostname, "v", len(new), changed, removed)
    assert found.fits(old)
    return found


def result(steps: Generator[None, None, bool]) -> bool:
    """What steps come to."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return bool(end.value)


def seen(fleet: Fleet) -> tuple[object, ...]:
    stopped = {place.container.uuid: place for owner in (ALICE, BOB, None) for place in fleet.stopped(owner)}
    return {place.container.uuid: place for place in fleet.all()}, stopped, fleet.nodes(), fleet.stops("n1")


ROWS = st.dictionaries(st.integers(1, 6), st.tuples(st.sampled_from(["alice", "bob", None]), st.integers(1, 3)))


@given(states=st.lists(st.tuples(ROWS, st.sampled_from(["h", "i"])), min_size=2, max_size=6))
@settings(deadline=None)
def test_what_changed_does_what_the_whole_does(states: list[tuple[dict[int, tuple[str | None, int]], str]]) -> None:
    whole, changing = Fleet(), Fleet()
    told = [
        inventory(
            *(row(number, owner=owner, start=float(start)) for number, (owner, start) in rows.items()), hostname=name
        )
        for rows, name in states
    ]
    changing.replace("n1", told[0], ACCOUNTS, 1.0)
    whole.replace("n1", told[0], ACCOUNTS, 1.0)
    for now, (before, after) in enumerate(pairwise(told), 2):
        steps = changing.changing("n1", difference(before, after), ACCOUNTS, float(now))
        different = whole.replace("n1", after, ACCOUNTS, float(now))
        assert result(steps) == different
        assert seen(changing) == seen(whole)
        assert changing.version == whole.version

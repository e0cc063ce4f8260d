"""Whoever is told what differs between two snapshots of the directory looks at nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

from pymon.directory.changes import with_changes
from pymon.directory.model import Account, Node, Quota, Snapshot
from pymon.proxy.claims import Claims
from pymon.proxy.node_uuids import NodeUuids


def account(number: int) -> Account:
    return Account(UUID(int=number), f"Tenant-{number}", False, 0.0, Quota())


def node(number: int, uuid: int | None) -> Node:
    of = UUID(int=uuid) if uuid is not None else None
    return Node(f"node-{number}", of, f"http://10.0.0.{number}:9164")


class Unwalkable(dict[Any, Any]):
    """A mapping in which things can be looked up and not walked through."""

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("walked through")

    keys = values = items = __iter__  # type: ignore[assignment]


def test_whoever_is_told_walks_through_nothing() -> None:
    nodes = [node(number, number) for number in range(1, 20)]
    first = with_changes(Snapshot.of(), Snapshot.of(1, accounts=[account(1)], nodes=nodes))
    second = with_changes(first, Snapshot.of(2, accounts=[account(1), account(2)], nodes=[*nodes, node(20, 20)]))
    claims = Claims()
    claims.set_directory(first)
    told = replace(second, accounts=Unwalkable(second.accounts), nodes=Unwalkable(second.nodes))
    claims.set_directory(told)
    assert claims._uuids.names[str(UUID(int=20))] == "node-20"
    assert claims._owners["tenant-2"] == UUID(int=2)


def test_the_uuids_of_nodes_are_those_of_the_whole_directory() -> None:
    chance = random.Random(1)  # noqa: S311  # no secret
    for _ in range(200):
        uuids, whole, before = NodeUuids(), NodeUuids(), Snapshot.of()
        for generation in range(1, 12):
            some = chance.sample(range(8), 5)
            given = dict(zip(some, chance.sample(range(10), 5), strict=True))
            nodes = [node(number, given[number] if chance.random() < 0.7 else None) for number in some]
            after = with_changes(before, Snapshot.of(generation, nodes=nodes))
            assert after.changes is not None
            had = set(uuids.names)
            changed = uuids.set_directory(after, after.changes.nodes)
            assert changed == had ^ set(uuids.names)
            whole.set_directory(after, [])
            whole._renew_names()
            assert uuids.names == whole.names, nodes
            name, uuid = f"node-{chance.randrange(8)}", str(UUID(int=chance.randrange(10)))
            if uuid not in uuids.names:
                assert uuids.pin(name, uuid) == whole.pin(name, uuid)
            before = after

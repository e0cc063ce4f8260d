"""What differs between snapshots."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pymon.directory.changes import changes_since, with_changes
from pymon.directory.live import LiveDirectory
from pymon.directory.model import Account, Node, Quota, Snapshot


def account(number: int, name: str = "") -> Account:
    return Account(UUID(int=number), name or f"Tenant-{number}", False, 0.0, Quota())


def node(number: int, uuid: int | None = None) -> Node:
    of = UUID(int=uuid) if uuid is not None else None
    return Node(f"node-{number}", of, f"http://10.0.0.{number}:9164")


def test_what_differs() -> None:
    before = Snapshot.of(1, accounts=[account(1), account(2), account(3)], nodes=[node(1), node(2, 12), node(3)])
    after = Snapshot.of(
        2, accounts=[account(1), account(2, "other"), account(4)], nodes=[node(1), node(2, 13), node(4)]
    )
    found = changes_since(before, after)
    assert found.since == 1
    assert found.owners["other"] == found.owners[str(UUID(int=2))] == UUID(int=2)
    assert found.other_owners == {
        "tenant-2", "other", "tenant-3", str(UUID(int=3)), "tenant-4", str(UUID(int=4)),
    }  # fmt: skip
    assert found.gone == {UUID(int=3)}
    assert found.nodes == {"node-2", "node-3", "node-4"}
    told = with_changes(before, after)
    assert told == after
    assert changes_since(before, told) is told.changes == found
    assert changes_since(after, told) == changes_since(after, after), "it was not compared with that one"
    assert changes_since(None, after).nodes == {"node-1", "node-2", "node-4"}


def test_a_snapshot_of_the_directory_carries_them(directory: Any, url: str) -> None:
    directory.create_account("bob")
    live = LiveDirectory(url, None, lambda _: None)
    first = live.peek()
    assert first.changes is not None
    assert "bob" in first.changes.other_owners
    directory.create_node("node-1", "http://10.0.0.1:9164")
    second = live.peek()
    assert second.changes is not None
    assert second.changes.since == first.generation
    assert not second.changes.other_owners
    assert second.changes.nodes == {"node-1"}

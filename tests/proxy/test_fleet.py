"""What runs where: nodes, accounts, and what stopped."""

from __future__ import annotations

from uuid import UUID

import pytest

from pymon.directory.model import Account, Node, Snapshot
from pymon.inventory_document import Container
from pymon.proxy.agent_document import text_bytes
from pymon.proxy.fleet import MAX_STOPPED, MAX_STOPPED_BYTES, STOPPED_SECONDS, Fleet, IdentityError
from pymon.proxy.places import NodeView
from tests.proxy.inventories import (
    ACCOUNTS,
    ALICE,
    BOB,
    account,
    inventory,
    names,
    node_of,
    row,
    uuid_of,
    where,
)

# --- one node ---


def test_places_say_node_and_owner() -> None:
    fleet = Fleet()
    fleet.replace(
        "n1",
        inventory(row(1, owner="ALICE"), row(2, owner=str(BOB)), row(3), row(4, owner="nobody"), row(5, owner="")),
        ACCOUNTS,
        0.0,
    )
    place = fleet.find(uuid_of(1))
    assert place is not None
    assert (place.owner, place.node) == (ALICE, NodeView("n1", node_of(1), "host"))
    assert names(fleet.owned(ALICE)) == {"c1"}
    assert names(fleet.owned(BOB)) == {"c2"}
    assert names(fleet.owned(None)) == {"c3", "c4", "c5"}
    assert fleet.owned(UUID(int=5)) == []
    assert fleet.find(uuid_of(9)) is None
    assert fleet.node(node_of(1)) == NodeView("n1", node_of(1), "host")
    assert len(fleet) == 5


def test_nothing_new_changes_nothing() -> None:
    fleet = Fleet()
    assert fleet.replace("n1", inventory(row(1)), ACCOUNTS, 0.0)
    version, place = fleet.version, fleet.find(uuid_of(1))
    assert not fleet.replace("n1", inventory(row(1)), ACCOUNTS, 1.0)
    fleet.resolve_owners(Snapshot.of(2, accounts=ACCOUNTS.accounts.values()))
    fleet.forget("unheard of")
    fleet.expire(1e9)
    assert fleet.version == version
    assert fleet.find(uuid_of(1)) is place


def test_whatever_changes_is_seen() -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(row(1)), ACCOUNTS, 0.0)
    for change in (
        {"name": "x"},
        {"state": "paused"},
        {"groups": ["g"]},
        {"owner": "bob"},
        {"start": 200.0},
        {"health": "healthy"},
        {"addresses": ["198.18.1.2"]},
    ):
        version = fleet.version
        fleet.replace("n1", inventory(row(1, **change)), ACCOUNTS, 0.0)
        assert fleet.version > version
        place = fleet.find(uuid_of(1))
        assert place is not None
        lists = {key: tuple(change.get(key, ())) for key in ("groups", "addresses")}
        assert place.container == Container(**row(1, **(change | lists)))
    assert fleet.owned(BOB) == []


def test_a_node_may_change_its_hostname() -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(row(1), row(2)), ACCOUNTS, 0.0)
    fleet.replace("n1", inventory(row(1)), ACCOUNTS, 0.0)
    version = fleet.version
    fleet.replace("n1", inventory(row(1), hostname="other"), ACCOUNTS, 0.0)
    view = NodeView("n1", node_of(1), "other")
    assert fleet.version > version
    assert [place.node for place in (*fleet.owned(None), *fleet.stopped(None))] == [view, view]
    assert fleet.nodes() == [view]


def test_who_follows_hears_of_each_change_of_a_node() -> None:
    fleet = Fleet()
    heard: list[int] = []
    fleet.follow(lambda: heard.append(fleet.nodes_version))
    steps = [
        lambda: fleet.expect("n1", UUID(node_of(1))),
        lambda: fleet.replace("n1", inventory(hostname="host"), ACCOUNTS, 0.0),
        lambda: fleet.replace("n2", inventory(node=2), ACCOUNTS, 0.0),
        lambda: fleet.rename("n2", "n3"),
        lambda: fleet.forget("n3"),
    ]
    for step in steps:
        before = fleet.nodes_version
        step()
        assert fleet.nodes_version > before
        assert heard.pop() == fleet.nodes_version


def test_a_node_keeps_its_uuid_until_the_directory_has_another() -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(row(1), row(2)), ACCOUNTS, 0.0)
    with pytest.raises(IdentityError, match=f"expected the node {node_of(1)}, got {node_of(5)}"):
        fleet.replace("n1", inventory(row(1), node=5), ACCOUNTS, 0.0)
    assert where(fleet, 2) == "n1"
    accepted = Snapshot.of(2, nodes=[Node("n1", UUID(node_of(5)), "http://x:1")])
    fleet.replace("n1", inventory(row(1), node=5), accepted, 0.0)
    assert fleet.node(node_of(1)) is None
    assert (where(fleet, 1), where(fleet, 2)) == ("n1", None)


def test_a_node_without_a_hostname_shows_its_name() -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(hostname=""), ACCOUNTS, 0.0)
    assert fleet.nodes() == [NodeView("n1", node_of(1), "n1")]


def test_lists_are_the_callers_own() -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(row(1)), ACCOUNTS, 0.0)
    before = (fleet.owned(None), fleet.nodes(), fleet.owned(ALICE))
    fleet.forget("n1")
    assert [len(list_) for list_ in before] == [1, 1, 0]


# --- accounts ---


def test_owners_follow_the_accounts() -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(row(1, owner="alice"), row(2, owner=str(BOB)), row(3, owner="bob")), ACCOUNTS, 0.0)
    fleet.replace("n1", inventory(row(1, owner="alice"), row(2, owner=str(BOB))), ACCOUNTS, 0.0)
    version = fleet.version
    fleet.resolve_owners(Snapshot.of(2))
    assert names(fleet.owned(None)) == {"c1", "c2"}
    assert names(fleet.stopped(None)) == {"c3"}
    assert fleet.owned(ALICE) == fleet.stopped(BOB) == []
    assert fleet.version > version
    other = UUID(int=0xA11CF)
    fleet.resolve_owners(Snapshot.of(3, accounts=[account(other, "alice"), account(BOB, "robert")]))
    assert names(fleet.owned(other)) == {"c1"}
    assert names(fleet.owned(BOB)) == {"c2"}
    assert fleet.stopped(BOB) == []


def test_stopped_ones_are_looked_at_again_only_when_owners_or_limits_of_nodes_change(monkeypatch) -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(row(1, owner="alice"), row(2, owner="bob")), ACCOUNTS, 0.0)
    fleet.replace("n1", inventory(), ACCOUNTS, 0.0)
    looks = []
    real = Fleet._resolve_stopped
    monkeypatch.setattr(Fleet, "_resolve_stopped", lambda self: looks.append(1) or real(self))
    both = list(ACCOUNTS.accounts.values())

    def told(generation: int, accounts: list[Account], *nodes: Node) -> tuple[set[str], set[str], int]:
        fleet.resolve_owners(Snapshot.of(generation, accounts=accounts, nodes=nodes))
        found = names(fleet.stopped(ALICE)), names(fleet.stopped(BOB)), len(looks)
        looks.clear()
        return found

    assert told(2, both) == ({"c1"}, {"c2"}, 0)
    assert told(3, both, Node("n1", None, "http://n1:1")) == ({"c1"}, {"c2"}, 1)
    assert told(4, both, Node("n1", None, "http://n1:2")) == ({"c1"}, {"c2"}, 0)
    assert told(5, both, Node("n1", None, "http://n1:2", accounts=frozenset([BOB]))) == (set(), {"c2"}, 1)
    assert told(6, both[:1], Node("n1", None, "http://n1:2", accounts=frozenset([BOB]))) == (set(), set(), 1)


# --- two nodes ---


def test_who_has_a_container_keeps_it() -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(row(7, start=10), node=1), ACCOUNTS, 0.0)
    for start in (5, 10, 20):
        fleet.replace("n2", inventory(row(7, start=start), node=2), ACCOUNTS, 0.0)
        assert where(fleet, 7) == "n1"
    assert fleet.conflicts == 1


def test_a_node_that_left_holds_nothing_even_if_it_had_the_container_of_another_that_left() -> None:
    fleet = Fleet()
    for name, node in (("n3", 1), ("n1", 2), ("n1", 1)):
        fleet.replace(name, inventory(row(7), node=node), ACCOUNTS, 0.0)
        assert where(fleet, 7) == name
        fleet.forget(name)


def test_who_gives_a_container_up_leaves_it_to_the_newer_start() -> None:
    fleet = Fleet()
    for number, start in ((1, 10), (2, 30), (3, 20)):
        fleet.replace(f"n{number}", inventory(row(7, start=start), node=number), ACCOUNTS, 0.0)
    fleet.replace("n1", inventory(node=1), ACCOUNTS, 0.0)
    assert where(fleet, 7) == "n2"
    assert fleet.stopped(None) == []
    fleet.replace("n2", inventory(node=2), ACCOUNTS, 0.0)
    assert where(fleet, 7) is None, "what is left has an older start"
    assert names(fleet.stopped(None)) == {"c7"}


def test_one_machine_under_two_names_is_refused() -> None:
    fleet = Fleet()
    fleet.replace("old", inventory(row(7)), ACCOUNTS, 0.0)
    with pytest.raises(IdentityError, match=f"the node {node_of(1)} is old in the directory"):
        fleet.replace("new", inventory(row(7)), ACCOUNTS, 0.0)
    assert fleet.nodes() == [NodeView("old", node_of(1), "host")]
    fleet.forget("old")
    fleet.replace("new", inventory(row(7)), ACCOUNTS, 0.0)
    assert where(fleet, 7) == "new"
    assert fleet.nodes() == [NodeView("new", node_of(1), "host")]


# --- what stopped ---


def test_a_container_that_vanishes_is_stopped_for_a_day() -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(row(1, owner="alice"), row(2)), ACCOUNTS, 0.0)
    fleet.replace("n1", inventory(row(2)), ACCOUNTS, 100.0)
    (place,) = fleet.stopped(ALICE)
    assert (place.container.state, place.owner, place.node.name) == ("stopped", ALICE, "n1")
    assert fleet.find(uuid_of(1)) is None
    fleet.expire(99.0 + STOPPED_SECONDS)
    assert fleet.stopped(ALICE)
    version = fleet.version
    fleet.expire(100.0 + STOPPED_SECONDS)
    assert not fleet.stopped(ALICE)
    assert fleet.version > version


def test_a_container_that_starts_again_anywhere_is_not_stopped() -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(row(1), node=1), ACCOUNTS, 0.0)
    fleet.replace("n1", inventory(node=1), ACCOUNTS, 0.0)
    fleet.replace("n2", inventory(row(1, start=200.0), node=2), ACCOUNTS, 0.0)
    assert fleet.stopped(None) == []
    assert fleet.stops("n1") == []
    assert where(fleet, 1) == "n2"


def test_a_node_that_is_forgotten_leaves_nothing_stopped() -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(row(1), row(2)), ACCOUNTS, 0.0)
    fleet.replace("n1", inventory(row(1)), ACCOUNTS, 0.0)
    fleet.forget("n1")
    assert fleet.stopped(None) == fleet.owned(None) == fleet.nodes() == []
    assert len(fleet) == 0


def test_a_clock_that_is_set_back_keeps_nothing_for_ever() -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(row(1)), ACCOUNTS, 0.0)
    fleet.replace("n1", inventory(), ACCOUNTS, 4e9)
    fleet.expire(1000.0)
    assert len(fleet.stopped(None)) == 1
    fleet.expire(1000.0 + STOPPED_SECONDS)
    assert fleet.stopped(None) == []


def test_stopped_ones_are_bounded() -> None:
    fleet = Fleet()
    for number in range(MAX_STOPPED + 10):
        fleet.replace("n1", inventory(row(number + 1)), ACCOUNTS, float(number))
    stopped = fleet.stopped(None)
    assert len(stopped) == MAX_STOPPED
    assert "c9" not in names(stopped)
    assert "c10" in names(stopped)


def test_the_texts_of_stopped_ones_are_bounded() -> None:
    fleet = Fleet()
    text = "\N{GRINNING FACE}" + "x" * 49_999  # 200,000 bytes of memory
    for number in range(40):
        fleet.replace("n1", inventory(row(number + 1, name=text)), ACCOUNTS, float(number))
    stopped = fleet.stopped(None)
    assert [place.container.uuid for place in stopped] == [uuid_of(number) for number in range(20, 40)]
    assert sum(map(text_bytes, (place.container for place in stopped))) <= MAX_STOPPED_BYTES
    fleet.replace("n1", inventory(row(30, name=text)), ACCOUNTS, 40.0)
    fleet.expire(40.0 + STOPPED_SECONDS)
    assert fleet.stopped(None) == []
    assert fleet._nodes["n1"].stopped_bytes == 0


def test_stopped_ones_survive_a_restart() -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(row(1, owner="alice"), row(2), row(3)), ACCOUNTS, 0.0)
    fleet.replace("n1", inventory(row(3)), ACCOUNTS, 100.0)
    again = Fleet()
    again.replace("n1", inventory(row(2), row(3)), ACCOUNTS, 0.0)
    again.restore_stopped("n1", fleet.stops("n1"), 200.0)
    assert names(again.stopped(ALICE)) == {"c1"}
    assert again.stopped(None) == []
    again.restore_stopped("n1", [(Container(**row(9)), 1.0), (Container(**row(8, uuid="?")), 150.0)], 1e6)
    assert again.stops("n1") == []


# --- the directory's nodes ---


def test_a_node_that_never_answered_is_expected() -> None:
    fleet = Fleet()
    fleet.expect("n1", UUID(node_of(1)))
    assert fleet.nodes() == [NodeView("n1", node_of(1), "n1")]
    fleet.replace("n1", inventory(row(1)), ACCOUNTS, 0.0)
    fleet.expect("n1", UUID(node_of(1)))
    assert fleet.nodes() == [NodeView("n1", node_of(1), "host")]


def test_a_node_that_is_renamed_keeps_what_it_has() -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(row(1), row(2), row(3), node=1), ACCOUNTS, 0.0)
    fleet.replace("n1", inventory(row(1), row(2), node=1), ACCOUNTS, 0.0)
    fleet.replace("n2", inventory(row(2, start=150), node=2), ACCOUNTS, 0.0)
    fleet.rename("n1", "m1")
    assert (where(fleet, 1), where(fleet, 2)) == ("m1", "m1")
    assert [place.node.name for place in fleet.stopped(None)] == ["m1"]
    fleet.replace("n2", inventory(row(2, start=160), node=2), ACCOUNTS, 0.0)
    assert where(fleet, 2) == "m1"
    fleet.forget("m1")
    assert (where(fleet, 1), where(fleet, 2)) == (None, "n2")
    with pytest.raises(KeyError):
        fleet.rename("m1", "x")
    fleet.replace("n1", inventory(node=1), ACCOUNTS, 0.0)
    with pytest.raises(KeyError):
        fleet.rename("n1", "n2")

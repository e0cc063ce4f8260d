"""What runs where: documents of agents, the fleet they make, and the same answers from a model that starts anew."""

from __future__ import annotations

import json
import math
from ipaddress import ip_address
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pymon.directory.model import Account, Quota, Snapshot
from pymon.proxy import agent_document
from pymon.proxy.agent_document import Container, Inventory, decode_inventory
from pymon.proxy.fleet import MAX_STOPPED, STOPPED_SECONDS, Fleet, NodeView, Place

ALICE, BOB = UUID(int=0xA11CE), UUID(int=0xB0B)


def account(uuid: UUID, name: str) -> Account:
    return Account(uuid, name, False, 0.0, Quota())


ACCOUNTS = Snapshot.of(1, accounts=[account(ALICE, "Alice"), account(BOB, "bob")])


def uuid_of(number: int) -> str:
    return str(UUID(int=number))


def row(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "uuid": uuid_of(number), "id": f"/c/{number}", "name": f"c{number}", "runtime": "docker", "runtime_id": "",
        "image": "nginx", "start": 100.0, "owner": None, "state": "running", "health": "", "groups": [],
        "services": "", "namespace": "", "pod": "", "pod_id": "",
    } | fields  # fmt: skip


def document(*rows: dict[str, Any], node: int = 1, hostname: str = "host") -> bytes:
    body = {"version": "1", "node": {"uuid": uuid_of(node), "hostname": hostname}, "containers": list(rows)}
    return json.dumps(body).encode()


def inventory(*rows: dict[str, Any], node: int = 1, hostname: str = "host") -> Inventory:
    return decode_inventory(document(*rows, node=node, hostname=hostname))


def where(fleet: Fleet, number: int) -> str | None:
    place = fleet.find(uuid_of(number))
    return place.node.name if place else None


def names(places: list[Place]) -> set[str]:
    return {place.container.name for place in places}


# --- documents ---


def test_a_document_is_read() -> None:
    found = inventory(row(7, owner="alice", groups=["a", "b"], new_field={"x": [1]}), hostname='a "quoted"\r\nhost')
    assert (found.uuid, found.hostname, found.refused) == (uuid_of(1), 'a "quoted"\r\nhost', 0)
    assert found.containers[uuid_of(7)] == Container(**row(7, owner="alice", groups=("a", "b")))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<!DOCTYPE html><html></html>", b"null", b"[]", b"{}", b"\xff", b'{"node":{"uuid":"' + b"\xff" + b'"}}',
        document(row(1)) + b"x", document(row(1))[:-1], document(row(1, groups="web")), document(row(1, groups=[1])),
        document(row(1, groups=None)), document(row(1, name=None)), document(row(1, start="1")),
        document(row(1, addresses="198.18.1.2")), document(row(1, addresses=[1])), document(row(1, addresses=None)),
        document(row(1, start=True)), document(row(1, start=math.nan)), document(row(1, start=math.inf)),
        document(row(1, uuid=5)), document(row(1)).replace(b'"name": "c1", ', b""),
        document(row(1, start=1)).replace(b'"start": 1', b'"start": 1e999'),
        document().replace(uuid_of(1).encode(), b"me"), document().replace(b'"containers": []', b'"containers": {}'),
        b'{"x":' + b"[" * 200_000, b'{"node":"\\udc', b'"\\ud800', b'{"node":"\\ud800\0"}',
    ],
    ids=range(29),
)  # fmt: skip
def test_what_is_no_inventory_is_a_value_error_of_one_line(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"^expected an inventory\b.*$") as caught:
        decode_inventory(body)
    assert "\n" not in str(caught.value)


def test_an_inventory_of_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_document, "MAX_CONTAINERS", 2)
    assert len(inventory(row(1), row(2)).containers) == 2
    with pytest.raises(ValueError, match="at most 2 containers"):
        inventory(row(1), row(2), row(3))


def test_uuids_and_owners_are_folded_to_lower_case() -> None:
    upper = "0B0F0C0D-1111-2222-3333-44444444ABCD"
    found = inventory(row(1, uuid=upper, owner="BOB"), row(2, owner="\N{KELVIN SIGN}im"))
    assert found.containers[upper.lower()].owner == "bob"
    assert found.containers[upper.lower()].uuid == upper.lower()
    assert found.containers[uuid_of(2)].owner == "\N{KELVIN SIGN}im"
    assert decode_inventory(document().replace(uuid_of(1).encode(), upper.encode())).uuid == upper.lower()


@pytest.mark.parametrize(
    "wrong",
    [
        {"uuid": "x"}, {"uuid": ""}, {"uuid": "0b0f0c0d-1111-2222-3333-44444444abcd\n"}, {"uuid": "0" * 32},
        {"uuid": "../../../../../../../../../../../../"}, {"uuid": "\N{KELVIN SIGN}" * 36}, {"start": -1},
        {"start": 1.7e12},
    ],
)  # fmt: skip
def test_a_container_that_cannot_be_costs_only_itself(wrong: dict[str, Any]) -> None:
    found = inventory(row(1), row(2, **wrong))
    assert list(found.containers) == [uuid_of(1)]
    assert found.refused == 1


def test_one_uuid_twice_in_a_node_is_the_newer_one() -> None:
    found = inventory(row(1, name="old", start=1), row(1, name="new", start=3), row(1, name="middle", start=2))
    assert found.containers[uuid_of(1)].name == "new"
    assert found.refused == 2
    assert inventory(row(1, name="first"), row(1, name="second")).containers[uuid_of(1)].name == "first"


def test_groups_that_would_forge_a_label_are_left_out() -> None:
    groups = ["web", "a,b", "", "web", "é", "x" * 101, "ok\n", *(f"g{number}" for number in range(200))]
    found = inventory(row(1, groups=groups)).containers[uuid_of(1)].groups
    assert found[:2] == ("web", "g0")
    assert len(found) == 100


def test_addresses_are_told_in_one_form() -> None:
    told = ["198.18.1.2", "2001:DB8:0::5", "198.18.1.2", "fd00::6", "255.255.255.255", "0.0.0.0"]
    found = inventory(row(1, addresses=told), row(2)).containers
    assert found[uuid_of(1)].addresses == ("198.18.1.2", "2001:db8::5", "fd00::6", "255.255.255.255", "0.0.0.0")
    assert found[uuid_of(2)].addresses == ()


def test_what_is_no_address_is_left_out() -> None:
    wrong = [
        "", "x", "198.18.1", "198.18.1.256", "198.18.01.2", "198.18.1.2\n", " 198.18.1.2", "198.18.1.2/24", "1.2.3.4.5",
        "fe80::1%eth0", "2001:db8::1::2", ":::", "[::1]", "0x7f.0.0.1", "127.1", "\0", "9" * 10_000,
    ]  # fmt: skip
    found = inventory(row(1, addresses=[*wrong, "198.18.1.2", *wrong])).containers[uuid_of(1)]
    assert found.addresses == ("198.18.1.2",)


def test_addresses_are_at_most_64() -> None:
    told = [f"198.18.{number // 256}.{number % 256}" for number in range(1000)]
    assert inventory(row(1, addresses=told)).containers[uuid_of(1)].addresses == tuple(told[:64])


@given(st.lists(st.one_of(st.ip_addresses().map(str), st.text(max_size=20))))
def test_every_address_that_is_read_is_one(told: list[str]) -> None:
    found = inventory(row(1, addresses=told)).containers[uuid_of(1)].addresses
    assert [str(ip_address(text)) for text in found] == list(found)


def test_names_may_hold_anything_that_a_user_chose() -> None:
    name = 'a"b\\c\r\nd\0\x1b[31m\u2028😀'
    assert inventory(row(1, name=name)).containers[uuid_of(1)].name == name


def test_a_path_that_is_not_utf_8_does_not_spoil_the_node() -> None:
    texts = ["\udcff", "\\\udcff", "\\\\udcff", "\ud800\ud800x", "😀\udcffé", "\udcff" * 3, "\udcff\ud800", "a\\ud800"]
    found = inventory(*(row(number, name=text) for number, text in enumerate(texts)))
    expected = [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts]
    assert [found.containers[uuid_of(number)].name for number in range(len(texts))] == expected


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
    assert (place.owner, place.node) == (ALICE, NodeView("n1", uuid_of(1), "host"))
    assert names(fleet.owned(ALICE)) == {"c1"}
    assert names(fleet.owned(BOB)) == {"c2"}
    assert names(fleet.unowned()) == {"c3", "c4", "c5"}
    assert fleet.owned(UUID(int=5)) == []
    assert fleet.find(uuid_of(9)) is None
    assert fleet.node(uuid_of(1)) == NodeView("n1", uuid_of(1), "host")
    assert len(fleet) == 5


def test_nothing_new_changes_nothing() -> None:
    fleet = Fleet()
    assert fleet.replace("n1", inventory(row(1)), ACCOUNTS, 0.0).changed
    version, place = fleet.version, fleet.find(uuid_of(1))
    assert not fleet.replace("n1", inventory(row(1)), ACCOUNTS, 1.0).changed
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


def test_a_node_may_change_its_hostname_and_uuid() -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(row(1), row(2)), ACCOUNTS, 0.0)
    fleet.replace("n1", inventory(row(1)), ACCOUNTS, 0.0)
    version = fleet.version
    fleet.replace("n1", inventory(row(1), node=5, hostname="other"), ACCOUNTS, 0.0)
    view = NodeView("n1", uuid_of(5), "other")
    assert fleet.version > version
    assert [place.node for place in (*fleet.unowned(), *fleet.stopped(None))] == [view, view]
    assert fleet.nodes() == [view]
    assert fleet.node(uuid_of(1)) is None


def test_a_node_without_a_hostname_shows_its_name() -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(hostname=""), ACCOUNTS, 0.0)
    assert fleet.nodes() == [NodeView("n1", uuid_of(1), "n1")]


def test_lists_are_the_callers_own() -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(row(1)), ACCOUNTS, 0.0)
    before = (fleet.unowned(), fleet.nodes(), fleet.owned(ALICE))
    fleet.forget("n1")
    assert [len(list_) for list_ in before] == [1, 1, 0]


# --- accounts ---


def test_owners_follow_the_accounts() -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(row(1, owner="alice"), row(2, owner=str(BOB)), row(3, owner="bob")), ACCOUNTS, 0.0)
    fleet.replace("n1", inventory(row(1, owner="alice"), row(2, owner=str(BOB))), ACCOUNTS, 0.0)
    version = fleet.version
    fleet.resolve_owners(Snapshot.of(2))
    assert names(fleet.unowned()) == {"c1", "c2"}
    assert names(fleet.stopped(None)) == {"c3"}
    assert fleet.owned(ALICE) == fleet.stopped(BOB) == []
    assert fleet.version > version
    other = UUID(int=0xA11CF)
    fleet.resolve_owners(Snapshot.of(3, accounts=[account(other, "alice"), account(BOB, "robert")]))
    assert names(fleet.owned(other)) == {"c1"}
    assert names(fleet.owned(BOB)) == {"c2"}
    assert fleet.stopped(BOB) == []


# --- two nodes ---


def test_the_newer_start_wins_and_the_other_takes_over() -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(row(7, start=10), node=1), ACCOUNTS, 0.0)
    changes = fleet.replace("n2", inventory(row(7, start=20), node=2), ACCOUNTS, 0.0)
    assert where(fleet, 7) == "n2"
    assert [tuple(conflict) for conflict in changes.conflicts] == [(uuid_of(7), "n2", "n1")]
    fleet.replace("n2", inventory(row(7, start=20, name="still there"), node=2), ACCOUNTS, 0.0)
    assert fleet.conflicts == 1
    fleet.replace("n2", inventory(node=2), ACCOUNTS, 0.0)
    assert where(fleet, 7) == "n1"
    assert fleet.stopped(None) == []
    fleet.replace("n1", inventory(node=1), ACCOUNTS, 0.0)
    assert where(fleet, 7) is None
    assert names(fleet.stopped(None)) == {"c7"}


def test_an_older_start_does_not_move_a_container() -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(row(7, start=10), node=1), ACCOUNTS, 0.0)
    for start in (5, 10):
        changes = fleet.replace("n2", inventory(row(7, start=start), node=2), ACCOUNTS, 0.0)
        assert where(fleet, 7) == "n1"
    assert changes.conflicts == []
    assert fleet.conflicts == 1
    fleet.replace("n2", inventory(row(7, start=11), node=2), ACCOUNTS, 0.0)
    assert where(fleet, 7) == "n2"


def test_three_claims_are_settled_one_after_the_other() -> None:
    fleet = Fleet()
    for number, start in ((1, 10), (2, 30), (3, 20)):
        fleet.replace(f"n{number}", inventory(row(7, start=start), node=number), ACCOUNTS, 0.0)
    seen = []
    while (name := where(fleet, 7)) is not None:
        seen.append(name)
        fleet.forget(name)
    assert seen == ["n2", "n3", "n1"]


def test_one_machine_under_two_names_is_no_conflict() -> None:
    fleet = Fleet()
    fleet.replace("old", inventory(row(7)), ACCOUNTS, 0.0)
    assert fleet.replace("new", inventory(row(7)), ACCOUNTS, 0.0).conflicts == []
    assert fleet.nodes() == [NodeView("old", uuid_of(1), "host")]
    fleet.forget("old")
    assert where(fleet, 7) == "new"
    assert fleet.nodes() == [NodeView("new", uuid_of(1), "host")]


def test_a_uuid_of_a_node_stays_with_who_had_it() -> None:
    fleet = Fleet()
    fleet.replace("b", inventory(node=2), ACCOUNTS, 0.0)
    fleet.replace("a", inventory(node=1), ACCOUNTS, 0.0)
    fleet.replace("b", inventory(node=1), ACCOUNTS, 0.0)
    assert [view.name for view in fleet.nodes()] == ["a"]
    fleet.rename("a", "z")
    assert [view.name for view in fleet.nodes()] == ["z"]
    fleet.forget("z")
    assert [view.name for view in fleet.nodes()] == ["b"]


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
    fleet.replace("n2", inventory(row(1), node=2), ACCOUNTS, 0.0)
    assert fleet.stopped(None) == []
    assert fleet.stops("n1") == []
    assert where(fleet, 1) == "n2"


def test_a_node_that_is_forgotten_leaves_nothing_stopped() -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(row(1), row(2)), ACCOUNTS, 0.0)
    fleet.replace("n1", inventory(row(1)), ACCOUNTS, 0.0)
    fleet.forget("n1")
    assert fleet.stopped(None) == fleet.unowned() == fleet.nodes() == []
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
    fleet.expect("n1", UUID(int=1))
    assert fleet.nodes() == [NodeView("n1", uuid_of(1), "n1")]
    fleet.replace("n1", inventory(row(1)), ACCOUNTS, 0.0)
    fleet.expect("n1", UUID(int=1))
    assert fleet.nodes() == [NodeView("n1", uuid_of(1), "host")]


def test_a_node_that_is_renamed_keeps_what_it_has() -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(row(1), row(2), row(3), node=1), ACCOUNTS, 0.0)
    fleet.replace("n1", inventory(row(1), row(2), node=1), ACCOUNTS, 0.0)
    fleet.replace("n2", inventory(row(2, start=50), node=2), ACCOUNTS, 0.0)
    fleet.rename("n1", "m1")
    assert (where(fleet, 1), where(fleet, 2)) == ("m1", "m1")
    assert [place.node.name for place in fleet.stopped(None)] == ["m1"]
    fleet.forget("m1")
    assert (where(fleet, 1), where(fleet, 2)) == (None, "n2")
    with pytest.raises(KeyError):
        fleet.rename("m1", "x")
    fleet.replace("n1", inventory(node=1), ACCOUNTS, 0.0)
    with pytest.raises(KeyError):
        fleet.rename("n1", "n2")


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
    """Recomputes everything from the last documents; keeps only who had what, for ties, and what stopped when."""

    def __init__(self) -> None:
        self.documents: dict[str, Inventory] = {}
        self.accounts = ACCOUNTS
        self.holder: dict[str, str] = {}
        self.stops: dict[str, tuple[Container, str, float]] = {}

    def settle(self) -> None:
        before, self.holder = self.holder, {}
        for name in sorted(self.documents, reverse=True):
            for uuid, container in self.documents[name].containers.items():
                claims = [self.documents[other].containers.get(uuid) for other in self.documents]
                if container.start == max(claim.start for claim in claims if claim):
                    self.holder[uuid] = name
        for uuid, name in before.items():
            mine = self.documents[name].containers.get(uuid) if name in self.documents else None
            if mine and mine.start == self.documents[self.holder[uuid]].containers[uuid].start:
                self.holder[uuid] = name
        for uuid in self.holder:
            self.stops.pop(uuid, None)

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
        self.model.holder = {uuid: to if node == name else node for uuid, node in self.model.holder.items()}
        self.model.stops = {
            uuid: (container, to if node == name else node, since)
            for uuid, (container, node, since) in self.model.stops.items()
        }
        self.fleet.rename(name, to)

    @rule(accounts=SNAPSHOTS)
    def resolve_owners(self, accounts: Snapshot) -> None:
        self.model.accounts = accounts
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
        running = self.model.running()
        owners = (None, ALICE, BOB, UUID(int=9))
        for number in range(1, 6):
            place = self.fleet.find(uuid_of(number))
            assert (place and (place.container, place.node.name, place.node.uuid, place.owner)) == running.get(
                uuid_of(number)
            )
        for owner in owners:
            places = self.fleet.unowned() if owner is None else self.fleet.owned(owner)
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
        claims: dict[str, int] = {}
        for item in self.model.documents.values():
            for uuid in item.containers:
                claims[uuid] = claims.get(uuid, 0) + 1
        assert {uuid: len(rivals) for uuid, rivals in self.fleet._rivals.items()} == {
            uuid: count for uuid, count in claims.items() if count > 1
        }

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

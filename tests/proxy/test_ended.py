"""Containers that have ended and whose agents still tell of them."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import msgspec
import pytest

from pymon.inventory_document import Container
from pymon.proxy import account_metrics
from pymon.proxy.agent_document import NodeDocument, decode_inventory
from pymon.proxy.fleet import MAX_STOPPED, STOPPED_SECONDS, Fleet
from pymon.proxy.inventory_copy import made_copy
from pymon.proxy.places import Place
from tests.proxy.agents import until
from tests.proxy.inventories import ACCOUNTS, ALICE, BOB, account, document, inventory, names, node_of, row, uuid_of
from tests.proxy.running import A, C, answer, container, on_uvloop
from tests.proxy.worlds import world

STATE = (
    b"# HELP container_state State.\n# TYPE container_state gauge\ncontainer_state 1\n"
    b"# TYPE pymon_container_last_numbers_exact gauge\npymon_container_last_numbers_exact 0\n"
)
ENDED: dict[str, Any] = {"state": "stopped", "ended": 150.0}


def told(fleet: Fleet, owner: UUID | None = ALICE) -> tuple[set[str], set[str], set[str]]:
    """The names of an account's containers: those that run, that are stopped, and of which agents tell nevertheless."""
    found = names(fleet.owned(owner)), names(fleet.stopped(owner)), names(fleet.ended(owner))
    assert len(found[2]) == fleet.count_ended(owner)
    return found


@pytest.mark.parametrize("seen", [True, False], ids=["seen while it ran", "never seen while it ran"])
def test_it_is_stopped_and_answered_for_until_its_node_forgets_it(seen: bool) -> None:
    fleet = Fleet()
    if seen:
        fleet.replace("n1", inventory(row(1, owner="alice"), row(2)), ACCOUNTS, 100.0)
    assert fleet.replace("n1", inventory(row(1, owner="alice", **ENDED), row(2)), ACCOUNTS, 200.0)
    assert told(fleet) == (set(), {"c1"}, {"c1"})
    place = fleet.answering(uuid_of(1))
    assert place is not None
    assert (place.node.name, place.owner, place.container.ended) == ("n1", ALICE, 150.0)
    assert fleet.find(uuid_of(1)) is None
    assert told(fleet, BOB) == (set(), set(), set())
    assert len(fleet) == 1
    version = fleet.version
    assert not fleet.replace("n1", inventory(row(1, owner="alice", **ENDED), row(2)), ACCOUNTS, 201.0)
    assert fleet.version == version
    assert fleet.replace("n1", inventory(row(2)), ACCOUNTS, 500.0)
    assert told(fleet) == (set(), {"c1"}, set())
    assert fleet.answering(uuid_of(1)) is None
    assert fleet.version > version
    fleet.expire(200.0 + STOPPED_SECONDS)
    assert told(fleet) == (set(), set(), set())


def test_one_that_runs_again_is_not_stopped() -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(row(1, owner="alice", **ENDED)), ACCOUNTS, 200.0)
    fleet.replace("n1", inventory(row(1, owner="alice", start=210.0)), ACCOUNTS, 210.0)
    assert told(fleet) == ({"c1"}, set(), set())
    place = fleet.answering(uuid_of(1))
    assert place is not None
    assert place.container.state == "running"
    assert fleet.stops("n1") == []


def test_another_account_and_a_forgotten_node_leave_nothing() -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(row(1, owner="alice", **ENDED)), ACCOUNTS, 200.0)
    fleet.replace("n1", inventory(row(1, owner="bob", **ENDED)), ACCOUNTS, 201.0)
    assert told(fleet) == (set(), set(), set())
    assert told(fleet, BOB) == (set(), {"c1"}, {"c1"})
    other = type(ACCOUNTS).of(2, accounts=[account(ALICE, "bob")])
    fleet.resolve_owners(other)
    assert told(fleet) == (set(), {"c1"}, {"c1"})
    fleet.forget("n1")
    assert told(fleet) == told(fleet, BOB) == (set(), set(), set())


def test_a_node_cannot_end_the_container_of_another_one() -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(row(1, owner="alice"), node=1), ACCOUNTS, 100.0)
    fleet.replace("n2", inventory(row(1, owner="alice", start=300.0, **ENDED), node=2), ACCOUNTS, 200.0)
    assert told(fleet) == ({"c1"}, set(), set())
    fleet.replace("n2", inventory(node=2), ACCOUNTS, 201.0)
    assert told(fleet) == ({"c1"}, set(), set())


def test_their_number_is_bounded() -> None:
    fleet = Fleet()
    rows = [row(number, **ENDED) for number in range(MAX_STOPPED + 50)]
    fleet.replace("n1", inventory(*rows), ACCOUNTS, 200.0)
    assert fleet.count_ended(None) == len(fleet.stopped(None)) == MAX_STOPPED
    fleet.replace("n1", inventory(), ACCOUNTS, 201.0)
    assert fleet.count_ended(None) == 0
    assert fleet.stops("n1")


@pytest.mark.parametrize(
    ("state", "ended"), [("running", 150.0), ("stopped", -1.0), ("stopped", 1e30), ("", 0.0), ("stopped", None)]
)
def test_an_impossible_end_is_none(state: str, ended: float | None) -> None:
    found = decode_inventory(document(row(1, state=state, ended=ended))).containers[uuid_of(1)]
    assert (found.state, found.ended) == (state, None)


@pytest.mark.parametrize("ended", ['"1"', "[1]", "true"])
def test_an_end_that_is_no_number_is_refused(ended: str) -> None:
    text = document(row(1, state="stopped", ended=0)).replace(b'"ended": 0', b'"ended": ' + ended.encode())
    with pytest.raises(ValueError, match="expected an inventory"):
        decode_inventory(text)


def test_they_survive_a_restart_of_the_proxy() -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(row(1, owner="alice", **ENDED), row(2, owner="alice")), ACCOUNTS, 200.0)
    copy = made_copy(fleet, "n1", "tag", NodeDocument(node_of(1), "host"), 200.0)
    again = Fleet()
    body = json.dumps({"node": {"uuid": node_of(1), "hostname": "host"}, "containers": []})
    kept = msgspec.json.encode(list(copy.document.containers))
    again.replace("n1", decode_inventory(body.encode().replace(b"[]", kept)), ACCOUNTS, 210.0, copy=True)
    again.restore_stopped("n1", [(stop.container, stop.since) for stop in copy.stopped], 210.0)
    assert told(again) == ({"c2"}, {"c1"}, {"c1"})


def test_what_a_copy_alone_says_is_answered_by_nobody() -> None:
    fleet = Fleet()
    fleet.replace("n1", inventory(row(2)), ACCOUNTS, 200.0)
    stop = msgspec.convert(row(1, owner="alice", **ENDED), Container)
    fleet.restore_stopped("n1", [(stop, 150.0)], 210.0)
    assert told(fleet) == (set(), {"c1"}, set())


@on_uvloop
async def test_its_last_numbers_are_its_accounts(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, bob, _), proxy.client(alice) as client:
        fleet = proxy.proxy.fleet
        node.change(container(A, "alice", **ENDED), container(C, "alice"))
        await until(lambda: fleet.count_ended(alice.uuid) == 1 and fleet.find(C) is not None)

        async def scrape(peer, head):
            last = answer(STATE)
            await peer.say(last if A.encode() in head else answer())

        node.scrape = scrape
        got = await client.ask(f"/v1/{A}/metrics")
        assert (got.status, got.body) == (200, STATE)
        assert (await proxy.ask(f"/v1/{A}/metrics", bob)).status == 404
        got = await client.ask("/v1/account/metrics")
        assert f'container_state{{uuid="{A}",node="n1"}} 1\n'.encode() in got.body
        assert f'pymon_container_last_numbers_exact{{uuid="{A}",node="n1"}} 0\n'.encode() in got.body
        assert f'pymon_container_scrape_success{{uuid="{A}"}} 1\n'.encode() in got.body
        assert f'cpu_seconds_total{{uuid="{C}",node="n1"}} 12.5\n'.encode() in got.body
        states = {}
        for query in ("", "?stopped=true"):
            got = await client.ask(f"/v1/sd{query}")
            states[query] = {
                target["labels"]["__meta_triton_machine_id"]: target["labels"]["__meta_triton_machine_state"]
                for target in json.loads(got.body)
            }
        assert states == {"": {C: "running"}, "?stopped=true": {A: "stopped", C: "running"}}
        node.change(container(C, "alice"))
        await until(lambda: fleet.count_ended(alice.uuid) == 0)
        asked = len(node.scrapes)
        assert (await client.ask(f"/v1/{A}/metrics")).status == 404
        assert len(node.scrapes) == asked, "its node is not asked"
        got = await client.ask("/v1/account/metrics")
        assert A.encode() not in got.body
        got = await client.ask("/v1/sd?stopped=true")
        assert A.encode() in got.body


@on_uvloop
async def test_they_do_not_make_an_answer_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(account_metrics, "MAX_CONTAINERS", 1)
    async with world(tmp_path) as (proxy, node, alice, _, _), proxy.client(alice) as client:
        fleet = proxy.proxy.fleet
        node.change(container(A, "alice", **ENDED), container(C, "alice"))
        await until(lambda: fleet.count_ended(alice.uuid) == 1 and fleet.find(C) is not None)
        got = await client.ask("/v1/account/metrics")
        assert got.status == 200
        assert f'pymon_container_scrape_success{{uuid="{C}"}} 1\n'.encode() in got.body
        assert A.encode() not in got.body


def test_places_that_change_their_end_are_counted_once() -> None:
    fleet = Fleet()
    for ended in (150.0, 160.0, None, 170.0):
        fleet.replace("n1", inventory(row(1, **ENDED | {"ended": ended})), ACCOUNTS, 200.0)
        assert fleet.count_ended(None) == (ended is not None)
    place: Place | None = fleet.answering(uuid_of(1))
    assert place is not None
    assert place.container.ended == 170.0

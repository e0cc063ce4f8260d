"""Who holds a UUID: each rule by itself, over a fleet whose rows are in a directory that is a dictionary here."""

from __future__ import annotations

from uuid import UUID

import pytest
from msgspec.structs import replace

from pymon.directory.model import Node
from pymon.proxy.agent_document import Inventory
from pymon.proxy.claimant import FRESH_SECONDS, NEW_PER_SECOND, SILENT_SECONDS
from pymon.proxy.claims import FUTURE_SECONDS
from pymon.proxy.fleet import IdentityError
from pymon.proxy.holder_rows import Row, Wanted
from pymon.uuid_name import MAX_BYTES, container_uuid_text
from tests.proxy.claim_site import ALICE, BOB, CAROL, NOW, H, M, N, Site, X, container, proven


@pytest.fixture(params=[True, False], ids=["directory", "memory"])
def site(request) -> Site:
    return Site(durable=request.param)


# --- what can be checked ---


def test_a_uuid_that_is_made_of_its_text_needs_no_row(site: Site) -> None:
    one = proven(N, "docker::abc")
    site.says(N, one)
    assert site.where(one.uuid) == "n"
    assert not site.rows
    assert not site.fleet.claims.rows


def test_a_text_that_gives_another_uuid_is_refused(site: Site) -> None:
    one = proven(N, "docker::abc")
    site.says(H, one)
    assert site.where(one.uuid) is None
    assert site.refused() == {"uuid_name": 1}
    site.says(N, one)
    assert site.where(one.uuid) == "n"
    assert site.fleet.claims.news["h", "uuid_name"].uuid == one.uuid


def test_a_text_that_no_agent_tells_is_refused_without_hashing_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []

    def counted(node: str, text: str) -> str:
        hashed.append(len(text))
        return container_uuid_text(node, text)

    monkeypatch.setattr("pymon.proxy.claims.container_uuid_text", counted)
    text = "x" * (MAX_BYTES + 1)
    site.says(H, proven(H, text), proven(H, "x" * MAX_BYTES, name="longest"))
    site.settle()
    assert site.refused(H) == {"uuid_name": 1}
    assert set(hashed) == {MAX_BYTES}


@pytest.mark.parametrize("first", [N, H])
@pytest.mark.parametrize("restart", [False, True])
def test_a_uuid_that_is_checked_takes_it_from_one_that_is_not(site: Site, first: UUID, restart: bool) -> None:
    one = proven(N, "docker::abc")
    claims = {N: one, H: container(one.uuid, "bob", NOW)}
    for node in (first, N if first == H else H):
        site.says(node, claims[node])
    if restart:
        site.restart()
    assert site.where(one.uuid) == "n"
    assert site.owner(one.uuid) == ALICE
    assert site.refused()["held"]


def test_a_checked_container_that_stopped_is_nobody_elses(site: Site) -> None:
    one = proven(N, "docker::abc")
    site.says(N, one)
    site.says(N)
    site.says(H, container(one.uuid, "bob", NOW))
    assert site.where(one.uuid) is None
    assert [place.node.name for place in site.fleet.stopped(ALICE)] == ["n"]
    assert site.refused() == {"held": 1}
    site.says(N, one)
    assert site.where(one.uuid) == "n"


# --- nodes ---


@pytest.mark.parametrize("uuid", [N, H], ids=["another", "its own"])
def test_a_uuid_of_a_node_is_no_containers(site: Site, uuid: UUID) -> None:
    site.says(H, container(str(uuid)))
    assert site.where(str(uuid)) is None
    assert site.refused() == {"node_uuid": 1}


def test_a_container_whose_uuid_becomes_a_nodes_is_refused(site: Site) -> None:
    site.says(H, container(str(M)))
    site.nodes["m"] = Node("m", UUID(int=9 << 64), "http://x:1")
    site.follow()
    site.says(H, container(str(M)))
    site.settle()
    assert site.where(str(M)) == "h"
    site.nodes["m"] = Node("m", M, "http://x:1")
    site.follow()
    assert site.where(str(M)) is None


def test_a_node_cannot_be_pinned_to_the_uuid_of_anothers_container(site: Site) -> None:
    site.nodes["m"] = Node("m", None, "http://x:1")
    site.follow()
    checked = proven(N, "docker::abc")
    site.says(N, container(), checked)
    for uuid in (X, checked.uuid):
        assert "is a container of the node n" in site.fleet.claims.identity("m", uuid).problem
    site.says(N)
    for uuid in (X, checked.uuid):
        assert "was a container of another node" in site.fleet.claims.identity("m", uuid).problem
    assert site.fleet.claims.identity("m", str(M)) == (False, "")


def test_a_node_has_the_uuid_that_it_told_first() -> None:
    site = Site(durable=False)
    site.nodes["m"] = Node("m", None, "http://x:1")
    site.nodes["h"] = Node("h", None, "http://x:1")
    site.follow()
    site.says(M, container())
    identity = site.fleet.claims.identity
    assert identity("m", str(UUID(int=5 << 64))).problem == f"expected the node {M}, got {UUID(int=5 << 64)}"
    assert identity("h", str(M)).problem == f"the node {M} is m in the directory"
    with pytest.raises(IdentityError, match=f"the node {N} is n in the directory"):
        site.fleet.replace("h", Inventory(str(N), "h", {}), site.accounts, site.now)
    assert site.where() == "m"


def test_with_the_directory_nothing_is_taken_from_a_node_that_is_not_pinned() -> None:
    site = Site()
    site.nodes["m"] = Node("m", None, "http://x:1")
    site.follow()
    with pytest.raises(IdentityError, match="is not in the directory"):
        site.says(M, container())
    assert site.where() is None
    site.fleet.pin("m", str(M))
    site.says(M, container())
    assert site.where() == "m"


def test_a_uuid_that_a_node_tells_before_it_is_pinned_is_no_new_containers() -> None:
    site = Site()
    site.nodes["m"] = Node("m", None, "http://x:1")
    site.follow()
    assert not site.fleet.claims.identity("m", str(M)).problem
    site.says(H, container(str(M)))
    assert site.where(str(M)) is None
    assert site.refused() == {"node_uuid": 1}


# --- holders ---


def test_the_first_claim_has_a_row(site: Site) -> None:
    site.says(N, container(start=100.0))
    assert site.where() == "n"
    assert site.fleet.claims.rows == {X: Row(str(N), ALICE, 100.0, NOW)}
    assert not site.fleet.claims.durable or site.rows == site.fleet.claims.rows


@pytest.mark.parametrize("owner", ["alice", "bob", None])
@pytest.mark.parametrize("start", [1.0, 100.0, NOW])
@pytest.mark.parametrize("restart", [False, True])
def test_a_holder_that_is_fresh_is_not_displaced(site: Site, owner: str | None, start: float, restart: bool) -> None:
    site.says(N, container())
    site.says(H, container(owner=owner, start=start))
    site.passes(FRESH_SECONDS * 3, N, H)
    if restart and site.durable:
        site.restart()
        site.says(H, container(owner=owner, start=start))
        site.says(N, container())
    assert (site.where(), site.owner()) == ("n", ALICE)
    assert site.refused() == {"held": 1}


def test_a_proxy_that_starts_waits_for_the_holder(site: Site) -> None:
    """A copy that is older than the row does not show the container: the holder has to say so itself."""
    site = Site()
    site.says(N)
    site.rows[X] = Row(str(N), ALICE, 100.0, NOW)
    site.restart()
    site.says(H, container(start=NOW))
    site.passes(SILENT_SECONDS / 2, H)
    assert site.where() is None
    assert site.refused() == {"held": 1}
    site.says(N, container())
    assert site.where() == "n"


def test_a_row_that_is_news_is_not_gone_before_its_node_answered() -> None:
    site = Site()
    site.says(N)
    site.says(H, container("00000000-0000-0000-0000-0000000000ff"))
    row = site.rows[X] = Row(str(N), ALICE, 100.0, NOW)  # another proxy saw it first
    site.fleet.learn({X: row}, (), NOW)
    site.says(H, container(start=NOW))
    site.settle()
    assert site.where() is None
    site.says(N, container())
    assert site.where() == "n"


def test_a_container_that_moved_passes_to_the_newer_start(site: Site) -> None:
    site.says(N, container(start=100.0))
    site.says(N)
    for start in (50.0, 100.0):
        site.says(M, container(start=start))
        assert site.where() is None
        assert site.refused(M) == {"start": 1}
    site.says(M, container(start=101.0))
    assert site.where() == "m"
    assert not site.fleet.stopped(ALICE)
    if site.durable:
        assert site.rows[X] == Row(str(M), ALICE, 101.0, NOW)


def test_a_holder_that_says_it_stopped_gives_it_up(site: Site) -> None:
    site.says(N, container(state="stopped"))
    assert site.where() == "n"
    site.says(M, container(start=200.0))
    assert site.where() == "m"
    site.says(H, container(start=300.0, state="stopped"))
    assert site.where() == "m"


@pytest.mark.parametrize("owner", ["bob", None, "nobody"])
def test_another_owner_has_it_only_by_a_release(site: Site, owner: str | None) -> None:
    site.says(N, container())
    site.says(N)
    site.says(M, container(owner=owner, start=NOW))
    site.passes(2 * SILENT_SECONDS, M)
    assert site.where() is None
    assert site.refused(M) == {"owner": 1}
    if site.durable:
        site.release(X)
        assert site.where() == "m"


def test_a_release_gives_it_to_another_than_who_had_it() -> None:
    site = Site()
    site.says(N, container())
    site.says(M, container(owner="bob"))
    site.release(X)
    assert (site.where(), site.owner()) == ("m", BOB)


def test_a_release_of_what_only_its_holder_claims_changes_nothing() -> None:
    site = Site()
    site.says(N, container())
    site.release(X)
    assert site.where() == "n"


def test_silence_of_ten_minutes_lets_it_pass(site: Site) -> None:
    site.says(N, container(start=100.0))
    site.says(M, container(start=200.0))
    site.passes(SILENT_SECONDS - 1, M)
    assert site.where() == "n"
    site.passes(60, M)
    assert site.where() == "m"


def test_silence_is_counted_from_the_start_of_the_proxy() -> None:
    site = Site()
    site.says(N, container())
    site.says(H, container(start=NOW))
    site.passes(SILENT_SECONDS / 2, H)
    site.now += 10 * SILENT_SECONDS  # the proxy is down
    site.restart()
    site.says(H, container(start=NOW))
    site.passes(SILENT_SECONDS / 2, H)
    assert site.where() == "n"
    assert site.refused() == {"held": 1}


def test_a_proxy_that_stood_still_heard_nobody(site: Site) -> None:
    site.says(N, container())
    site.says(H, container(start=NOW))
    site.passes(FRESH_SECONDS, N, H)
    site.now += 2 * SILENT_SECONDS  # the process is stopped
    site.says(H, container(start=NOW + 1))
    site.settle()
    site.passes(SILENT_SECONDS / 2, H)
    assert site.where() == "n"


def test_new_rows_do_not_wait_for_those_that_change() -> None:
    site = Site()
    uuids = [str(UUID(int=number)) for number in range(1, 21)]
    site.says(N, *map(container, uuids[:10]))
    site.documents[N] = tuple(container(uuid, start=200.0) for uuid in uuids)
    site._replace(N)
    found = site.fleet.claims.take(10, 3)
    assert list(found)[:10] == uuids[10:]
    assert len(found) == 13
    assert len(site.fleet.claims.wanted) == 7


def test_who_does_not_answer_takes_nothing() -> None:
    site = Site()
    site.says(N, container())
    site.says(M, container(start=200.0))
    site.passes(2 * SILENT_SECONDS)
    assert site.where() == "n"


@pytest.mark.parametrize(("start", "back"), [(199.0, False), (200.0, True), (201.0, True)])
def test_a_node_that_returns_has_its_container_back(site: Site, start: float, back: bool) -> None:
    site.says(N, container(start=100.0))
    site.says(M, container(start=200.0))
    site.passes(SILENT_SECONDS + 60, M)
    assert site.where() == "m"
    site.says(N, container(start=start))
    site.settle()
    assert site.where() == ("n" if back else "m")
    site.says(N, container(start=NOW))
    assert site.where() == ("n" if back else "m"), "it has returned once"


def test_a_node_that_gave_it_up_does_not_get_it_back_by_a_start(site: Site) -> None:
    site.says(N, container(start=100.0))
    site.says(N)
    site.says(M, container(start=200.0))
    site.says(N, container(start=300.0))
    assert site.where() == "m"
    assert site.refused(N) == {"held": 1}


def test_a_start_in_the_future_is_refused(site: Site) -> None:
    site.says(H, container(start=NOW + FUTURE_SECONDS + 1))
    assert site.where() is None
    assert site.refused() == {"future": 1}
    site.passes(2, H)
    assert site.where() == "h"


def test_a_start_in_the_future_takes_nothing(site: Site) -> None:
    site.says(N, container())
    site.says(N)
    site.says(H, container(start=NOW + FUTURE_SECONDS + 1))
    assert site.where() is None
    assert site.refused() == {"future": 1}


def test_a_holder_cannot_raise_its_start_above_others_for_ever(site: Site) -> None:
    site.says(H, container(start=100.0))
    site.says(H, container(start=NOW * 10))
    assert site.where() == "h"
    assert site.fleet.claims.rows[X].start == 100.0


def test_a_row_follows_its_holder(site: Site) -> None:
    site.says(N, container(owner="carol", start=100.0))
    assert site.fleet.claims.rows[X].owner is None
    site.names["carol"] = CAROL
    site.follow()
    site.write()
    site.says(N, container(owner="carol", start=150.0))
    row = site.fleet.claims.rows[X]
    assert (row.owner, row.start) == (CAROL, 150.0)
    site.says(N, container(owner="bob", start=150.0))
    assert site.owner() == BOB
    assert site.fleet.claims.rows[X].owner == CAROL, "to another owner by a release"
    del site.names["carol"]
    site.follow()
    site.says(N, container(owner="bob", start=151.0))
    assert site.fleet.claims.rows[X].owner == BOB, "the account is gone"


def test_a_node_that_is_no_longer_in_the_directory_holds_nothing(site: Site) -> None:
    site.says(N, container(start=100.0))
    site.says(M, container(start=100.0))
    site.says(H, container(owner="bob", start=NOW))
    del site.nodes["n"]
    site.follow()
    site.fleet.forget("n")
    site.settle()
    assert site.where() == "m"


@pytest.mark.parametrize("rows_first", [True, False])
def test_a_node_whose_other_uuid_is_accepted_loses_nothing_to_who_waits_for_that(site: Site, rows_first: bool) -> None:
    other = UUID(int=99 << 64)
    site.says(N, container(start=100.0))
    site.says(H, container(start=NOW))
    site.rows = {uuid: replace(row, node=str(other), changed_at=site.now) for uuid, row in site.rows.items()}
    site.nodes["n"] = Node("n", other, "http://x:1")
    if rows_first:
        site.fleet.learn(dict(site.rows), (), site.now)
        site.settle()
        assert site.where() != "h"
    site.follow()
    site.settle()
    site.fleet.learn(dict(site.rows), (), site.now)
    site.fleet.replace("n", Inventory(str(other), "n", {X: container(start=100.0)}), site.accounts, site.now)
    site.settle()
    assert site.where() == "n"
    assert site.refused(H) == {"held": 1}


def test_while_the_directory_is_away_nothing_new_is_admitted() -> None:
    site = Site()
    site.says(N, container())
    site.fleet.claims.away = True
    other = str(UUID(int=0xD))
    checked = proven(N, "docker::abc")
    site.says(N, container(), container(other), checked)
    assert (site.where(), site.where(other), site.where(checked.uuid)) == ("n", None, "n")
    assert site.refused(N) == {"directory": 1}
    site.fleet.claims.away = False
    site.settle()
    assert site.where(other) == "n"


def test_what_was_not_written_yet_is_decided_anew() -> None:
    site = Site()
    site.says(N, container(start=100.0))
    site.documents[N] = ()
    site._replace(N)
    site.documents[H] = (container(start=101.0),)
    site._replace(H)
    assert [wanted.after.node for wanted in site.fleet.claims.wanted.values()] == [str(H)]
    site.says(N, container(start=100.0))
    assert site.where() == "n", "it is back before the other had it"


def test_while_the_directory_is_away_nothing_is_kept_for_later() -> None:
    site = Site()
    site.says(N, container(start=100.0))
    site.fleet.claims.away = True
    site.says(N)
    site.says(H, container(start=101.0))
    site.says(M, container(start=200.0))
    site.fleet.claims.away = False
    site.settle()
    assert site.where() == "m"


def test_two_proxies_agree_by_the_row() -> None:
    one, other = Site(), Site()
    other.rows = one.rows
    one.fleet.claims.away = other.fleet.claims.away = False
    # Each proxy hears of another node first; the row that is inserted first decides for both.
    one.documents[N] = other.documents[M] = (container(),)
    one._replace(N)
    other._replace(M)
    other.write()
    one.write()
    assert one.rows[X].node == str(M)
    one.says(M, container())
    other.says(N, container())
    assert (one.where(), other.where()) == ("m", "m")


# --- accounts of a node ---


def test_a_node_claims_for_its_accounts_alone(site: Site) -> None:
    site.nodes["h"] = Node("h", H, "http://x:1", accounts=frozenset([BOB]))
    site.follow()
    uuids = [str(UUID(int=number)) for number in (11, 12, 13, 14)]
    site.says(H, *map(container, uuids, ("alice", "bob", None, "nobody")), proven(H, "docker::a"))
    assert [site.where(uuid) for uuid in uuids] == [None, "h", "h", "h"]
    assert site.refused() == {"account": 2}
    site.nodes["h"] = Node("h", H, "http://x:1")
    site.follow()
    site.write()
    assert [site.where(uuid) for uuid in uuids] == ["h"] * 4


def test_what_a_limited_node_had_for_others_is_gone_at_once(site: Site) -> None:
    site.says(H, container(), proven(H, "docker::a"))
    site.says(H, container(), proven(H, "docker::a"), proven(H, "docker::b"))
    site.says(H, container(), proven(H, "docker::a"))
    assert len(site.fleet.owned(ALICE)) == 2
    assert len(site.fleet.stopped(ALICE)) == 1
    site.nodes["h"] = Node("h", H, "http://x:1", accounts=frozenset([BOB]))
    site.follow()
    assert site.fleet.owned(ALICE) == site.fleet.stopped(ALICE) == []
    site.says(M, container(start=200.0))
    assert site.where() == "m"


# --- bounds ---


def test_rows_of_a_node_are_bounded() -> None:
    site = Site(max_containers=10)
    uuids = [str(UUID(int=number)) for number in range(1, 101)]
    for first in range(0, 100, 10):
        site.says(H, *map(container, uuids[first : first + 10]))
        site.now += 100 / NEW_PER_SECOND
    assert len(site.rows) == 20
    assert site.refused()["limit"] == 80
    assert all(len(found) <= 20 for found in site.fleet.claims.unneeded.values())
    ((node, unneeded),) = site.fleet.claims.unneeded.items()
    assert node == str(H)
    for uuid in unneeded:
        del site.rows[uuid]
    site.fleet.claims.unneeded.clear()
    site.fleet.learn({}, unneeded, site.now)
    site.settle()
    assert {site.where(uuid) for uuid in uuids[90:]} == {"h"}


def test_rows_that_a_node_makes_are_bounded_in_time() -> None:
    site = Site(max_containers=10)
    for number in range(1, 16):
        site.says(H, container(str(UUID(int=number))))
    assert len(site.rows) == 10
    assert site.refused() == {"limit": 5}
    site.now += 60
    site.settle()
    assert site.where(str(UUID(int=15))) == "h"


def test_what_is_asked_for_again_counts_once() -> None:
    site = Site(max_containers=10)
    site.documents[N] = tuple(container(str(UUID(int=number))) for number in range(1, 11))
    site._replace(N)
    for _ in range(5):
        site.fleet.settle(NOW, NOW, 100)
    site.write()
    assert len(site.rows) == 10
    assert site.refused(N) == {}


def test_claims_are_counted_once(site: Site) -> None:
    site.says(N, container())
    for start in (200.0, 300.0, 400.0):
        site.says(H, container(start=start))
        site.settle()
    assert site.refused() == {"held": 1}
    site.fleet.forget("h")
    assert site.refused() == {}


def test_what_is_wanted_is_what_the_directory_is_asked_for() -> None:
    site = Site()
    site.documents[N] = (container(),)
    site._replace(N)
    after = Row(str(N), ALICE, 100.0, NOW)
    assert site.fleet.claims.take(5, 5) == {X: Wanted(None, after)}
    assert site.where() is None
    assert site.fleet.claims.waiting("n") == [X]
    site._replace(N)
    site.settle()
    assert site.fleet.claims.take(5, 5) == {}, "it is asked for"
    site.fleet.claims.failed([X])
    site.fleet.settle(NOW, NOW, 10)
    assert list(site.fleet.claims.take(5, 5)) == [X]

"""Holders of UUIDs, pins of nodes and what nodes may have, in both databases."""

from __future__ import annotations

import threading
from uuid import UUID, uuid4

import pytest

from pymon.config import ConfigError
from pymon.directory import holders
from pymon.directory.directory import Directory, open_directory
from pymon.directory.model import DamagedError, DirectoryError, Holder
from tests.directory.old import OldProgram

N1, N2 = UUID(int=11), UUID(int=12)
A, B = UUID(int=21), UUID(int=22)


def claim(uuid: UUID, node: UUID = N1, owner: UUID | None = A, start: float = 1.5) -> Holder:
    return Holder(uuid, node, owner, start)


def who(found: list[Holder]) -> list[tuple[UUID, UUID, UUID | None, float]]:
    return [(holder.uuid, holder.node, holder.owner, holder.start) for holder in found]


def test_the_first_insert_wins(directory: Directory) -> None:
    x, y, z = uuid4(), uuid4(), uuid4()
    assert who(directory.hold([claim(x), claim(y, owner=None)])) == [(x, N1, A, 1.5), (y, N1, None, 1.5)]
    second = directory.hold([claim(z, N2, B), claim(x, N2, B, 9.0), claim(z, N1, A)])
    assert who(second) == [(z, N2, B, 1.5), (x, N1, A, 1.5), (z, N2, B, 1.5)]
    version, rows, released = directory.holders()
    assert (len(rows), released) == (3, [])
    assert all(holder.changed_at > 1e9 for holder in rows)
    assert directory.holders(version) == (version, [], [])


def test_two_at_once_agree(directory: Directory, url: str) -> None:
    uuids = [uuid4() for _ in range(700)]
    results: dict[UUID, list[Holder]] = {}

    def run(node: UUID) -> None:
        with open_directory(url) as other:
            results[node] = other.hold([claim(uuid, node) for uuid in uuids])

    threads = [threading.Thread(target=run, args=(node,)) for node in (N1, N2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results[N1] == results[N2]
    assert [holder.uuid for holder in results[N1]] == uuids


def test_only_changes_are_read_and_the_snapshot_is_left_alone(directory: Directory) -> None:
    x, y, z = uuid4(), uuid4(), uuid4()
    generation = directory.generation()
    directory.hold([claim(x), claim(y)])
    first, _, _ = directory.holders()
    directory.hold([claim(z)])
    moved = directory.pass_on(claim(x), claim(x, N2, A, 2.5))
    released = directory.release_claim(y)
    assert moved
    assert (released.uuid, released.node) == (y, N1)
    version, rows, gone = directory.holders(first)
    assert sorted(who(rows)) == sorted([(z, N1, A, 1.5), (x, N2, A, 2.5)])
    assert gone == [y]
    directory.hold([claim(y, N2)])
    assert directory.holders(version)[1:] == (directory.hold([claim(y)]), [])
    assert directory.holders(first)[2] == []
    assert directory.generation() == generation


def test_passing_on_takes_the_row_that_was_meant(directory: Directory) -> None:
    x = uuid4()
    assert directory.pass_on(claim(x), claim(x, N2)) is None
    (there,) = directory.hold([claim(x)])
    for wrong in (claim(x, N2), claim(x, owner=B), claim(x, owner=None), claim(x, start=1.4)):
        assert directory.pass_on(wrong, claim(x, N2, B)) == there
    after = directory.pass_on(there, claim(x, N2, B, 3.0))
    assert after
    assert who([after]) == [(x, N2, B, 3.0)]
    assert directory.holders()[1] == [after]


def test_a_release_of_nothing_is_one_line(directory: Directory) -> None:
    uuid = uuid4()
    with pytest.raises(DirectoryError, match=f"^claim {uuid}: nobody holds it$"):
        directory.release_claim(uuid)


def test_only_rows_of_that_node_are_forgotten(directory: Directory) -> None:
    x, y, z = uuid4(), uuid4(), uuid4()
    directory.hold([claim(x), claim(y, N2), claim(z)])
    version, _, _ = directory.holders()
    directory.forget_holders(N1, [x, y, uuid4()])
    assert sorted(holder.uuid for holder in directory.holders()[1]) == sorted([y, z])
    assert directory.holders(version)[1:] == ([], [x])
    directory.forget_holders(N1, [])
    again, _, _ = directory.holders()
    directory.forget_holders(N1, [x])
    assert directory.holders(again) == (again, [], [])


def test_a_node_has_rows_up_to_the_bound(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holders, "MAX_HOLDERS_OF_NODE", 3)
    uuids = [uuid4() for _ in range(5)]
    assert [holder.uuid for holder in directory.hold([claim(uuid) for uuid in uuids])] == uuids[:3]
    extra = uuid4()
    found = directory.hold([claim(extra), claim(uuids[0]), claim(uuids[4], N2)])
    assert [holder.uuid for holder in found] == [uuids[0], uuids[4]]
    moved = directory.pass_on(claim(uuids[4], N2), claim(uuids[4], N1))
    assert moved
    assert moved.node == N2


@pytest.mark.parametrize("bound", ["MAX_RELEASES", "RELEASE_SECONDS"])
def test_who_knows_too_little_reads_everything(
    directory: Directory, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    uuids = [uuid4() for _ in range(4)]
    directory.hold([claim(uuid) for uuid in uuids])
    early, _, _ = directory.holders()
    directory.release_claim(uuids[0])
    assert directory.holders(early)[2] == [uuids[0]]
    if bound == "MAX_RELEASES":
        monkeypatch.setattr(holders, bound, 1)
        directory.release_claim(uuids[1])
        late, _, _ = directory.holders()
        directory.release_claim(uuids[2])
        assert directory.holders(late)[2] == [uuids[2]]
    else:
        monkeypatch.setattr(holders, bound, -60.0)
        directory.release_claim(uuids[1])
    assert directory.holders(early) == (0, [], [])
    assert directory.holders(directory.holders()[0] + 5) == (0, [], [])
    assert {holder.uuid for holder in directory.holders(0)[1]} >= {uuids[3]}


def test_a_start_that_is_no_time() -> None:
    with pytest.raises(ValueError, match="finite"):
        claim(uuid4(), start=float("nan"))


# --- nodes -----------------------------------------------------------------------------------------


def test_a_pin_is_the_first(directory: Directory) -> None:
    directory.create_node("n1", "http://n1:9164")
    directory.create_node("n2", "http://n2:9164")
    before = directory.generation()
    assert directory.pin_node("n1", A) == A
    after = directory.generation()
    assert after != before
    assert directory.pin_node("n1", A) == A
    assert directory.pin_node("n1", B) == A
    assert directory.pin_node("n2", A) is None
    assert directory.pin_node("n3", B) is None
    assert directory.pin_node("\ud800", B) is None
    assert directory.generation() == after
    assert {node.name: node.uuid for node in directory.snapshot().nodes.values()} == {"n1": A, "n2": None}


def test_another_uuid_is_accepted(directory: Directory) -> None:
    directory.create_node("n1", "http://n1:9164", uuid=A)
    directory.create_node("n2", "http://n2:9164", uuid=B)
    generation = directory.generation()
    directory.offer_node("n1", N1)
    directory.offer_node("n1", N2)
    directory.offer_node("nobody", N2)
    assert directory.offers() == {"n1": N2}
    assert directory.generation() == generation
    with pytest.raises(DirectoryError, match=f"^node n1: another node has the UUID {B}$"):
        directory.accept_node("n1", B)
    directory.accept_node("n1", N2)
    assert directory.offers() == {}
    assert directory.snapshot().nodes["n1"].uuid == N2
    with pytest.raises(DirectoryError, match="node 'n9': not found"):
        directory.accept_node("n9", N2)


def test_a_node_whose_other_uuid_is_accepted_holds_what_it_held(directory: Directory) -> None:
    x, y = uuid4(), uuid4()
    directory.create_node("n1", "http://n1:9164", uuid=N1)
    directory.hold([claim(x), claim(y, N2)])
    version, _, _ = directory.holders()
    directory.accept_node("n1", B)
    _, changed, _ = directory.holders(version)
    assert who(changed) == [(x, B, A, 1.5)]


def test_a_uuid_is_a_nodes_or_a_containers(directory: Directory) -> None:
    x, y = uuid4(), uuid4()
    directory.create_node("n1", "http://n1:9164", uuid=N1)
    directory.create_node("n2", "http://n2:9164")
    assert [holder.uuid for holder in directory.hold([claim(N1, N2), claim(x)])] == [x]
    assert directory.pin_node("n2", x) is None
    said = f"a container has the UUID {x}; see `pymon claim release`"
    with pytest.raises(DirectoryError, match=f"^node n2: {said}$"):
        directory.accept_node("n2", x)
    with pytest.raises(DirectoryError, match=f"^node n3: {said}$"):
        directory.create_node("n3", "http://n3:9164", uuid=x)
    directory.release_claim(x)
    assert directory.pin_node("n2", x) == x
    assert directory.hold([claim(x), claim(y)]) == directory.holders()[1]
    assert directory.pin_node("n2", y) == x


def test_a_limited_node_stays_limited_when_an_account_goes(directory: Directory) -> None:
    a, b = directory.create_account("a"), directory.create_account("b")
    node = directory.create_node("n1", "http://n1:9164", accounts=["A", str(b.uuid)])
    assert node.accounts == {a.uuid, b.uuid}
    assert directory.snapshot().nodes["n1"] == node
    directory.delete_account("a")
    directory.delete_account("b")
    assert directory.snapshot().nodes["n1"].accounts == {a.uuid, b.uuid}
    assert directory.set_node("n1", accounts=[]).accounts == frozenset()
    assert directory.snapshot().nodes["n1"].accounts == frozenset()
    assert directory.set_node("n1", accounts=None).accounts is None
    with pytest.raises(DirectoryError, match="account 'nobody': not found"):
        directory.set_node("n1", accounts=["nobody"])


def test_rows_that_are_none_of_ours_are_one_line(directory: Directory, url: str) -> None:
    directory.create_node("n1", "http://n1:9164")
    directory.create_node("n2", "http://n2:9164")
    directory.hold([claim(uuid4())])
    program = OldProgram(url)
    program.run("UPDATE nodes SET uuid = 'x', offered = 'x' WHERE name = 'n1'")
    program.run("UPDATE nodes SET accounts = 'x' WHERE name = 'n2'")
    program.run("UPDATE holders SET node = 'x'")
    program.close()
    for use in (
        lambda: directory.set_node("n1", url="http://n3:9164"),
        lambda: directory.set_node("n2", url="http://n3:9164"),
        lambda: directory.pin_node("n1", A),
        lambda: directory.accept_node("n1", A),
        directory.offers,
        directory.holders,
        directory.snapshot,
    ):
        with pytest.raises(DamagedError, match="damaged"):
            use()


def test_what_is_given_changes(directory: Directory) -> None:
    directory.create_account("a")
    directory.create_node("n1", "https://n1:9164", uuid=A, tls_server_name="x", accounts=["a"])
    before = directory.snapshot().nodes["n1"]
    assert directory.set_node("n1", url="https://n2:9164") == directory.snapshot().nodes["n1"]
    after = directory.snapshot().nodes["n1"]
    assert (after.url, after.uuid, after.tls_server_name, after.accounts) == (
        "https://n2:9164",
        A,
        "x",
        before.accounts,
    )
    with pytest.raises(ConfigError, match="expected https"):
        directory.set_node("n1", url="http://n1:9164")
    directory.set_node("n1", url="http://n1:9164", tls_server_name="")
    with pytest.raises(DirectoryError, match="not found"):
        directory.set_node("n2", url="http://n1:9164")

"""A directory of an older program: what works at once, what `pymon directory upgrade` adds, and the older program on it
afterwards. In both databases.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from pymon.directory import labels
from pymon.directory.directory import Directory, open_directory
from pymon.directory.model import DirectoryError, Holder, NotUpgradedError, VersionError
from tests.directory import old
from tests.directory.old import OldProgram

A, B, C = (str(UUID(int=number)) for number in (3, 2, 1))


@pytest.fixture
def old_program(url: str) -> Iterator[OldProgram]:
    old.make(url)
    program = OldProgram(url)
    yield program
    program.close()


@pytest.fixture
def opened(url: str, old_program: OldProgram) -> Iterator[Directory]:
    with open_directory(url) as directory:
        yield directory


def names(directory: Directory) -> list[str]:
    return sorted(directory.snapshot().accounts_by_name)


def test_without_an_upgrade_all_that_was_there_works(opened: Directory, old_program: OldProgram) -> None:
    opened.create_account("alice")
    opened.create_node("n1", "http://n1:9164")
    assert opened.pin_node("n1", UUID(A)) == UUID(A)
    assert opened.acquire_lease("dns", "me", 5) == "me"
    assert old_program.run(old.READS[2])[0][:2] == ("n1", A)
    assert opened.snapshot().nodes["n1"].accounts is None
    assert opened.offers() == {}
    assert old_program.version() == 2


def test_what_is_off_is_one_line_and_nothing_is_migrated_silently(opened: Directory, old_program: OldProgram) -> None:
    (line,) = opened.off()
    assert line.startswith(f"{opened.label}: off until `pymon directory upgrade`: ")
    assert "\n" not in line
    claim = Holder(uuid4(), uuid4(), None, 1.0)
    opened.create_node("n1", "http://n1:9164")
    for use in (
        opened.holders,
        lambda: opened.hold([claim]),
        lambda: opened.pass_on(claim, claim),
        lambda: opened.release_claim(claim.uuid),
        lambda: opened.forget_holders(claim.node, [claim.uuid]),
        lambda: opened.offer_node("n1", uuid4()),
        lambda: opened.set_node("n1", accounts=[]),
        lambda: opened.create_node("n2", "http://n2:9164", accounts=[]),
    ):
        with pytest.raises(NotUpgradedError, match="before `pymon directory upgrade`") as caught:
            use()
        assert "\n" not in str(caught.value)
    assert list(opened.snapshot().nodes) == ["n1"]
    assert opened.off() == [line]


def test_upgraded_it_has_everything_and_again_is_nothing(opened: Directory, old_program: OldProgram) -> None:
    old_program.run(old.INSERT_ACCOUNT, (A, "alice", "alice", 0, 1.0))
    before = opened.generation()
    assert opened.upgrade()
    assert opened.generation() != before
    assert opened.off() == []
    generation = opened.generation()
    assert not opened.upgrade()
    assert opened.generation() == generation
    assert old_program.version() == 2
    assert opened.holders() == (1, [], [])
    opened.create_node("n1", "http://n1:9164", accounts=["alice"])
    assert opened.snapshot().nodes["n1"].accounts == {UUID(A)}


def test_one_without_leases_is_brought_up_in_both_steps(old_program: OldProgram, url: str) -> None:
    old_program.make_older()
    with pytest.raises(VersionError, match=r"made by an older pymon .*; `pymon directory upgrade` brings it up"):
        open_directory(url, read_only=True)
    with open_directory(url) as directory:
        assert old_program.version() == 2
        assert len(directory.off()) == 1
        assert directory.acquire_lease("dns", "me", 5) == "me"
        assert directory.upgrade()
        assert directory.off() == []


def test_a_new_directory_has_everything(directory: Directory) -> None:
    assert directory.off() == []
    assert not directory.upgrade()


def test_the_older_program_goes_on(opened: Directory, old_program: OldProgram, url: str) -> None:
    for read in old.READS:
        old_program.run(read)
    opened.upgrade()
    opened.create_account("alice")
    opened.create_node("n1", "http://n1:9164", accounts=["alice"])
    opened.hold([Holder(uuid4(), uuid4(), None, 1.0)])
    for connection in (old_program, later := OldProgram(url)):
        for read in old.READS:
            connection.run(read)
        assert [row[:2] for row in connection.run(old.READS[2])][:1] == [("n1", None)]
    later.run(old.INSERT_ACCOUNT, (B, "bob", "bob", 0, 2.0))
    later.run(old.INSERT_NODE, ("n2", C, "http://n2:9164", "", ""))
    later.run(old.CHANGE, (77,))
    later.run("DELETE FROM nodes WHERE name = ?", ("n1",))
    later.run("DELETE FROM accounts WHERE name_folded = ?", ("alice",))
    later.close()
    assert opened.generation() == 77
    assert names(opened) == ["bob"]
    assert opened.snapshot().nodes["n2"].accounts is None


def test_a_node_made_again_by_the_older_program_is_not_limited_or_offered(
    opened: Directory, old_program: OldProgram
) -> None:
    opened.upgrade()
    opened.create_account("alice")
    opened.create_node("n1", "http://n1:9164", accounts=["alice"])
    opened.offer_node("n1", UUID(A))
    old_program.run("DELETE FROM nodes WHERE name = ?", ("n1",))
    old_program.run(old.INSERT_NODE, ("n1", None, "http://n1:9164", "", ""))
    assert opened.snapshot().nodes["n1"].accounts is None
    assert opened.offers() == {}


def test_an_upgrade_that_fails_changes_nothing(
    opened: Directory, old_program: OldProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pymon.directory import schema  # noqa: PLC0415

    monkeypatch.setattr(schema, "_ADDITIONS", (*schema._ADDITIONS, "SELECT nonsense FROM nodes;"))
    with pytest.raises(DirectoryError, match="nonsense"):
        opened.upgrade()
    monkeypatch.undo()
    assert len(opened.off()) == 1
    assert opened.upgrade()


def test_upgrades_at_once_and_beside_readers_and_writers(opened: Directory, old_program: OldProgram, url: str) -> None:
    opened.create_account("alice")
    done: list[bool] = []
    failed: list[BaseException] = []
    stop = threading.Event()

    def upgrading() -> None:
        try:
            with open_directory(url) as directory:
                done.append(directory.upgrade())
        except BaseException as error:  # noqa: BLE001  # for the assertion
            failed.append(error)

    def using() -> None:
        try:
            with open_directory(url) as directory:
                while not stop.is_set():
                    directory.acquire_lease("dns", "me", 5)
                    directory.snapshot()
                    directory.off()
        except BaseException as error:  # noqa: BLE001  # for the assertion
            failed.append(error)

    def old_using() -> None:
        try:
            program = OldProgram(url)
            while not stop.is_set():
                for read in old.READS:
                    program.run(read)
            program.close()
        except BaseException as error:  # noqa: BLE001  # for the assertion
            failed.append(error)

    users = [threading.Thread(target=target) for target in (using, old_using)]
    upgraders = [threading.Thread(target=upgrading) for _ in range(4)]
    for thread in (*users, *upgraders):
        thread.start()
    for thread in upgraders:
        thread.join(60)
    stop.set()
    for thread in users:
        thread.join(60)
    assert failed == []
    assert sorted(done) == [False, False, False, True]


def test_a_newer_programs_additions_are_no_trouble(directory: Directory, url: str) -> None:
    program = OldProgram(url)
    program.run("UPDATE additions SET level = ?", (99,))
    program.run("ALTER TABLE nodes ADD COLUMN rack TEXT")
    program.close()
    directory.create_node("n1", "http://n1:9164", accounts=[])
    assert directory.snapshot().nodes["n1"].accounts == frozenset()
    assert not directory.upgrade()
    assert directory.off() == []


# --- accounts of one DNS label ---------------------------------------------------------------------


@pytest.mark.parametrize("upgrade", [False, True])
@pytest.mark.parametrize(
    ("there", "new"),
    [("a_b", "a-b"), ("a-b", "a.b"), ("a_b", "A.B"), ("acme", "acme."), ("acme.", "acme"), ("x@y", "x-y")],
)  # fmt: skip
def test_an_account_that_is_another_in_dns_is_refused(
    opened: Directory, old_program: OldProgram, upgrade: bool, there: str, new: str
) -> None:
    if upgrade:
        opened.upgrade()
    opened.create_account(there)
    with pytest.raises(DirectoryError, match=f"^account {new}: is .* in DNS, as the account {there} is$"):
        opened.create_account(new)
    assert names(opened) == [there]


def test_one_of_the_older_program_counts_too(opened: Directory, old_program: OldProgram) -> None:
    opened.upgrade()
    old_program.run(old.INSERT_ACCOUNT, (A, "a_b", "a_b", 0, 1.0))
    with pytest.raises(DirectoryError, match="as the account a_b is"):
        opened.create_account("a-b")


def test_the_column_is_unique(directory: Directory, url: str) -> None:
    directory.create_account("a_b")
    other = directory.create_account("other")
    program = OldProgram(url)
    try:
        with pytest.raises(Exception, match=r"(?i)unique"):
            program.run("UPDATE accounts SET dns_label = ? WHERE uuid = ?", ("a-b", str(other.uuid)))
    finally:
        program.close()


def test_of_accounts_that_are_there_the_exact_name_wins_then_the_older(
    opened: Directory, old_program: OldProgram
) -> None:
    made = [("acme.", A, 1.0), ("acme", B, 2.0), ("a_b", A[:-1] + "4", 5.0), ("a.b", A[:-1] + "5", 4.0)]
    for name, uuid, at in made:
        old_program.run(old.INSERT_ACCOUNT, (uuid, name, name, 0, at))
    opened.upgrade()
    snapshot = opened.snapshot()
    found = {label: account.name for label, account in snapshot.labels.items()}
    assert found == {"acme": "acme", "a-b": "a.b"}
    assert labels.conflicts(snapshot) == [
        "account a_b: is a-b in DNS, which the account a.b has",
        "account acme.: is acme in DNS, which the account acme has",
    ]
    rows = old_program.run("SELECT name, dns_label FROM accounts ORDER BY name")
    assert dict(rows) == {"acme": "acme", "acme.": None, "a.b": "a-b", "a_b": None}

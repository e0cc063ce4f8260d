"""A directory is copied as a whole or not at all, between both databases."""

from __future__ import annotations

import itertools
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pymon.config import ConfigError
from pymon.directory import copying, schema
from pymon.directory.copying import backup, copy
from pymon.directory.directory import Directory, open_database, open_directory
from pymon.directory.model import DamagedError, DirectoryError, Holder, UnavailableError, VersionError
from tests.directory import old
from tests.directory.server import Server

NODE = UUID(int=7)


@pytest.fixture
def other_url(postgres: Server) -> Iterator[str]:
    """Another database of the server, without anything."""
    postgres.sql("CREATE DATABASE other")
    yield postgres.url("other")
    postgres.sql("DROP DATABASE other")


@pytest.fixture(params=["sqlite", "postgres"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "target.db")
    found: str = request.getfixturevalue("other_url")
    return found


def fill(directory: Directory) -> None:
    """A row of each kind at least."""
    for number in range(3):
        directory.create_account(f"account{number}", operator=number == 0)
        directory.create_token(f"account{number}", label="x" * 64)
    directory.set_quota("account0", requests_per_second=0.1 + 0.2, burst=3)
    directory.set_password("account0", "secret")
    directory.add_certificate("account0", certificate(), issued=True)
    directory.create_node("n1", "http://h:1", uuid=NODE, accounts=["account0"])
    directory.hold([Holder(UUID(int=n + 1000), NODE, None, 1e9 + n / 3, 0.0) for n in range(9)])
    directory.release_claim(UUID(int=1000))
    directory.acquire_lease("proxy a", "x", 20)


def certificate() -> bytes:
    pem = trustme.CA().issue_cert("a.example").cert_chain_pems[0].bytes()
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def content(url: str) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables that are copied."""
    database = open_database(url, read_only=True)
    try:
        with database.reading() as connection:
            return {
                name: sorted(
                    connection.execute(f"SELECT {', '.join(sorted(table.columns))} FROM {name}"),  # noqa: S608
                    key=repr,
                )
                for name, table in connection.tables().items()
                if name not in {"schema_version", "generation", "holder_version", "leases"}
            }
    finally:
        database.close()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def exists(url: str) -> bool:
    """Whether there is a directory."""
    try:
        open_directory(url, read_only=True).close()
    except UnavailableError:
        return False
    return True


@pytest.mark.usefixtures("directory")
def test_there_and_back(url: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "_BATCH", 2)
    with open_directory(url) as directory:
        fill(directory)
        generation, (version, holders, _) = directory.generation(), directory.holders(0)
    told: list[tuple[str, str, int, int]] = []
    assert copy(url, target, lambda *said: told.append(said)) == sum(map(len, content(url).values())) - 1
    assert content(target) == content(url)
    for what in ("copied", "compared"):
        of_tokens = [said[2:] for said in told if said[:2] == (what, "tokens")]
        assert of_tokens == [(2, 3), (3, 3)]
    back = str(tmp_path / "back.db")
    copy(target, back)
    assert content(back) == content(url)
    with open_directory(back) as directory:
        assert directory.snapshot().accounts_by_name.keys() == {"account0", "account1", "account2"}
        # A proxy that knew the old one reads all of the new one.
        assert directory.generation() != generation
        assert directory.holders(version)[0] == 0
        assert directory.holders(0)[1] == holders
        assert directory.leases("", 20) == {}
        directory.create_account("later")


@pytest.mark.usefixtures("directory")
def test_every_table_has_a_key_and_is_the_same_in_both(url: str, target: str) -> None:
    layouts = []
    for one in (url, target):
        open_directory(one, create=True).close()
        database = open_database(one)
        with database.reading() as connection:
            layouts.append({name: (set(t.columns), t.key) for name, t in connection.tables().items()})
        database.close()
    for name in layouts[0].keys() & layouts[1].keys():
        assert layouts[0][name] == layouts[1][name]
    assert layouts[0].keys() ^ layouts[1].keys() <= {"schema_version"}
    keyless = {name for layout in layouts for name, (_, key) in layout.items() if not key}
    assert keyless <= {"schema_version", "additions"}
    assert layouts[0]["keys"][1] == ("fingerprint", "account")


@pytest.mark.usefixtures("directory")
def test_an_empty_target_is_filled_and_any_other_refused(url: str, target: str) -> None:
    with open_directory(url) as directory:
        fill(directory)
    with open_directory(target, create=True) as empty:
        empty.acquire_lease("proxy of the new one", "x", 20)
    copy(url, target)
    before = content(target)
    with pytest.raises(DirectoryError, match=r": expected an empty directory, got one with \d+ [a-z_]+$"):
        copy(url, target)
    assert content(target) == before
    with pytest.raises(DirectoryError, match="expected another directory than the one to copy"):
        copy(url, url)


def test_a_copy_that_fails_leaves_the_target_as_it_was(
    target: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = str(tmp_path / "directory.db")
    with open_directory(source, create=True) as directory:
        fill(directory)
    insert, batches = copying._insert, copying._batches

    def broken(connection, name, columns, batch):
        if name == "tokens":
            raise DirectoryError("oh")
        insert(connection, name, columns, batch)

    def changed(connection, name, columns, batch):
        label = columns.index("label") if name == "tokens" else None
        if label is not None:
            batch = [(*row[:label], "another", *row[label + 1 :]) for row in batch]
        insert(connection, name, columns, batch)

    def missing(connection, name, table):
        yield from itertools.islice(batches(connection, name, table), 0 if name == "tokens" else None)

    for there in (False, True):
        if there:
            open_directory(target, create=True).close()
            before = content(target)
        files = {file.name for file in tmp_path.iterdir() if file.suffix == ".db"}
        for function, replacement, problem in (
            ("_insert", broken, "^oh$"),
            ("_insert", changed, "tokens: the row [a-z0-9]{12} is not what was copied; nothing was copied$"),
            ("_batches", missing, "tokens: expected 0 rows, got 0; nothing was copied$"),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(copying, function, replacement)
                with pytest.raises(DirectoryError, match=problem):
                    copy(source, target)
            if there:
                assert content(target) == before
            else:
                assert not exists(target)
            assert {file.name for file in tmp_path.iterdir()} - {
                f"{name}.db-{kind}" for name in ("directory", "target") for kind in ("wal", "shm")
            } == files


@pytest.mark.usefixtures("directory")
def test_an_error_names_the_directory_that_failed(
    url: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = tmp_path / "none"
    with pytest.raises(UnavailableError, match=f"^{none}: no directory there"):
        copy(str(none), target)
    with open_directory(url) as directory:
        fill(directory)
        label = directory.label
    with monkeypatch.context() as patch:
        patch.setattr(copying, "_BATCH", "nothing")  # the source's SELECT fails, inside the target's transaction
        with pytest.raises(DamagedError) as refused:
            copy(url, target)
    assert str(refused.value).startswith(f"{label}: ")
    database = open_database(url)
    with database.writing() as connection:
        connection.execute("UPDATE nodes SET accounts = 'x'")
    database.close()
    with pytest.raises(DamagedError) as refused:
        copy(url, target)
    assert str(refused.value).startswith(f"{label}: ")
    assert not exists(target)


@pytest.mark.usefixtures("directory")
def test_a_backup_is_consistent_while_others_write_and_replaces_nothing(url: str, tmp_path: Path) -> None:
    with open_directory(url) as directory:
        fill(directory)
    stop = threading.Event()
    written: list[int] = []

    def write() -> None:
        with open_directory(url) as writer:
            for number in itertools.count():
                if stop.is_set():
                    return
                # Each account is made with its token, in two transactions: never a token without its account.
                writer.create_account(f"new{number}")
                writer.create_token(f"new{number}")
                written.append(number)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(3):
            until(lambda: written)
            written.clear()
            file = tmp_path / f"backup{number}"
            backup(url, str(file))
            with open_directory(str(file), read_only=True) as copied:
                found = copied.snapshot()
            new = [name for name in found.accounts_by_name if name.startswith("new")]
            assert len(found.accounts) == 3 + len(new)
            assert len(found.tokens) in {3 + len(new), 2 + len(new)}
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
    finally:
        stop.set()
        thread.join()
    before = file.read_bytes()
    with pytest.raises(DirectoryError, match=r"backup2: exists already; nothing was written$"):
        backup(url, str(file))
    assert file.read_bytes() == before
    for bad in ("postgresql://h/d", str(tmp_path / "none" / "backup")):
        with pytest.raises((ConfigError, UnavailableError)):
            backup(url, bad)
    left = {path.name.removesuffix("-wal").removesuffix("-shm") for path in tmp_path.iterdir() if "backup" in path.name}
    assert left == {"backup0", "backup1", "backup2"}


def test_a_directory_before_its_upgrade_is_copied_as_it_is(tmp_path: Path, other_url: str) -> None:
    source = tmp_path / "old.db"
    old.make(str(source))
    copy(str(source), other_url)
    assert content(other_url) == content(str(source))
    with open_directory(other_url) as directory:
        assert directory.off()
        assert directory.upgrade()
    empty = tmp_path / "new.db"
    open_directory(str(empty), create=True).close()
    with pytest.raises(DirectoryError, match="its table accounts is of another version of pymon"):
        copy(str(source), str(empty))


def test_one_of_a_newer_pymon_is_not_copied(tmp_path: Path) -> None:
    source = tmp_path / "directory.db"
    open_directory(str(source), create=True).close()
    with sqlite3.connect(source) as connection:
        connection.execute("UPDATE additions SET level = ?", (schema.LEVEL + 1,))
    connection.close()
    with pytest.raises(VersionError, match="made by a newer pymon"):
        copy(str(source), str(tmp_path / "copy.db"))
    assert not (tmp_path / "copy.db").exists()


def test_what_another_process_makes_meanwhile_stays(tmp_path: Path) -> None:
    source, target = tmp_path / "directory.db", tmp_path / "copy.db"
    with open_directory(str(source), create=True) as directory:
        fill(directory)
    with pytest.raises(DirectoryError, match="another process has made it meanwhile; nothing was written"):
        copy(str(source), str(target), lambda *_: target.write_text("mine"))
    assert target.read_text() == "mine"


def test_a_value_that_postgresql_has_not_is_one_line(tmp_path: Path, other_url: str) -> None:
    source = tmp_path / "directory.db"
    with open_directory(str(source), create=True) as directory:
        fill(directory)
    with sqlite3.connect(source) as connection:
        connection.execute("UPDATE tokens SET label = 'a' || char(0)")
    connection.close()
    with pytest.raises(DirectoryError) as refused:
        copy(str(source), other_url)
    assert "\n" not in str(refused.value)
    assert not exists(other_url)
    with psycopg.connect(other_url) as there:
        assert there.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'pymon'").fetchall() == []


def test_rows_of_another_key_of_the_same_name(tmp_path: Path) -> None:
    """Many rows of one fingerprint: the key of two columns leads on."""
    source, target = tmp_path / "directory.db", tmp_path / "copy.db"
    with open_directory(str(source), create=True) as directory:
        for number in range(3):
            directory.create_account(f"a{number}")
    with sqlite3.connect(source) as connection:
        for number, (account,) in itertools.product(range(150), connection.execute("SELECT uuid FROM accounts")):
            connection.execute(
                "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?)",
                (f"f{number % 140}{uuid4().hex if number > 139 else ''}", "m", account, "k", "", 1.0, None),
            )
    connection.close()
    assert copy(str(source), str(target)) == 3 + 450
    assert content(str(target)) == content(str(source))

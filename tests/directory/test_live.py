"""The directory as a proxy sees it: changes, outages, the copy."""

# ruff: noqa: ASYNC240  # small files of the test, and nothing else on the loop
from __future__ import annotations

import asyncio
import json
import logging
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from uuid import UUID

import pytest

from pymon.directory import live
from pymon.directory.directory import open_directory
from pymon.directory.live import LiveDirectory
from pymon.directory.model import DamagedError, DirectoryError, Snapshot, UnavailableError, VersionError
from tests.directory import old
from tests.directory.server import Server, running

DEADLINE_SECONDS = 20


@pytest.fixture
def made(url: str) -> str:
    with open_directory(url, create=True) as directory:
        directory.create_account("alice")
        directory.set_password("alice", "x")
        directory.create_token("alice")
    return url


@asynccontextmanager
async def started(
    url: str | Path, copy: Path | None = None, changed: Callable[[Snapshot], None] = lambda _: None
) -> AsyncIterator[LiveDirectory]:
    directory = LiveDirectory(str(url), copy, changed)
    directory.start()
    try:
        yield directory
    finally:
        await directory.stop()
        assert not [thread for thread in threading.enumerate() if thread.name == "directory"]


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def change(url: str | Path, name: str) -> None:
    code = (
        "import sys; from pymon.directory.directory import open_directory\n"
        "with open_directory(sys.argv[1]) as directory: directory.create_account(sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", code, url, name], check=True)


async def test_a_change_of_another_process_arrives_on_the_loop(made: str, tmp_path: Path) -> None:
    seen: list[tuple[set[str], int]] = []

    def changed(snapshot: Snapshot) -> None:
        seen.append((set(snapshot.accounts_by_name), threading.get_ident()))

    async with started(made, tmp_path / "copy", changed) as directory:
        assert set(directory.snapshot.accounts_by_name) == {"alice"}
        assert seen == []
        await asyncio.to_thread(change, made, "bob")
        await until(lambda: bool(seen))
        assert seen == [({"alice", "bob"}, threading.get_ident())]
        assert set(directory.snapshot.accounts_by_name) == {"alice", "bob"}
        assert directory.error == ""
        assert directory.age_seconds() < DEADLINE_SECONDS


async def test_it_looks_often_enough_for_a_second(file: Path) -> None:
    assert live.POLL_SECONDS <= 0.5
    async with started(file) as directory:
        with open_directory(str(file)) as writer:
            writer.create_account("b")
            await until(lambda: "b" in directory.snapshot.accounts_by_name)
            writer.delete_account("b")
            await until(lambda: "b" not in directory.snapshot.accounts_by_name)


async def test_a_look_can_be_hastened(file: Path, monkeypatch) -> None:
    monkeypatch.setattr(live, "POLL_SECONDS", 3600.0)
    found: list[tuple[float, set[str]]] = []

    def looked(at: float) -> None:
        found.append((at, set(directory.snapshot.accounts_by_name)))

    directory = LiveDirectory(str(file), None, lambda _: None, looked)
    directory.start()
    assert len(found) == 1
    for number in range(1, 4):
        change(file, f"b{number}")
        before = time.monotonic()
        directory.hasten()
        await until(lambda number=number: len(found) > number)
        assert found[-1][0] >= before
        assert f"b{number}" in found[-1][1], "what a look finds is taken over before"
    await directory.stop()
    assert len(found) == 4


async def test_the_copy_has_everything_and_is_for_nobody_else(made: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_text("old")
    copy.chmod(0o644)
    async with started(made, copy) as directory:
        snapshot = directory.snapshot
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    back = LiveDirectory(made, copy, lambda _: None)._from_copy(UnavailableError("away"))
    assert back == snapshot


async def test_no_directory_and_no_copy_is_an_error_at_the_start(tmp_path: Path) -> None:
    for copy in (None, tmp_path / "copy"):
        directory = LiveDirectory(str(tmp_path / "no.db"), copy, lambda _: None)
        with pytest.raises(UnavailableError, match="no directory there"):
            directory.start()
        await directory.stop()


async def test_the_copy_serves_while_the_directory_is_away(file: Path, tmp_path: Path, caplog) -> None:
    copy = tmp_path / "copy"
    async with started(file, copy):
        pass
    away = file.rename(tmp_path / "away.db")
    async with started(file, copy) as directory:
        assert set(directory.snapshot.accounts_by_name) == {"alice"}
        assert "no directory there" in directory.error
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        away.rename(file)
        await until(lambda: directory.error == "")
        change(file, "bob")
        await until(lambda: "bob" in directory.snapshot.accounts_by_name)


async def test_a_peek_writes_nothing_and_takes_the_copy_when_the_directory_is_away(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    peeking = LiveDirectory(str(file), copy, lambda _: None)
    assert set(peeking.peek().accounts_by_name) == {"alice"}
    assert peeking.error == ""
    assert not copy.exists()
    async with started(file, copy):
        pass
    file.rename(tmp_path / "away.db")
    peeking = LiveDirectory(str(file), copy, lambda _: None)
    assert set(peeking.peek().accounts_by_name) == {"alice"}
    assert "no directory there" in peeking.error


async def test_the_last_good_one_stays_when_the_file_goes_or_is_damaged(file: Path, caplog) -> None:
    caplog.set_level(logging.INFO)
    good = file.read_bytes()
    async with started(file) as directory:
        generation = directory.snapshot.generation
        file.unlink()
        await until(lambda: "no directory there" in directory.error)
        for data in (b"x" * 5000, b"", good[:5000]):
            error = directory.error
            file.write_bytes(data)
            await until(lambda before=error: directory.error not in ("", before))
            assert directory.snapshot.generation == generation
        file.write_bytes(good)
        await until(lambda: directory.error == "")
        assert directory.snapshot.generation == generation
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == len({record.message for record in errors}) <= 6
    assert caplog.records[-1].message == "directory can be read again"


async def test_a_file_put_in_its_place_is_taken(file: Path, tmp_path: Path) -> None:
    with open_directory(str(tmp_path / "other.db"), create=True) as other:
        other.create_account("bob")
    async with started(file) as directory:
        (tmp_path / "other.db").replace(file)
        await until(lambda: set(directory.snapshot.accounts_by_name) == {"bob"})


@pytest.mark.parametrize("damage", [lambda data: data[:9000], lambda data: b"x" * len(data), lambda _: b""])
async def test_the_copy_serves_while_the_directory_is_damaged(
    file: Path, tmp_path: Path, caplog, damage: Callable[[bytes], bytes]
) -> None:
    copy = tmp_path / "copy"
    async with started(file, copy):
        pass
    good, kept = file.read_bytes(), copy.read_bytes()
    bad = damage(good)
    file.write_bytes(bad)
    async with started(file, copy) as directory:
        assert set(directory.snapshot.accounts_by_name) == {"alice"}
        assert re.search("damaged|not a pymon directory", directory.error)
        assert [record.getMessage() for record in caplog.records] == [
            f"serving from the copy of the directory: {directory.error}"
        ]
        await asyncio.sleep(3 * live.POLL_SECONDS)
        assert (file.read_bytes(), copy.read_bytes()) == (bad, kept)
        assert len(caplog.records) == 1
        (tmp_path / "good").write_bytes(good)
        (tmp_path / "good").replace(file)
        await until(lambda: directory.error == "")
    peeking = LiveDirectory(str(file), copy, lambda _: None)
    file.write_bytes(bad)
    assert set(peeking.peek().accounts_by_name) == {"alice"}
    assert peeking.error


@pytest.mark.parametrize("statement", ["DELETE FROM generation", "UPDATE accounts SET uuid = 'x'", "DROP TABLE nodes"])
async def test_the_copy_serves_while_rows_are_none_of_ours(file: Path, tmp_path: Path, statement: str) -> None:
    copy = tmp_path / "copy"
    async with started(file, copy):
        pass
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(statement)
        connection.execute("UPDATE generation SET value = 5")
        connection.commit()
    async with started(file, copy) as directory:
        assert set(directory.snapshot.accounts_by_name) == {"alice"}
        assert directory.error


async def test_a_damaged_directory_without_a_copy_is_refused_at_the_start(file: Path, tmp_path: Path) -> None:
    file.write_bytes(file.read_bytes()[:9000])
    for copy in (None, tmp_path / "copy"):
        directory = LiveDirectory(str(file), copy, lambda _: None)
        with pytest.raises(DamagedError, match="damaged"):
            directory.start()
        await directory.stop()


async def test_a_newer_directory_is_refused_whatever_the_copy_says(file: Path, tmp_path: Path) -> None:
    async with started(file, tmp_path / "copy"):
        pass
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version = 99")
    directory = LiveDirectory(str(file), tmp_path / "copy", lambda _: None)
    with pytest.raises(VersionError, match="made by a newer pymon"):
        directory.start()
    await directory.stop()


async def test_what_is_off_is_said_at_the_start_and_again_only_when_it_changes(url: str, caplog) -> None:
    old.make(url)
    program = old.OldProgram(url)
    try:
        program.run(old.INSERT_ACCOUNT, (str(UUID(int=1)), "a_b", "a_b", 0, 1.0))
        async with started(url) as directory:
            (line,) = [record.getMessage() for record in caplog.records]
            assert "off until `pymon directory upgrade`" in line
            program.run(old.INSERT_ACCOUNT, (str(UUID(int=2)), "a.b", "a.b", 0, 2.0))
            program.run(old.CHANGE, (5,))
            await until(lambda: len(caplog.records) == 2)
            assert caplog.records[1].getMessage() == "account a.b: is a-b in DNS, which the account a_b has"
            with open_directory(url) as writer:
                writer.upgrade()
                generation = writer.generation()
            await until(lambda: directory.snapshot.generation == generation)
        async with started(url):
            pass
        assert [record.getMessage() for record in caplog.records[2:]] == [caplog.records[1].getMessage()]
    finally:
        program.close()


async def test_the_copy_has_the_limits_of_nodes_and_an_older_programs_copy_serves(url: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    with open_directory(url, create=True) as directory:
        directory.create_account("a")
        node = directory.create_node("n1", "http://n1:9164", accounts=["a"])
        async with started(url, copy):
            pass
    back = LiveDirectory(url, copy, lambda _: None)._from_copy(UnavailableError("away"))
    assert back.nodes["n1"] == node
    document = json.loads(copy.read_text())
    assert all(len(row) == 5 for row in document["rows"]["nodes"]), "what an older program reads"
    del document["rows"]["node_accounts"]
    copy.write_text(json.dumps(document))
    back = LiveDirectory(url, copy, lambda _: None)._from_copy(UnavailableError("away"))
    assert back.nodes["n1"].accounts is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"pymon_directory_copy": 1, "directory": 1, "rows": {}}', "null", "1" * 9999]
)
async def test_a_damaged_copy_is_said(tmp_path: Path, text: str) -> None:
    copy = tmp_path / "copy"
    copy.write_text(text)
    directory = LiveDirectory(str(tmp_path / "no.db"), copy, lambda _: None)
    with pytest.raises(DirectoryError, match=rf"no directory there; .*; {copy}( is|:)"):
        directory.start()


async def test_damage_of_any_field_of_the_copy_is_said(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    async with started(file, copy):
        pass
    document = json.loads(copy.read_text())
    file.unlink()
    for name in ("saved_at", "rows", "directory"):
        for value in (None, "x", [], {}):
            copy.write_text(json.dumps({**document, name: value}))
            with pytest.raises(DirectoryError, match="copy"):
                LiveDirectory(str(file), copy, lambda _: None).start()
    for table in document["rows"]:
        for value in (None, "x", [["x"]], [[None] * 9], 5):
            copy.write_text(json.dumps({**document, "rows": {**document["rows"], table: value}}))
            with pytest.raises(DirectoryError, match="copy"):
                LiveDirectory(str(file), copy, lambda _: None).start()


async def test_the_copy_of_another_directory_does_not_serve(file: Path, tmp_path: Path) -> None:
    async with started(file, tmp_path / "copy"):
        pass
    directory = LiveDirectory(str(tmp_path / "no.db"), tmp_path / "copy", lambda _: None)
    with pytest.raises(DirectoryError, match="is the copy of another directory"):
        directory.start()


async def test_a_copy_that_cannot_be_written_stops_nothing_and_is_written_when_it_can(
    file: Path, tmp_path: Path, caplog, monkeypatch
) -> None:
    monkeypatch.setattr(live, "SAVE_AGAIN_SECONDS", 0.1)
    folder = tmp_path / "no"
    folder.touch()
    async with started(file, folder / "copy") as directory:
        for name in ("a", "b"):
            change(file, name)
            await until(lambda name=name: name in directory.snapshot.accounts_by_name)
        assert directory.error == ""
        folder.unlink()
        await until((folder / "copy").exists)
    assert [record.message for record in caplog.records] == [
        f"directory's copy cannot be written: {folder}/copy: File exists"
    ]
    back = LiveDirectory(str(file), folder / "copy", lambda _: None)._from_copy(UnavailableError("away"))
    assert set(back.accounts_by_name) == {"alice", "a", "b"}


async def test_the_folder_of_the_copy_is_made_for_its_owner_alone(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "new" / "copy"
    async with started(file, copy):
        assert copy.exists()
    assert stat.S_IMODE(copy.parent.stat().st_mode) == 0o700


async def test_a_reader_leaves_no_trace_but_the_index_of_the_log(file: Path, tmp_path: Path) -> None:
    before = file.read_bytes()
    async with started(file):
        pass
    assert file.read_bytes() == before
    left = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(left) <= {"directory.db", "directory.db-shm", "directory.db-wal"}
    assert left.get("directory.db-wal", 0) == 0
    change(file, "bob")
    shutil.rmtree(tmp_path)


async def test_a_server_that_stops_and_starts_again(tmp_path: Path) -> None:
    def outage(server: Server) -> None:
        server.stop()

    with running() as server:
        url = server.url()
        with open_directory(url, create=True) as writer:
            writer.create_account("alice")
        copy = tmp_path / "copy"
        async with started(url, copy) as directory:
            await asyncio.to_thread(outage, server)
            await until(lambda: directory.error != "")
            assert set(directory.snapshot.accounts_by_name) == {"alice"}
        async with started(url, copy) as directory:
            assert directory.error
            assert set(directory.snapshot.accounts_by_name) == {"alice"}
            await asyncio.to_thread(server.start)
            await until(lambda: directory.error == "")
            with open_directory(url) as writer:
                writer.create_account("bob")
            await until(lambda: "bob" in directory.snapshot.accounts_by_name)

"""The directory's file: damage, modes, file systems that refuse, files put in its place."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pymon.directory import sqlite
from pymon.directory.directory import Directory, open_directory
from pymon.directory.model import DamagedError, DirectoryError, UnavailableError


def names(path: Path) -> set[str]:
    with open_directory(str(path), read_only=True) as directory:
        return set(directory.snapshot().accounts_by_name)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("umask", [0, 0o777])
def test_only_its_owner_may_read_it_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "directory.db"
    old = os.umask(umask)
    try:
        with open_directory(str(path), create=True) as directory:
            directory.create_account("a")
            modes = {found.name: mode(found) for found in tmp_path.iterdir()}
    finally:
        os.umask(old)
    assert modes == dict.fromkeys(("directory.db", "directory.db-shm", "directory.db-wal"), 0o600)
    assert [found.name for found in tmp_path.iterdir()] == ["directory.db"]


@pytest.mark.root
def test_made_by_root_it_belongs_to_who_has_the_directory(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    with open_directory(str(tmp_path / "directory.db"), create=True) as directory:
        directory.create_account("a")
        assert {found.stat().st_uid for found in tmp_path.iterdir()} == {65534}


@pytest.mark.parametrize("form", ["{}", "sqlite://{}"])
@pytest.mark.parametrize("name", ["a?mode=memory", "a#b", "a b", "ä", "\udcff", "file:x", ":memory:", "a;b'"])
def test_the_name_of_the_file_is_only_a_name(tmp_path: Path, name: str, form: str) -> None:
    path = tmp_path / name
    url = form.format(path).replace("?", "%3F") if form != "{}" else str(path)
    with open_directory(url, create=True) as directory:
        directory.create_account("a")
    assert names(path) == {"a"}
    assert name in {found.name for found in tmp_path.iterdir()}


def noise(count: int) -> bytes:
    return hashlib.shake_128(b"noise").digest(count)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "text": lambda _: b"hello\n" * 1000,
    "short text": lambda _: b"hello\n",
    "zeros": lambda data: bytes(len(data)),
    "header only": lambda data: data[:100],
    "a page": lambda data: data[:4096],
    "half": lambda data: data[: len(data) // 2 + 100],
    "pages of noise": lambda data: data[:4096] + noise(len(data) - 4096),
    "noise in the header": lambda data: noise(100) + data[100:],
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_is_refused_and_left_as_it_is(file: Path, how: str) -> None:
    data = DAMAGE[how](file.read_bytes())
    file.write_bytes(data)
    for create, read_only in ((False, False), (True, False), (False, True)):
        with pytest.raises(DamagedError, match=f"^{file}: (not a pymon directory|damaged)") as caught:
            open_directory(str(file), create=create, read_only=read_only)
        assert "\n" not in str(caught.value)
        assert file.read_bytes() == data


def test_the_words_for_a_file_that_is_no_database(file: Path) -> None:
    file.write_bytes(b"hello\n" * 1000)
    with pytest.raises(DamagedError) as caught:
        open_directory(str(file))
    assert str(caught.value) == f"{file}: not a pymon directory (file is not a database)"


def test_damage_anywhere_is_refused_or_harmless(file: Path) -> None:
    good = file.read_bytes()
    step = len(good) // 150
    for at in range(0, len(good) - 16, step):
        data = bytearray(good)
        data[at : at + 16] = noise(16)
        file.write_bytes(data)
        try:
            with open_directory(str(file), read_only=True) as directory:
                directory.snapshot()
        except DirectoryError as error:
            assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize("read_only", [False, True])
def test_a_schema_that_is_no_text_is_refused(file: Path, read_only: bool) -> None:
    good = file.read_bytes()
    assert b"CREATE TABLE accounts" in good
    file.write_bytes(good.replace(b"CREATE TABLE accounts", b"CREATE\xffTABLE accounts"))
    with pytest.raises(DamagedError, match=rf"^{file}: damaged \(its schema is not text\)$"):
        open_directory(str(file), read_only=read_only)


def test_a_database_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE accounts (x)")
        connection.commit()
    data = path.read_bytes()
    for create in (False, True):
        with pytest.raises(DamagedError, match=r"not a pymon directory \(a database of another program\)"):
            open_directory(str(path), create=create)
    assert path.read_bytes() == data


def test_a_directory_of_the_file_system(tmp_path: Path) -> None:
    for create in (False, True):
        with pytest.raises(DamagedError, match="expected a file"):
            open_directory(str(tmp_path), create=create)


def test_a_log_of_a_lost_directory_is_not_taken_for_the_new_one(tmp_path: Path) -> None:
    (tmp_path / "directory.db-wal").write_bytes(b"x" * 5000)
    with pytest.raises(DamagedError, match=r"no directory there, but directory.db-wal of a lost one"):
        open_directory(str(tmp_path / "directory.db"), create=True)
    assert not (tmp_path / "directory.db").exists()


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE accounts SET uuid = 'x'",
        "UPDATE accounts SET name = CAST(x'ff' AS TEXT)",
        "DELETE FROM generation",
        "DROP TABLE nodes",
        "INSERT INTO quotas VALUES ((SELECT uuid FROM accounts), -1, 1, 1)",
    ],
)
def test_rows_that_are_none_of_ours(file: Path, text: str) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(text)
        connection.commit()
    with open_directory(str(file), read_only=True) as directory, pytest.raises(DamagedError):
        directory.snapshot()


def test_who_waits_too_long_for_a_writer_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    with closing(sqlite3.connect(file, isolation_level=None)) as other, open_directory(str(file)) as directory:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError, match="another process has been writing"):
            directory.create_account("b")
        assert set(directory.snapshot().accounts_by_name) == {"alice"}
        other.execute("ROLLBACK")
        directory.create_account("b")


def test_a_writer_killed_in_the_middle_leaves_what_was_there(file: Path) -> None:
    code = (
        "import sys, os; from pymon.directory.directory import open_directory\n"
        "directory = open_directory(sys.argv[1])\n"
        "with directory._database.writing() as connection:\n"
        "    connection.execute('DELETE FROM accounts')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, file], check=False).returncode == -9
    assert names(file) == {"alice"}
    with open_directory(str(file)) as directory:
        directory.create_account("b")


# --- replaced under a reader -----------------------------------------------------------------------


@pytest.fixture
def reader(file: Path) -> Iterator[Directory]:
    with open_directory(str(file), read_only=True) as directory:
        directory.snapshot()
        yield directory


@pytest.fixture
def other(tmp_path: Path) -> Path:
    path = tmp_path / "other.db"
    with open_directory(str(path), create=True) as directory:
        directory.create_account("bob")
    return path


def test_a_change_of_another_process_is_seen(file: Path, reader: Directory) -> None:
    before = reader.generation()
    with open_directory(str(file)) as directory:
        directory.create_account("b")
        assert reader.generation() != before
        assert set(reader.snapshot().accounts_by_name) == {"alice", "b"}


def test_a_file_put_in_its_place_is_seen_and_not_mixed(file: Path, reader: Directory, other: Path) -> None:
    before = reader.generation()
    other.replace(file)
    assert reader.generation() != before
    assert set(reader.snapshot().accounts_by_name) == {"bob"}
    with open_directory(str(file)) as directory:
        directory.create_account("b")
    assert set(reader.snapshot().accounts_by_name) == {"bob", "b"}


def test_a_file_copied_over_it_is_seen(file: Path, reader: Directory, other: Path) -> None:
    before = reader.generation()
    shutil.copyfile(other, file)
    assert reader.generation() != before
    assert set(reader.snapshot().accounts_by_name) == {"bob"}


def test_it_goes_and_comes_back(file: Path, reader: Directory) -> None:
    away = file.rename(file.with_name("away.db"))
    with pytest.raises(UnavailableError, match="no directory there"):
        reader.generation()
    file.write_bytes(b"x" * 5000)
    with pytest.raises(DamagedError):
        reader.generation()
    away.replace(file)
    assert set(reader.snapshot().accounts_by_name) == {"alice"}


def test_a_copy_of_the_file_alone_is_the_whole_directory(file: Path, reader: Directory, tmp_path: Path) -> None:
    with open_directory(str(file)) as directory:
        directory.create_account("b")
        shutil.copyfile(file, tmp_path / "backup.db")
    assert names(tmp_path / "backup.db") == {"alice", "b"}


# --- file systems that refuse ----------------------------------------------------------------------

REPORT = """
import sys
from pymon.directory.directory import open_directory
from pymon.directory.model import DirectoryError
def tell(what):
    try:
        print("ok", what())
    except DirectoryError as error:
        print(type(error).__name__, error)
"""


def in_namespace(script: str, code: str, *arguments: Path) -> str:
    """Output of Python code in a mount namespace that a shell script has changed; $1... are the arguments."""
    command = ["unshare", "--mount", "sh", "-ec", f'{script}\nexec "$0" -c "$CODE" "$@"', sys.executable, *arguments]
    done = subprocess.run(
        command, env={**os.environ, "CODE": REPORT + code}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.root
def test_a_directory_on_a_file_system_that_is_read_only(file: Path) -> None:
    code = """
tell(lambda: list(open_directory(sys.argv[2], read_only=True).snapshot().accounts_by_name))
tell(lambda: list(open_directory(sys.argv[2]).snapshot().accounts_by_name))
tell(lambda: open_directory(sys.argv[2]).create_account("b"))
tell(lambda: open_directory(sys.argv[2] + "2", create=True))
"""
    output = in_namespace('mount --bind -o ro "$1" "$1"', code, file.parent, file)
    assert output.splitlines() == [
        "ok ['alice']",
        "ok ['alice']",
        f"UnavailableError {file}: cannot be written (read-only)",
        f"UnavailableError {file}2: cannot be created: Read-only file system",
    ]


@pytest.mark.root
def test_a_reader_without_the_right_to_write(file: Path) -> None:
    code = """
import os
if os.fork() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
    tell(lambda: list(open_directory(sys.argv[1], read_only=True).snapshot().accounts_by_name))
    tell(lambda: open_directory(sys.argv[1]).create_account("b"))
    os.chdir("/")
    sys.stdout.flush()
    os._exit(0)
os.wait()
"""
    script = 'mount -t tmpfs none /mnt; mkdir -m 755 /mnt/d; cp "$1" /mnt/d/x; chmod {} /mnt/d/x; set -- /mnt/d/x'
    assert in_namespace(script.format(644), code, file).splitlines() == [
        "ok ['alice']",
        "UnavailableError /mnt/d/x: cannot be written (read-only)",
    ]
    refused = "UnavailableError /mnt/d/x: cannot be read: Permission denied"
    assert in_namespace(script.format(600), code, file).splitlines() == [refused, refused]


@pytest.mark.root
def test_a_full_file_system_loses_nothing(file: Path) -> None:
    code = """
import os
directory = open_directory("/mnt/x")
open("/mnt/fill", "wb").close()
with open("/mnt/fill", "ab", 0) as fill:
    try:
        while True: fill.write(bytes(4096))
    except OSError: pass
def create():
    for number in range(10000): directory.create_account(f"a{number}")
tell(create)
tell(lambda: open_directory("/mnt/y", create=True))
print(sorted(name for name in os.listdir("/mnt") if name[0] in ".y"))
os.unlink("/mnt/fill")
tell(lambda: directory.create_account("b").name)
tell(lambda: {"alice", "b"} <= set(directory.snapshot().accounts_by_name))
"""
    script = 'mount -t tmpfs -o size=400k none /mnt; cp "$1" /mnt/x'
    output = in_namespace(script, code, file).splitlines()
    assert output == [
        "UnavailableError /mnt/x: no space left on its file system",
        "UnavailableError /mnt/y: no space left on its file system",
        "[]",
        "ok b",
        "ok True",
    ]


def test_looking_is_cheap(file: Path, reader: Directory) -> None:
    start = time.process_time()
    for _ in range(1000):
        reader.generation()
    assert time.process_time() - start < 5


def test_the_whole_file_is_checked_when_it_is_another_and_seldom_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, new = tmp_path / "directory.db", tmp_path / "new.db"
    checks: list[str] = []
    connect = sqlite3.connect

    def traced(*args: object, **more: object) -> sqlite3.Connection:
        connection = connect(*args, **more)
        connection.set_trace_callback(lambda text: checks.append(text) if "quick_check" in text else None)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    with open_directory(str(file), create=True) as writer, open_directory(str(file)) as reader:
        checks.clear()
        for _ in range(3):
            writer.acquire_lease("x", "me", 5.0)
            reader.generation()
        assert checks == []
        shutil.copyfile(file, new)
        new.replace(file)
        reader.generation()
        assert len(checks) == 1

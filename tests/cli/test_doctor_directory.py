"""What `pymon doctor` says of the directory."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from pymon import cli
from pymon.directory.directory import open_directory
from tests.directory import old


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYMON_DATA_DIR", str(tmp_path))
    return tmp_path / "directory.db"


def said(capsys: pytest.CaptureFixture[str], *flags: str) -> list[str]:
    """Its lines about the directory."""
    assert cli.main(["doctor", *flags]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return [line.removeprefix("directory").strip() for line in out.splitlines() if line.startswith("directory")]


def test_accounts_without_their_label_and_what_is_off(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old.make(str(file))
    program = old.OldProgram(str(file))
    for number, name in enumerate(("acme.", "acme", "a_b", "a.b")):
        program.run(old.INSERT_ACCOUNT, (str(UUID(int=number)), name, name, 0, float(number)))
    program.close()
    before = file.read_bytes()
    first, off, *conflicts = said(capsys)
    assert first == f"{file}: 4 accounts, 0 nodes"
    assert off.startswith(f"{file}: off until `pymon directory upgrade`: ")
    assert conflicts == [
        "account a.b: is a-b in DNS, which the account a_b has",
        "account acme.: is acme in DNS, which the account acme has",
    ]
    assert file.read_bytes() == before
    with open_directory(str(file)) as directory:
        directory.upgrade()
    assert said(capsys, "--directory", str(file), "--data-dir", "/nowhere") == [first, *conflicts]


def test_a_directory_that_is_none(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys) == [f"none in {file.parent}"]
    assert not file.exists()
    file.write_text("hello" * 1000)
    assert said(capsys) == [f"{file}: not a pymon directory (file is not a database)"]
    (line,) = said(capsys, "--directory", str(file.parent / "no.db"))
    assert line.startswith(f"unknown ({file.parent}/no.db: no directory there")

"""`pymon directory copy` and `backup`: what they say, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from pymon import cli
from pymon.cli import directory as module
from pymon.directory.directory import open_directory


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYMON_DATA_DIR", str(tmp_path / "data"))
    assert cli.main(["account", "create", "alice"]) == 0
    assert cli.main(["token", "create", "alice"]) == 0
    return tmp_path / "data"


def accounts(file: Path) -> list[str]:
    with open_directory(str(file), read_only=True) as directory:
        return list(directory.snapshot().accounts_by_name)


def test_a_backup_is_a_directory(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SAY_SECONDS", 0.0)
    file = tmp_path / "backup.db"
    capsys.readouterr()
    assert cli.main(["directory", "backup", str(file)]) == 0
    assert capsys.readouterr() == (
        "2 rows copied, and each compared\n",
        "accounts: 1 of 1 copied\ntokens: 1 of 1 copied\naccounts: 1 of 1 compared\ntokens: 1 of 1 compared\n",
    )
    assert accounts(file) == ["alice"]
    (data_dir / "directory.db").unlink()
    assert cli.main(["directory", "copy", str(file), str(data_dir / "directory.db")]) == 0
    capsys.readouterr()
    assert cli.main(["account", "list"]) == 0
    assert "alice" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("backup",), 2, "expected pymon directory backup FILE, got 0 arguments"),
        (("copy", "a"), 2, "expected pymon directory copy FROM TO, got 1 arguments"),
        (("backup", "{there}"), 1, "{there}: exists already; nothing was written"),
        (("backup", "postgresql://h/d"), 2, "directory: expected a path"),
        (("copy", "{there}", "{own}"), 1, "{own}: expected an empty directory, got one with 1 accounts"),
        (("copy", "{own}", "{own}"), 1, "{own}: expected another directory than the one to copy"),
        (("copy", "{none}", "{new}"), 1, "{none}: no directory there"),
        (("copy", "{text}", "{new}"), 1, "{text}: not a pymon directory"),
        (("copy", "{own}", "{text}"), 1, "{text}: not a pymon directory"),
        (("copy", "{own}", "{none}/x"), 1, "{none}/x: cannot be created: No such file or directory"),
        (("copy", "{own}", "postgresql://u:secret@127.0.0.1:1/d"), 1, "postgresql://127.0.0.1:1/d: connection"),
    ],
)
def test_what_is_refused_is_one_line(
    words: tuple[str, ...], status: int, said: str, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {name: tmp_path / name for name in ("there", "none", "new", "text")} | {"own": data_dir / "directory.db"}
    names["text"].write_text("no database " * 100)
    open_directory(str(names["there"]), create=True).close()
    capsys.readouterr()
    assert cli.main(["directory", *(word.format(**names) for word in words)]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(f"pymon: {said.format(**names)}"), err
    assert "secret" not in err
    assert not names["new"].exists()
    assert accounts(names["own"]) == ["alice"]

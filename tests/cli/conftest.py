"""Command lines that are run in this process, with a data directory of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pymon import cli
from tests.cli.commands import Pymon


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data directory of commands. It is not there yet."""
    monkeypatch.setenv("PYMON_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def pymon(capsys: pytest.CaptureFixture[str]) -> Pymon:
    """Run a command line that succeeds; its output."""

    def run(*words: str) -> str:
        status = cli.main(words)
        out, err = capsys.readouterr()
        assert (status, err) == (0, "")
        return out

    return run


@pytest.fixture
def failing(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run a command line that fails; its exit code and the one line it says."""

    def run(*words: str) -> tuple[int, str]:
        status = cli.main(words)
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("pymon: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1
        assert err.isascii()
        assert len(err) < 600
        return status, err.removeprefix("pymon: ").rstrip("\n")

    return run

"""The dispatcher: exit codes and one-line errors."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

import pymon
from pymon import cli
from pymon.config import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def command(monkeypatch: pytest.MonkeyPatch, run) -> None:
    module = types.ModuleType("pymon_test_command")
    module.run = run
    monkeypatch.setitem(sys.modules, "pymon_test_command", module)
    monkeypatch.setitem(cli.COMMANDS, "test", ("pymon_test_command", "a test"))


def raising(error: BaseException):
    def run(_argv):
        raise error

    return run


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in cli.COMMANDS)
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"pymon {pymon.__version__}\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [([], "expected a command"), (["agnet"], "agnet: unknown command, did you mean agent?"), (["-x"], "-x: unknown")],
)
def test_bad_usage(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ConfigError("f: k: expected a, got b"), 2, "pymon: f: k: expected a, got b\n"),
        (KeyboardInterrupt(), 130, ""),
        (OSError(98, "cannot listen on :1: Address already in use"), 1,
         "pymon: cannot listen on :1: Address already in use\n"),
        (FileNotFoundError(2, "No such file or directory", "/x"), 1, "pymon: /x: No such file or directory\n"),
        (ValueError("a\nb"), 1, "pymon: internal error: ValueError: a b\n"),
    ],
)  # fmt: skip
def test_errors(monkeypatch, capsys, error: BaseException, status: int, line: str) -> None:
    command(monkeypatch, raising(error))
    assert cli.main(["test"]) == status
    assert capsys.readouterr().err == line


def test_traceback_at_debug(monkeypatch, capsys) -> None:
    command(monkeypatch, raising(ValueError("bad")))
    assert cli.main(["test", "--log.level=debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_arguments_and_status(monkeypatch) -> None:
    command(monkeypatch, len)
    assert cli.main(["test", "a", "b", "c"]) == 3


def test_broken_pipe() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "pymon", "--help"], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert done.stderr == b""
    assert done.returncode == 0


def test_help_loads_no_command_and_no_library() -> None:
    program = "import sys; from pymon import cli; cli.main(['--help']); print(*sorted(sys.modules))"
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r})"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", f"{start}; {program}"],
                          capture_output=True, text=True, timeout=60, check=True)  # fmt: skip
    loaded = done.stdout.splitlines()[-1].split()
    assert [name for name in loaded if name.startswith("pymon")] == ["pymon", "pymon.cli"]
    assert not {"asyncio", "argparse", "dataclasses", "logging", "re", "yaml"} & set(loaded)

"""What is shown while somebody waits: at a terminal, elsewhere, and with NO_COLOR."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from pymon import cli
from pymon.cli.waiting import AGAIN_SECONDS, Waiting, bar, bold
from tests.top.terminal import in_a_terminal


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Screen()


def test_a_line_is_written_over_not_too_often_cut_to_the_terminal_and_taken_away(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", screen)
    times = iter((0.0, AGAIN_SECONDS / 2, AGAIN_SECONDS, 2.0))
    with Waiting(lambda: next(times)) as waiting:
        for text in ("one", "two", "three", "x" * 100):
            waiting.say(text)
    assert screen.getvalue() == f"\rone\x1b[K\rthree\x1b[K\r{'x' * 19}\x1b[K\r\x1b[K"


@pytest.mark.parametrize("why", ["no terminal", "dumb"])
def test_without_a_terminal_nothing_is_written(screen: Screen, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    if why == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    else:
        monkeypatch.setattr(screen, "isatty", lambda: False)
    monkeypatch.setattr(sys, "stderr", screen)
    with Waiting() as waiting:
        waiting.say("one")
    assert screen.getvalue() == ""
    assert bold("x", screen) == "x"


def test_bold_is_for_terminals_and_never_with_no_color(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bold("x", screen) == "\x1b[1mx\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert bold("x", screen) == "x"


def test_a_bar_is_as_long_whatever_is_done() -> None:
    assert [bar(done, 4, 4) for done in (0, 1, 4, 9)] == ["[    ]", "[#   ]", "[####]", "[####]"]
    assert bar(0, 0, 2) == "[##]"


def test_a_backup_at_a_terminal_has_a_bar_which_is_gone_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYMON_DATA_DIR", str(tmp_path / "data"))
    assert cli.main(["account", "create", "alice"]) == 0
    words = ("-m", "pymon", "directory", "backup", str(tmp_path / "backup.db"))
    status, written = in_a_terminal(*words, TERM="xterm", COLUMNS="80")
    assert status == 0
    assert f"\rcopied [{'#' * 24}] accounts: 1 of 1\x1b[K" in written
    assert written.endswith("\r\x1b[K1 rows copied, and each compared\r\n")
    status, written = in_a_terminal(*words, TERM="xterm")
    assert status == 1
    assert written.endswith("backup.db: exists already; nothing was written\r\n")

"""`pymon top` in a real pseudo-terminal, beside a server that the tests decide."""

from __future__ import annotations

import os
import re
import signal

import pytest

from tests.top.summaries import Summaries, served
from tests.top.terminal import Terminal, terminal

HOSTILE = (
    "[red]x[/red]", "a\u202egnp.exe", "zero\u200bwidth", "line\nbreak", "\x1b[31mred",
    "\u05e9\u05dc\u05d5\u05dd", "caf\u00e9",
)  # fmt: skip


@pytest.fixture
def summaries():
    with served(Summaries("web", "db", "cache")) as found:
        yield found


def first_words(here: Terminal) -> list[str]:
    """The names in the table."""
    lines = here.screen()
    at = next(at for at, line in enumerate(lines) if line.startswith("CONTAINER"))
    return [line.split()[0] for line in lines[at + 1 :] if line.split() and "q end" not in line]


def rates(here: Terminal) -> None:
    here.until("rates", lambda text: re.search(r"CPU [0-9]", text))


def test_containers_are_sorted_filtered_and_looked_at_one_by_one(summaries) -> None:
    with terminal("top", "--url", summaries.url, "--interval", "1s") as here:
        rates(here)
        assert first_words(here) == ["cache", "db", "web"]
        text = here.text()
        assert "3 containers  CPU 6.0" in text
        assert " of 2  mem 6.0M of 16.0G" in text
        assert "▁" in text or "█" in text
        here.keys("r")
        here.until("reversed", lambda _: first_words(here) == ["web", "db", "cache"])
        here.keys("Left")
        here.until("sorted by name", lambda _: first_words(here) == ["cache", "db", "web"])
        here.shows("CONTAINER^")
        here.keys("/")
        here.shows("words, all of which must be there")
        here.typed("WEB")
        here.until("filtered", lambda _: first_words(here)[:1] == ["web"])
        here.keys("Enter")
        # The line in which it was typed is gone.
        text = here.until("back at the table", lambda text: text.rstrip().split("\n")[-1].startswith("filter: WEB"))
        assert "1 of 3 containers" in text
        here.keys("Enter")
        here.shows(f"UUID      {0:032x}", "CPU cores", "wait for I/O", "Escape back")
        here.keys("Escape")
        here.shows("CONTAINER")
        here.keys("Escape")
        here.shows("3 containers")
        here.keys("?")
        here.shows("the last minutes of the chosen one")
        here.keys("q")
        assert here.status() == 0


def test_the_first_rows_stay_in_view_until_another_is_chosen() -> None:
    with (
        served(Summaries(*(f"app-{number}" for number in range(50)))) as summaries,
        terminal("top", "--url", summaries.url, "--interval=1s") as here,
    ):
        here.until("sorted by CPU", lambda text: "CONTAINER" in text and first_words(here)[:1] == ["app-49"])
        here.keys("End")
        here.until("at the end", lambda _: first_words(here)[-1:] == ["app-0"])
        here.keys("PageUp")
        here.until("a page before", lambda _: "app-20" in first_words(here))
        here.keys("Home")
        here.until("at the top", lambda _: first_words(here)[:1] == ["app-49"])


def test_names_are_text(summaries) -> None:
    summaries.names = list(HOSTILE)
    with terminal("top", "--url", summaries.url) as here:
        here.shows("[red]x[/red]", r"a\u202egnp.exe", r"zero\u200bwidth", r"line\nbreak", r"\x1b[31mred", "café")
        here.shows(r"\u05e9\u05dc")
        assert "\x1b[31mred" not in here.styled()


def test_a_locale_without_utf_8_and_no_color(summaries) -> None:
    summaries.names = ["caf\u00e9", *HOSTILE]
    with terminal("top", "--url", summaries.url, width=120, environ={"LC_ALL": "C", "NO_COLOR": "1"}) as here:
        here.shows("[ANSI_X3.4-1968 is not UTF-8: ASCII only]", r"caf\xe9")
        rates(here)
        here.keys("Enter")
        here.shows("CPU cores")
        assert here.text().isascii()
        assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|4[0-7]|[34]8)[;m]", here.styled())


def test_a_small_terminal_is_told_so_and_one_that_grows_shows_the_table(summaries) -> None:
    said_by_a_shell = {"COLUMNS": "80", "LINES": "24"}
    with terminal("top", "--url", summaries.url, width=20, height=5, environ=said_by_a_shell) as here:
        here.until("said", lambda text: "20x5 is too small" in text.replace("\n", " "))
        here.size(80, 24)
        here.shows("CONTAINER", "web")
        here.size(60, 10)
        here.until("narrow", lambda text: "CONTAINER" in text and "PAST" not in text)


def test_numbers_stay_while_the_server_is_away() -> None:
    with served(Summaries("web")) as gone, terminal("top", "--url", gone.url, "--interval", "1s") as here:
        rates(here)
        gone.status, gone.body = 503, b"busy"
        here.shows("answers 503: busy", "last numbers: ", "web")
        gone.status, gone.body = 200, b"{}"
        here.shows("the answer is no summary", "last numbers: ", "web")
        gone.body = None
        here.until("well again", lambda text: "last numbers" not in text)
        gone.node = {"error": "its agent does not answer"}
        here.shows("not answering (last numbers, marked !): node: its agent does not answer", "!web")
        gone.node = {}
        here.until("well again", lambda text: "!web" not in text)


def test_ctrl_c_ends_it_while_nothing_answers() -> None:
    with terminal("top", "--url", "http://127.0.0.1:1") as here:
        here.shows("no connection to http://127.0.0.1:1: Connection refused")
        here.keys("C-c")
        assert here.status() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_leaves_the_terminal_as_it_was(summaries, number: int) -> None:
    with terminal("top", "--url", summaries.url) as here:
        here.shows("web")
        os.kill(here.pid(), number)
        assert here.status() == 0
        here.until("the screen of before", lambda text: "CONTAINER" not in text)


def test_bytes_that_are_no_utf_8_end_it_without_a_traceback(summaries) -> None:
    with terminal("top", "--url", summaries.url) as here:
        here.shows("web")
        here.tmux("send-keys", "-H", "ff", "fe", "ff")
        assert here.status() == 1
        here.shows("pymon: internal error: the terminal sent what cannot be read")
        assert "Traceback" not in here.text()

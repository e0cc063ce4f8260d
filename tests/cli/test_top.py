"""`pymon top` for scripts: --once and --json, wrong usage, and a machine without Textual."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.top.summaries import Summaries, served
from tests.top.terminal import in_a_terminal

ROOT = Path(__file__).resolve().parents[2]


def top(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYMON_") and key != "COLUMNS"}
    return subprocess.run(
        [sys.executable, "-m", "pymon", "top", *words],
        cwd=ROOT, env={**kept, **environ}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


@pytest.fixture
def summaries():
    with served(Summaries("web", "db", "x\x1b[2J\u202e")) as found:
        yield found


def test_once(summaries) -> None:
    done = top("--url", summaries.url, "--once")
    assert (done.returncode, done.stderr) == (0, "")
    head, *rows = done.stdout.splitlines()
    assert head.split()[:3] == ["CONTAINER", "CPUv", "MEM"]
    assert head.split()[-1] == "IMAGE"
    assert [row.split()[0] for row in rows] == [r"x\x1b[2J\u202e", "db", "web"]
    assert [row.split()[1] for row in rows] == ["3.00", "2.00", "1.00"]
    narrow = top("--url", summaries.url, "--once", "--sort=name", "--filter=DB", COLUMNS="60").stdout.splitlines()
    assert [line.split()[0] for line in narrow] == ["CONTAINER^", "db"]
    assert all(len(line) <= 60 for line in narrow)


def test_once_in_a_locale_without_utf_8(summaries) -> None:
    summaries.names = ["caf\u00e9"]
    done = top("--url", summaries.url, "--once", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert r"caf\xe9" in done.stdout


def test_json_has_the_raw_values_and_rates(summaries) -> None:
    done = top("--url", summaries.url, "--json")
    assert done.stdout.isascii()
    told = json.loads(done.stdout)
    assert (told["url"], told["account"]) == (summaries.url, None)
    assert told["nodes"] == [{"uuid": "n", "hostname": "node", "error": None}]
    first = told["containers"][0]
    assert first["name"] == "x\x1b[2J\u202e"
    assert first["cpu_cores"] == pytest.approx(3, rel=1e-3)
    assert (first["memory_bytes"], first["receive_bytes_per_second"], first["node"]) == (3 << 20, None, "n")


def test_a_node_that_is_away_is_said(summaries) -> None:
    summaries.node = {"error": "its agent does not answer\x1b"}
    done = top("--url", summaries.url, "--once")
    assert (done.returncode, done.stderr) == (1, "pymon: node does not answer: its agent does not answer\\x1b\n")
    assert json.loads(top("--url", summaries.url, "--json").stdout)["nodes"][0]["error"].startswith("its agent")


def test_no_answer(summaries) -> None:
    assert top("--url", "http://127.0.0.1:1", "--once").stderr == (
        "pymon: no connection to http://127.0.0.1:1: Connection refused\n"
    )
    summaries.body = b"{}"
    done = top("--url", summaries.url, "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("pymon: the answer is no summary: ")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--url=ftp://h",), "--url: expected http://HOST:PORT or https://HOST:PORT"),
        (("--url=http://user:secret@h:1",), "without a name, password or path"),
        (("--url=http://h:1/path",), "without a name, password or path"),
        (("--url=http://h:99999",), "--url: expected"),
        (("--url=http://[::1",), "--url: expected"),
        (("--interval=0s",), "--interval: expected a duration from 1s to 1h"),
        (("--sort=colour",), "--sort: expected one of name, cpu"),
        (("--token=secret",), "--token: unknown flag, did you mean --token-file"),
        (("--token-file=/none/such",), "url: expected https:// with --token-file, got http://127.0.0.1:9164"),
        (
            ("--url=https://h", "--token-file=/none/such"),
            "token-file: /none/such: cannot be read: No such file",
        ),
        (("--url=https://h", "--key-file=/dev/null"), "cert-file: expected one with --key-file"),
        ((), "top: expected a terminal as input, output and errors; --once and --json need none"),
    ],
)
def test_wrong_usage_is_one_line(words, expected: str) -> None:
    done = top(*words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert expected in done.stderr


def test_without_textual_one_line_says_what_to_install() -> None:
    program = "import sys; sys.modules['textual'] = None; from pymon.cli import main; sys.exit(main(['top']))"
    status, written = in_a_terminal("-c", program, TERM="xterm")
    assert status == 1
    assert written == (
        "pymon: textual is not installed, which the live view needs: pip install 'pymon[top]'; --once and --json work "
        "without\r\n"
    )


def test_a_terminal_without_a_cursor() -> None:
    status, written = in_a_terminal("-m", "pymon", "top", TERM="dumb")
    assert (status, written) == (2, "pymon: top: TERM=dumb has no cursor to move; --once and --json need none\r\n")

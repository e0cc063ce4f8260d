"""What runs on illumos runs in a process where the modules that Linux alone has cannot be imported."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.illumos.without_linux import ABSENT
from tests.kstat.double import CHAINS, build

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).parent / "without_linux.py"
CAPPED = "487b08a7-13ae-44be-82f8-2fdf59516a2f"


@pytest.fixture
def environment():
    chain = {"KSTAT_JSON": str(CHAINS / "smartos-small.json"), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    kept = {name: value for name, value in os.environ.items() if name != "COLUMNS" and not name.startswith("PYMON_")}
    return kept | chain


def flags():
    return ["--source", "kstat", "--kstat.library", str(build())]


def run(environment, *arguments):
    command = [sys.executable, PROGRAM, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_what_is_blocked_cannot_be_imported(environment):
    for name in sorted(ABSENT):
        program = "import sys; sys.argv = []; from tests.illumos.without_linux import Absent; "
        program += f"sys.meta_path.insert(0, Absent()); import {name}"
        ended = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.stderr.endswith(f"ModuleNotFoundError: No module named {name!r}\n")


@pytest.mark.parametrize("dialect", ["cmon", "cadvisor"])
def test_collect(environment, dialect):
    ended = run(environment, "collect", *flags(), "--dialect", dialect)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert 'pymon_collector_success{collector="kstat"} 1' in ended.stdout


def test_containers(environment):
    ended = run(environment, "containers", *flags())
    assert (ended.returncode, ended.stderr) == (0, "")
    assert CAPPED in ended.stdout


def test_doctor_says_what_is_in_their_place(environment):
    ended = run(environment, "doctor", *flags())
    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.search(r"^accelerators +gzip by zlib: isal is not installed$", ended.stdout, re.MULTILINE)
    assert "connections by asyncio's own loop: uvloop is not installed\n" in ended.stdout
    assert "zones:*:{zone}" in ended.stdout


def test_check_config(environment, tmp_path):
    for name, text in (("agent.yaml", "source: kstat\n"), ("proxy.yaml", "zone: example.com\n")):
        (tmp_path / name).write_text(text)
    ended = run(environment, "check-config", *map(str, tmp_path.iterdir()))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count(": ok") == 2


def test_the_agent_answers_and_says_once_what_it_goes_without(environment):
    command = [
        *(sys.executable, PROGRAM, "agent", *flags()),
        *("--web.listen-address", "127.0.0.1:0", "--log.level", "debug"),
    ]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        lines = []
        while not lines or "listening" not in lines[-1]:
            lines.append(process.stderr.readline())
            assert lines[-1], "".join(lines)
        address = re.search(r"address=(\S+)", lines[-1]).group(1)
        request = urllib.request.Request(f"http://{address}/metrics", headers={"Accept-Encoding": "gzip"})
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            assert answer.headers["Content-Encoding"] == "gzip"
            assert len(answer.read()) > 1000
        process.send_signal(signal.SIGTERM)
        text = "".join(lines) + process.stderr.read()
        assert process.wait(timeout=30) == 0
    for words in ("gzip by zlib: ", "connections by asyncio's own loop: "):
        assert [line.split()[1] for line in text.splitlines() if words in line] == ["level=debug"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dns", "show"], "pymon: pymon._native.responder is not built here: "),
        (["collect", "--source", "cgroupfs"], "pymon: "),
    ],
)
def test_what_is_not_there_is_one_line(environment, arguments, said):
    ended = run(environment, *arguments)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert ended.stderr.startswith(said)
    assert "internal error" not in ended.stderr

"""Every command as a process: exit codes, one line for each error, and where its output goes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pymon.cli import COMMANDS
from tests.live.agent import Agent
from tests.oracle import parse

REPOSITORY = Path(__file__).resolve().parents[2]
THERE = [name for name, (module, _) in COMMANDS.items() if (REPOSITORY / f"{module.replace('.', '/')}.py").exists()]


def pymon(
    *argv: str, env: Mapping[str, str] | None = None, stdout: int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pymon", *argv],
        cwd=REPOSITORY,
        env={**{key: value for key, value in os.environ.items() if not key.startswith("PYMON_")}, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )


def complaint(done: subprocess.CompletedProcess[str], status: int) -> str:
    """The one line of a command that failed."""
    assert done.returncode == status, done
    assert not done.stdout
    assert done.stderr.startswith("pymon: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    "words", [["--help"], ["-h"], ["help"], ["--version"], *([name, "--help"] for name in THERE)], ids=" ".join
)
def test_help(words: list[str]) -> None:
    done = pymon(*words)
    assert done.returncode == 0
    assert done.stdout.strip()
    assert done.stderr == ""


def test_no_command_and_an_unknown_one() -> None:
    assert "agent" in complaint(pymon(), 2)
    assert "agnet" in complaint(pymon("agnet"), 2)


@pytest.mark.parametrize("name", ["up", "agent", "collect", "containers", "doctor"])
def test_bad_words(name: str, tmp_path: Path) -> None:
    assert "--nonsense" in complaint(pymon(name, "--nonsense"), 2)
    assert "log.level" in complaint(pymon(name, "--log.level=loud"), 2)
    config = tmp_path / "pymon.yml"
    config.write_text("log.level: loud\n")
    line = complaint(pymon(name, f"--config.file={config}"), 2)
    assert str(config) in line
    assert "log.level" in line
    assert "PYMON_LOG_LEVEL" in complaint(pymon(name, env={"PYMON_LOG_LEVEL": "loud"}), 2)
    if name != "doctor":  # it says what is wrong with a machine
        assert "nowhere" in complaint(pymon(name, f"--path.procfs={tmp_path}/nowhere"), 2)


def test_variables_that_kubernetes_sets_are_one_warning() -> None:
    done = pymon(
        "containers", "--json",
        env={
            "PYMON_SERVICE_HOST": "10.96.0.7", "PYMON_PORT": "tcp://10.96.0.7:9164", "PYMON_PORT_9164_TCP_PROTO": "tcp",
        },
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout.startswith("{")
    assert done.stderr.count("\n") == 1
    assert "PYMON_SERVICE_HOST" in done.stderr


def test_an_address_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert address in complaint(pymon("agent", f"--web.listen-address={address}"), 1)


def test_collect() -> None:
    done = pymon("collect")
    assert (done.returncode, done.stderr) == (0, "")
    assert parse(done.stdout.encode("utf-8", "surrogateescape"))
    assert pymon("collect", "--openmetrics").stdout.endswith("# EOF\n")


def test_collect_narrowed() -> None:
    done = pymon("collect", "--collector.disable-defaults", "--collector.loadavg")
    names = {name for name, _ in parse(done.stdout.encode()) if name.startswith("node_")}
    assert names == {
        "node_exporter_build_info", "node_load1", "node_load5", "node_load15",
        "node_scrape_collector_duration_seconds", "node_scrape_collector_success",
    }  # fmt: skip


def test_a_full_disk() -> None:
    with Path("/dev/full").open("wb") as full:
        assert "No space left" in complaint(pymon("collect", stdout=full.fileno()), 1)


def test_a_reader_that_has_gone() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = pymon("collect", stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_check_config(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yml", tmp_path / "bad.yml"
    good.write_text("collector.loadavg: false\nlog.level: warn\n")
    bad.write_text("collector.nope: false\n")
    done = pymon("check-config", str(good))
    assert (done.returncode, done.stderr) == (0, "")
    assert str(good) in done.stdout
    assert "collector.nope" in complaint(pymon("check-config", str(bad)), 2)
    assert "nowhere" in complaint(pymon("check-config", str(tmp_path / "nowhere")), 2)
    complaint(pymon("check-config"), 2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_agent_ends_well(number: signal.Signals) -> None:
    with Agent() as agent:
        assert agent.get("/-/ready").status == 200
        os.kill(agent.pid, number)


def test_the_agent_ends_well_under_load() -> None:
    with Agent("--container.all") as agent:
        for _ in range(3):
            agent.get()
        with socket.create_connection(tuple(agent.address.split(":"))) as idle:  # type: ignore[arg-type]
            idle.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            agent.stop()

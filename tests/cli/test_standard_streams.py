"""Commands that are started without some of the standard streams."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent.fixture_host import FIXTURES, REPOSITORY, FixtureHost
from tests.live.world import until

HOST = FixtureHost(FIXTURES / "v2")


def run(words: str, redirected: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} -m pymon {words} {redirected}"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("words", ["collect " + " ".join(HOST.flags()), "--version", "--help"])
def test_output_that_is_closed_is_one_line(words: str) -> None:
    done = run(words, ">&-")
    assert (done.returncode, done.stderr) == (1, "pymon: standard output: Bad file descriptor\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_output_that_is_full_is_one_line() -> None:
    done = run("--help", ">/dev/full")
    assert (done.returncode, done.stderr) == (1, "pymon: No space left on device\n")


def test_input_and_error_that_are_closed_cost_nothing() -> None:
    whole = run("--version", "")
    closed = run("--version", "<&- 2>&-")
    assert (closed.returncode, closed.stdout, closed.stderr) == (0, whole.stdout, "")
    assert run("--nonsense", "<&- 2>&-").returncode == 2


def test_an_agent_without_standard_streams_ends_well() -> None:
    """It answers, and ends with 0 at SIGTERM."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    flags = " ".join([*HOST.flags(), f"--web.listen-address=127.0.0.1:{address[1]}", "--source=cgroupfs"])

    def answers() -> bool:
        try:
            socket.create_connection(address, 1).close()
        except OSError:
            return process.poll() is not None
        return True

    process = subprocess.Popen(
        ["/bin/sh", "-c", f"exec {sys.executable} -m pymon agent {flags} <&- >&- 2>&-"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    try:
        until("the agent answers", answers)
        assert process.poll() is None
        assert {str(Path(f"/proc/{process.pid}/fd/{number}").readlink()) for number in range(3)} == {"/dev/null"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()

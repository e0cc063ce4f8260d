"""Commands that are told to end while something hangs that no thread can be freed from."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.agent.fixture_host import REPOSITORY, FixtureHost, copy_host
from tests.agent.fuse_files import FuseFiles, fuse_files, why_not
from tests.live.world import until
from tests.oracle import parse

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "FUSE")

LIMIT_SECONDS = 5.0
ADDRESSES = {
    "agent": ["web.listen-address"],
    "up": ["web.listen-address", "proxy.listen-address", "dns.listen-address", "proxy.telemetry-address"],
}
ROOTLESS = "9d1e0f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6"
PATH = f"user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ROOTLESS}.scope"


class World:
    """A fixture host with a container of user 1000.

    files: the FUSE file system of the user's home. control_file: of another container.
    """

    def __init__(self, host: FixtureHost, files: FuseFiles, data_dir: Path) -> None:
        self.host, self.files, self.data_dir = host, files, data_dir
        self.control_file = next(host.cgroups.glob("system.slice/docker-*.scope")) / "memory.stat"
        self._mounts: list[Path] = []
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, *argv: str, path: Path | None = None) -> subprocess.Popen[bytes]:
        """A command on this host. path: a folder of programs."""
        environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        if path is not None:
            environ["PATH"] = f"{path}:{environ['PATH']}"
        process = subprocess.Popen(
            [sys.executable, "-m", "pymon", *argv, *self.host.flags(), f"--data-dir={self.data_dir}"],
            cwd=REPOSITORY,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._running.append(process)
        return process

    def hang(self, file: Path) -> None:
        """Put a file of the FUSE file system in the place of `file`."""
        subprocess.run(["mount", "--bind", self.host.root / "home/u/file", file], check=True)
        self._mounts.append(file)

    def close(self) -> None:
        """Kill the processes, and undo the mounts."""
        self.files.go_on()  # a process that waits uninterruptibly can be killed now
        for process in self._running:
            process.kill()
            process.communicate()
        for file in self._mounts:
            subprocess.run(["umount", "--lazy", file], check=True)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    host = copy_host("v2", tmp_path)
    source, home, group = tmp_path / "files", host.root / "home/u", host.cgroups / PATH
    (source / ".local/share/containers/storage/overlay-containers").mkdir(parents=True)
    (source / "file").write_text("anon 4096\nfile 4096\n")
    home.mkdir(parents=True)
    shutil.copytree(next(host.cgroups.glob("system.slice/docker-*.scope")), group)
    with (host.root / "etc/passwd").open("a") as file:
        file.write("u:x:1000:1000::/home/u:/bin/sh\n")
    with fuse_files(home, source) as files:
        (home / "file").read_text()  # the kernel learns at the first close that there is no FLUSH
        made = World(host, files, tmp_path / "data")
        try:
            yield made
        finally:
            made.close()


def waits_for_fuse(process: subprocess.Popen[bytes]) -> bool:
    """Whether a thread waits for the FUSE file system."""
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        with contextlib.suppress(OSError):
            if "fuse" in (task / "wchan").read_text() + (task / "stack").read_text():
                return True
    return False


def catches_sigterm(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has begun to collect."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) >> (signal.SIGTERM - 1) & 1)


def listening(process: subprocess.Popen[bytes]) -> str:
    """Wait until an agent listens. Its address."""
    assert process.stderr
    while (
        found := re.search(rb"msg=listening (?:part=agent )?address=(\S+)", line := process.stderr.readline())
    ) is None:
        assert line, "it has ended"
    return found[1].decode()


def end(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    """SIGTERM; it must end within the limit. The exit status and what it has written."""
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    output, log = process.communicate(timeout=60)
    assert time.monotonic() - began < LIMIT_SECONDS
    assert b"Traceback" not in log
    return process.returncode, output


def families(body: bytes) -> set[str]:
    return {name for name, _ in parse(body)}


def hung_reader(world: World, process: subprocess.Popen[bytes]) -> None:
    """Let a reader of the running agent hang in a control file."""
    address = listening(process)
    until("it is ready", lambda: get(address, "/-/ready"))
    world.files.stop()
    body = get(address, "/metrics", {"X-Prometheus-Scrape-Timeout-Seconds": "1"})
    assert "container_cpu_usage_seconds_total" in families(body)
    assert "container_memory_cache" not in families(body)


def get(address: str, path: str, headers: Mapping[str, str] | None = None) -> bytes:
    """The answer, empty for an error."""
    request = urllib.request.Request(f"http://{address}{path}", headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            return bytes(response.read())
    except urllib.error.HTTPError as error:
        error.close()
        return b""


@pytest.mark.parametrize("command", ["agent", pytest.param("up", marks=pytest.mark.soak)])
def test_what_serves_ends_while_a_control_file_hangs(world: World, command: str) -> None:
    world.hang(world.control_file)
    flags = [f"--{name}=127.0.0.1:0" for name in ADDRESSES[command]]
    process = world.start(command, *flags)
    hung_reader(world, process)
    assert end(process)[0] == 0


def test_an_agent_ends_while_it_cannot_start(world: World) -> None:
    world.hang(world.host.root / "proc/stat")
    world.files.stop()
    process = world.start("agent", "--web.listen-address=127.0.0.1:0")
    until("it hangs", lambda: waits_for_fuse(process))
    assert end(process)[0] == 0


def test_collect_writes_what_it_has_read_while_a_control_file_hangs(world: World) -> None:
    world.hang(world.control_file)
    world.files.stop()
    process = world.start("collect")
    until("it collects", lambda: catches_sigterm(process))
    until("a reader hangs", lambda: waits_for_fuse(process))
    status, output = end(process)
    assert status == 0
    assert {"node_load1", "container_cpu_usage_seconds_total"} <= families(output)
    assert "container_memory_cache" not in families(output)


@pytest.mark.soak
def test_collect_ends_by_itself_while_a_control_file_hangs(world: World) -> None:
    world.hang(world.control_file)
    world.files.stop()
    process = world.start("collect")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "container_cpu_usage_seconds_total" in families(output)


@pytest.mark.parametrize("command", ["containers", "doctor"])
def test_what_lists_ends_while_a_runtimes_directory_hangs(world: World, command: str) -> None:
    world.files.stop()
    process = world.start(command)
    until("it hangs", lambda: waits_for_fuse(process))
    assert end(process)[0] == -signal.SIGTERM


@pytest.mark.parametrize("hung", ["plugin", "zpool"])
def test_collect_writes_what_it_has_read_while_a_program_hangs(world: World, tmp_path: Path, hung: str) -> None:
    programs, began = tmp_path / "programs", tmp_path / "began"
    programs.mkdir()
    program = programs / hung
    program.write_text(f"#!/bin/sh\ntrap '' TERM\necho > {began}\nwhile :; do sleep 1; done\n")
    program.chmod(0o755)
    flags = [f"--plugin.node-directory={programs}"] if hung == "plugin" else ["--dialect=cmon"]
    process = world.start("collect", *flags, path=programs)
    until("the program runs", began.exists)
    status, output = end(process)
    assert status == 0
    assert len(families(output)) > 10

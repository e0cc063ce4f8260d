"""Containers of a real Podman, with a storage of its own, that change while an agent runs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from tests.live.agent import Agent
from tests.live.world import run, until

pytestmark = pytest.mark.root

SOCKET = "run/podman/podman.sock"
BUSYBOX = "/bin/busybox"


class Podman:
    """Podman with runc below a directory, which an agent takes for the root of the node."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.made: list[str] = []
        self.file_system = root / "fs"
        for name in ("bin", "dev", "etc", "proc", "run", "sys", "tmp"):
            (self.file_system / name).mkdir(parents=True)
        shutil.copy(BUSYBOX, self.file_system / "bin/busybox")
        (self.file_system / "bin/sh").symlink_to("busybox")
        self._argv = (
            "podman",
            f"--root={root}/var/lib/containers/storage",
            f"--runroot={root}/run/containers/storage",
            f"--tmpdir={root}/tmp",
            "--runtime=runc",
            "--cgroup-manager=cgroupfs",
            "--events-backend=file",
        )

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of podman."""
        return subprocess.run([*self._argv, *words], check=False, capture_output=True, text=True, timeout=60)

    def run(self, name: str, *flags: str, overlay: bool = False) -> str:
        """Start a container. Return its id; skip the test where that cannot be.

        overlay: what it writes goes to a layer of its own.
        """
        limits = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")
        root = f"{self.file_system}:O" if overlay else str(self.file_system)
        command = ("--rootfs", root, "/bin/busybox", "sleep", "1000")
        self.made.append(name)
        done = self("run", "--detach", f"--name={name}", "--network=none", *limits, *flags, *command)
        if done.returncode:
            pytest.skip(f"no container of Podman's runs here: {done.stderr.strip().splitlines()[-1]}")
        return done.stdout.strip()

    @contextlib.contextmanager
    def service(self) -> Iterator[None]:
        """Its daemon."""
        socket = self.root / SOCKET
        socket.parent.mkdir(parents=True, exist_ok=True)
        argv = [*self._argv, "system", "service", "--time=0", f"unix://{socket}"]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until("Podman listens", socket.exists)
            yield
        finally:
            process.terminate()
            process.wait()
            socket.unlink(missing_ok=True)

    def close(self) -> None:
        """Take away the containers, what Podman has mounted, and the parent of its groups."""
        for name in self.made:
            self("rm", "--force", "--time=0", name)
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
        for _, where, *_ in reversed(mounts):
            if where.startswith(f"{self.root}/"):
                run("umount", where, check=False)  # Podman may have done it meanwhile
        assert f" {self.root}/" not in Path("/proc/self/mounts").read_text()
        for _, where, kind, *_ in mounts:
            if kind in ("cgroup", "cgroup2"):
                for group in ("libpod_parent/conmon", "libpod_parent"):
                    with contextlib.suppress(OSError):  # there is none, or it is another Podman's too
                        (Path(where) / group).rmdir()


@pytest.fixture
def podman() -> Iterator[Podman]:
    for program in ("podman", "runc", BUSYBOX):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    # Podman takes no runroot of more than 50 characters, so not below pytest's directories.
    with tempfile.TemporaryDirectory(prefix="pm-", ignore_cleanup_errors=True) as directory:
        podman = Podman(Path(directory))
        try:
            yield podman
        finally:
            podman.close()


def told(agent: Agent, identifier: str) -> dict[str, object]:
    """What the inventory has of a container."""
    items = json.loads(agent.get("/v1/containers").body)["containers"]
    return next((item for item in items if item["id"].endswith(f"libpod-{identifier}")), {})


def test_changes_are_followed_by_its_daemon(podman: Podman) -> None:
    """Of any version: the labels of one before 4.8 are what its daemon says."""
    config = podman.root / "agent.yml"
    config.write_text("owners: [{label: who}]\n")
    (podman.root / "etc").mkdir()
    with podman.service(), Agent(f"--path.rootfs={podman.root}", f"--config.file={config}") as agent:
        identifier = podman.run(
            "web", "--label=who=alice", "--health-cmd=/bin/busybox test ! -e /ill", "--health-interval=disable"
        )
        until("its label", lambda: told(agent, identifier).get("owner") == "alice")
        assert told(agent, identifier)["name"] == "web"
        podman("healthcheck", "run", "web")
        until("healthy", lambda: told(agent, identifier)["health"] == "healthy")
        podman("pause", "web")
        until("paused", lambda: told(agent, identifier)["state"] == "paused")
        podman("unpause", "web")
        podman("rename", "web", "shop")
        podman.made.append("shop")
        until(
            "renamed",
            lambda: (told(agent, identifier)["name"], told(agent, identifier)["state"]) == ("shop", "running"),
        )
        (podman.file_system / "ill").touch()
        for _ in range(3):
            podman("healthcheck", "run", "shop")
        until("unhealthy", lambda: told(agent, identifier)["health"] == "unhealthy")
        assert told(agent, identifier)["owner"] == "alice"


def test_its_files_are_followed_without_a_daemon(podman: Podman) -> None:
    with Agent(f"--path.rootfs={podman.root}") as agent:
        identifier = podman.run("web", "--health-cmd=/bin/busybox true", "--health-interval=disable")
        until("its name", lambda: told(agent, identifier).get("name") == "web")
        podman("healthcheck", "run", "web")
        until("healthy", lambda: told(agent, identifier)["health"] == "healthy")


def test_the_use_of_its_writable_layer(podman: Podman) -> None:
    identifier = podman.run("web", overlay=True)
    done = podman("exec", "web", "/bin/busybox", "dd", "if=/dev/zero", "of=/file", "bs=1000000", "count=3")
    assert done.returncode == 0, done.stderr
    with Agent("--collector.disable-defaults", "--collector.container_disk") as agent:
        group, uuid = (str(told(agent, identifier)[key]) for key in ("id", "uuid"))

        def of_container(path: str = "/metrics") -> dict[str, Fraction]:
            found = agent.scrape(path).of(group)
            return {name: value for (name, _), value in found.items() if name.startswith("container_fs_")}

        usage = "container_fs_usage_bytes"
        until("three megabytes", lambda: 3_000_000 <= of_container().get(usage, 0) <= 3_200_000)
        found, size = of_container(), os.statvfs(podman.root)
        assert found["container_fs_limit_bytes"] == size.f_blocks * size.f_frsize
        assert found["container_fs_inodes_total"] == size.f_files
        assert found["container_fs_inodes_free"] > 0
        assert of_container(f"/v1/{uuid}/metrics")[usage] == found[usage]
        assert agent.scrape().own("pymon_collector_success", collector="container_disk") == 1

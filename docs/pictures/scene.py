"""The node of the pictures: control groups with processes in them, and what Docker writes of its containers."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.e2e.fleet import Node
from tests.live.world import HIERARCHIES, World, until

LOAD = Path(__file__).with_name("load.py")
QUOTA_PERIOD_US = 100_000
NO_LIMIT_BYTES = 1 << 40


class Actor(NamedTuple):
    """A container. cpu, quota: in cores. memory, limit: in MiB. write, read, send: in KiB a second. 0 for none."""

    name: str
    image: str
    account: str
    cpu: float
    memory: int
    limit: int = 0
    quota: float = 0
    write: float = 0
    read: float = 0
    send: float = 0


ACTORS = (
    Actor("shop-web-1", "nginx:1.29", "acme", 0.08, 24, limit=64, send=300),
    Actor("shop-web-2", "nginx:1.29", "acme", 0.06, 22, limit=64, send=250),
    Actor("shop-api", "acme/shop-api:2.14", "acme", 0.13, 80, limit=256, send=180),
    Actor("shop-db", "postgres:17", "acme", 0.10, 96, limit=256, write=3000, read=1500, send=120),
    Actor("shop-cache", "redis:8", "acme", 0.04, 56, limit=72, send=160),
    Actor("shop-worker", "acme/shop-worker:2.14", "acme", 0.07, 48, limit=128, write=60),
    Actor("reports", "globex/reports:7", "globex", 0.20, 64, limit=128, quota=0.12, read=1000),
    Actor("search", "opensearch:3", "globex", 0.10, 128, limit=192, read=6000, send=90),
    Actor("build-1187", "gcc:15", "globex", 0.25, 72, write=2000),
    Actor("mail", "postfix:3.10", "globex", 0.02, 18, limit=64, write=40, send=20),
    Actor("registry", "registry:3", "globex", 0.01, 20, limit=128, read=30, send=30),
    Actor("ingress", "traefik:3", "", 0.07, 32, send=500),
    Actor("log-shipper", "fluent-bit:4", "", 0.03, 16, limit=48, write=120, send=60),
    Actor("cron", "busybox:1.37", "", 0.00, 2),
)


@contextlib.contextmanager
def scene(folder: Path, *flags: str) -> Iterator[None]:
    """A node with all `ACTORS` in it, and an agent with these flags. folder: on a block device, for their files."""
    world = World()
    echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        echo.bind(("0.0.0.0", 0))  # noqa: S104  # of a network namespace of its own
        threading.Thread(target=_echo, args=(echo,), daemon=True).start()
        node = Node(world, folder, "node1", *flags)
        # What else runs on the machine is to make them wait little.
        node.group.limit("cpu", {"cpu.shares": "65536"}, {"cpu.weight": "2500"})
        for number, actor in enumerate(ACTORS):
            _enter(world, node, actor, number, folder, echo.getsockname()[1])
        node.start()
        try:
            yield
        finally:
            node.stop()
    finally:
        world.close()


def _echo(wire: socket.socket) -> None:
    while True:
        data, sender = wire.recvfrom(2048)
        wire.sendto(data[:400], sender)


def _enter(world: World, node: Node, actor: Actor, number: int, folder: Path, port: int) -> None:
    """Start a container with a network of its own."""
    container = node.container(actor.name, actor.account, image=actor.image)
    group = container.group
    if actor.limit:
        limit = str(actor.limit << 20)
        group.limit("memory", {"memory.limit_in_bytes": limit}, {"memory.max": limit})
    if actor.quota:
        quota = int(actor.quota * QUOTA_PERIOD_US)
        group.limit("cpu", {"cpu.cfs_quota_us": str(quota)}, {"cpu.max": f"{quota} {QUOTA_PERIOD_US}"})
    here, there = f"10.64.{number}.1", f"10.64.{number}.2"
    if actor.write or actor.read:
        # Version 1 counts a device's bytes by group once a group has a rule for it, as of `docker --device-write-bps`.
        rule = {f"blkio.throttle.{kind}_bps_device": f"{_disk(folder)} {NO_LIMIT_BYTES}" for kind in ("read", "write")}
        group.limit("blkio", rule, {})
    words = [f"--cpu={actor.cpu}", f"--memory-mib={actor.memory}", f"--send-kib={actor.send}"]
    if actor.send:
        words.append(f"--echo={here}:{port}")
    if actor.write or actor.read:
        words += [f"--file={folder / actor.name}", f"--write-kib={actor.write}", f"--read-kib={actor.read}"]
    ready = 'while ! ip address show eth0 2>/dev/null | grep -q inet; do sleep 0.1; done; exec "$@"'
    process = group.start(["unshare", "--net", "sh", "-c", ready, "sh", sys.executable, str(LOAD), *words])
    namespace = Path(f"/proc/{process.pid}/ns/net")
    until("its network", lambda: namespace.readlink() != Path("/proc/self/ns/net").readlink())
    world.veth(process.pid, "eth0", there, here)


def _disk(folder: Path) -> str:
    """Return the number of the disk that a folder is on."""
    device = folder.stat().st_dev
    place = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    return ((place.parent if (place / "partition").exists() else place) / "dev").read_text().strip()


def what_is_missing() -> str:
    """Return what the scene needs and this machine has not, or ""."""
    if os.geteuid() != 0:
        return "root"
    if not HIERARCHIES.version("cpu"):
        return "control groups of cpu"
    return ", ".join(
        program for program in ("chromium", "ip", "pngquant", "prometheus", "tmux") if shutil.which(program) is None
    )

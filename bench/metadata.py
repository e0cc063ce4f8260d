"""What descriptions cost an agent: 2,000 containers run behind a Docker socket, 50 more come and go a second.

Two agents follow the same control groups at the same time. One asks the daemon, the other takes the groups' names.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.world import CGROUPFS, Agent, Client, agent, roots_of
from pymon.sources.cgroup import find_hierarchies

CONTAINERS = 2000
RATE = 50
ROUNDS = 5
ROUND_SECONDS = 10.0
LIFE_SECONDS = 4.0
SETTLE_SECONDS = 20.0


@contextlib.contextmanager
def daemon(root: Path, parent: str) -> Iterator[None]:
    """A daemon below a root, whose containers have control groups below a parent."""
    tops = [str(top / parent) for top in roots_of(find_hierarchies(CGROUPFS))]
    command = [sys.executable, "-m", "bench.docker_daemon", str(root / "run/docker.sock"), str(CONTAINERS), str(RATE)]
    running = subprocess.Popen([*command, str(LIFE_SECONDS), *tops], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        if running.stdout is None or not running.stdout.readline():
            raise RuntimeError("the daemon did not start")
        yield
        if running.poll() is not None:
            raise RuntimeError("the daemon has ended")
    finally:
        if running.stdin is not None:
            running.stdin.close()
        running.wait(60)


def named(running: Agent) -> float:
    """The share of the containers that have the name which the daemon has given them."""
    client = Client(running.port)
    there = json.loads(bytes(client.get("/v1/containers")))["containers"]
    client.close()
    return statistics.fmean(item["name"].startswith("name-") for item in there if item["state"] != "stopped")


def measure() -> dict[str, object]:
    """Percent of a core, of both and of the difference, in rounds of some seconds."""
    parent = f"pymon-bench-metadata-{int(time.time())}"
    asking, plain = [], []
    with tempfile.TemporaryDirectory() as folder, daemon(Path(folder), parent):
        flags = (f"--path.rootfs={folder}",)
        with agent("none", *flags) as docker, agent(parent, *flags) as pattern:
            time.sleep(SETTLE_SECONDS)
            for _ in range(ROUNDS):
                before = docker.cpu_seconds(), pattern.cpu_seconds(), time.perf_counter()
                time.sleep(ROUND_SECONDS)
                seconds = time.perf_counter() - before[2]
                asking.append(100 * (docker.cpu_seconds() - before[0]) / seconds)
                plain.append(100 * (pattern.cpu_seconds() - before[1]) / seconds)
            share = named(docker)
            memory = docker.rss_bytes(), pattern.rss_bytes()
    return {
        "containers": CONTAINERS,
        "starts_a_second": RATE,
        "named_share": share,
        "asking_percent": statistics.median(asking),
        "plain_percent": statistics.median(plain),
        "metadata_percent": statistics.median(one - other for one, other in zip(asking, plain, strict=True)),
        "asking_rss_bytes": memory[0],
        "plain_rss_bytes": memory[1],
    }

"""What descriptors that stay open cost and save: scrapes of agents that may keep all, about half and none."""

from __future__ import annotations

import contextlib
import os
import re
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from bench.world import CGROUPFS, Agent, Client, agent, cgroups, remove
from pymon.sources.cgroup import SPARE_DESCRIPTORS, find_hierarchies

ROUNDS = 11


@contextlib.contextmanager
def memory_group(name: str) -> Iterator[Path]:
    """A cgroup whose memory is accounted."""
    hierarchies = find_hierarchies(CGROUPFS)
    root = hierarchies.v1.get("memory", hierarchies.v2)
    if root is None:
        raise RuntimeError("no cgroup tree accounts memory")
    group = root / f"pymon-bench-{os.getpid()}-{name}"
    group.mkdir()
    try:
        yield group
    finally:
        remove(group)


def usage(group: Path) -> float:
    """Memory of a cgroup in MB."""
    file = group / "memory.usage_in_bytes"
    return int((file if file.exists() else group / "memory.current").read_text()) / 1e6


def kernel(group: Path) -> float:
    """The kernel's part of it in MB."""
    file = group / "memory.kmem.usage_in_bytes"
    if file.exists():
        return int(file.read_text()) / 1e6
    found = re.search(r"^kernel (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
    return int(found[1]) / 1e6 if found else float("nan")


def measure(count: int = 2000) -> dict[str, object]:
    """Medians of interleaved rounds with three agents at once, each in a memory cgroup of its own without a limit."""
    # The limit is that of each reader. With version 1, they read 16 files of a container that stay open if they may.
    limits = {"all": None, "half": SPARE_DESCRIPTORS + 3 * count // 2, "none": SPARE_DESCRIPTORS + 10}
    with cgroups(count) as groups, contextlib.ExitStack() as stack:
        running: dict[str, tuple[Agent, Path]] = {}
        for name, limit in limits.items():
            own = stack.enter_context(memory_group(name))
            enter = ["sh", "-c", f'echo $$ > {own}/cgroup.procs && exec "$@"', "sh"]
            prefix = enter if limit is None else [*enter, "prlimit", f"--nofile={limit}:{limit}"]
            started = stack.enter_context(agent(groups.parent, prefix=prefix))
            running[name] = (started, own)
        # An agent closes connections on which nothing comes, so there are none while others start.
        clients = {name: Client(started.port) for name, (started, _) in running.items()}
        times: dict[str, list[float]] = {name: [] for name in limits}
        bodies: dict[str, bytes] = {}
        for turn in range(ROUNDS + 2):
            for name, client in clients.items():
                began = time.perf_counter()
                body = client.get("/metrics")
                if turn >= 2:
                    times[name].append(time.perf_counter() - began)
                bodies[name] = bytes(body)
        found: dict[str, object] = {"containers": count}
        for name, (started, own) in running.items():
            kept = re.search(rb"^pymon_open_descriptors (\S+)$", bodies[name], re.MULTILINE)
            found[name] = {
                "descriptors": float(kept[1]) if kept else None,
                "scrape_ms": 1e3 * statistics.median(times[name]),
                "to_all": statistics.median(a / b for a, b in zip(times[name], times["all"], strict=True)),
                "memory_mb": usage(own),
                "kernel_mb": kernel(own),
                "rss_mb": started.rss_bytes() / 1e6,
            }
        return found

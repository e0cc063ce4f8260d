"""An agent beside cgroups that are none of its business, made and removed a hundred times a second."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from bench.scrape import Floor, floor
from bench.world import CGROUPFS, Client, agent, cgroups, remove, roots_of
from pymon.sources.cgroup import find_hierarchies

CONTAINERS = 200
RATE = 100
ROUNDS = 6
PHASE_SECONDS = 3.0
PAUSE_SECONDS = 0.005
SCRAPE_EVERY = 20

_WITH_TEN_WATCHES = ("unshare", "--user", "--map-root-user", "sh", "-c",
                     'echo 10 > /proc/sys/user/max_inotify_watches && exec "$@"', "sh")  # fmt: skip

_CHURN = """
import os, sys, time
rate, roots = int(sys.argv[1]), sys.argv[2:]
begin, made = time.monotonic(), 0
try:
    while True:
        for root in roots:
            os.mkdir(f"{root}/g{made}")
        if made >= 20:
            for root in roots:
                os.rmdir(f"{root}/g{made - 20}")
        made += 1
        time.sleep(max(0.0, begin + made / rate - time.monotonic()))
        print(made, flush=True)
except KeyboardInterrupt:
    pass
"""


@contextlib.contextmanager
def churn() -> Iterator[None]:
    """Foreign cgroups that come and go at `RATE` in every hierarchy."""
    tops = [root / f"pymon-bench-{os.getpid()}-foreign" for root in roots_of(find_hierarchies(CGROUPFS))]
    for top in tops:
        top.mkdir()
    running = subprocess.Popen([sys.executable, "-c", _CHURN, str(RATE), *map(str, tops)], stdout=subprocess.DEVNULL)
    try:
        yield
        if running.poll() is not None:
            raise RuntimeError("no cgroups were made")
    finally:
        running.kill()
        running.wait()
        for top in tops:
            for group in top.iterdir():
                if group.is_dir():
                    remove(group)
            remove(top)


def phase(client: Client, bottom: Floor) -> tuple[list[float], list[float], list[float]]:
    """Seconds of requests for /-/healthy, of scrapes in between, and of the floor after each."""
    healthy, scrapes, floors = [], [], []
    end = time.perf_counter() + PHASE_SECONDS
    while (began := time.perf_counter()) < end:
        client.get("/-/healthy")
        healthy.append(time.perf_counter() - began)
        if len(healthy) % SCRAPE_EVERY == 0:
            began = time.perf_counter()
            client.get("/metrics")
            scrapes.append(time.perf_counter() - began)
            floors.append(bottom.round_seconds())
        time.sleep(PAUSE_SECONDS)
    return healthy, scrapes, floors


def p99(seconds: list[float]) -> float:
    """The time that one request in a hundred exceeds."""
    return statistics.quantiles(seconds, n=100)[98]


def compared(*prefix: str) -> dict[str, float]:
    """An agent alone and beside foreign cgroups, in milliseconds, and the ratios."""
    quiet: tuple[list[float], ...] = ([], [], [])
    busy: tuple[list[float], ...] = ([], [], [])
    ratios: tuple[list[float], ...] = ([], [], [])
    with cgroups(CONTAINERS) as groups, agent(groups.parent, prefix=prefix) as running, floor(groups) as bottom:
        client = Client(running.port)
        for _ in range(5):
            client.get("/metrics")
        for _ in range(ROUNDS):
            alone = phase(client, bottom)
            with churn():
                time.sleep(0.5)
                beside = phase(client, bottom)
            for which in range(3):
                quiet[which].extend(alone[which])
                busy[which].extend(beside[which])
                ratios[which].append(statistics.median(beside[which]) / statistics.median(alone[which]))
    return {
        "healthy_p99_quiet_ms": 1e3 * p99(quiet[0]),
        "healthy_p99_ms": 1e3 * p99(busy[0]),
        "healthy_p99_ratio": p99(busy[0]) / p99(quiet[0]),
        "scrape_quiet_ms": 1e3 * statistics.median(quiet[1]),
        "scrape_ms": 1e3 * statistics.median(busy[1]),
        "scrape_ratio": statistics.median(ratios[1]),
        "floor_ratio": statistics.median(ratios[2]),
    }


def measure() -> dict[str, object]:
    """Both with watches and with too few."""
    return {
        "containers": CONTAINERS,
        "foreign_a_second": RATE,
        "watched": compared(),
        "unwatched": compared(*_WITH_TEN_WATCHES),
    }

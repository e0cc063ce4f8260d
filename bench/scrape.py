"""A whole scrape over HTTP against the floor: the same files, pread in C."""

from __future__ import annotations

import contextlib
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.world import CGROUPFS, ROOT, Agent, Cgroups, Client, agent, cgroups
from pymon.agent.collectors import COLLECTORS
from pymon.catalogue import cadvisor
from pymon.sources.cgroup import columns_of, files_read, find_hierarchies

ROUNDS = 31


def files_of(groups: Cgroups) -> list[str]:
    """The files that the agent reads at each scrape of these cgroups."""
    on = {option.name for option in COLLECTORS if option.default}
    columns = columns_of(metric for metric in cadvisor.METRICS if metric.collector in on)
    names = files_read(find_hierarchies(CGROUPFS), columns, Path("/sys"))
    first = groups.names[0]
    there = [(root, name) for root, name in names if (root / groups.parent / first / name).exists()]
    return [str(root / groups.parent / group / name) for group in groups.names for root, name in there]


class Floor:
    """A program in C, bench/NAME.c, that is given a file and is asked for one round at a time."""

    def __init__(self, content: bytes, directory: Path, name: str = "floor") -> None:
        program = directory / name
        subprocess.run(["gcc", "-O2", "-o", program, ROOT / f"bench/{name}.c"], check=True)
        (directory / "given").write_bytes(content)
        self._process = subprocess.Popen(
            [program, directory / "given"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    @property
    def pid(self) -> int:
        """The process, whose children read where there are many files."""
        return self._process.pid

    def round_seconds(self) -> float:
        """Have the program do its work once, and return the seconds that it took."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline()) / 1e9

    def close(self) -> None:
        """End the program, and wait until it has ended."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


@contextlib.contextmanager
def floor(groups: Cgroups) -> Iterator[Floor]:
    """The floor for the files of these cgroups."""
    with floor_of(files_of(groups)) as running:
        yield running


@contextlib.contextmanager
def floor_of(paths: list[str]) -> Iterator[Floor]:
    """The floor for these files."""
    with running_floor("".join(f"{path}\n" for path in paths).encode(), "floor") as running:
        yield running


@contextlib.contextmanager
def running_floor(content: bytes, name: str) -> Iterator[Floor]:
    """The floor bench/NAME.c with a file of this content."""
    with tempfile.TemporaryDirectory() as directory:
        running = Floor(content, Path(directory), name)
        try:
            yield running
        finally:
            running.close()


def timed(client: Client, *, gzip: bool) -> float:
    """Scrape once, and return the seconds from the request to the end of the answer."""
    start = time.perf_counter()
    client.receive("/metrics", gzip=gzip)
    return time.perf_counter() - start


def measure(count: int) -> dict[str, float]:
    """Medians of interleaved rounds with `count` containers, in milliseconds, and what else there is to say."""
    with cgroups(count) as groups, agent(groups.parent) as running, floor(groups) as bottom:
        client = Client(running.port)
        body = bytes(client.get("/metrics"))
        seen = len(re.findall(rb"^container_start_time_seconds\{[^}]*pymon-bench", body, re.MULTILINE))
        if seen != count:
            raise RuntimeError(f"{seen} containers in the scrape, expected {count}")
        for _ in range(3):
            bottom.round_seconds()
            timed(client, gzip=True)
        floors, plain, packed = [], [], []
        cpu = 0.0
        for _ in range(ROUNDS):
            floors.append(bottom.round_seconds())
            before = running.cpu_seconds()
            plain.append(timed(client, gzip=False))
            cpu += running.cpu_seconds() - before
            packed.append(timed(client, gzip=True))
        idle = idle_cpu(running)
        return {
            "containers": count,
            "samples": body.count(b"\n") - body.count(b"\n#"),
            "bytes": len(body),
            "floor_ms": 1e3 * statistics.median(floors),
            "scrape_ms": 1e3 * statistics.median(plain),
            "gzip_ms": 1e3 * statistics.median(packed),
            "scrape_to_floor": statistics.median(a / b for a, b in zip(plain, floors, strict=True)),
            "gzip_to_floor": statistics.median(a / b for a, b in zip(packed, floors, strict=True)),
            "cpu_ms": 1e3 * cpu / ROUNDS,
            "rss_mb": running.rss_bytes() / 1e6,
            "idle_cpu_percent": idle,
        }


def idle_cpu(running: Agent, seconds: float = 5.0) -> float:
    """Percent of one core that the agent uses when nobody scrapes it."""
    before = running.cpu_seconds()
    time.sleep(seconds)
    return 100 * (running.cpu_seconds() - before) / seconds

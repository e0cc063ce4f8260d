"""The same containers by BPF and by files: a scrape, its CPU time, and the collection alone, against the floor."""

from __future__ import annotations

import re
import select
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.scrape import ROUNDS, floor, timed
from bench.world import CGROUPFS, Agent, Cgroups, Client, agent, cgroups
from pymon._native.readers import Mailbox, monotonic_ns
from pymon._native.table import Table
from pymon.agent.collectors import COLLECTORS
from pymon.catalogue import cadvisor
from pymon.sources.bpf import BpfSource
from pymon.sources.bpf_check import BpfCheck
from pymon.sources.cgroup import CgroupSource, columns_of, find_hierarchies

PROCFS, SYSFS = Path("/proc"), Path("/sys")


class Collection:
    """All readers of the default metrics, without an agent."""

    def __init__(self, groups: Cgroups, *, bpf: bool) -> None:
        on = {option.name for option in COLLECTORS if option.default}
        metrics = (cadvisor.without_table(item, "percpu.v1") for item in cadvisor.METRICS if item.collector in on)
        columns, hierarchies = columns_of(metrics), find_hierarchies(CGROUPFS)
        self.bpf = BpfSource(hierarchies, procfs=PROCFS, sysfs=SYSFS)
        self._mailbox = Mailbox()
        self._source = CgroupSource(
            hierarchies,
            columns,
            self._mailbox,
            procfs=PROCFS,
            sysfs=SYSFS,
            descriptors=1 << 20,
            filler=self.bpf.filler if bpf else None,
        )
        self._rows = len(groups.names)
        self._tables: list[list[Table]] = [reader.new_tables() for reader in self._source.readers.values()]
        for row, name in enumerate(groups.names):
            self._source.add(row, f"{groups.parent}/{name}", 0)
        if bpf:
            check = BpfCheck(self.bpf, hierarchies, columns, procfs=PROCFS, sysfs=SYSFS)
            check.run()
            check.close()

    def seconds(self) -> float:
        """Collect all tables of all containers, and return the seconds until the last reader was done."""
        start = time.perf_counter()
        jobs = list(zip(self._source.readers.values(), self._tables, strict=True))
        ticket = self._mailbox.collect(jobs, monotonic_ns() + 60 * 10**9, self._rows)
        ready = select.poll()
        ready.register(self._mailbox.fileno(), select.POLLIN)
        while not ticket.done:
            ready.poll()
        self._mailbox.take()
        return time.perf_counter() - start

    def close(self) -> None:
        """Stop the readers' threads and close their files."""
        self._source.close()


def measure(count: int) -> dict[str, float]:
    """Medians of interleaved rounds with `count` containers; ratios are medians of the rounds' ratios."""
    with cgroups(count) as groups:
        measured = scrapes(groups)
        by_bpf, by_files = Collection(groups, bpf=True), Collection(groups, bpf=False)
        with floor(groups) as bottom:
            rounds = interleaved([bottom.round_seconds, by_bpf.seconds, by_files.seconds])
        by_bpf.close()
        by_files.close()
        floors, bpf, files = rounds
        return {
            "containers": count,
            **measured,
            "collect_bpf_ms": 1e3 * statistics.median(bpf),
            "collect_files_ms": 1e3 * statistics.median(files),
            "collect_bpf_to_floor": ratio(bpf, floors),
            "collect_files_to_floor": ratio(files, floors),
        }


def scrapes(groups: Cgroups) -> dict[str, float]:
    """Return medians of scrapes of an agent with BPF and one without. Raises RuntimeError if they differ."""
    with (
        agent(groups.parent, "--source=bpf") as with_bpf,
        agent(groups.parent, "--source=cgroupfs") as with_files,
        floor(groups) as bottom,
    ):
        bpf, files = Client(with_bpf.port), Client(with_files.port)
        columns = filled(bpf)
        if without_change(bytes(bpf.get("/metrics"))) != without_change(bytes(files.get("/metrics"))):
            raise RuntimeError("the two agents do not say the same of the containers")
        cpu = {"bpf": 0.0, "files": 0.0}

        def scrape(name: str, running: Agent, client: Client) -> float:
            before = running.cpu_seconds()
            seconds = timed(client, gzip=False)
            cpu[name] += running.cpu_seconds() - before
            return seconds

        floors, by_bpf, by_files, packed = interleaved(
            [
                bottom.round_seconds,
                lambda: scrape("bpf", with_bpf, bpf),
                lambda: scrape("files", with_files, files),
                lambda: timed(bpf, gzip=True),
            ]
        )
        return {
            "columns": columns,
            "floor_ms": 1e3 * statistics.median(floors),
            "bpf_ms": 1e3 * statistics.median(by_bpf),
            "files_ms": 1e3 * statistics.median(by_files),
            "bpf_to_floor": ratio(by_bpf, floors),
            "bpf_gzip_to_floor": ratio(packed, floors),
            "files_to_floor": ratio(by_files, floors),
            "bpf_cpu_to_files": cpu["bpf"] / cpu["files"],
            "bpf_rss_mb": with_bpf.rss_bytes() / 1e6,
            "files_rss_mb": with_files.rss_bytes() / 1e6,
        }


def interleaved(tasks: Sequence[Callable[[], float]]) -> list[list[float]]:
    """Seconds of each task in each round, after three that do not count."""
    rounds = [[task() for task in tasks] for _ in range(ROUNDS + 3)][3:]
    return [list(of_task) for of_task in zip(*rounds, strict=True)]


def ratio(these: Sequence[float], those: Sequence[float]) -> float:
    """Return the median of the ratios of values that were measured in the same round."""
    return statistics.median(a / b for a, b in zip(these, those, strict=True))


def filled(client: Client) -> int:
    """How many columns BPF fills, once the agent has compared them."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        found = re.search(rb"^pymon_bpf_columns (\d+)", bytes(client.get("/metrics")), re.MULTILINE)
        if found and int(found[1]):
            return int(found[1])
        time.sleep(0.2)
    raise RuntimeError("BPF fills nothing; pymon doctor says why")


def without_change(body: bytes) -> list[bytes]:
    """What the two agents must say alike: the series of sleeping containers, but for the time of the scrape."""
    lines = body.splitlines()
    return [line for line in lines if b"pymon-bench" in line and not line.startswith(b"container_last_seen")]

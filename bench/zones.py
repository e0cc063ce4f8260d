"""10,000 zones through the libkstat double: a collection against the floor, what a change costs, and what grows."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.world import ROOT
from pymon.catalogue.kstat_fields import KSTATS, Rows
from pymon.sources.kstat import KstatReader
from tests.kstat.double import Double

ROUNDS = 31
BUILDS = 7
CHURN = 1000
NOTHING = frozenset[str]()


def timed(call: Callable[[], object]) -> float:
    """Call once, and return the seconds that it took."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@contextlib.contextmanager
def floor(library: Path, zones: int) -> Iterator[Callable[[], tuple[float, int]]]:
    """The floor over as many zones: a call is a round, which says its seconds and how many kstats it read."""
    wanted = [f"{item.module}:{item.kstat_class}" for item in KSTATS if item.rows is not Rows.NODE]
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / "zones_floor"
        source = ROOT / "bench/zones_floor.c"
        include = f"-I{ROOT / 'native/illumos'}"
        subprocess.run(["gcc", "-O2", "-D_GNU_SOURCE", include, "-o", program, source], check=True)
        with subprocess.Popen(
            [program, library, *wanted],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"KSTAT_ZONES": str(zones)},
        ) as process:
            assert process.stdin
            assert process.stdout

            def read_all() -> tuple[float, int]:
                process.stdin.write("\n")
                process.stdin.flush()
                taken, count = process.stdout.readline().split()
                return int(taken) / 1e9, int(count)

            yield read_all
            process.stdin.close()


def collections(double: Double, zones: int, *, direct: bool) -> dict[str, float]:
    """Collections of everything in turn with the floor; direct: by ioctl, past the library's kstat_read."""
    double.direct(direct)
    with contextlib.closing(KstatReader(double.path)) as reader, floor(double.path, zones) as read_all:
        for _ in range(3):
            _, read = read_all()
            reader.collect()
        before = double.counters()
        reader.collect()
        after = double.counters()
        if sum(after[name] - before[name] for name in ("direct_reads", "library_reads")) != read:
            raise RuntimeError(f"the floor reads {read} kstats, a collection does not")
        floors, times = [], []
        for _ in range(ROUNDS):
            floors.append(read_all()[0])
            times.append(timed(reader.collect))
        tables = reader.new_row_tables()
        single = [timed(lambda: reader.collect_zone(zones // 2, tables)) for _ in range(ROUNDS)]
    double.direct(True)
    return {
        "kstats_read": read,
        "floor_ms": 1e3 * statistics.median(floors),
        "collect_ms": 1e3 * statistics.median(times),
        "collect_to_floor": statistics.median(a / b for a, b in zip(times, floors, strict=True)),
        "one_zone_us": 1e6 * statistics.median(single),
    }


def changes(double: Double, zones: int) -> dict[str, float]:
    """A first build of everything that is known of the chain, and an update that brings one zone.

    `build` and `update` are whole calls: the library's chain, the index, what changed as Python values; `index` is our
    own part of them. illumos' library touches every header in each update, just before our walk does; the double only
    what changed. So the figure is of updates that follow one another, with headers in the cache as there;
    `update_after_collection` is the other extreme, with the cache full of other things.
    """
    builds, indexes = [], []
    updates: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for _ in range(BUILDS):
        start = time.perf_counter()
        reader = KstatReader(double.path)
        reader.collect(NOTHING)
        builds.append(time.perf_counter() - start)
        indexes.append(reader.index_seconds)
        for i in range(2 * (ROUNDS // BUILDS + 1)):
            cold = bool(i % 2)
            if cold:
                reader.collect()
            double.generate(1, first=zones + 1)
            seconds = timed(lambda: reader.collect(NOTHING))  # noqa: B023 - called at once
            updates[cold].append((seconds, reader.index_seconds))
            double.remove_zone(zones + 1)
            reader.collect(NOTHING)
        reader.close()
    build, index = statistics.median(builds), statistics.median(indexes)
    medians = {cold: [statistics.median(part) for part in zip(*of, strict=True)] for cold, of in updates.items()}
    return {
        "build_ms": 1e3 * build,
        "build_index_ms": 1e3 * index,
        "update_ms": 1e3 * medians[False][0],
        "update_index_ms": 1e3 * medians[False][1],
        "update_to_build_percent": 100 * medians[False][0] / build,
        "update_to_build_index_percent": 100 * medians[False][1] / index,
        "update_after_collection_ms": 1e3 * medians[True][0],
        "update_after_collection_to_build_percent": 100 * medians[True][0] / build,
    }


def growth(double: Double, zones: int) -> dict[str, float]:
    """Resident memory that CHURN collections add, of which each finds one zone gone and another come."""
    reader = KstatReader(double.path)

    def churn(rounds: int) -> int:
        for i in range(rounds):
            double.replace_zone(1 + i % zones, salt=i)
            reader.collect()
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    before = churn(CHURN // 10)
    after = churn(CHURN)
    reader.close()
    return {"churn_collections": CHURN, "churn_growth_kb": (after - before) / 1e3}


def measure(zones: int = 10_000) -> dict[str, object]:
    """Return all figures of the kstat reader with so many zones of the libkstat double."""
    double = Double()
    double.generate(zones)
    try:
        return {
            "zones": zones,
            "by_ioctl": collections(double, zones, direct=True),
            "by_kstat_read": collections(double, zones, direct=False),
            **changes(double, zones),
            **growth(double, zones),
        }
    finally:
        double.reset()

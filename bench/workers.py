"""`pymon proxy --workers N`: whether N processes answer N times as much, and what a request costs then.

Each process that answers is in a control group of its own with a quota of a quarter of a core, so that the figures do
not depend on how many cores there are. The proxies have core 0, the load and the captured answers core 1.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from uuid import UUID

from bench import nginx
from bench.attack import body_of
from bench.fronts import identities, pymon_front
from bench.load import CPU, HOST, Front, Got, Load, pinned
from bench.proxy import brief, ratio, rounds
from bench.world import CGROUPFS, ROOT, remove
from tests.proxy.running import container

COUNTS = (1, 2, 3)
CONTAINERS = 500
CONNECTIONS = 48
"""For each process that answers. One with more of them costs less for a request, as more are ready at a time."""

SECONDS = 6.0
WARM_UP_SECONDS = 1.0
PERIOD_US = 100_000
QUOTA_US = 25_000
SHARES = 65536
"""A group's part of a core that others use too: as good as all, so that its quota alone limits it."""


def cpu_root() -> tuple[Path, int]:
    """The hierarchy with the controller cpu, and its version. RuntimeError without one."""
    if (CGROUPFS / "cpu/cpu.cfs_quota_us").exists() or (CGROUPFS / "cpu/cpu.shares").exists():
        return CGROUPFS / "cpu", 1
    if "cpu" in (CGROUPFS / "cgroup.subtree_control").read_text().split():
        return CGROUPFS, 2
    raise RuntimeError("no control groups with quotas of CPU time")


@contextlib.contextmanager
def grouped(name: str, pid: int, quota_us: int = QUOTA_US) -> Iterator[None]:
    """A process in a group of its own, with a high weight. quota_us: in each period, 0 for none."""
    root, version = cpu_root()
    group = root / f"pymon-bench-{os.getpid()}-{name}"
    group.mkdir()
    try:
        if version == 1:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(quota_us or -1))
            (group / "cpu.shares").write_text(str(SHARES))
        else:
            (group / "cpu.max").write_text(f"{quota_us or 'max'} {PERIOD_US}")
            (group / "cpu.weight").write_text("10000")
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            (root / "cgroup.procs").write_text(str(pid))
        remove(group)


@contextlib.contextmanager
def stub_node(place: Path, inventory: Path) -> Iterator[int]:
    """The port of a server of the inventory."""
    port = nginx.free_port()
    command = ["taskset", "-c", CPU, sys.executable, "-m", "bench.stub", f"{port}", inventory, "0", "0", "x"]
    with (place / "stub.log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stderr=log)
    try:
        nginx.wait_for(port, process, "the stub")
        yield port
    finally:
        process.terminate()
        process.wait(20)


def measure() -> dict[str, object]:
    """Requests per second and CPU time of a request with 2 and 3 workers, against those of one process."""
    # The load and the captured answers start in the group of this process.
    with pinned(), tempfile.TemporaryDirectory() as folder, grouped("rest", os.getpid(), 0):
        return _measure(Path(folder))


def _measure(place: Path) -> dict[str, object]:
    known = identities(place)
    bodies = {str(UUID(int=0xC0FFEE << 96 | number, version=4)): body_of(number) for number in range(CONTAINERS)}
    node = {"uuid": str(UUID(int=1, version=4)), "hostname": "node"}
    containers = [container(uuid, "tenant", name=f"web-{n}") for n, uuid in enumerate(bodies)]
    inventory = place / "inventory.json"
    inventory.write_text(json.dumps({"version": "1", "node": node, "containers": containers}))
    targets = place / "targets"
    targets.write_text("".join(f"{HOST} /v1/{uuid}/metrics\n" for uuid in bodies))
    load = Load(place)

    def scrape(count: int, front: Front) -> Got:
        account = known.account("tenant", count * CONNECTIONS)
        return load.run(front, targets, [account], seconds=SECONDS, warm_up_seconds=WARM_UP_SECONDS)["tenant"]

    with contextlib.ExitStack() as stack:
        start = stack.enter_context
        captured = start(nginx.static(place, bodies, start(stub_node(place, inventory))))
        fronts = {}
        for count in COUNTS:
            front = start(
                pymon_front(
                    f"workers-{count}", place, known, [f"http://127.0.0.1:{captured.port}"], {"tenant": CONTAINERS},
                    f"--workers={count}",
                )
            )  # fmt: skip
            fronts[count] = front
            for number, pid in enumerate(front.children() if count > 1 else [front.pid]):
                start(grouped(f"{count}-{number}", pid))
        got = rounds({str(count): partial(scrape, count, front) for count, front in fronts.items()})
    cost = {name: [one["front_cpu"] / one["requests_per_second"] for one in found] for name, found in got.items()}
    return {
        "requests_per_second_ratios": {name: ratio(found, got["1"]) for name, found in got.items()},
        "cpu_ratios": {
            name: statistics.median(a / b for a, b in zip(found, cost["1"], strict=True))
            for name, found in cost.items()
        },
        **{name: brief(found) for name, found in got.items()},
    }

"""Large accounts: one exposition of 13,000 containers, and discovery of 100,000.

The proxy has one core, everything else the other. The work is fixed, so the times are absolute; beside them stands what
the machine needed for a fixed piece of Python in the same run.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import tempfile
import time
from pathlib import Path
from statistics import median
from uuid import UUID

from bench import nginx, stub
from bench.attack import body_of, memory_bytes
from bench.fronts import Identities, get, pymon, pymon_front, stub_nodes
from bench.load import HOST, Account, Front, pinned
from tests.proxy.running import container

CONTAINERS = 13_000
SD_NODES, SD_CONTAINERS = 10, 10_000
ROUNDS = 5

_READ = re.compile(rb'^pymon_container_scrape_success\{uuid="[^"]+"\} 1$', re.MULTILINE)


def identities(place: Path) -> Identities:
    """`large`, who has 13,000 containers on one node, and `largest`, who has 100,000 on ten."""
    made = Identities(place)
    for name in ("large", "largest"):
        pymon(made.data, "account", "create", name)
        pymon(made.data, "cert", "create", name, "--out", place / name)
        pymon(made.data, "quota", "set", name, "--requests-per-second", "0")
    pymon(made.data, "cert", "server", "--out", place / "server", HOST)
    return made


def machine_ms() -> float:
    """Milliseconds of CPU for a fixed piece of Python, the median of some."""
    spent = []
    for _ in range(ROUNDS):
        begin = time.thread_time()
        sorted(str(UUID(int=number * 0x9E3779B97F4A7C15 & (1 << 128) - 1)) for number in range(20_000))
        spent.append(1000 * (time.thread_time() - begin))
    return median(spent)


def timed(front: Front, account: Account, path: str) -> tuple[float, float, bytes]:
    """Seconds, seconds of the proxy's CPU, and the body, in gzip as Prometheus asks for it."""
    begin, spent = time.monotonic(), -front.cpu_seconds()
    status, body = get(front, account, path, "gzip")
    seconds, spent = time.monotonic() - begin, spent + front.cpu_seconds()
    if status != 200:
        raise RuntimeError(f"{path}: {status}")
    return seconds, spent, gzip.decompress(body)


def measure() -> dict[str, object]:
    """Seconds and memory of an exposition, and seconds of discovery."""
    with pinned(), tempfile.TemporaryDirectory() as folder:
        return {"machine_ms": machine_ms(), **_measure(Path(folder))}


def _measure(place: Path) -> dict[str, object]:
    known = identities(place)
    bodies = {str(UUID(int=0xC0FFEE << 96 | n, version=4)): body_of(n) for n in range(CONTAINERS)}
    node = {"uuid": str(UUID(int=1, version=4)), "hostname": "large"}
    containers = [container(uuid, "large", name=f"web-{n}") for n, uuid in enumerate(bodies)]
    (place / "inventory.json").write_text(json.dumps({"version": "1", "node": node, "containers": containers}))
    port = nginx.free_port()
    with contextlib.ExitStack() as stack:
        start = stack.enter_context
        start(stub_nodes(place / "inventory.json", port, SD_NODES, SD_CONTAINERS, "largest"))
        captured = start(nginx.static(place, bodies, port))
        nodes = [f"http://127.0.0.1:{captured.port}"]
        nodes += [f"http://{stub.address_of(number)}:{port}" for number in range(1, SD_NODES + 1)]
        front = start(
            pymon_front("large", place, known, nodes, {"large": CONTAINERS, "largest": SD_NODES * SD_CONTAINERS})
        )
        before = memory_bytes(front.pid, "VmRSS")
        seconds, cpu, body = timed(front, known.account("large"), "/v1/account/metrics")
        grown = memory_bytes(front.pid, "VmHWM") - before
        found = len(_READ.findall(body))
        if found != CONTAINERS:
            raise RuntimeError(f"{found} of {CONTAINERS} containers were read")
        first, first_cpu, targets = timed(front, known.account("largest"), "/v1/sd")
        after = [timed(front, known.account("largest"), "/v1/sd")[:2] for _ in range(ROUNDS)]
        if targets.count(b'"targets"') != SD_NODES * SD_CONTAINERS:
            raise RuntimeError("discovery lacks containers")
    return {
        "account_metrics": {
            "containers": CONTAINERS, "body_mb": len(body) / 1e6, "seconds": seconds, "front_cpu_seconds": cpu,
            "rss_growth_mb": grown / 1e6,
        },
        "sd": {
            "containers": SD_NODES * SD_CONTAINERS, "body_mb": len(targets) / 1e6, "first_ms": 1000 * first,
            "first_cpu_ms": 1000 * first_cpu, "after_ms": 1000 * median(one[0] for one in after),
            "after_cpu_ms": 1000 * median(one[1] for one in after),
        },
    }  # fmt: skip

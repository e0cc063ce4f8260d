"""The DNS server beside Knot with the same zone on the same core, and what a zone of 100,000 containers costs."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from dns.message import make_query

from bench.world import ROOT
from pymon._native.responder import Responder, Zones
from pymon.dns.records import Records
from pymon.dns.view import Instance, Proxy, View
from pymon.dns.zone import Zone

ORIGIN = "pymon.test."
ROUNDS = 5
SECONDS = 4
QUERIES = 100_000
CHANGES = 200
ACCOUNTS = 50

_KNOT = """
server:
    rundir: {place}
    listen: 127.0.0.1@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: {place}
zone:
  - domain: {origin}
    file: {place}/zone
"""


def instances(count: int) -> list[Instance]:
    """Containers with an address and a service each, of several accounts."""
    chance = random.Random(1)  # noqa: S311  # the same each time
    return [
        Instance(
            uuid=str(UUID(int=chance.getrandbits(128), version=4)),
            alias=f"web-{i}",
            account=UUID(int=i % ACCOUNTS + 1),
            account_name=f"account-{i % ACCOUNTS}",
            running=True,
            down=False,
            addresses=(f"10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}",),
            services=f"service-{i // ACCOUNTS % 20}:8080",
            node="",
        )
        for i in range(count)
    ]


def zone_of(found: list[Instance]) -> tuple[Records, Zones, Zone]:
    """A zone with these containers."""
    records = Records(View(ORIGIN, found, proxies=(Proxy("p", ("192.0.2.1",)),), name_servers=("ns.example.",)))
    zones = Zones()
    zone = Zone(zones, ORIGIN, clock=time.time)
    zone.replace(records.content(ORIGIN))
    return records, zones, zone


def load(port: int, queries: Path) -> str:
    """What dnsperf says, on the other core."""
    command = ["taskset", "-c", "1", "dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", queries]
    return subprocess.run(
        [*command, "-c", "8", "-T", "1", "-l", str(SECONDS)], check=True, capture_output=True, text=True
    ).stdout


def rate(said: str) -> float:
    """Answers a second. RuntimeError when more than one in a thousand was lost."""
    lost = float(re.search(r"Queries lost:\s+\d+ \(([\d.]+)%\)", said)[1])
    if lost > 0.1:
        raise RuntimeError(f"{lost} % of the queries were lost")
    return float(re.search(r"Queries per second:\s+([\d.]+)", said)[1])


def probed_ms(port: int, queries: Path, asked_per_second: int) -> list[float]:
    """Milliseconds to an answer, in order, of one query each millisecond beside dnsperf at a rate."""
    wire = make_query(f"cmon.{ORIGIN}", "A").to_wire()
    command = ["taskset", "-c", "1", "dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", queries, "-c", "8", "-T", "1"]
    command += ["-l", str(SECONDS), "-Q", str(asked_per_second)]
    got = []
    with (
        subprocess.Popen(command, stdout=subprocess.DEVNULL) as process,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.connect(("127.0.0.1", port))
        client.settimeout(1)
        time.sleep(0.5)
        while process.poll() is None:
            begin = time.perf_counter()
            client.send(wire)
            client.recv(4096)
            got.append((time.perf_counter() - begin) * 1000)
            time.sleep(0.001)
    return sorted(got)


@contextlib.contextmanager
def knot(place: Path) -> Iterator[int]:
    """The port of a Knot that serves the zone file in `place` on core 0."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (place / "knot.conf").write_text(_KNOT.format(place=place, port=port, origin=ORIGIN))
    program = shutil.which("knotd", path=f"{os.environ['PATH']}:/usr/sbin")
    command = ["taskset", "-c", "0", program, "-c", place / "knot.conf"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            time.sleep(2)
            yield port
        finally:
            process.terminate()


def served(count: int) -> dict[str, object]:
    """Answers a second against Knot, rounds taking turns, and latency at half of the most."""
    found = instances(count)
    records, zones, zone = zone_of(found)
    chance = random.Random(2)  # noqa: S311  # the same each time
    names = [name for name, _ in records.content(ORIGIN).items()]
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        place = Path(directory)
        (place / "zone").write_text("\n".join(zone.text()) + "\n")
        queries = place / "queries"
        queries.write_text("".join(_query(chance, names) for _ in range(QUERIES)))
        bound.bind(("127.0.0.1", 0))
        os.sched_setaffinity(0, {0})
        responder = Responder(zones, [bound], responses_per_second=0, excess_bytes_per_second=0, slip=2)
        try:
            own = bound.getsockname()[1]
            with knot(place) as port:
                got = [(rate(load(port, queries)), rate(load(own, queries))) for _ in range(ROUNDS)]
            most = statistics.median(ours for _, ours in got)
            probes = probed_ms(own, queries, int(most / 2))
        finally:
            responder.close()
            os.sched_setaffinity(0, range(os.cpu_count() or 1))
    return {
        "names": len(names),
        "records": len(zone),
        "ratio_to_knot": statistics.median(ours / theirs for theirs, ours in got),
        "knot_per_second": statistics.median(theirs for theirs, _ in got),
        "pymon_per_second": most,
        "p50_ms_at_half": probes[len(probes) // 2],
        "p99_ms_at_half": probes[int(0.99 * len(probes))],
    }


def _query(chance: random.Random, names: list[str]) -> str:
    """A line for dnsperf; one in ten asks for what is not there."""
    missing = chance.random() < 0.1
    name = f"no{chance.randrange(QUERIES)}.cmon.{ORIGIN}" if missing else chance.choice(names)
    return f"{name} {chance.choice(('A', 'AAAA', 'TXT'))}\n"


def large(count: int) -> dict[str, object]:
    """Building and changing a large zone, in a process of its own."""
    program = f"from bench.dns import _large; _large({count})"
    said = subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, capture_output=True, text=True).stdout
    result: dict[str, object] = json.loads(said)
    return result


def _large(count: int) -> None:
    before = _rss_bytes()
    found = instances(count)
    given = _rss_bytes()
    builds = []
    for _ in range(3):
        begin = time.perf_counter()
        records, _, zone = zone_of(found)
        builds.append(time.perf_counter() - begin)
    changes = []
    chance = random.Random(3)  # noqa: S311  # the same each time
    for i in range(CHANGES):
        one = found[chance.randrange(count)]
        changed = one._replace(addresses=(f"10.200.{i >> 8}.{i & 255}",), alias=f"moved-{i}")
        begin = time.perf_counter()
        names = records.update([changed])
        zone.update({name: records.get(name) for name in names})
        changes.append(time.perf_counter() - begin)
    changes.sort()
    result = {
        "containers": count,
        "records": len(zone),
        "build_seconds": sorted(builds),
        "change_ms_median": statistics.median(changes) * 1000,
        "change_ms_p99": changes[int(0.99 * CHANGES)] * 1000,
        "rss_mb_of_inventory": (given - before) / 1e6,
        "rss_mb_with_zone": _rss_bytes() / 1e6,
    }
    sys.stdout.write(json.dumps(result))


def _rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure() -> dict[str, object]:
    """All figures."""
    return {"served": served(10_000), "large": large(100_000)}

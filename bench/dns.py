"""The DNS server beside Knot with the same zone on the same core, and what a zone of 100,000 containers costs."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
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
from typing import NamedTuple
from uuid import UUID

from dns.message import make_query
from msgspec import structs

from bench.world import ROOT
from pymon._native.responder import Responder, Zones
from pymon.directory.model import Account, Quota, Snapshot
from pymon.dns.options import DnsOptions
from pymon.dns.records import Records
from pymon.dns.server import DnsServer
from pymon.dns.view import Instance, Proxy, View
from pymon.dns.zone import Zone
from pymon.front.names import Names
from pymon.inventory_document import Container
from pymon.proxy.agent_document import decode_inventory
from pymon.proxy.fleet import Fleet

ORIGIN = "pymon.test."
ROUNDS = 5
SECONDS = 4
QUERIES = 100_000
CHANGES = 200
ACCOUNTS = 50
PER_NODE = 1000

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
    found = []
    for i in range(count):
        container = Container(
            uuid=str(UUID(int=chance.getrandbits(128), version=4)), id=f"/{i}", name=f"web-{i}", runtime="docker",
            runtime_id="", image="", start=1.0, owner=None, state="running", health="", groups=(),
            services=f"service-{i // ACCOUNTS % 20}:8080", namespace="", pod="", pod_id="",
            addresses=(f"10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}",),
        )  # fmt: skip
        found.append(Instance(container, str(UUID(int=i % ACCOUNTS + 1)), f"account-{i % ACCOUNTS}"))
    return found


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


class Asked(NamedTuple):
    """A DNS server of a zone, and what to ask it. place: has the zone as a file, for Knot."""

    port: int
    place: Path
    queries: Path
    names: int
    records: int


@contextlib.contextmanager
def answering(count: int) -> Iterator[Asked]:
    """A zone with `count` containers, served on core 0."""
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
        responder = Responder(
            zones, [bound], responses_per_second=0, excess_bytes_per_second=0, handed_per_second=0, slip=2
        )
        try:
            yield Asked(bound.getsockname()[1], place, queries, len(names), len(zone))
        finally:
            responder.close()
            os.sched_setaffinity(0, range(os.cpu_count() or 1))


def served(count: int) -> dict[str, object]:
    """Answers a second against Knot, rounds taking turns, and latency at half of the most."""
    with answering(count) as asked:
        with knot(asked.place) as port:
            got = [(rate(load(port, asked.queries)), rate(load(asked.port, asked.queries))) for _ in range(ROUNDS)]
        most = statistics.median(ours for _, ours in got)
        probes = probed_ms(asked.port, asked.queries, int(most / 2))
    return {
        "names": asked.names,
        "records": asked.records,
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
    """Building and changing a large zone, in a process of its own, as the proxy does it from what agents tell."""
    program = f"from bench.dns import _large; _large({count})"
    said = subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, capture_output=True, text=True).stdout
    result: dict[str, object] = json.loads(said)
    return result


def accounts() -> Snapshot:
    """Return a directory with the accounts that own the containers."""
    named = (Account(UUID(int=i + 1), f"account-{i}", False, 0.0, Quota()) for i in range(ACCOUNTS))
    return Snapshot.of(1, accounts=named)


def fleet_of(found: list[Instance], known: Snapshot) -> Fleet:
    """The same containers as the proxy has them: from JSON as agents write it, of Docker's, on many nodes."""
    chance = random.Random(4)  # noqa: S311  # the same each time
    fleet = Fleet()
    for first in range(0, len(found), PER_NODE):
        rows = []
        for one, _, account_name in found[first : first + PER_NODE]:
            runtime_id = f"{chance.getrandbits(256):064x}"
            rows.append(
                {
                    "uuid": one.uuid, "id": f"/system.slice/docker-{runtime_id}.scope", "name": one.name,
                    "runtime": "docker", "runtime_id": runtime_id, "image": "registry.example.com/team/web:1.2.3",
                    "start": 1_700_000_000.0 + first, "owner": account_name, "state": "running",
                    "health": "healthy", "groups": ["web"], "services": one.services, "namespace": "", "pod": "",
                    "pod_id": "", "addresses": list(one.addresses),
                }
            )  # fmt: skip
        node = {"uuid": str(UUID(int=first + 1)), "hostname": f"node-{first}"}
        document = json.dumps({"node": node, "containers": rows}).encode()
        fleet.replace(f"node-{first}", decode_inventory(document), known, 1_800_000_000.0)
    return fleet


async def _longest_wait(longest: list[float]) -> None:
    """What a task that wants to run every 10 ms waits for it, seconds; the most so far in a list of one."""
    while True:
        begin = time.perf_counter()
        await asyncio.sleep(0.01)
        longest[0] = max(longest[0], time.perf_counter() - begin - 0.01)


def _large(count: int) -> None:
    before = _rss_bytes()
    known = accounts()
    fleet = fleet_of(instances(count), known)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # of what made the documents
    given = _rss_bytes()
    sys.stdout.write(json.dumps({"containers": count, **asyncio.run(_built(fleet, known, before, given))}))


async def _built(fleet: Fleet, known: Snapshot, before: int, given: int) -> dict[str, object]:
    options = DnsOptions(name_servers=("ns.example.",))
    server = DnsServer(options)
    longest = [0.0]
    watching = asyncio.create_task(_longest_wait(longest))
    builds, cpu, sizes = [], [], []
    for _ in range(3):
        begin, used = time.perf_counter(), time.process_time()
        names = Names(fleet, lambda: known, server, ORIGIN, options, {"p": ("192.0.2.1",)})
        await names.build()
        builds.append(time.perf_counter() - begin)
        cpu.append(time.process_time() - used)
        sizes.append(_rss_bytes())
    watching.cancel()
    changes = []
    chance = random.Random(3)  # noqa: S311  # the same each time
    found = instances(len(fleet))
    for i in range(CHANGES):
        one = found[chance.randrange(len(found))]
        moved = structs.replace(one.container, addresses=(f"10.200.{i >> 8}.{i & 255}",), name=f"moved-{i}")
        changed = one._replace(container=moved)
        begin = time.perf_counter()
        server.update(names.records, names.records.update([changed]))
        changes.append(time.perf_counter() - begin)
    changes.sort()
    return {
        "names": len(names.records.content(ORIGIN)),
        "records": len(server.zones[ORIGIN]),
        "build_seconds": builds,
        "build_cpu_seconds": cpu,
        "longest_wait_of_the_loop_ms": longest[0] * 1000,
        "change_ms_median": statistics.median(changes) * 1000,
        "change_ms_p99": changes[int(0.99 * CHANGES)] * 1000,
        "rss_mb_of_the_interpreter": before / 1e6,
        "rss_mb_of_inventory": (given - before) / 1e6,
        "rss_mb_of_zone": (sizes[0] - given) / 1e6,
        "rss_mb": sizes[0] / 1e6,
        "rss_mb_without_inventory": (sizes[0] - given + before) / 1e6,
        "rss_mb_after_three_builds": sizes[-1] / 1e6,
    }


def _rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure() -> dict[str, object]:
    """Return the figures of a zone of 10,000 containers that is queried, and of one of 100,000 that is built."""
    return {"served": served(10_000), "large": large(100_000)}

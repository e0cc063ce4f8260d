"""`python -m bench.fleet [--nodes N] [--containers N] [--changes N] [--tls]`: thousands of nodes before one real proxy.

This process plays all agents: one listener, and a loopback address for each node. An agent answers /v1/containers as
docs/inventory.md says, with long polls and differences, and any scrape with a small exposition. A change replaces a
container of a node by a new one. The proxy is a process of its own.

The figures, in the order in which they are measured:

from_nothing, from_copies: seconds from the start of the proxy until it is ready and knows every container, and the CPU
time that it used for that. from_peer: the same of a second proxy, which has no copies and asks the first one.
CPU shares are fractions of a core, from the process's own CPU time.
idle: without changes. changing: with them, and no requests. routed: from a change until a scrape of the new container
is answered, with one look each 2 ms. discovery: /v1/sd of an account, the first time after a change and again.
scrape_cpu_ms, handshake_cpu_ms: CPU time of the proxy for a relayed scrape, and for a new connection of a client with
its first request.
"""

from __future__ import annotations

import argparse
import asyncio
import compileall
import contextlib
import json
import os
import platform
import random
import re
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from uuid import NAMESPACE_DNS, uuid5

import uvloop

from bench.nginx import free_port
from bench.world import ROOT
from pymon.directory.authority import Authority
from pymon.directory.data_dir import AUTHORITY_FOLDER, MACHINES_FOLDER
from pymon.directory.directory import open_directory
from pymon.directory.machines import Machines
from pymon.directory.model import Node
from pymon.directory.node_lists import Entry
from pymon.proxy.build import INVENTORY_FOLDER
from pymon.uuid_name import container_uuid

ACCOUNTS = 100
KEPT_CHANGES = 500
SAMPLES = 200
SCRAPES = 4000
HANDSHAKES = 300
PHASE_SECONDS = 10.0
SERVER_NAME = "node.bench"
EXPOSITION = b"# TYPE container_memory_usage_bytes gauge\n" + b"".join(
    b'container_memory_usage_bytes{id="/docker/%d"} 1048576\n' % number for number in range(60)
)

_SINCE = re.compile(rb"[?&]since=([^& ]*)")
_WAIT = re.compile(rb"[?&]wait=([0-9.]+)")
_ETAG = re.compile(rb'If-None-Match: "([^"]*)"')
CHOICE = random.Random(1)  # noqa: S311  # the same changes in each run

_HERTZ = os.sysconf("SC_CLK_TCK")


class Agent:
    """A node and its containers. waiting: the connection whose long poll is not answered yet."""

    def __init__(self, number: int, containers: int) -> None:
        self.number = number
        self.uuid = uuid5(NAMESPACE_DNS, f"node{number}")
        self.node = json.dumps({"uuid": str(self.uuid), "hostname": f"node{number}"}).encode()
        self.version = 1
        self.made = 0
        self.containers: dict[str, bytes] = {}
        self.changes: deque[tuple[int, str, str]] = deque(maxlen=KEPT_CHANGES)
        self.waiting: Connection | None = None
        for _ in range(containers):
            self.add()

    @property
    def address(self) -> str:
        """A loopback address of its own."""
        return f"127.{1 + self.number // 62500}.{self.number // 250 % 250}.{1 + self.number % 250}"

    def add(self) -> str:
        """Make a container that is told from now on, and return its UUID."""
        self.made += 1
        runtime_id = f"{self.number:032x}{self.made:032x}"
        uuid_name = f"docker::{runtime_id}"
        uuid = str(container_uuid(self.uuid, uuid_name))
        told = {
            "uuid": uuid, "uuid_name": uuid_name, "id": f"/system.slice/docker-{runtime_id}.scope",
            "name": f"web-{self.made}", "runtime": "docker", "runtime_id": runtime_id, "image": "shop/basket:4.2",
            "start": 1.7e9 + self.made, "owner": f"account{self.made % ACCOUNTS}", "state": "running",
            "health": "healthy", "groups": ["front"], "services": "web:80", "namespace": "", "pod": "", "pod_id": "",
            "addresses": [f"10.{self.number % 250}.{self.made // 250 % 250}.{1 + self.made % 250}"],
        }  # fmt: skip
        self.containers[uuid] = json.dumps(told).encode()
        return uuid

    def change(self) -> str:
        """Replace the oldest container by a new one, whose UUID is returned."""
        gone = next(iter(self.containers))
        del self.containers[gone]
        come = self.add()
        self.version += 1
        self.changes.append((self.version, gone, come))
        if self.waiting is not None:
            connection, self.waiting = self.waiting, None
            connection.inventory()
        return come

    def document(self) -> bytes:
        """Return the whole inventory as JSON."""
        return b'{"version":"%d","node":%b,"containers":[%b]}' % (
            self.version, self.node, b",".join(self.containers.values()),
        )  # fmt: skip

    def difference(self, since: int) -> bytes | None:
        """What changed since a version, None where that is not known."""
        if not self.changes or since < self.changes[0][0] - 1 or since > self.version:
            return None
        new = [change for change in self.changes if change[0] > since]
        changed = [self.containers[come] for _, _, come in new if come in self.containers]
        removed = json.dumps([gone for _, gone, _ in new]).encode()
        return b'{"version":"%d","since":"%d","node":%b,"total":%d,"changed":[%b],"removed":%b}' % (
            self.version, since, self.node, len(self.containers), b",".join(changed), removed,
        )  # fmt: skip


class Connection(asyncio.Protocol):
    """A connection of the proxy to an agent."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._since = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._agent = self._fleet.by_address[transport.get_extra_info("sockname")[0]]
        self._fleet.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._fleet.connections -= 1
        if self._timer is not None:
            self._timer.cancel()
        if self._agent.waiting is self:
            self._agent.waiting = None

    def data_received(self, data: bytes) -> None:
        self._fleet.received_bytes += len(data)
        if not data.startswith(b"GET /v1/containers?"):
            self._say(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n", EXPOSITION)
            return
        self._fleet.polls += 1
        since, wait, etag = _SINCE.search(data), _WAIT.search(data), _ETAG.search(data)
        self._since = since[1] if since else b""
        if etag is None or etag[1] != b"%d" % self._agent.version:
            self.inventory()
        elif wait is not None and float(wait[1]) > 0:
            self._agent.waiting = self
            self._timer = asyncio.get_running_loop().call_later(float(wait[1]), self._unchanged)
        else:
            self._unchanged()

    def _unchanged(self) -> None:
        self._agent.waiting = None
        version = self._agent.version
        head = b'HTTP/1.1 304 Not Modified\r\nETag: "%d"\r\nInventory-Version: %d\r\n\r\n' % (version, version)
        self._fleet.sent_bytes += len(head)
        self._transport.write(head)

    def inventory(self) -> None:
        """Answer with what changed, or with all."""
        if self._timer is not None:
            self._timer.cancel()
        agent = self._agent
        body = agent.difference(int(self._since)) if self._since else None
        self._say(
            b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: "%d"\r\nInventory-Version: %d\r\n'
            % (agent.version, agent.version),
            body or agent.document(),
        )

    def _say(self, head: bytes, body: bytes) -> None:
        data = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        self._fleet.sent_bytes += len(data)
        self._transport.write(data)


class Fleet:
    """All nodes. polls, received_bytes, sent_bytes: counted over all of them, without TLS."""

    def __init__(self, nodes: int, containers: int) -> None:
        self.agents = [Agent(number, containers) for number in range(nodes)]
        self.by_address = {agent.address: agent for agent in self.agents}
        self.connections = self.polls = self.received_bytes = self.sent_bytes = 0

    @contextlib.asynccontextmanager
    async def serving(self, port: int, context: ssl.SSLContext | None) -> Any:
        """Listen on one port of all loopback addresses."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Connection(self), "", port, ssl=context, family=socket.AF_INET, backlog=4096
        )
        try:
            yield
        finally:
            server.close()

    async def changing(self, each_second: float) -> None:
        """Make changes at random nodes, until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due += 1 / each_second
            await asyncio.sleep(max(0.0, due - loop.time()))
            CHOICE.choice(self.agents).change()


class Proxy:
    """A proxy as a process. begun: when it was started, in seconds of time.monotonic."""

    def __init__(self, place: Path, flags: list[str]) -> None:
        self.port, self.telemetry = free_port(), free_port()
        self._copies = place / "data" / INVENTORY_FOLDER
        self.begun = time.monotonic()
        self._log = (place / "proxy.log").open("ab")
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "pymon", "proxy", f"--data-dir={place / 'data'}", *flags,
                f"--web.listen-address=127.0.0.1:{self.port}", f"--telemetry.listen-address=127.0.0.1:{self.telemetry}",
            ],
            cwd=ROOT, stderr=self._log, env=os.environ | {"PYTHONDONTWRITEBYTECODE": ""},
        )  # fmt: skip

    def metric(self, name: str) -> float:
        """A series of its own without labels, -1.0 while it does not answer."""
        with contextlib.suppress(OSError):
            text = urllib.request.urlopen(f"http://127.0.0.1:{self.telemetry}/metrics", timeout=10).read().decode()
            found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
            return float(found[1]) if found else -1.0
        return -1.0

    def ready(self) -> bool:
        """Return whether it answers that it is ready."""
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"http://127.0.0.1:{self.telemetry}/-/ready", timeout=10).status == 200
        return False

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _HERTZ

    def memory_mb(self) -> dict[str, float]:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return {name: round(int(re.search(rf"{key}:\s+(\d+)", text)[1]) / 1024, 1) for name, key in
                (("now", "VmRSS"), ("most", "VmHWM"))}  # fmt: skip

    async def started(self, fleet: Fleet) -> dict[str, float]:
        """Wait until it is ready and waits for changes of every node, so that it knows all containers."""
        ready_at = 0.0
        while True:
            if self.process.poll() is not None:
                raise RuntimeError("the proxy ended")
            if not ready_at and await asyncio.to_thread(self.ready):
                ready_at = time.monotonic()
            if ready_at and all(agent.waiting is not None for agent in fleet.agents):
                break
            await asyncio.sleep(0.05)
        known_at, cpu_seconds = time.monotonic(), self.cpu_seconds()
        while len(list(self._copies.glob("*.json"))) < len(fleet.agents):  # noqa: ASYNC110  # it is another process's
            await asyncio.sleep(0.5)
        await asyncio.sleep(1.0)
        containers = sum(len(agent.containers) for agent in fleet.agents)
        if await asyncio.to_thread(self.metric, "pymon_proxy_containers") != containers:
            raise RuntimeError("the proxy does not know all containers")
        return {
            "ready_seconds": round(ready_at - self.begun, 2),
            "all_known_seconds": round(known_at - self.begun, 2),
            "cpu_seconds": cpu_seconds,
        }

    async def knows(self, containers: int) -> dict[str, float]:
        """Wait until it is ready and has this number of containers, whoever told it."""
        while not await asyncio.to_thread(self.ready):  # noqa: ASYNC110  # it is another process's
            await asyncio.sleep(0.05)
        ready_at = time.monotonic()
        while await asyncio.to_thread(self.metric, "pymon_proxy_containers") != containers:  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.05)
        return {
            "ready_seconds": round(ready_at - self.begun, 2),
            "all_known_seconds": round(time.monotonic() - self.begun, 2),
            "cpu_seconds": self.cpu_seconds(),
        }

    async def share(self, seconds: float) -> float:
        """The part of a core that it uses in the next seconds."""
        before, begun = self.cpu_seconds(), time.monotonic()
        await asyncio.sleep(seconds)
        return round((self.cpu_seconds() - before) / (time.monotonic() - begun), 4)

    def stop(self) -> float:
        """End it. Returns how long that took."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self._log.close()
        return round(time.monotonic() - begun, 2)


class Tenant:
    """A connection of an account's client to the proxy."""

    def __init__(self, proxy: Proxy, context: ssl.SSLContext, token: str) -> None:
        self._proxy = proxy
        self._context = context
        self._token = token

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._proxy.port, ssl=self._context, server_hostname="localhost", limit=1 << 28
        )
        await self.get("/-/healthy")  # a connection without a first request is closed
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def get(self, path: str) -> tuple[int, bytes]:
        """Ask for a path. Returns status and body."""
        self._writer.write(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self._token}\r\n\r\n".encode()
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"Content-Length: (\d+)", head)[1])
        return int(head[9:12]), await self._reader.readexactly(length)


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


async def routed(fleet: Fleet, tenants: list[Tenant], each_second: float) -> dict[str, float]:
    """Milliseconds from a change until its container is scraped, beside all the other changes."""
    took = []
    others = asyncio.create_task(fleet.changing(each_second))
    for _ in range(SAMPLES):
        await asyncio.sleep(CHOICE.uniform(0.02, 0.08))
        agent = CHOICE.choice(fleet.agents)
        begun = time.perf_counter()
        uuid = agent.change()
        tenant = tenants[agent.made % ACCOUNTS]
        while (await tenant.get(f"/v1/{uuid}/metrics"))[0] != 200:  # noqa: ASYNC110  # it is another process's
            await asyncio.sleep(0.002)
        took.append((time.perf_counter() - begun) * 1000)
    others.cancel()
    return {"p50_ms": round(statistics.median(took), 1), "p99_ms": round(percentile(took, 0.99), 1),
            "most_ms": round(max(took), 1)}  # fmt: skip


async def discovery(fleet: Fleet, tenant: Tenant) -> dict[str, float]:
    """Milliseconds of /v1/sd, after a change and again."""
    took: dict[str, float] = {}
    fleet.agents[0].change()
    await asyncio.sleep(1.0)
    for name in ("first_ms", "again_ms"):
        begun = time.perf_counter()
        _, body = await tenant.get("/v1/sd")
        took[name] = round((time.perf_counter() - begun) * 1000, 1)
    return {"containers": len(json.loads(body)), "bytes": len(body), **took}


async def scrapes(fleet: Fleet, proxy: Proxy, tenants: list[Tenant]) -> float:
    """CPU milliseconds of the proxy for a relayed scrape of a container, over kept connections."""
    agent = fleet.agents[0]
    first = agent.made - len(agent.containers) + 1
    owned = list(zip(agent.containers, range(first, first + ACCOUNTS), strict=False))

    async def one(uuid: str, made: int) -> None:
        for _ in range(SCRAPES // len(owned)):
            assert (await tenants[made % ACCOUNTS].get(f"/v1/{uuid}/metrics"))[0] == 200

    before = proxy.cpu_seconds()
    await asyncio.gather(*(one(uuid, made) for uuid, made in owned))
    return round((proxy.cpu_seconds() - before) * 1000 / (SCRAPES // len(owned) * len(owned)), 3)


async def handshakes(proxy: Proxy, context: ssl.SSLContext, token: str) -> float:
    """CPU milliseconds of the proxy for a new connection of a client and its first request."""
    before = proxy.cpu_seconds()
    for _ in range(HANDSHAKES):
        async with Tenant(proxy, context, token):
            pass
    return round((proxy.cpu_seconds() - before) * 1000 / HANDSHAKES, 3)


@contextlib.contextmanager
def set_up(place: Path, fleet: Fleet, port: int, *, tls: bool) -> Iterator[tuple[list[str], list[str], Any]]:
    """A directory with the nodes and accounts. Yields flags of a proxy, tokens, and the agents' TLS context."""
    data = place / "data"
    data.mkdir()
    authority = Authority.load_or_create(data / AUTHORITY_FOLDER)
    machines = Machines.load_or_create(data / MACHINES_FOLDER)
    with open_directory(str(data / "directory.db"), create=True) as directory:
        directory.set_authority(authority.der)
        tokens = []
        for number in range(ACCOUNTS):
            directory.create_account(f"account{number}")
            directory.set_quota(f"account{number}", requests_per_second=0)
            tokens.append(directory.create_token(f"account{number}"))
        scheme, name = ("https", SERVER_NAME) if tls else ("http", "")
        nodes = [
            Node(f"node{agent.number}", agent.uuid, f"{scheme}://{agent.address}:{port}", name)
            for agent in fleet.agents
        ]
        directory.node_lists.put([Entry(node) for node in nodes])
    files = {}
    for what, names in (("server", ["localhost"]), ("node", [SERVER_NAME])):
        certificate, key = machines.authority.issue_server(names, 30)
        files[what] = place / f"{what}.pem"
        files[what].write_bytes(key + certificate)
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files["node"])
        context.load_verify_locations(data / MACHINES_FOLDER / "ca-cert.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    flags = [f"--tls.cert-file={files['server']}", f"--tls.key-file={files['server']}",
             f"--upstream.tls-ca-file={data / MACHINES_FOLDER / 'ca-cert.pem'}"]  # fmt: skip
    yield flags, tokens, context


async def measure(nodes: int, containers: int, each_second: float, *, tls: bool) -> dict[str, Any]:
    """Measure one proxy. containers: on each node."""
    compileall.compile_dir(ROOT / "pymon", quiet=1)
    fleet = Fleet(nodes, containers)
    said: dict[str, Any] = {"nodes": nodes, "containers": nodes * containers, "changes": each_second, "tls": tls,
                            "machine": machine()}  # fmt: skip
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="pymon-fleet-") as folder:
        place = Path(folder)
        with set_up(place, fleet, port, tls=tls) as (flags, tokens, context):
            client = ssl.create_default_context(cafile=str(place / "data" / MACHINES_FOLDER / "ca-cert.pem"))
            async with fleet.serving(port, context):
                proxy = Proxy(place, flags)
                try:
                    said["from_nothing"] = await proxy.started(fleet)
                    said["inventory_bytes"] = fleet.sent_bytes
                    said["idle"] = {"core": await proxy.share(PHASE_SECONDS), **traffic(fleet)}
                    changing = asyncio.create_task(fleet.changing(each_second))
                    await asyncio.sleep(1.0)
                    traffic(fleet)
                    said["changing"] = {"core": await proxy.share(PHASE_SECONDS), **traffic(fleet)}
                    changing.cancel()
                    async with contextlib.AsyncExitStack() as stack:
                        tenants = [await stack.enter_async_context(Tenant(proxy, client, token)) for token in tokens]
                        said["routed"] = await routed(fleet, tenants, each_second)
                        said["discovery"] = await discovery(fleet, tenants[0])
                        said["scrape_cpu_ms"] = await scrapes(fleet, proxy, tenants)
                    said["handshake_cpu_ms"] = await handshakes(proxy, client, tokens[0])
                    said["memory_mb"] = proxy.memory_mb()
                    said["connections"] = fleet.connections
                finally:
                    said["end_seconds"] = proxy.stop()
                    for agent in fleet.agents:
                        agent.waiting = None
                said["copies_mb"] = round(sum(f.stat().st_size for f in (place / "data").rglob("*.json")) / 1e6, 1)
                proxy = Proxy(place, flags)
                try:
                    said["from_copies"] = await proxy.started(fleet)
                    said["from_copies"]["memory_mb"] = proxy.memory_mb()["most"]
                    said["from_peer"] = await from_peer(place, flags, nodes * containers)
                finally:
                    proxy.stop()
    return said


async def from_peer(place: Path, flags: list[str], containers: int) -> dict[str, float]:
    """The start of a proxy that has nothing, beside one that knows everything."""
    new = place / "new"
    shutil.copytree(place / "data" / MACHINES_FOLDER, new / "data" / MACHINES_FOLDER)
    proxy = Proxy(new, [f"--directory={place / 'data' / 'directory.db'}", *flags])
    try:
        return await proxy.knows(containers)
    finally:
        proxy.stop()


_seen = {"polls": 0, "received_bytes": 0, "sent_bytes": 0, "at": 0.0}


def traffic(fleet: Fleet) -> dict[str, float]:
    """Polls and bytes a second since the last call."""
    now = time.monotonic()
    since = now - _seen["at"]
    said = {}
    for name in ("polls", "received_bytes", "sent_bytes"):
        value = getattr(fleet, name)
        said[f"{name}_per_second"] = round((value - _seen[name]) / since, 1)
        _seen[name] = value
    _seen["at"] = now
    return said


def machine() -> dict[str, Any]:
    """What it ran on, and how busy that was before."""
    begun = time.process_time()
    sum(range(10_000_000))
    return {"cpus": os.cpu_count(), "kernel": platform.release(), "load": os.getloadavg()[0],
            "sum_of_10_million_seconds": round(time.process_time() - begun, 3)}  # fmt: skip


def main() -> None:
    """Measure what the arguments say, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=2000)
    parser.add_argument("--containers", type=int, default=100, help="on each node")
    parser.add_argument("--changes", type=float, default=100.0, help="a second, in all")
    parser.add_argument("--tls", action="store_true", help="mutual TLS to the agents, as docs/proxy.md says")
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        said = runner.run(measure(given.nodes, given.containers, given.changes, tls=given.tls))
    print(json.dumps(said, indent=1))


if __name__ == "__main__":
    main()

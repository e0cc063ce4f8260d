"""What the benchmark of the proxy runs: accounts, an agent, its captured answers, and nginx and pymon before both."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import nginx, stub
from bench.load import CPU, HOST, Account, Front
from bench.world import ROOT, Agent, Cgroups, Client, agent
from pymon.directory.authority import CERTIFICATE_FILE
from pymon.directory.data_dir import AUTHORITY_FOLDER

CONTAINERS = 1000
EXTRA_NODES, EXTRA_CONTAINERS = 9, 11_000
"""With CONTAINERS they are a table of 100,000."""

AGENT_FLAGS = (
    "--web.max-requests=0",
    *(f"--no-collector.{name}" for name in ("container", "container_pids", "container_process", "container_pressure")),
)
"""What is left of a container is 4.2 KB."""

ZONE = HOST.partition(".")[2]
QUOTA = 100
"""Requests a second that an account has by default, and ten times as many at once."""


def pymon(data: Path, *arguments: str | Path) -> None:
    """A command on the directory in `data`."""
    command = [sys.executable, "-m", "pymon", *arguments, "--data-dir", data]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


@dataclass(frozen=True, slots=True)
class Identities:
    """Accounts, their certificates and the fronts' own, in `place`."""

    place: Path

    @property
    def data(self) -> Path:
        """A data directory that knows the accounts and no node."""
        return self.place / "data"

    @property
    def authority(self) -> Path:
        """The authority of the fronts' certificate."""
        return self.place / "server/ca-cert.pem"

    @property
    def tenants(self) -> Path:
        """The authority of the accounts' certificates."""
        return self.data / AUTHORITY_FOLDER / CERTIFICATE_FILE

    @property
    def certificate(self) -> Path:
        """The fronts' certificate."""
        return self.place / "server/server-cert.pem"

    @property
    def key(self) -> Path:
        """The key of the fronts' certificate."""
        return self.place / "server/server-key.pem"

    def account(self, name: str, connections: int = 1, rate: float = 0) -> Account:
        """Return the load of an account with its credentials. rate: requests a second, 0 for as many as it gets."""
        own = self.place / name
        return Account(name, connections, rate, own / f"{name}-cert.pem", own / f"{name}-key.pem")


def identities(place: Path) -> Identities:
    """`tenant`, who has most containers and no quota, `quiet`, who has some, and `other`, who has the extra nodes'."""
    made = Identities(place)
    for name in ("tenant", "quiet", "other"):
        pymon(made.data, "account", "create", name)
        pymon(made.data, "cert", "create", name, "--out", place / name)
    pymon(made.data, "quota", "set", "tenant", "--requests-per-second", "0")
    pymon(made.data, "cert", "server", "--out", place / "server", HOST)
    return made


@contextlib.contextmanager
def pymon_front(
    name: str, place: Path, known: Identities, nodes: Sequence[str], expected: dict[str, int], *flags: str
) -> Iterator[Front]:
    """`pymon proxy` before agents at `nodes`, once it knows as many containers of each account as expected."""
    data = place / f"pymon-{name}"
    shutil.copytree(known.data, data)
    for number, url in enumerate(nodes):
        pymon(data, "node", "create", f"node{number}", url)
    port = nginx.free_port()
    command = [
        "taskset",
        "-c",
        nginx.FRONT_CPU,
        sys.executable,
        "-m",
        "pymon",
        "proxy",
        "--data-dir",
        data,
        "--drain=0",
    ]
    command += [f"--web.listen-address=127.0.0.1:{port}", f"--telemetry.listen-address=127.0.0.1:{nginx.free_port()}"]
    command += [f"--tls.cert-file={known.certificate}", f"--tls.key-file={known.key}", f"--zone={ZONE}", *flags]
    with (place / f"{name}.log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stderr=log)
    try:
        nginx.wait_for(port, process, "the proxy")
        front = Front(f"pymon {name}", port, process.pid, known.authority)
        for account, count in expected.items():
            wait_for_containers(front, known.account(account), count)
        yield front
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def get(front: Front, account: Account, path: str, coding: str = "identity") -> tuple[int, bytes]:
    """Status and body, in the content coding that is asked for."""
    context = ssl.create_default_context(cafile=str(front.authority))
    context.check_hostname = False
    assert account.certificate
    context.load_cert_chain(account.certificate, account.key)
    client = http.client.HTTPSConnection("127.0.0.1", front.port, context=context)
    client.request("GET", path, headers={"Host": HOST, "Accept-Encoding": coding})
    answer = client.getresponse()
    body = answer.read()
    client.close()
    return answer.status, body


def wait_for_containers(front: Front, account: Account, count: int) -> None:
    """Until the account is told of `count` containers."""
    until = time.monotonic() + 60
    while True:
        status, body = get(front, account, "/v1/discover")
        found = len(json.loads(body)["containers"]) if status == 200 else 0
        if found == count:
            return
        if time.monotonic() > until:
            raise RuntimeError(f"{front.name}: {account.name} sees {found} containers, expected {count} ({status})")
        time.sleep(0.2)


@dataclass(frozen=True, slots=True)
class Setup:
    """All that runs. fronts: by nginx or pymon and what is behind. bodies, tenant and quiet: what they own, by UUID."""

    place: Path
    known: Identities
    agent: Front
    captured: Front
    fronts: dict[str, Front]
    bodies: dict[str, bytes]
    tenant: list[str]
    quiet: list[str]


@contextlib.contextmanager
def stub_nodes(inventory: Path, port: int, nodes: int, containers: int, account: str) -> Iterator[None]:
    """Run bench.stub on the core of the load. It answers for the agents of all nodes.

    inventory: of the first node. nodes, containers: further nodes, and how many containers of `account` each has.
    """
    command = ["taskset", "-c", CPU, sys.executable, "-m", "bench.stub", f"{port}", inventory]
    process = subprocess.Popen([*command, f"{nodes}", f"{containers}", account], cwd=ROOT)
    try:
        nginx.wait_for(port, process, "the stub")
        yield
    finally:
        process.terminate()
        process.wait(20)


def capture(real: Agent, parent: str, path: Path) -> tuple[dict[str, bytes], dict[str, list[str]]]:
    """Write the inventory of the containers below `parent` to `path`; bodies by UUID, and UUIDs by owner."""
    client = Client(real.port)
    document = json.loads(bytes(client.get("/v1/containers")))
    document["containers"] = [item for item in document["containers"] if parent in item["id"]]
    path.write_text(json.dumps(document))
    owned: dict[str, list[str]] = {"tenant": [], "quiet": []}
    for item in document["containers"]:
        owned[item["owner"]].append(item["uuid"])
    bodies = {item["uuid"]: bytes(client.get(f"/v1/{item['uuid']}/metrics")) for item in document["containers"]}
    return bodies, owned


@contextlib.contextmanager
def set_up(place: Path, groups: Cgroups, extra_nodes: int = EXTRA_NODES) -> Iterator[Setup]:
    """Start everything: fronts are "nginx agent", "nginx captured", "nginx quota" (that of an account, before the
    captured answers), "pymon agent", "pymon captured" and, if there are extra nodes, "pymon large", which knows them.
    """
    config = place / "agent.yml"
    owners = [{"cgroup": f"/{groups.parent}/c000.*", "account": "quiet"}, {"account": "tenant"}]
    config.write_text(json.dumps({"owners": owners}))
    known = identities(place)
    with contextlib.ExitStack() as stack:
        start = stack.enter_context
        real = start(agent(groups.parent, f"--config.file={config}", *AGENT_FLAGS, cpus=CPU))
        bodies, owned = capture(real, groups.parent, place / "inventory.json")
        counts = {name: len(uuids) for name, uuids in owned.items()}
        stubs = nginx.free_port()
        start(stub_nodes(place / "inventory.json", stubs, extra_nodes, EXTRA_CONTAINERS, "other"))
        captured = start(nginx.static(place, bodies, stubs))
        peers = {
            "agent": nginx.Peer(real.port),
            "captured": nginx.Peer(captured.port),
            "quota": nginx.Peer(captured.port, QUOTA, 10 * QUOTA),
        }
        running = start(nginx.fronts(place, peers, known.certificate, known.key, known.authority, known.tenants))
        fronts = {f"nginx {name}": front for name, front in running.items()}
        behind = f"http://127.0.0.1:{captured.port}"
        extra = [f"http://{stub.address_of(number)}:{stubs}" for number in range(1, extra_nodes + 1)]
        known_nodes = {"agent": [f"http://127.0.0.1:{real.port}"], "captured": [behind]}
        if extra:
            known_nodes["large"] = [behind, *extra]
        for name, nodes in known_nodes.items():
            expected = counts if name != "large" else {**counts, "other": extra_nodes * EXTRA_CONTAINERS}
            fronts[f"pymon {name}"] = start(pymon_front(name, place, known, nodes, expected))
        yield Setup(
            place,
            known,
            Front("agent", real.port, real.process.pid),
            captured,
            fronts,
            bodies,
            owned["tenant"],
            owned["quiet"],
        )

"""Prometheus in a network namespace whose resolver is the proxy, and what dig sees of containers that come and go."""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.fleet import Container, Fleet, Node
from tests.e2e.prometheus import Prometheus, require
from tests.e2e.proxy import ZONE, Files, Process, Proxy, Site, run_pymon
from tests.live.world import LinkError, World, run, until

pytestmark = pytest.mark.root

OUTSIDE, INSIDE = "198.18.100.1", "198.18.100.2"
"""The ends of the pair that leads into the namespace of Prometheus."""

PORT = 9163
REVERSE = "--dns.reverse=198.18.0.0/16"
ACCURATE_SECONDS = 2.0
ROUNDS = 3
APART = ("unshare", "-n", "sleep", "1000")

CONFIG = """\
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
- job_name: triton
  scheme: https
{scrape}
  triton_sd_configs:
  - account: alice
    dns_suffix: cmon.{zone}
    endpoint: cmon.{zone}
    port: {port}
    version: 1
    refresh_interval: 1s
{discover}
"""


def namespace(pid: int) -> str:
    return Path(f"/proc/{pid}/ns/net").readlink().name


def apart(process: subprocess.Popen[bytes]) -> int:
    """The id of a process, once it has a network namespace of its own."""
    until("a namespace of its own", lambda: namespace(process.pid) != namespace(os.getpid()))
    return process.pid


def dig(server: str, name: str, *words: str, port: int = 53) -> list[str]:
    """What a server answers, in short; the records of all types that are asked for, in order."""
    command = ["dig", f"@{server}", "-p", str(port), "+short", "+tries=1", "+time=2", name, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return sorted(done.stdout.splitlines())


@dataclass
class Estate:
    """Two nodes, a proxy that answers DNS at OUTSIDE, and a namespace that knows of nothing else.

    prefix: of a program that is to run there.
    """

    world: World
    nodes: list[Node]
    proxy: Proxy
    alice: Files
    prefix: tuple[str | Path, ...]

    def attach(self, container: Container, number: int) -> str:
        """Give a container an address; that address."""
        pid = apart(container.group.start(APART))
        address = f"198.18.{number}.2"
        self.world.veth(pid, "eth0", address, f"198.18.{number}.1")
        return address


@pytest.fixture(scope="module")
def estate(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    for program in ("dig", "ip", "nsenter", "unshare"):
        require(program)
    folder = tmp_path_factory.mktemp("estate")
    resolver = folder / "resolv.conf"
    resolver.write_text(f"nameserver {OUTSIDE}\n")
    with contextlib.ExitStack() as close:
        world = World()
        close.callback(world.close)
        try:
            holder = subprocess.Popen(APART, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            close.callback(holder.wait)
            close.callback(holder.kill)
            until("a namespace of its own", lambda: holder.poll() is not None or apart(holder))
            if holder.poll() is not None:
                pytest.skip("no network namespace of the test's own to be had here")
            world.veth(holder.pid, "eth0", INSIDE, OUTSIDE)
        except LinkError as error:
            pytest.skip(f"no veth pair on this kernel: {error}")
        prefix = (
            "nsenter", f"--net=/proc/{holder.pid}/ns/net", "unshare", "-m", "sh", "-c",
            'mount --bind "$0" /etc/resolv.conf && GODEBUG=netdns=go exec "$@"', resolver,
        )  # fmt: skip
        if run(*map(str, prefix), "true", check=False).returncode:
            pytest.skip("no mount namespace of the test's own to be had here")
        if not is_free(OUTSIDE, 53):
            pytest.skip(f"port 53 of {OUTSIDE} is not to be had")
        site = Site(folder)
        site.pymon("account", "create", "alice")
        fleet.register(site)
        alice = site.certificate("alice")
        flags = (
            f"--web.listen-address={OUTSIDE}:{PORT}",
            f"--dns.listen-address={OUTSIDE}:53",
            f"--dns.proxy-address={OUTSIDE}",
            f"--dns.transfer-from={OUTSIDE}",
            REVERSE,
        )
        proxy = close.enter_context(Proxy(site, *flags))
        proxy.await_("its names", lambda: proxy.listening("dns"))
        yield Estate(world, fleet.nodes, proxy, alice, prefix)


def is_free(host: str, port: int) -> bool:
    """Whether nothing listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def tls(files: Files, indent: int) -> str:
    lines = ("tls_config:", f"  ca_file: {files.ca}", f"  cert_file: {files.cert}", f"  key_file: {files.key}")
    return "\n".join(" " * indent + line for line in lines)


def test_targets_are_found_and_scraped_by_their_names(estate: Estate, tmp_path: Path, nodes: list[Node]) -> None:
    require("prometheus")
    made = [node.container(f"app{number}", "alice") for number, node in enumerate((*nodes[:2], nodes[0]))]
    config = CONFIG.format(zone=ZONE, port=PORT, scrape=tls(estate.alice, 2), discover=tls(estate.alice, 4))
    with Prometheus(config, tmp_path, prefix=estate.prefix, host=INSIDE) as prometheus:

        def up() -> set[str]:
            return {one["labels"]["instance"] for one in prometheus.targets() if one["health"] == "up"}

        def instances() -> set[str]:
            return {f"{container.uuid}.cmon.{ZONE}:{PORT}" for container in made}

        until("all up", lambda: up() == instances())
        urls = {one["scrapeUrl"] for one in prometheus.targets()}
        assert urls == {f"https://{instance}/metrics" for instance in instances()}
        made.append(nodes[1].container("late", "alice"))
        until("the new one up", lambda: up() == instances())
        names = {sample.labels["name"] for sample in prometheus.query("container_last_seen")}
        assert names == {container.name for container in made}
        assert prometheus.warnings() == []


def test_names_answer_what_is_asked_of_them(estate: Estate, nodes: list[Node]) -> None:
    container = nodes[0].container("shop", "alice", services="www:8080:priority=5")
    address = estate.attach(container, 101)
    until("its address", lambda: dig(OUTSIDE, f"shop.inst.alice.{ZONE}", "A") == [address])
    assert dig(OUTSIDE, f"{container.uuid}.cmon.{ZONE}", "A") == sorted([OUTSIDE, f"cmon.{ZONE}."])
    assert dig(OUTSIDE, f"{nodes[0].uuid}.cmon.{ZONE}", "A", "+tcp") == sorted([OUTSIDE, f"cmon.{ZONE}."])
    assert dig(OUTSIDE, f"{container.uuid}.inst.alice.{ZONE}", "TXT") == [f'"{container.uuid}"']
    (location,) = dig(OUTSIDE, f"www.svc.alice.{ZONE}", "SRV")
    assert location.startswith(f"5 10 8080 {container.uuid}.inst.")
    assert dig(OUTSIDE, "-x", address) == [f"shop.inst.alice.{ZONE}."]
    assert dig(OUTSIDE, ZONE, "NS") == [f"cmon.{ZONE}."]

    def checked() -> bool:
        flags = (f"--server={OUTSIDE}", "--sample=0", REVERSE, f"--data-dir={estate.proxy.site.data_dir}")
        done = run_pymon("dns", "check", *flags)
        return (done.returncode, done.stdout, done.stderr) == (0, "", "")

    until("the copy on disk, which the check reads, is as new as the zone", checked)


def test_labels_take_a_container_out(estate: Estate, nodes: list[Node]) -> None:
    for number, (name, labels) in enumerate(
        {
            "up": {"triton.cns.status": "up", "triton.cns.reverse_ptr": f"labelled.svc.alice.{ZONE}"},
            "down": {"triton.cns.status": "down"},
            "hidden": {"triton.cns.disable": "true"},
        }.items()
    ):
        container = nodes[number].container(name, "alice", services="labelled", labels=labels)
        estate.attach(container, 105 + number)
        until("its cmon name", lambda uuid=container.uuid: dig(OUTSIDE, f"{uuid}.cmon.{ZONE}"))
    until("addresses", lambda: dig(OUTSIDE, f"down.inst.alice.{ZONE}") and dig(OUTSIDE, f"up.inst.alice.{ZONE}"))
    assert dig(OUTSIDE, f"labelled.svc.alice.{ZONE}") == dig(OUTSIDE, f"up.inst.alice.{ZONE}") == ["198.18.105.2"]
    assert dig(OUTSIDE, "-x", "198.18.105.2") == [f"labelled.svc.alice.{ZONE}."]
    assert dig(OUTSIDE, f"hidden.inst.alice.{ZONE}") == []


def test_what_a_runtime_says_later_reaches_names(estate: Estate, nodes: list[Node]) -> None:
    container = nodes[0].container("later", "alice", services="changing")
    address = estate.attach(container, 109)
    service = f"changing.svc.alice.{ZONE}"
    until("its service", lambda: dig(OUTSIDE, service) == [address])
    container.write(Health={"Status": "unhealthy"})
    until("gone while it is unhealthy", lambda: dig(OUTSIDE, service) == [])
    assert dig(OUTSIDE, f"later.inst.alice.{ZONE}") == [address]
    container.write(Health={"Status": "healthy"})
    until("back", lambda: dig(OUTSIDE, service) == [address])
    container.write(Paused=True)
    until("gone while it is paused", lambda: dig(OUTSIDE, service) == [])
    container.name = "renamed"
    container.write()
    until("back under another name", lambda: dig(OUTSIDE, f"renamed.inst.alice.{ZONE}") == [address])
    assert dig(OUTSIDE, service) == [address]
    until("the old name gone", lambda: dig(OUTSIDE, f"later.inst.alice.{ZONE}") == [])


def taken(begun: float, right: Callable[[], bool]) -> float:
    """Seconds from a time until something is right."""
    until("the records are right", right)
    return time.monotonic() - begun


def test_records_are_right_soon_after_a_start_a_move_and_a_stop(estate: Estate, nodes: list[Node]) -> None:
    """On a machine that does other things one of several may take longer."""
    service = f"db.svc.alice.{ZONE}"
    seconds: dict[str, list[float]] = {"start": [], "move": [], "stop": []}
    for number in range(ROUNDS):
        alias = f"short{number}"
        name = f"{alias}.inst.alice.{ZONE}"

        def there(address: str, name: str = name) -> bool:
            return dig(OUTSIDE, name) == [address] == dig(OUTSIDE, service)

        begun = time.monotonic()
        first = nodes[0].container(alias, "alice", services="db")
        address = estate.attach(first, 110 + 2 * number)
        seconds["start"].append(taken(begun, lambda address=address: there(address)))
        assert dig(OUTSIDE, f"{first.uuid}.cmon.{ZONE}") == sorted([OUTSIDE, f"cmon.{ZONE}."])
        begun = time.monotonic()
        started_at = first.started_at + 10
        second = nodes[1].container(alias, "alice", services="db", uuid_=first.uuid, started_at=started_at)
        address = estate.attach(second, 111 + 2 * number)
        first.end()
        seconds["move"].append(taken(begun, lambda address=address: there(address)))
        begun = time.monotonic()
        second.end()
        seconds["stop"].append(taken(begun, lambda: dig(OUTSIDE, service) == []))
        assert dig(OUTSIDE, name) == [address], "where it was"
    assert all(statistics.median(found) < ACCURATE_SECONDS for found in seconds.values()), seconds


def test_up_answers_dns(tmp_path: Path) -> None:
    require("dig")
    listens = tuple(
        f"--{name}=127.0.0.1:0"
        for name in ("web.listen-address", "proxy.listen-address", "proxy.telemetry-address", "dns.listen-address")
    )
    said = tmp_path / "said"
    with (
        said.open("wb") as output,
        Process("up", f"--data-dir={tmp_path}/data", *listens, stdout=output.fileno()) as up,
    ):
        up.await_("what it says", lambda: "names" in said.read_text())
        line = next(line for line in said.read_text().splitlines() if line.split()[:1] == ["names"])
        words = line.split()[1:]
        for transport in ("+notcp", "+tcp"):
            done = subprocess.run(
                [*words, "+short", transport], capture_output=True, text=True, timeout=30, check=False
            )
            assert (done.returncode, done.stdout) == (0, "127.0.0.1\n"), (words, done)

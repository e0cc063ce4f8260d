"""A whole site on networks of its own: three proxies, three nodes, PostgreSQL with a standby, and three BINDs.

Everything is on one bridge. Each proxy has a network namespace; Prometheus, its resolver and the secondary share
another one; nodes and the registered server are on this side. What is sent to a neighbour that does not exist is lost
without a word: that is how a way is cut.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import dns.exception
import dns.message
import dns.query
import pytest

from pymon.directory.directory import open_directory
from tests.directory.server import Server, running
from tests.directory.test_standby import standby_of
from tests.e2e.fleet import Fleet
from tests.e2e.primaries import ALGORITHM, SECRETS, Primary, started
from tests.e2e.prometheus import Prometheus
from tests.e2e.proxy import ZONE, Client, Files, Proxy, Site
from tests.e2e.proxy import running as program
from tests.live.world import until

NETWORK = f"10.203.{os.getpid() % 256}"
HOST, WATCHER, NOWHERE = f"{NETWORK}.1", f"{NETWORK}.2", f"{NETWORK}.99"
PROXIES = tuple(f"{NETWORK}.{11 + number}" for number in range(3))
NODES = tuple(f"{NETWORK}.{21 + number}" for number in range(3))
ACCOUNTS = ("alice", "bob")
PORT, SECONDARY_PORT = 9163, 5300
WITH_WORKERS = 0
"""The proxy that answers with two worker processes."""
DISK_BYTES = 8 << 20
PAUSE_SECONDS = 0.2
READY_SECONDS = 90.0
"""How long it may take until all is well again; a proxy that left returns after 30 s."""

COMPLAINTS = re.compile(r"^(?!.*(Traceback|internal error|never awaited|never retrieved)).*level=error")
"""Errors that a proxy may log while things are away."""

CONFIG = """\
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
"""
JOB = """\
- job_name: {account}
  scheme: https
  tls_config: {tls}
  triton_sd_configs:
  - account: {account}
    dns_suffix: cmon.{zone}
    endpoint: cmon.{zone}
    port: {port}
    version: 1
    refresh_interval: 1s
    tls_config: {tls}
"""
BIND = """\
options {{ directory "{folder}"; listen-on port {port} {{ {host}; }}; listen-on-v6 {{ none; }}; pid-file none;
  session-keyfile none; dnssec-validation no; empty-zones-enable no; notify no; recursion {recursion}; }};
controls {{ }};
key "pymon-key" {{ algorithm {algorithm}; secret "{secret}"; }};
zone "{zone}" {{ {what} }};
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def ask(where: str, port: int, name: str) -> set[str] | None:
    """The data of all answers to a query for addresses; None without an answer."""
    query = dns.message.make_query(f"{name}.{ZONE}", "A")
    try:
        answer = dns.query.udp(query, where, 2, port)
    except (OSError, dns.exception.DNSException):
        return None
    return {rdata.to_text() for rrset in answer.answer for rdata in rrset}


def eventually(what: str, probe: Callable[[], object]) -> None:
    """Wait until it is so, with few looks: what is waited for needs the processors."""

    def look() -> object:
        answer = probe()
        if not answer:
            time.sleep(PAUSE_SECONDS)
        return answer

    until(what, look, READY_SECONDS)


class Network:
    """The bridge and the namespaces, by the address that each has."""

    def __init__(self) -> None:
        self.bridge = f"sb{os.getpid() % 1000000}"
        self.names = {address: f"soak{os.getpid()}-{address}" for address in (WATCHER, *PROXIES)}

    def __enter__(self) -> Self:
        try:
            try:
                ip("link", "add", self.bridge, "type", "bridge")
            except subprocess.CalledProcessError as error:
                pytest.skip(f"no bridge on this kernel: {error.stderr.decode().strip()}")
            for address in (f"{HOST}/24", *(f"{node}/32" for node in NODES)):
                ip("address", "add", address, "dev", self.bridge)
            ip("link", "set", self.bridge, "up")
            for number, (address, name) in enumerate(self.names.items()):
                near = f"s{number}p{os.getpid() % 1000000}"
                ip("netns", "add", name)
                ip("link", "add", near, "type", "veth", "peer", "name", "eth0", "netns", name)
                ip("link", "set", near, "master", self.bridge, "up")
                for words in (
                    f"address add {address}/24 dev eth0",
                    "link set eth0 up",
                    "link set lo up",
                    f"neigh add {NOWHERE} lladdr 02:00:00:00:00:99 dev eth0",
                ):
                    ip("-n", name, *words.split())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.names.values():
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "delete", self.bridge], check=False, capture_output=True)

    def cut(self, at: str, *addresses: str) -> None:
        """What `at` sends to these addresses is lost."""
        for address in addresses:
            ip("-n", self.names[at], "route", "replace", f"{address}/32", "via", NOWHERE)

    def heal(self, at: str, *addresses: str) -> None:
        """It arrives again."""
        for address in addresses:
            ip("-n", self.names[at], "route", "delete", f"{address}/32")

    def inside(self, at: str) -> tuple[str, ...]:
        """Words that run a program there."""
        return ("ip", "netns", "exec", self.names[at])


class DatabaseSite(Site):
    """One whose directory is elsewhere. data_dir: on a small disk of its own."""

    def __init__(self, folder: Path, directory: str) -> None:
        super().__init__(folder)
        self.directory = directory

    def pymon(self, *words: str | Path, data: str = "") -> str:
        return super().pymon(*words, f"--directory={self.directory}", data=data)

    def forget(self) -> None:
        """Remove the copies that a proxy has kept."""
        for one in self.data_dir.iterdir():
            if one.is_dir() and not one.is_symlink():
                shutil.rmtree(one)
            elif one.is_file():
                one.unlink()


class SoakSite:
    """All of it, running. `with` takes everything away.

    database: the PostgreSQL that is to be written to. standby: the other one, None once it was promoted.
    proxies: those that run. logs: of all that ever did.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.close = contextlib.ExitStack()
        self.network = Network()
        self.proxies: list[Proxy] = []
        self.logs: list[list[str]] = []

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._start(stack)
            self.close = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self.close.__exit__(*error)

    def _start(self, stack: contextlib.ExitStack) -> None:
        stack.enter_context(self.network)
        self.database = stack.enter_context(running())
        self.standby: Server | None = stack.enter_context(standby_of(self.database))
        directory = (
            f"postgresql://postgres@/postgres?host={self.database.folder},{self.standby.folder}"
            "&target_session_attrs=read-write&connect_timeout=2"
        )
        open_directory(directory, create=True).close()
        site = DatabaseSite(self.folder, directory)
        for account in ACCOUNTS:
            site.pymon("account", "create", account)
        self.files = {account: site.certificate(account) for account in ACCOUNTS}
        self.certificate = site.server(f"cmon.{ZONE}", f"*.cmon.{ZONE}", *PROXIES)
        self.fleet = stack.enter_context(Fleet(self.folder, NODES))
        self.fleet.start()
        self.nodes = self.fleet.nodes
        for node in self.nodes:
            site.pymon("node", "create", node.name, node.url)
        self.keys = self.folder / "keys"
        self.keys.write_text(f'key "pymon-key" {{ algorithm {ALGORITHM}; secret "{SECRETS["pymon-key"]}"; }};\n')
        self.registered: Primary = stack.enter_context(started("bind", self.folder, {f"{ZONE}.": ""}, host=HOST))
        self.sites = [DatabaseSite(self.folder / address, directory) for address in PROXIES]
        for small in self.sites:
            small.data_dir.mkdir(parents=True)
            stack.enter_context(small_disk(small.data_dir))
            (small.data_dir / "authority-machines").symlink_to(site.data_dir / "authority-machines")
        primaries = "; ".join(f'{address} key "pymon-key"' for address in PROXIES)
        self._named(stack, "secondary", SECONDARY_PORT, f'type secondary; file "zone"; primaries {{ {primaries}; }};')
        stub = f"type static-stub; server-addresses {{ {'; '.join(PROXIES)}; }};"
        self._named(stack, "resolver", 53, stub, recursion="yes")
        stack.push(self._end)
        for number in range(len(PROXIES)):
            self.proxies.append(self.proxy(number))

    def _end(self, _: type[BaseException] | None, error: BaseException | None, *__: object) -> None:
        with contextlib.ExitStack() as ends:
            for proxy in self.proxies:
                ends.push(proxy)
            if error is not None:
                raise error

    def _named(self, stack: contextlib.ExitStack, name: str, port: int, what: str, recursion: str = "no") -> None:
        folder = self.folder / name
        folder.mkdir()
        (folder / "named.conf").write_text(
            BIND.format(
                folder=folder, host=WATCHER, port=port, algorithm=ALGORITHM, secret=SECRETS["pymon-key"], zone=ZONE,
                what=what, recursion=recursion,
            )
        )  # fmt: skip
        command = ["named", "-f", "-n", "1", "-L", folder / "log", "-c", folder / "named.conf"]
        stack.enter_context(program([*self.network.inside(WATCHER), *command]))

    def proxy(self, number: int) -> Proxy:
        """A proxy that is ready."""
        address = PROXIES[number]
        made = Proxy(
            self.sites[number],
            f"--directory={self.sites[number].directory}",
            f"--web.listen-address={address}:{PORT}",
            f"--dns.listen-address={address}:53",
            f"--dns.secondary={WATCHER}:{SECONDARY_PORT} pymon-key",
            f"--dns.tsig-key-file={self.keys}",
            f"--dns.register={self.registered.address} pymon-key",
            "--drain=3s",
            f"--workers={2 if number == WITH_WORKERS else 1}",
            tls=self.certificate,
            host=address,
            prefix=self.network.inside(address),
        )
        made.allowed = COMPLAINTS
        self.logs.append(made.log)
        return made

    def client(self, number: int, account: str) -> Client:
        """Of a proxy that may hang."""
        return Client(f"{PROXIES[number]}:{PORT}", self.certificate.ca, self.files[account], timeout=2)

    @contextlib.contextmanager
    def prometheus(self, folder: Path | None = None) -> Iterator[Prometheus]:
        """One that scrapes both accounts, each by names. folder: for its data, if not that of the first."""
        resolver = self.folder / "resolv.conf"
        resolver.write_text(f"nameserver {WATCHER}\n")
        config = CONFIG + "".join(
            JOB.format(account=account, zone=ZONE, port=PORT, tls=tls(files)) for account, files in self.files.items()
        )
        script = 'mount --bind "$0" /etc/resolv.conf && GODEBUG=netdns=go exec "$@"'
        prefix = (*self.network.inside(WATCHER), "sh", "-c", script, resolver)
        with Prometheus(config, folder or self.folder, prefix=prefix, host=WATCHER) as running_:
            yield running_

    def servers(self) -> dict[str, tuple[str, int]]:
        """The servers of names that are not the proxies."""
        return {
            "secondary": (WATCHER, SECONDARY_PORT),
            "registered": (self.registered.address.host, self.registered.address.port),
        }

    def well(self) -> None:
        """Wait until every proxy is ready, reaches all nodes and the directory, and is in the names that all have."""
        for proxy in self.proxies:
            eventually("a proxy is ready", lambda proxy=proxy: proxy.telemetry("/-/ready").status == 200)
            for what, wanted in (("nodes_reached", len(NODES)), ("directory_up", 1)):
                name = f"pymon_proxy_{what}"
                eventually(f"{name} is {wanted}", lambda at=(proxy, name, wanted): at[0].metric(at[1]) == at[2])
        for where, port in (*((address, 53) for address in PROXIES), *self.servers().values()):
            eventually(f"all proxies at {where}", lambda at=(where, port): ask(*at, "cmon") == {*PROXIES})


def tls(files: Files) -> str:
    """Of Prometheus's configuration."""
    return f"{{ca_file: {files.ca}, cert_file: {files.cert}, key_file: {files.key}}}"


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mount a small file system of its own."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)

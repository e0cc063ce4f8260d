"""Other exporters: those of Debian, and what the command line names."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from bench.nginx import free_port, wait_for
from bench.suite.agree import Exposition, of_collectd, of_netdata, of_pcp, of_processes, parse
from bench.suite.pcp import METRICS
from bench.suite.unpacked import TREE, libraries
from bench.suite.unpacked import version as unpacked_version
from bench.world import CGROUPFS, Client, cpu_seconds, rss_bytes
from pymon.sources.cgroup import find_hierarchies

SBIN = f"{os.environ['PATH']}:/usr/sbin"


class AbsentError(RuntimeError):
    """This machine lacks what a runner needs."""


@dataclass(frozen=True, slots=True)
class Peer:
    """An exporter.

    about: whether it is compared with what pymon says of containers or of the node. words: its command; none if it
    runs already at host and port. config: the text of its file. package: Debian's, installed, or where that is to be
    `unpacked`, in `TREE`. In words, path and config {port}, {place}, {config}, {tree}, {parent} (the name of the
    cgroups' parent), {unified} (whether version 2 has the memory) and {pcp} (pcp's names) are replaced. translated: its
    series under pymon's names, given a body and the parent.
    """

    name: str
    about: Literal["containers", "node"] = "containers"
    words: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 0
    path: str = "/metrics"
    package: str = ""
    config: str = ""
    translated: Callable[[bytes, str], Exposition] = lambda body, _: parse(body)
    unpacked: bool = False

    def version(self) -> str:
        """That of its Debian package, "given" for what the command line named, "" where it is absent."""
        if self.unpacked:
            return unpacked_version(self.package)
        return installed(self.package) if self.package else "given"


NETDATA = """
[global]
run as user = root
[directories]
cache = {place}
lib = {place}
log = {place}
[db]
mode = ram
retention = 300
update every = 1
[ml]
enabled = no
[health]
enabled = no
[web]
bind to = 127.0.0.1
default port = {port}
[plugins]
cgroups = yes
enable running new plugins = no
apps = no
checks = no
diskspace = no
idlejitter = no
loops = no
proc = no
slabinfo = no
statsd = no
tc = no
timex = no
[plugin:cgroups]
use unified cgroups = {unified}
check for new cgroups every = 5
max cgroups to allow = 100000
enable by default cgroups matching = *{parent}/* !*
enable by default cgroups names matching = *
search for cgroups in subpaths matching = *
cgroups to match as systemd services = !*
run script to rename cgroups matching = !*
script to get cgroup network interfaces = /bin/true
enable cpuacct stat (total CPU) = yes
enable memory = yes
enable detailed memory = yes
"""
"""Only control groups, also those whose values are all zero, every second and without the names of their runtimes."""

COLLECTD = """
Hostname "localhost"
FQDNLookup false
BaseDir "{place}"
PIDFile "{place}/collectd.pid"
PluginDir "{tree}/usr/lib/collectd"
TypesDB "{tree}/usr/share/collectd/types.db"
Interval 1
LoadPlugin cgroups
LoadPlugin write_prometheus
<Plugin cgroups>
CGroup "/^c[0-9]+$/"
IgnoreSelected false
</Plugin>
<Plugin write_prometheus>
Host "127.0.0.1"
Port "{port}"
</Plugin>
"""
"""Only control groups that are called as the suite's, every second."""

DEBIAN = (
    Peer(
        "node_exporter",
        "node",
        ("prometheus-node-exporter", "--web.listen-address=127.0.0.1:{port}"),
        package="prometheus-node-exporter",
    ),
    Peer(
        "process-exporter",
        words=(
            *("prometheus-process-exporter", "-web.listen-address=127.0.0.1:{port}", "-config.path={config}"),
            *("-threads=false", "-gather-smaps=false"),
        ),
        package="prometheus-process-exporter",
        config='process_names:\n  - name: "{{.Cgroups}}"\n    cmdline: [".+"]\n',
        translated=of_processes,
    ),
    Peer(
        "netdata",
        words=("netdata", "-D", "-c", "{config}", "-P", "{place}/netdata.pid"),
        path="/api/v1/allmetrics?format=prometheus&source=as-collected",
        package="netdata-core",
        config=NETDATA,
        translated=of_netdata,
    ),
    Peer(
        "pcp",
        words=(sys.executable, "-m", "bench.suite.pcp", "{port}", "{place}"),
        path="/metrics?hostspec=unix:{place}/pmcd.socket&names={pcp}",
        package="pcp",
        translated=of_pcp,
        unpacked=True,
    ),
    Peer(
        "collectd",
        words=("{tree}/usr/sbin/collectd", "-f", "-C", "{config}"),
        package="collectd-core",
        config=COLLECTD,
        translated=of_collectd,
        unpacked=True,
    ),
)


def installed(package: str) -> str:
    """The version of an installed Debian package, or ""."""
    command = ["dpkg-query", "-W", "-f=${db:Status-Status} ${Version}", package]
    said = subprocess.run(command, check=False, capture_output=True, text=True).stdout.split()
    return said[1] if said[:1] == ["installed"] and len(said) == 2 else ""


def given(argument: str) -> Peer:
    """The peer of NAME=COMMAND or NAME=URL. ValueError if it is neither."""
    name, _, value = argument.partition("=")
    if not name or not value:
        raise ValueError(f"--peer {argument}: expected NAME=COMMAND or NAME=URL")
    if "://" in value.split()[0]:
        url = urlsplit(value)
        if url.scheme != "http" or not url.hostname:
            raise ValueError(f"--peer {argument}: expected http://HOST:PORT/PATH")
        path = f"{url.path or '/'}{'?' + url.query if url.query else ''}"
        return Peer(name, host=url.hostname, port=url.port or 80, path=path)
    words = tuple(shlex.split(value))
    if not any("{port}" in word for word in words):
        raise ValueError(f"--peer {argument}: the command must have {{port}} where it is told its port")
    return Peer(name, words=words)


class Running:
    """An exporter that answers. processes: of it and its children, none where it was not started here."""

    def __init__(self, port: int, pid: int | None = None, host: str = "127.0.0.1", path: str = "/metrics") -> None:
        self.pid = pid
        self._address = (port, host)
        self._path = path
        self._client: Client | None = None

    def scrape(self, *, gzip: bool = False) -> memoryview:
        """The body as it came, on a connection that is kept while the exporter keeps it."""
        if self._client is not None:
            with contextlib.suppress(ConnectionError):
                return self._client.receive(self._path, gzip=gzip)[1]
            self.close()
        self._client = Client(*self._address)
        return self._client.receive(self._path, gzip=gzip)[1]

    def body(self) -> bytes:
        """The text that it exports, on a connection of its own."""
        with contextlib.closing(Client(*self._address)) as client:
            return bytes(client.get(self._path))

    def close(self) -> None:
        """Close the connection that is kept for scrapes."""
        if self._client is not None:
            self._client.close()
            self._client = None


@contextlib.contextmanager
def running(peer: Peer, place: Path, parent: str = "") -> Iterator[Running]:
    """The peer, started if it has to be. AbsentError if its program is not there, RuntimeError if it does not start."""
    if not peer.words:
        target = Running(peer.port, host=peer.host, path=peer.path)
        try:
            yield target
        finally:
            target.close()
        return
    if peer.unpacked and not peer.version():
        raise AbsentError(f"{peer.package} is not unpacked (make packages-bench)")
    place = place / peer.name
    place.mkdir(exist_ok=True)
    port, config = free_port(), place / "config"
    known = {"{port}": str(port), "{config}": str(config), "{place}": str(place), "{parent}": parent}
    known["{tree}"] = str(TREE)
    unified = "memory" not in find_hierarchies(CGROUPFS).v1
    known |= {"{unified}": "yes" if unified else "no", "{pcp}": METRICS[unified]}
    config.write_text(filled_in(peer.config, known))
    words = [filled_in(word, known) for word in peer.words]
    if shutil.which(words[0], path=SBIN) is None:
        raise AbsentError(f"{peer.package or words[0]} is not installed")
    environment = {**os.environ, "PATH": SBIN} | ({"LD_LIBRARY_PATH": libraries()} if peer.unpacked else {})
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    target = Running(port, process.pid, path=filled_in(peer.path, known))
    try:
        wait_for(port, process, peer.name)
        yield target
    finally:
        target.close()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def filled_in(text: str, known: Mapping[str, str]) -> str:
    """A text in which each key is replaced by its value."""
    for key, value in known.items():
        text = text.replace(key, value)
    return text


def family(pid: int) -> list[int]:
    """A process and those that it has started, and so on."""
    children = (path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [pid, *(one for found in children for child in found for one in family(int(child)))]


def cost(pids: Sequence[int]) -> tuple[float, float]:
    """CPU seconds so far and megabytes of resident memory of processes together."""
    return sum(map(cpu_seconds, pids)), sum(map(rss_bytes, pids)) / 1e6

"""Two proxies as processes, of which one loses its way to the nodes: they are on another side of a real network."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.e2e.proxy import ZONE, Files, Process, Proxy, Site, free_port
from tests.e2e.test_dns_two_proxies import answers
from tests.live.world import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

HOST, FAR, NOWHERE = "10.201.0.1", "10.201.0.2", "10.201.0.99"
NODES = ("10.201.1.1", "10.201.1.2")
SCRAPE_SECONDS = "3"
REACHED = "pymon_proxy_nodes_reached"
TROUBLE = re.compile("inventory not read")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Network:
    """A namespace with a way to the nodes, which are addresses of this side."""

    def __init__(self) -> None:
        self.name = f"peers{os.getpid()}"
        self.near, self.far = f"pn{os.getpid() % 100000}", f"pf{os.getpid() % 100000}"

    def __enter__(self) -> Self:
        ip("netns", "add", self.name)
        ip("link", "add", self.near, "type", "veth", "peer", "name", self.far, "netns", self.name)
        for address in (f"{HOST}/24", *(f"{node}/32" for node in NODES)):
            ip("address", "add", address, "dev", self.near)
        ip("link", "set", self.near, "up")
        self.inside("address", "add", f"{FAR}/24", "dev", self.far)
        self.inside("link", "set", self.far, "up")
        self.inside("link", "set", "lo", "up")
        # What is sent to this neighbour is lost without a word.
        self.inside("neigh", "add", NOWHERE, "lladdr", "02:00:00:00:00:99", "dev", self.far)
        self.heal()
        return self

    def __exit__(self, *_: object) -> None:
        ip("netns", "delete", self.name)
        subprocess.run(["ip", "link", "delete", self.near], check=False, capture_output=True)

    def inside(self, *words: str) -> None:
        ip("-n", self.name, *words)

    def cut(self) -> None:
        for node in NODES:
            self.inside("route", "replace", f"{node}/32", "via", NOWHERE)

    def heal(self) -> None:
        for node in NODES:
            self.inside("route", "replace", f"{node}/32", "via", HOST)


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as made:
        yield made


class Node(Process):
    """A real agent at an address, with a machine-id of its own."""

    def __init__(self, folder: Path, address: str) -> None:
        self.uuid = str(uuid.uuid4())
        root = folder / address
        (root / "etc").mkdir(parents=True)
        (root / "etc/machine-id").write_text(f"{self.uuid.replace('-', '')}\n")
        self.at = f"{address}:{free_port()}"
        super().__init__(
            "agent", f"--web.listen-address={self.at}", f"--path.rootfs={root}", "--collector.disable-defaults"
        )

    @property
    def url(self) -> str:
        return f"http://{self.at}"


def nodes_of(proxy: Proxy, root: Files) -> list[str]:
    with proxy.client(root) as client:
        return [found["server_uuid"] for found in client.json("/v1/gz/discover")["cns"]]


def scrapes(proxy: Proxy, root: Files, uuids: list[str]) -> dict[str, int]:
    """Scrape each until it was answered three times; how many failed one after another at most."""
    most = {}
    for found in uuids:
        statuses = []
        while statuses[-3:] != [200] * 3:
            with proxy.client(root) as client:
                headers = {"X-Prometheus-Scrape-Timeout-Seconds": SCRAPE_SECONDS}
                statuses.append(client.get(f"/v1/{found}/metrics", headers).status)
            assert len(statuses) < 20, statuses
        runs = [list(run) for good, run in itertools.groupby(statuses, lambda one: one == 200) if not good]
        most[found] = max(map(len, runs), default=0)
    return most


@pytest.mark.parametrize(
    ("workers", "whole"), [(1, False), (2, False), *(pytest.param(n, True, marks=pytest.mark.soak) for n in (1, 2))]
)
def test_one_that_is_cut_off_scrapes_through_the_other_and_leaves(
    network: Network, tmp_path: Path, workers: int, whole: bool
) -> None:
    """workers: of each proxy. whole: until it has left DNS, and has returned."""
    site, far = Site(tmp_path), Site(tmp_path / "far")
    site.pymon("account", "create", "root", "--operator")
    root = site.certificate("root")
    server = site.server(f"cmon.{ZONE}", "127.0.0.1", HOST, FAR)
    far.data_dir.mkdir(parents=True)
    (far.data_dir / "authority-machines").symlink_to(site.data_dir / "authority-machines")
    directory = f"--directory={site.data_dir}/directory.db"

    def proxy(site: Site, host: str, prefix: tuple[str, ...] = ()) -> Proxy:
        names = (f"--dns.listen-address={host}:0", f"--dns.proxy-address={host}")
        return Proxy(site, directory, f"--workers={workers}", *names, tls=server, host=host, prefix=prefix)

    def cmon(proxy: Proxy) -> set[str]:
        return answers(proxy.await_("its names", lambda: proxy.listening("dns"))[0], "cmon")

    with Node(tmp_path, NODES[0]) as first, Node(tmp_path, NODES[1]) as second:
        for number, node in enumerate((first, second)):
            site.pymon("node", "create", f"n{number}", node.url)
        with proxy(site, HOST) as near, proxy(far, FAR, ("ip", "netns", "exec", network.name)) as one:
            one.allowed = near.allowed = TROUBLE
            until("both know", lambda: cmon(near) == cmon(one) == {HOST, FAR})
            uuids = until("both reach", lambda: nodes_of(one, root) if one.metric(REACHED) == 2 else None)
            with one.client(root) as client:
                for found in uuids:
                    assert client.status(f"/v1/{found}/metrics") == 200
            network.cut()
            failed = scrapes(one, root, uuids if whole else uuids[:1])
            assert max(failed.values()) <= 1, "no target fails twice"
            assert one.metric("pymon_proxy_scrapes_total", route="peer") > 0
            if whole:
                until("it leaves", lambda: cmon(near) == {HOST}, 40)
                until("it knows", lambda: one.metric("pymon_proxy_left") == 1)
                with one.client(root) as client:
                    answer = client.get(f"/v1/{uuids[0]}/metrics")
                    assert (answer.status, answer.headers.get("Connection")) == (200, "close")
            with near.client(root) as client:
                assert client.get("/-/healthy").headers.get("Connection") is None
            network.heal()
            until("it reaches them again", lambda: one.metric(REACHED) == 2, 40)

            def through_the_other() -> float:
                before = one.metric("pymon_proxy_scrapes_total", route="peer")
                with one.client(root) as client:
                    assert client.status(f"/v1/{uuids[0]}/metrics") == 200
                return one.metric("pymon_proxy_scrapes_total", route="peer") - before

            if workers > 1:
                until("workers are told", lambda: not through_the_other())
            assert not through_the_other()
            if whole:
                until("it returns", lambda: cmon(near) == {HOST, FAR}, 60)
                with one.client(root) as client:
                    assert client.get("/-/healthy").headers.get("Connection") is None

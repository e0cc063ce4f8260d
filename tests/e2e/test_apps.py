"""Applications in real network namespaces and control groups: a fetcher, an agent, a proxy and Debian's Prometheus."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.fleet import Container, Node
from tests.e2e.prometheus import Prometheus, require
from tests.e2e.proxy import Files, Proxy, Site
from tests.live.agent import Answer
from tests.live.app_fetcher import Fetcher, served, talking
from tests.live.test_app_fetcher import on_the_host
from tests.live.world import World, until

pytestmark = pytest.mark.root

BODY = '# TYPE orders_total counter\\norders_total{shop="a"} 41\\n'
SECONDS = {"X-Prometheus-Scrape-Timeout-Seconds": "20"}


@dataclass
class Estate:
    """A node with containers of two accounts, and a proxy."""

    node: Node
    fetcher: Fetcher
    proxy: Proxy
    files: dict[str, Files]

    def container(self, name: str, account: str, ports: str = "9100", path: str = "/metrics") -> Container:
        """A container that declares an application, once the proxy knows that."""
        labels = {"pymon.metrics.port": ports, "pymon.metrics.path": path} if ports else {}
        made = self.node.container(name, account, labels=labels)
        with self.proxy.client(self.files[account]) as client:
            until("it is known", lambda: made.uuid in client.uuids())
        return made

    def ask(self, container: Container, query: str = "", account: str = "alice") -> Answer:
        """Ask the proxy for the application."""
        with self.proxy.client(self.files[account]) as client:
            return client.get(f"/v1/{container.uuid}/app/metrics{query}", SECONDS)

    def said(self, container: Container, query: str = "", account: str = "alice") -> tuple[int, str]:
        """Status and text of an answer."""
        found = self.ask(container, query, account)
        return found.status, found.body.decode().removeprefix(f"{container.uuid}: ").rstrip("\n")


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    folder = tmp_path_factory.mktemp("apps")
    site = Site(folder)
    with contextlib.closing(World()) as world, Fetcher(folder) as fetcher:
        node = Node(world, folder, "n1", f"--container.app-metrics={fetcher.socket}")
        node.start()
        try:
            for account in ("alice", "bob"):
                site.pymon("account", "create", account)
            site.pymon("node", "create", node.name, node.url)
            files = {account: site.certificate(account) for account in ("alice", "bob")}
            with Proxy(site) as proxy:
                yield Estate(node, fetcher, proxy, files)
            node.stop()
        finally:
            node.kill()


@pytest.fixture(autouse=True)
def _nothing_is_left(estate: Estate) -> Iterator[None]:
    yield
    estate.node.clear()
    until("no fetch is left", lambda: not estate.fetcher.children())


def test_an_account_reads_its_application_and_nobody_elses(estate: Estate) -> None:
    shop, other = estate.container("shop", "alice"), estate.container("other", "bob")
    served(shop.group, BODY)
    served(other.group, "secret 1\\n")
    assert estate.said(shop) == (200, '# TYPE orders_total counter\norders_total{shop="a"} 41')
    labelled = estate.ask(shop, "?labels=1&port=9100").body.decode().splitlines()
    assert labelled[0] == "# TYPE orders_total counter"
    assert labelled[1].startswith(f'orders_total{{id="{shop.path}",image="example/image:1",name="shop",shop="a"}} 41')
    assert estate.said(other) == (404, "not found")
    assert estate.said(other, account="bob") == (200, "secret 1")
    assert estate.said(shop, account="bob") == (404, "not found")
    assert estate.node.agent is not None
    inventory = json.loads(estate.node.agent.get("/v1/containers").body)["containers"]
    (entry,) = [one for one in inventory if one["uuid"] == shop.uuid]
    assert (entry["app_ports"], entry["app_path"], entry["app_fetched"]) == ([9100], "/metrics", True)
    scrape = estate.node.agent.scrape()
    assert scrape.own("pymon_app_fetches_total", outcome="ok") == 3
    assert scrape.own("pymon_app_fetch_duration_seconds_count") == 3


def test_prometheus_finds_and_scrapes_applications_through_the_proxy(estate: Estate, tmp_path: Path) -> None:
    require("prometheus")
    shop = estate.container("shop", "alice", "9100,9200", "/stats")
    served(shop.group, "orders_total 41\\n", 9100)
    other = estate.container("other", "bob")
    served(other.group, "secret 1\\n")
    files = estate.files["alice"]
    tls = f"{{ca_file: {files.ca}, cert_file: {files.cert}, key_file: {files.key}}}"
    config = f"""\
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: apps
    scheme: https
    tls_config: {tls}
    http_sd_configs:
      - url: https://127.0.0.1:{estate.proxy.port}/v1/sd?role=app&via=path
        refresh_interval: 1s
        tls_config: {tls}
    relabel_configs:
      - {{source_labels: [__meta_triton_machine_alias], target_label: name}}
"""
    with Prometheus(config, tmp_path, timeout=60) as prometheus:
        (sample,) = prometheus.wait_for("orders_total == 41")
        assert sample.labels["instance"] == f"{shop.uuid}:9100"
        assert sample.labels["name"] == "shop"
        (down,) = prometheus.wait_for("up == 0")
        assert down.labels["instance"] == f"{shop.uuid}:9200", "declared, and nobody listens"
        assert prometheus.query("secret") == []
        assert len(prometheus.targets()) == 2


def test_a_container_on_the_hosts_network_is_refused_and_the_host_is_not_reached(estate: Estate) -> None:
    with on_the_host() as (port, seen):
        on_host = estate.container("on host", "alice", str(port))
        on_host.group.sleep()
        assert estate.said(on_host) == (403, "it is on the host's network, where nothing is fetched")
        inside = estate.container("inside", "alice", f"{port},9100,9101")
        served(inside.group)
        assert estate.said(inside, f"?port={port}") == (502, f"port {port}: Connection refused")
        moving = estate.container("moving", "alice", "9102")
        talking(moving.group, f"HTTP/1.1 301 Moved\\r\\nLocation: http://127.0.0.1:{port}/\\r\\n\\r\\n", 9102)
        assert estate.said(moving) == (502, "port 9102 answers 301: redirects are not followed")
        assert seen == []


def test_only_what_the_labels_declare_is_asked(estate: Estate) -> None:
    shop, bare = estate.container("shop", "alice", "9100,9200"), estate.container("bare", "alice", "")
    served(shop.group)
    bare.group.sleep()
    assert estate.said(shop) == (400, "port: expected 9100 or 9200, got none")
    for port in ("22", "0", "65536"):
        assert estate.said(shop, f"?port={port}") == (400, f"port: expected 9100 or 9200, got {port}")
    assert estate.said(bare) == (403, "no label says where its application answers")


def test_what_an_application_may_not_send_is_told_to_its_owner(estate: Estate) -> None:
    for number, (answer, why) in enumerate(
        (
            (
                "HTTP/1.0 200 OK\\r\\n\\r\\n<html>\\n",
                "its exposition is not valid: line 1: expected the name of a metric",
            ),
            ("HTTP/1.0 200 OK\\r\\nContent-Encoding: gzip\\r\\n\\r\\n", "port 9301 answers in a content coding"),
            ("HTTP/1.0 200 OK\\r\\nContent-Length: 99999999\\r\\n\\r\\n", "port 9302: the connection ended before"),
            ("HTTP/1.1 500 No\\r\\nContent-Length: 0\\r\\n\\r\\n", "port 9303 answers 500"),
            ("SSH-2.0-x\\r\\n", "port 9304: its answer is no HTTP"),
        )
    ):
        container = estate.container(f"c{number}", "alice", str(9300 + number))
        talking(container.group, answer, 9300 + number)
        status, text = estate.said(container)
        assert (status, text[: len(why)]) == (502, why)


def test_a_container_that_dies_in_the_middle_of_a_fetch(estate: Estate) -> None:
    dying = estate.container("dying", "alice")
    talking(dying.group, "HTTP/1.1 200 OK\\r\\nContent-Length: 100\\r\\n\\r\\na 1\\n", keep=True)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(estate.ask, dying)
        estate.fetcher.child()
        dying.group.kill()
        assert asked.result(60).status == 502
    assert estate.said(dying) == (404, "not found")


def test_applications_that_never_answer_hold_up_no_one_else(estate: Estate) -> None:
    silent = [estate.container(f"silent{number}", "bob") for number in range(6)]
    for container in silent:
        talking(container.group, "", keep=True)
    shop = estate.container("shop", "alice")
    served(shop.group)
    stop = threading.Event()

    def keep_asking(container: Container) -> list[int]:
        statuses = []
        while not stop.is_set():
            statuses.append(estate.ask(container, account="bob").status)
        return statuses

    with ThreadPoolExecutor(len(silent) * 3) as pool:
        asked = [pool.submit(keep_asking, container) for container in silent for _ in range(3)]
        until("fetches hang", lambda: len(estate.fetcher.children()) >= 6)
        for _ in range(20):
            assert estate.ask(shop).status == 200
            with estate.proxy.client(estate.files["alice"]) as client:
                assert client.status(f"/v1/{shop.uuid}/metrics") == 200
            assert len(estate.fetcher.children()) <= 9
        stop.set()
        statuses = {status for one in asked for status in one.result(60)}
    assert statuses <= {503, 504}

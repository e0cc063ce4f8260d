"""Debian's Prometheus finds and scrapes the containers of three nodes through the proxy, for three accounts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.fleet import Container, Fleet
from tests.e2e.prometheus import Prometheus, check_metrics, require
from tests.e2e.proxy import ZONE, Files, Proxy, Site
from tests.live.agent import Scrape
from tests.live.world import run, until

pytestmark = pytest.mark.root

ACCOUNTS = ("alice", "bob", "ops")

HEAD = """\
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
"""

TLS = """\
{indent}tls_config:
{indent}  ca_file: {files.ca}
{indent}  cert_file: {files.cert}
{indent}  key_file: {files.key}
"""

JOB = """\
- job_name: {name}
  scheme: https
{tls}  relabel_configs:
  - action: labelmap
    regex: __meta_triton_(.+)
    replacement: meta_$1
"""


@dataclass
class Estate:
    """Three nodes with containers, a proxy, and accounts. uuids: of the accounts."""

    fleet: Fleet
    site: Site
    proxy: Proxy
    uuids: dict[str, str]
    certificates: dict[str, Files]
    containers: dict[str, Container]
    hosts: Path

    def prefix(self) -> tuple[str | Path, ...]:
        """Of a program that resolves the names of containers, nodes and proxy: it alone sees another /etc/hosts."""
        return ("unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', self.hosts)

    def triton(self, name: str, account: str, *more: str) -> str:
        """A job with triton_sd_configs."""
        files = self.certificates[account]
        options = "".join(f"    {line}\n" for line in more)
        return (
            f"{JOB.format(name=name, tls=TLS.format(files=files, indent='  '))}"
            f"  triton_sd_configs:\n  - account: {account}\n    dns_suffix: cmon.{ZONE}\n    endpoint: cmon.{ZONE}\n"
            f"    port: {self.proxy.port}\n    version: 1\n    refresh_interval: 1s\n{options}"
            f"{TLS.format(files=files, indent='    ')}"
        )

    def http(self, name: str, account: str, query: str = "", host: str = "127.0.0.1") -> str:
        """A job with http_sd_configs."""
        files = self.certificates[account]
        return (
            f"{JOB.format(name=name, tls=TLS.format(files=files, indent='  '))}"
            f"  http_sd_configs:\n  - url: https://{host}:{self.proxy.port}/v1/sd{query}\n    refresh_interval: 1s\n"
            f"{TLS.format(files=files, indent='    ')}"
        )

    def labels(self, name: str, *, http: bool = False) -> dict[str, str]:
        """What discovery tells of a container."""
        container = self.containers[name]
        labels = {
            "machine_id": container.uuid,
            "machine_alias": name,
            "machine_brand": "docker",
            "machine_image": container.image,
            "server_id": container.node.uuid,
        }
        if container.groups:
            labels["groups"] = f",{','.join(container.groups)},"
        if http:
            labels["machine_state"] = "running"
            if container.account in self.uuids:
                labels["owner_id"] = self.uuids[container.account]
        return {f"meta_{key}": text for key, text in labels.items()}


@pytest.fixture(scope="module")
def estate(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    require("prometheus")
    folder = tmp_path_factory.mktemp("estate")
    site = Site(folder)
    first, second, third = fleet.nodes
    made = [
        first.container("web", "alice", groups=("front", "blue"), services="shop:80"),
        second.container("db", "alice", groups=("back",), image="example/db:14", services="shop"),
        second.container("shop", "bob"),
        third.container("cart", "bob", groups=("front",)),
        third.container("loose"),
        first.container("admin", "ops"),
        first.container("stranger", "nobody-here"),
    ]
    uuids = {
        account: site.pymon("account", "create", account, *(["--operator"] if account == "ops" else []))
        for account in ACCOUNTS
    }
    fleet.register(site)
    certificates = {account: site.certificate(account) for account in ACCOUNTS}
    hosts = folder / "hosts"
    names = [*(container.uuid for container in made), *(node.uuid for node in fleet.nodes)]
    lines = [f"cmon.{ZONE}", *(f"{name}.cmon.{ZONE}" for name in names)]
    hosts.write_text("".join(f"127.0.0.1 {line}\n" for line in lines))
    with Proxy(site) as proxy:
        containers = {container.name: container for container in made}
        estate = Estate(fleet, site, proxy, uuids, certificates, containers, hosts)
        with proxy.client(certificates["ops"]) as client:
            until("all nodes heard", lambda: len(client.json("/v1/sd?role=node")) == 3)
        yield estate


SEEN = {
    "alice-triton": ["web", "db"],
    "alice-front": ["web"],
    "alice-name": ["web", "db"],
    "alice-path": ["web", "db"],
    "bob-triton": ["shop", "cart"],
    "bob-front-path": ["cart"],
    "ops-triton": ["admin", "loose", "stranger"],
    "ops-path": ["admin", "loose", "stranger"],
}
"""Jobs that find containers, and which."""


@pytest.fixture(scope="module")
def prometheus(estate: Estate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One that finds things in every way."""
    if run(*map(str, estate.prefix()), "true", check=False).returncode:
        pytest.skip("no mount namespace of the test's own to be had here")
    config = HEAD + "".join(
        (
            estate.triton("alice-triton", "alice"),
            estate.triton("alice-front", "alice", "groups: [front, none]"),
            estate.http("alice-name", "alice", host=f"cmon.{ZONE}"),
            estate.http("alice-path", "alice", "?via=path"),
            estate.triton("bob-triton", "bob"),
            estate.triton("bob-nodes", "bob", "role: cn"),
            estate.http("bob-front-path", "bob", "?via=path&groups=front"),
            estate.triton("ops-triton", "ops"),
            estate.triton("ops-nodes", "ops", "role: cn"),
            estate.http("ops-path", "ops", "?via=path"),
            estate.http("ops-nodes-path", "ops", "?via=path&role=node"),
        )
    )
    with Prometheus(config, tmp_path_factory.mktemp("prometheus"), prefix=estate.prefix()) as running:
        running.wait_for_targets(sum(map(len, SEEN.values())) + 2 * len(estate.fleet.nodes))
        yield running


def by_job(prometheus: Prometheus) -> dict[str, dict[str, dict[str, str]]]:
    """Labels from discovery by job and address of the machine; every target is up."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for target in prometheus.targets():
        assert target["health"] == "up", target
        labels = {key: text for key, text in target["labels"].items() if key.startswith("meta_")}
        found.setdefault(target["labels"]["job"], {})[labels["meta_machine_id"]] = labels
    return found


def test_every_kind_of_discovery_finds_and_scrapes_what_is_one_s_own(estate: Estate, prometheus: Prometheus) -> None:
    nodes = {node.uuid for node in estate.fleet.nodes}
    found = by_job(prometheus)
    for job in ("ops-nodes", "ops-nodes-path"):
        assert found.pop(job).keys() == nodes
        until("nodes", lambda job=job: len(prometheus.query(f'node_load1{{job="{job}"}}')) == 3)
    assert found.keys() == SEEN.keys()
    for job, names in SEEN.items():
        http = job.endswith(("-name", "-path"))
        expected = {estate.containers[name].uuid: estate.labels(name, http=http) for name in names}
        assert found[job] == expected, job
        samples = prometheus.query(f'container_last_seen{{job="{job}"}}')
        assert sorted(sample.labels["name"] for sample in samples) == sorted(names), job
        for sample in samples:
            container = estate.containers[sample.labels["name"]]
            assert sample.labels["id"] == container.path
            assert sample.labels["meta_machine_id"] == container.uuid
            assert sample.labels["instance"] == f"{container.uuid}.cmon.{ZONE}:{estate.proxy.port}"
    by_path = [target for target in prometheus.targets() if target["labels"]["job"].endswith("-path")]
    assert all(target["scrapeUrl"].startswith("https://127.0.0.1:") for target in by_path)
    # A tenant who asks for nodes is told nothing that Prometheus would take for an empty list.
    warnings = prometheus.warnings()
    assert warnings
    assert all("config=bob-nodes" in line for line in warnings), warnings


def test_targets_stay_when_discovery_is_refused(estate: Estate, prometheus: Prometheus) -> None:
    fingerprint = estate.site.pymon("cert", "list", "bob").splitlines()[-1].split()[0]
    estate.site.pymon("cert", "delete", fingerprint)

    def refusals(job: str) -> int:
        return sum("Unable to refresh" in line and f"config={job} " in line for line in prometheus.warnings())

    jobs = ("bob-triton", "bob-front-path")
    until("refused again and again", lambda: all(refusals(job) >= 2 for job in jobs))

    def targets() -> list[dict[str, Any]]:
        return [target for target in prometheus.targets() if target["labels"]["job"] in jobs]

    until("down", lambda: {target["health"] for target in targets()} == {"down"})
    assert len(targets()) == sum(len(SEEN[job]) for job in jobs)
    assert all("401" in target["lastError"] for target in targets())
    others = [target for target in prometheus.targets() if target["labels"]["job"] not in jobs]
    assert {target["health"] for target in others} == {"up"}


def test_all_containers_of_an_account_in_one_exposition(estate: Estate) -> None:
    require("promtool")
    mine = {estate.containers[name] for name in ("web", "db")}
    with estate.proxy.client(estate.certificates["alice"]) as client:
        for query in ("", "?by=service", "?by=group", "?by=node"):
            answer = client.get(f"/v1/account/metrics{query}")
            assert answer.status == 200, answer
            check = check_metrics(answer.body)
            assert check.status in (0, 3), check.output  # 3: names that are not ours
            assert "error" not in check.output
            scrape = Scrape(answer.body)
            values = {
                key: {dict(labels)[key] for name, labels in scrape.series if name.startswith("container_")
                      and key in dict(labels)}
                for key in ("uuid", "node", "service", "group")
            }  # fmt: skip
            expected = {
                "": {"uuid": {one.uuid for one in mine}, "node": {one.node.name for one in mine}},
                "?by=service": {"service": {"shop"}},
                "?by=group": {"group": {"front", "blue", "back"}},
                "?by=node": {"node": {one.node.name for one in mine}},
            }[query]
            assert {key: found for key, found in values.items() if found} == expected, query
        assert client.status("/v1/account/metrics?by=owner") == 400

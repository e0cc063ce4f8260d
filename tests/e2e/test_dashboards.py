"""Every panel of deploy/grafana and every record of the rules has values in Debian's Prometheus, which scrapes agents
and a proxy. An agent reads a fixture host: this machine has no container with all that a panel can show.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import pytest
import yaml

from tests.agent.fixture_host import FixtureHost, copy_host
from tests.e2e.fleet import Fleet
from tests.e2e.prometheus import Prometheus, require
from tests.e2e.proxy import ZONE, Proxy, Site
from tests.live.agent import Agent
from tests.live.world import until

pytestmark = pytest.mark.root

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = DEPLOY / "prometheus-rules.yml"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((DEPLOY / "grafana").glob("*.json"))}

CONFIG = """\
global:
  scrape_interval: 1s
  scrape_timeout: 1s
  evaluation_interval: 1s
rule_files: ['{rules}']
scrape_configs:
- job_name: pymon-agent
  static_configs:
  - targets: {agents}
- job_name: pymon-proxy
  static_configs:
  - targets: ['{telemetry}']
- job_name: pymon
  scheme: https
  tls_config: &tls
    ca_file: {tls.ca}
    cert_file: {tls.cert}
    key_file: {tls.key}
  http_sd_configs:
  - url: https://{proxy}/v1/sd?via=path
    tls_config: *tls
"""

Values = dict[str, str]


def more(host: FixtureHost) -> None:
    """Every counter of CPU, pressure, I/O and events of the host goes on."""

    def change(path: Path, pattern: str) -> None:
        text = re.sub(pattern, lambda found: str(int(found[0]) + 1000), path.read_text(), flags=re.MULTILINE)
        with path.open("r+") as file:  # never shorter, so no reader sees an empty file
            file.write(text)

    for name, pattern in (
        ("cpu.stat", r"(?<= )\d+$"),
        ("io.stat", r"(?<==)\d+"),
        ("memory.events", r"(?<= )\d+$"),
        ("*.pressure", r"(?<=total=)\d+"),
    ):
        for path in host.cgroups.rglob(name):
            if path.name != "cgroup.pressure":
                change(path, pattern)
    change(host.root / "proc/diskstats", r"(?<=\w )\d+(?= )")


@pytest.fixture(scope="module")
def running_fleet(fleet: Fleet) -> Iterator[Fleet]:
    """Three nodes, all of which run again at the end."""
    yield fleet
    fleet.start()


@pytest.fixture(scope="module")
def prometheus(running_fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One that has scraped all of it, before and after counters went on."""
    require("prometheus")
    folder = tmp_path_factory.mktemp("dashboards")
    machine = copy_host("v2", folder)
    site = Site(folder)
    stays, goes = running_fleet.nodes[:2]
    for node in (stays, goes):
        node.container("web", "alice")
    with Agent(*machine.flags()) as still:
        for account in ("alice", "bob"):
            site.pymon("account", "create", account)
        site.pymon("quota", "set", "bob", "--requests-per-second=0.01", "--burst=1")
        running_fleet.register(site)
        alice, bob = (site.certificate(account) for account in ("alice", "bob"))
        with Proxy(site, "--workers=2", "--dns.listen-address=127.0.0.1:0") as proxy:
            host, _, port = until("DNS", lambda: proxy.listening("dns"))[0].rpartition(":")
            dns.query.udp(dns.message.make_query(f"cmon.{ZONE}", "A"), host, port=int(port), timeout=30)
            with proxy.client(alice) as client:
                until("both containers", lambda: len(client.uuids()) == 2)
                goes.stop()
                until("a failure", lambda: any(client.status(f"/v1/{uuid}/metrics") >= 500 for uuid in client.uuids()))
            with proxy.client(bob) as client:
                until("refused", lambda: client.status("/v1/discover") == 429)
            until("an inventory that fails", lambda: proxy.metric("pymon_proxy_inventory_failures_total"))
            assert stays.agent is not None
            config = CONFIG.format(
                rules=RULES,
                agents=[still.address, stays.agent.address],
                telemetry=proxy.listening("telemetry")[0],
                proxy=proxy.address,
                tls=alice,
            )
            with Prometheus(config, folder, timeout=60) as running:
                running.wait_for_targets(5)
                good = "sum_over_time(up[5m]) > 0"  # all but the container whose node is gone
                running.wait_for(f"count({good}) == 4")
                more(machine)
                (most,) = running.query(f"max({good})")
                running.wait_for(f"min({good}) > {most.value} + 1")
                yield running


def substituted(text: str, values: Values) -> str:
    """The text with variables replaced, as Grafana does."""
    known = {**values, "__rate_interval": "5m", "__range": "5m"}
    return re.sub(r"\$(\w+)", lambda found: known[found[1]], text)


def choices(prometheus: Prometheus, variables: list[dict[str, Any]], chosen: Values) -> Iterator[Values]:
    """Every choice that the variables offer. Of those of which several can be chosen, all are."""
    if not variables:
        yield chosen
        return
    first, rest = variables[0], variables[1:]
    if first["type"] == "textbox":
        offered = [first["query"]]
    else:
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", substituted(first["query"]["query"], chosen))
        assert found, first
        labels = sorted({sample.labels.get(found[2], "") for sample in prometheus.query(found[1])} - {""})
        offered = [first["allValue"]] if first["multi"] and labels else labels
    for text in offered:
        yield from choices(prometheus, rest, {**chosen, first["name"]: text})


def empty(prometheus: Prometheus, document: dict[str, Any]) -> list[str]:
    """The expressions of a dashboard that have no value with any choice, and the panels they are in."""
    offered = list(choices(prometheus, document["templating"]["list"][1:], {}))
    assert offered, document["uid"]
    return [
        f"{panel['title']}: {target['expr']}"
        for panel in document["panels"]
        for target in panel.get("targets", ())
        if not any(
            not math.isnan(sample.value)
            for chosen in offered
            for sample in prometheus.query(substituted(target["expr"], chosen))
        )
    ]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_panel_has_values(prometheus: Prometheus, name: str) -> None:
    assert empty(prometheus, DASHBOARDS[name]) == []


def test_a_panel_without_values_is_noticed(prometheus: Prometheus) -> None:
    document = json.loads(json.dumps(DASHBOARDS["pymon-itself"]))
    target = document["panels"][-1]["targets"][0]
    target["expr"] = target["expr"].replace("pymon_proxy_holders", "pymon_proxy_holder")
    assert len(empty(prometheus, document)) == 1


def test_every_record_has_values_and_every_rule_is_evaluated(prometheus: Prometheus) -> None:
    records = [
        rule["record"]
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
        if "record" in rule
    ]
    assert records
    for record in records:
        assert any(not math.isnan(sample.value) for sample in prometheus.wait_for(record)), record
    groups = prometheus._api("rules")["groups"]
    health = {rule["name"]: (rule["health"], rule.get("lastError")) for group in groups for rule in group["rules"]}
    assert set(health.values()) == {("ok", None)}, health


def test_a_container_is_one_series_of_each_record(prometheus: Prometheus) -> None:
    """Each record has labels of the container, the target and nothing else."""
    of_all = {"__name__", "job", "instance", "id"}
    for sample in prometheus.wait_for('{__name__=~"container:.+"}'):
        assert of_all <= sample.labels.keys() <= of_all | {"name", "image"}, sample

"""Debian's Prometheus finds and scrapes the zones of a node of illumos through the proxy."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest

from tests.agent.zone_host import CAPPED, IMAGE, NETWORK, TWIN, UNCAPPED, value
from tests.e2e.prometheus import Prometheus, check_metrics, require
from tests.e2e.proxy import ZONE, Proxy, Site
from tests.e2e.zone_machine import SEVEN, Machine
from tests.live.agent import Agent
from tests.live.world import run, until
from tests.oracle import parse

JOB = """\
- job_name: {name}
  scheme: https
  tls_config: {tls}
  relabel_configs:
  - action: labelmap
    regex: __meta_triton_(.+)
    replacement: meta_$1
  triton_sd_configs:
  - account: {account}
    dns_suffix: cmon.{zone}
    endpoint: cmon.{zone}
    port: {port}
    version: 1
    refresh_interval: 1s
    role: {role}
    tls_config: {tls}
"""


@pytest.mark.root
def test_prometheus_finds_and_scrapes_zones_through_the_proxy(tmp_path: Path) -> None:
    require("prometheus")
    machine = Machine(tmp_path)
    site = Site(tmp_path)
    owner = site.pymon("account", "create", "alice")
    site.pymon("account", "create", "ops", "--operator")
    machine.host.configure(
        CAPPED, alias="web-1", owner=owner, nics=[("net0", "external", "198.51.100.7/24")],
        tags={"triton.cmon.groups": "front"},
    )  # fmt: skip
    machine.host.configure(TWIN, alias="db-1", owner=owner, brand="lx")
    hosts = tmp_path / "hosts"
    prefix = ("unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', hosts)
    with Agent(*machine.flags(), env=machine.environment()) as agent:
        node = json.loads(agent.get("/v1/containers").body)["node"]["uuid"]
        named = (f"cmon.{ZONE}", *(f"{name}.cmon.{ZONE}" for name in (*SEVEN, node)))
        hosts.write_text("".join(f"127.0.0.1 {name}\n" for name in named))
        if run(*map(str, prefix), "true", check=False).returncode:
            pytest.skip("no mount namespace of the test's own to be had here")
        site.pymon("node", "create", "cn1", agent.url)
        files = {account: site.certificate(account) for account in ("alice", "ops")}
        with Proxy(site) as proxy, proxy.client(files["alice"]) as client:
            until("the zones", lambda: client.uuids() == {CAPPED, TWIN})
            config = "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n" + "".join(
                JOB.format(
                    name=name, account=account, role=role, zone=ZONE, port=proxy.port,
                    tls=f"{{ca_file: {files[account].ca}, cert_file: {files[account].cert},"
                        f" key_file: {files[account].key}}}",
                )
                for name, account, role in (("zones", "alice", "container"), ("nodes", "ops", "cn"))
            )  # fmt: skip
            with Prometheus(config, tmp_path, prefix=prefix) as prometheus:
                prometheus.wait_for_targets(3)
                (user,) = prometheus.wait_for(f'cpu_user_usage{{meta_machine_id="{CAPPED}"}}')
                assert user.value == 1087313731906
                assert user.labels["meta_machine_alias"] == "web-1"
                assert user.labels["meta_machine_brand"] == "joyent"
                assert user.labels["meta_machine_image"] == IMAGE
                assert user.labels["meta_groups"] == ",front,"
                assert "id" not in user.labels
                (received,) = prometheus.query('net_agg_bytes_in{interface="vnic0",nic_tag="external"}')
                assert received.labels["network_uuid"] == NETWORK
                (idle,) = prometheus.wait_for('cpu_idle_seconds_total{job="nodes",cpu_id="0"}')
                assert idle.labels["meta_machine_id"] == node
                assert {sample.labels["job"] for sample in prometheus.query("up == 1")} == {"zones", "nodes"}

                machine.show(without=TWIN)
                until("its target has gone", lambda: len(prometheus.targets()) == 2)
                assert client.uuids() == {CAPPED}
                assert not prometheus.warnings()
            whole = client.get("/v1/account/metrics")
            assert whole.status == 200
            assert check_metrics(whole.body).status in (0, 3)
            found = parse(whole.body)
            assert value(found, "mem_limit", uuid=CAPPED) == Fraction(536870912)
            assert UNCAPPED not in whole.body.decode()

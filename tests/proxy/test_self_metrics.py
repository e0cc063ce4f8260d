"""What the proxy says of itself, on its own address."""

import asyncio
import gzip
import json

from prometheus_client.exposition import generate_latest as text_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from pymon.directory.model import Quota
from pymon.exposition.negotiation import Format
from pymon.proxy.authn import REASONS
from pymon.proxy.self_metrics import TIMED_ACCOUNTS, SelfMetrics
from tests.exposition.openmetrics2 import read
from tests.proxy.agents import until
from tests.proxy.running import (
    NOBODY,
    A,
    B,
    C,
    FakeNode,
    Site,
    answer,
    container,
    on_uvloop,
    process,
    running,
    says,
    silent,
)

NAMES = {
    "pymon_build_info", "pymon_certificate_expiry_timestamp_seconds", "pymon_proxy_account_metrics_cut",
    "pymon_proxy_authentication_failures", "pymon_proxy_claims_refused",
    "pymon_proxy_connections_refused", "pymon_proxy_containers", "pymon_proxy_containers_left_out",
    "pymon_proxy_copy_pending", "pymon_proxy_credential_expiry_timestamp_seconds",
    "pymon_proxy_left", "pymon_proxy_nodes_reached", "pymon_proxy_nodes_unknown",
    "pymon_proxy_peers", "pymon_proxy_refusals_unsaid", "pymon_proxy_request_duration_seconds", "pymon_proxy_scrapes",
    "pymon_proxy_directory_age_seconds", "pymon_proxy_directory_up", "pymon_proxy_handshakes",
    "pymon_proxy_holders", "pymon_proxy_holders_up",
    "pymon_proxy_inventory_age_seconds", "pymon_proxy_inventory_conflicts", "pymon_proxy_inventory_failures",
    "pymon_proxy_inventory_up", "pymon_proxy_quota_exchange_up", "pymon_proxy_quota_proxies",
    "pymon_proxy_requests", "pymon_proxy_shared_scrapes", "pymon_proxy_throttled",
    "pymon_proxy_upstream_certificate_expiry_time_seconds", "pymon_proxy_upstream_connections",
    "pymon_proxy_upstream_request_duration_seconds", "pymon_proxy_upstream_waiting",
    "pymon_reload_failures", "pymon_reload_last_success_timestamp_seconds", "pymon_reload_last_successful",
}  # fmt: skip


@on_uvloop
async def test_each_request_is_counted_by_account_route_and_status(tmp_path):
    site = Site(tmp_path)
    alice, op = site.account("alice"), site.account("op", operator=True)
    async with FakeNode(container(A, "alice"), container(C)) as node:
        site.node("n1", node)
        async with running(site) as proxy:
            for target, tenant in (
                (f"/v1/{A}/metrics", alice), (f"/v1/{B}/metrics", alice), (f"/v1/{node.uuid}/metrics", op),
                ("/v1/account/metrics", alice), ("/v1/discover", alice), ("/v1/gz/discover", op), ("/v1/sd", op),
                ("/v1/sd?role=node", alice), ("/v1/sd?x=1", alice), ("/nothing", op), ("/nothing", None),
                ("/_ping", None),
            ):  # fmt: skip
                await proxy.ask(target, tenant)
            await proxy.ask("/v1/discover", op, method="PUT")
            node.scrape = says(answer(b"", "500 Oh no"))
            await proxy.ask(f"/v1/{A}/metrics", alice)
            found = {
                tuple(dict(labels).get(name, "") for name in ("account", "route", "code")): int(value)
                for (name, labels), value in (await proxy.telemetry()).items()
                if name == "pymon_proxy_requests_total"
            }
    assert found == {
        ("alice", "container", "200"): 1, ("alice", "container", "404"): 1, ("alice", "container", "502"): 1,
        ("op", "node", "200"): 1, ("alice", "account_metrics", "200"): 1, ("alice", "discover", "200"): 1,
        ("op", "discover_nodes", "200"): 1, ("op", "sd_container", "200"): 1, ("alice", "sd_container", "404"): 1,
        ("alice", "sd_container", "400"): 1, ("op", "unknown", "404"): 1, ("", "other", "401"): 1,
        ("", "health", "200"): 1, ("op", "discover", "405"): 1,
    }  # fmt: skip


@on_uvloop
async def test_failures_limits_and_agents_are_counted(tmp_path):
    site = Site(tmp_path)
    alice, bob = site.account("alice"), site.account("bob")
    site.directory.set_quota("bob", requests_per_second=0.001, burst=1)
    pair = FakeNode(container(A, "alice", start=2.0)), FakeNode(container(A, "alice", start=1.0), name="n2")
    async with pair[0] as node, pair[1] as other:
        site.node("n1", node)
        site.node("n2", other)
        site.node("n3", "http://127.0.0.1:1")
        async with running(site) as proxy:
            for header in ("Bearer x", "Bearer x", f"Bearer pymon_{'a' * 12}_{'b' * 43}", "Basic YTpi"):
                await proxy.ask("/v1/discover", None, f"Authorization: {header}")
            await proxy.ask("/v1/discover")
            assert [(await proxy.ask("/v1/discover", bob)).status for _ in range(3)] == [200, 429, 429]
            async with proxy.client(alice) as one, proxy.client(alice) as two:
                held = asyncio.Event()

                async def scrape(peer, _):
                    await held.wait()
                    await peer.say(answer())

                node.scrape = scrape
                asked = [asyncio.create_task(client.ask(f"/v1/{A}/metrics")) for client in (one, two)]
                await until(lambda: node.scrapes)
                flights = proxy.proxy.tenants.relay._flights
                await until(lambda: any(flight.waiters for flight in flights.values()))
                held.set()
                assert [(await one).status for one in asked] == [200, 200]
                node.scrape = silent
                await one.ask(f"/v1/{A}/metrics", "X-Prometheus-Scrape-Timeout-Seconds: 0.2")
            await until(lambda: proxy.proxy.poller.failures["n3", "connect"])
            metric = proxy.metric
            counted = dict.fromkeys(REASONS, 0)
            counted |= {"malformed": 2, "unknown_token": 1, "unknown_account": 1, "no_credential": 1}
            assert {
                dict(labels)["reason"]: value
                for (name, labels), value in (await proxy.telemetry()).items()
                if name == "pymon_proxy_authentication_failures_total"
            } == counted
            assert await metric("pymon_proxy_throttled_total", account="bob", limit="rate") == 2
            assert await metric("pymon_proxy_shared_scrapes_total") == 1
            duration = "pymon_proxy_upstream_request_duration_seconds"
            assert await metric(f"{duration}_count", outcome="ok") == 1
            assert await metric(f"{duration}_bucket", outcome="ok", le="+Inf") == 1
            assert await metric(f"{duration}_count", outcome="timeout") == 1
            assert 0.05 < await metric(f"{duration}_sum", outcome="timeout") < 10
            assert await metric("pymon_proxy_inventory_failures_total", node="n3", reason="connect") >= 1
            assert [await metric("pymon_proxy_inventory_up", node=name) for name in ("n1", "n2", "n3")] == [1, 1, 0]
            assert await metric("pymon_proxy_inventory_conflicts_total") == 1
            assert await metric("pymon_proxy_containers") == 1
            assert await metric("pymon_proxy_directory_up") == 1
            assert await metric("pymon_proxy_directory_age_seconds") < 10
            series = await proxy.telemetry()
            ages = [dict(labels)["node"] for name, labels in series if name == "pymon_proxy_inventory_age_seconds"]
            assert sorted(ages) == ["n1", "n2"]
            site.directory.delete_node("n3")
            await until(lambda: "n3" not in proxy.proxy.live.snapshot.nodes)
            assert not [labels for _, labels in await proxy.telemetry() if ("node", "n3") in labels]


@on_uvloop
async def test_the_own_address_answers_metrics_and_health_and_nothing_else(tmp_path):
    site = Site(tmp_path)
    alice = site.account("alice")
    async with FakeNode(container(A, "alice")) as node:
        node.inventory = silent
        site.node("n1", node)
        async with running(site, containers=0) as proxy, proxy.client(part="telemetry") as client:
            assert (await client.ask("/-/ready")).line == "not ready: no node was heard yet"
            assert (await client.ask("/-/ready")).status == 503
            for path, status in {
                "/metrics": 200, "/metrics?x=1": 200, "/-/healthy": 200, "/_ping": 200, "/": 404, "/v1/discover": 404,
                f"/v1/{A}/metrics": 404, f"/v1/{NOBODY}/metrics": 404, "//metrics": 404,
            }.items():  # fmt: skip
                got = await client.ask(path, alice.bearer)
                assert got.status == status, path
                assert (await client.ask(path, method="HEAD")).status == status
                assert (await client.ask(path, method="POST")).status == (404 if status == 404 else 405), path
            plain = await client.ask("/metrics")
            assert plain["content-type"].startswith("text/plain; version=0.0.4")
            packed = await client.ask("/metrics", "Accept-Encoding: gzip", "Accept: application/openmetrics-text")
            assert packed["content-type"].startswith("application/openmetrics-text")
            messages = f"Accept: {Format.PROTOBUF.content_type}, application/openmetrics-text;version=1.0.0;q=0.8"
            assert (await client.ask("/metrics", messages))["content-type"] == Format.PROTOBUF.content_type
            newest = await client.ask("/metrics", f"Accept: {Format.OPENMETRICS_2_0_0.content_type}")
            assert newest["content-type"] == Format.OPENMETRICS_2_0_0.content_type
            told = read(newest.body)
            written = {one.name for one in text_string_to_metric_families(plain.body.decode()) if one.samples}
            assert {name.removesuffix("_total") for name in told} >= written
            assert told["process_cpu_seconds_total"].starts
            assert (await client.ask("/metrics", "Accept-Encoding: identity;q=0")).status == 406
            text = gzip.decompress(packed.body).decode()
            assert text.endswith("# EOF\n")
            assert {family.name for family in openmetrics_families(text)} >= NAMES
            names = {family.name for family in text_string_to_metric_families(plain.body.decode())}
            assert names >= NAMES
            assert not [name for name in names if name.startswith("pymon") and name not in NAMES]


def test_label_values_stay_values():
    evil = 'a"} 1\nevil{x="\\'
    metrics = SelfMetrics()
    metrics.requests[evil, evil, 200] += 1
    metrics.throttled[evil, "rate"] += 1
    metrics.asked_agent(0.003, evil)
    metrics.gauges("pymon_x", "X.", ("node",), lambda: {(evil,): 1.0})
    for latest, families_of in (
        (text_latest, text_string_to_metric_families),
        (openmetrics_latest, openmetrics_families),
    ):
        families = list(families_of(latest(metrics.registry).decode()))
        labels = {value for family in families for sample in family.samples for value in sample.labels.values()}
        assert evil in labels
        assert "evil" not in {family.name for family in families}


def test_durations_are_cumulative_and_end_with_all():
    metrics = SelfMetrics()
    for seconds in (0.0, 0.001, 0.0011, 0.3, 10.0, 11.0):
        metrics.asked_agent(seconds, "ok")
    [family] = [
        family for family in metrics.registry.collect() if family.name.endswith("upstream_request_duration_seconds")
    ]
    buckets = {sample.labels["le"]: sample.value for sample in family.samples if sample.name.endswith("_bucket")}
    assert (buckets["0.001"], buckets["0.0025"], buckets["0.5"], buckets["10.0"], buckets["+Inf"]) == (2, 3, 4, 5, 6)
    assert list(buckets.values()) == sorted(buckets.values())


def test_answers_are_timed_by_account_and_route_and_accounts_above_the_bound_together():
    metrics = SelfMetrics()
    for number in range(TIMED_ACCOUNTS + 20):
        metrics.answered(f"account{number}", "discover", 200, 0.02)
        metrics.answered(f"account{number}", "discover", 429, 0.0)
    metrics.answered("", "other", 401, 0.0)
    [family] = [
        family for family in metrics.registry.collect() if family.name == "pymon_proxy_request_duration_seconds"
    ]
    counts = {
        (sample.labels["account"], sample.labels["route"]): sample.value
        for sample in family.samples
        if sample.name.endswith("_count")
    }
    assert len(counts) == TIMED_ACCOUNTS + 2
    assert counts["account0", "discover"] == 2
    assert counts["", "discover"] == 40
    assert counts["", "other"] == 1
    buckets = {
        sample.labels["le"]: sample.value
        for sample in family.samples
        if sample.name.endswith("_bucket") and sample.labels["account"] == "account0"
    }
    assert buckets == {"0.005": 1, "0.025": 2, "0.1": 2, "0.5": 2, "2.5": 2, "10.0": 2, "+Inf": 2}
    assert metrics.requests["account119", "discover", 429] == 1, "requests are counted for every account"


def test_quota_defaults_are_what_the_manual_says():
    quota = Quota()
    assert (quota.requests_per_second, quota.burst) == (100.0, 1000)


@on_uvloop
async def test_a_process_logs_one_line_for_each_trouble_in_the_form_it_is_told(tmp_path):
    site = Site(tmp_path)
    alice = site.account("alice")
    async with FakeNode(container(A, "alice"), container(B, "alice")) as node:
        site.node("n1", node)
        node.scrape = says(answer(b"", "500 Oh no"))
        with process(site, "--log.format=json") as proxy:
            await until(lambda: node.waits)
            for _ in range(3):
                for uuid in (A, B):
                    assert (await proxy.ask(f"/v1/{uuid}/metrics", alice)).status == 502
            await proxy.ask("/v1/discover", None, "Authorization: Bearer no-token-of-ours")
        written = [json.loads(line) for line in proxy.log.splitlines()]
    assert [one["msg"] for one in written if one["level"] == "warn"] == [
        "scrape failed: node n1: its node answered 500"
    ]
    refused = [(one["code"], one["reason"]) for one in written if one["msg"] == "refused"]
    failed = (502, "its node answered 500")
    assert refused == [*[failed] * 6, (401, "malformed: no token of pymon")]
    assert {one["level"] for one in written} == {"info", "warn"}
    assert alice.token not in proxy.log
    assert "traceback" not in proxy.log

"""The alerts of deploy/ as Debian's promtool evaluates them: each fires after its time, and not before."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.e2e.prometheus import require

REPOSITORY = Path(__file__).resolve().parents[2]
RULES = REPOSITORY / "deploy" / "prometheus-rules.yml"
DAY = 86400


class Case(NamedTuple):
    """Series whose alert is there at the minute `at` and not yet at the minute before.

    series: values at each minute, in promtool's notation. labels: of the alert. summary: its text. quiet: the same
    series with values for which there is no alert.
    """

    series: dict[str, str]
    at: int
    labels: dict[str, str]
    summary: str
    quiet: dict[str, str]


def one(series: str, values: str, at: int, summary: str, quiet: str, *without: str) -> Case:
    """A case of one series. Its labels are the alert's, except for the name and those in `without`."""
    name, _, rest = series.partition("{")
    text = rest.removesuffix("}")
    pairs = (pair.partition("=") for pair in text.split(",") if pair)
    labels = {key: value.strip('"') for key, _, value in pairs if key not in without}
    assert name
    return Case({series: values}, at, labels, summary, {series: quiet})


CASES = {
    "PymonAgentDown": one(
        'up{job="pymon-agent",instance="n1"}', "1 0x20", 6, "The pymon agent on n1 does not answer.", "1x20"
    ),
    "PymonProxyDown": one(
        'up{job="pymon-proxy",instance="p1"}', "1 0x20", 3,
        "The pymon proxy whose own metrics are on p1 does not answer.", "0 1 0x1 1x20",
    ),
    "PymonContainerDown": one(
        'up{job="pymon",instance="i",alias="web"}', "1 0x20", 6, "The proxy does not answer for container web (i).",
        "1x20",
    ),
    "PymonCollectorLate": one(
        'pymon_collector_failures_total{reason="deadline",collector="zfs",instance="n1"}', "0+1x30", 11,
        "Collector zfs on n1 misses its deadline.", "5x30",
    ),
    "PymonGroupsUnwatched": one(
        'pymon_cgroup_unwatched{instance="n1"}', "0 3x20", 11,
        "inotify has no watch left on n1; raise fs.inotify.max_user_watches.", "0x20",
    ),
    "ContainerMemoryNearLimit": Case(
        {
            'container_memory_working_set_bytes{name="web",instance="i"}': "96x20",
            'container_spec_memory_limit_bytes{name="web",instance="i"}': "100x20",
        },
        5, {"name": "web", "instance": "i"}, "Container web on i uses 96% of its memory.",
        {
            'container_memory_working_set_bytes{name="web",instance="i"}': "95x20",
            'container_spec_memory_limit_bytes{name="web",instance="i"}': "100x20",
        },
    ),
    "ContainerOutOfMemory": one(
        'container_oom_events_total{name="web",instance="i"}', "0 0 1x20", 2,
        "Processes of container web on i were killed for want of memory.", "1x20",
    ),
    "ContainerThrottled": Case(
        {
            'container_cpu_cfs_throttled_periods_total{name="web",instance="i"}': "0+6x40",
            'container_cpu_cfs_periods_total{name="web",instance="i"}': "0+8x40",
        },
        16, {"name": "web", "instance": "i"}, "Container web on i is throttled in 75% of its periods.",
        {
            'container_cpu_cfs_throttled_periods_total{name="web",instance="i"}': "0+4x40",
            'container_cpu_cfs_periods_total{name="web",instance="i"}': "0+8x40",
        },
    ),
    "PymonInventoryDown": one(
        'pymon_proxy_inventory_up{node="n1",instance="p1"}', "1 0x20", 3,
        "The proxy p1 cannot read the inventory of node n1.", "0 1 0 0 1x20",
    ),
    "PymonInventoryOld": one(
        'pymon_proxy_inventory_age_seconds{node="n1",instance="p1"}', "0 301x20", 6,
        "The proxy p1 has not heard of node n1 for 5m 1s.", "300x20",
    ),
    "PymonProxyCertificateExpires": one(
        'pymon_proxy_upstream_certificate_expiry_time_seconds{instance="p1"}', "14400x30", 6,
        "The certificate that the proxy p1 shows to agents expires in 3h 54m 0s; see pymon cert proxy.",
        f"{DAY}x30",
    ),
    "PymonCertificateExpires": Case(
        {
            'pymon_certificate_expiry_timestamp_seconds{use="server",instance="p1"}': f"{14 * DAY}x30",
            'pymon_certificate_expiry_timestamp_seconds{use="upstream",instance="p1"}': f"{DAY}x30",
        },
        6, {"use": "server", "instance": "p1"},
        "The certificate or list server of p1 expires in 13d 23h 54m 0s.",
        {
            'pymon_certificate_expiry_timestamp_seconds{use="server",instance="p1"}': f"{15 * DAY}x30",
            'pymon_certificate_expiry_timestamp_seconds{use="upstream",instance="p1"}': f"{DAY}x30",
        },
    ),
    "PymonCredentialExpires": Case(
        {
            'pymon_proxy_credential_expiry_timestamp_seconds{account="a",kind="certificate",instance="p1"}':
                f"{7 * DAY}x30",
            'pymon_proxy_credential_expiry_timestamp_seconds{account="a",kind="token",instance="p1"}': f"{DAY}x30",
        },
        6, {"account": "a", "kind": "certificate", "instance": "p1"},
        "A client certificate of account a expires in 6d 23h 54m 0s.",
        {
            'pymon_proxy_credential_expiry_timestamp_seconds{account="a",kind="certificate",instance="p1"}':
                f"{8 * DAY}x30",
            'pymon_proxy_credential_expiry_timestamp_seconds{account="a",kind="token",instance="p1"}': f"{DAY}x30",
        },
    ),
    "PymonReloadFailed": one(
        'pymon_reload_last_successful{use="upstream_ca",instance="p1"}', "1 0x20", 3,
        "A changed file (upstream_ca) of p1 cannot be used; what was read before stays.", "1 0 0 1x20",
    ),
    "PymonContainersLeftOut": one(
        'pymon_proxy_containers_left_out{node="n1",instance="p1"}', "0 7x20", 6,
        "Node n1 has 7 containers more than p1 takes of one node; see --node.max-containers.", "0x20",
    ),
    "PymonClaimsRefused": one(
        'pymon_proxy_claims_refused_total{node="n1",reason="owner",instance="p1"}', "0 0 2x20", 2,
        "The proxy p1 refused claims of node n1 to UUIDs (owner).", "2x20",
    ),
    "PymonIdentityConflict": one(
        'pymon_proxy_inventory_conflicts_total{instance="p1"}', "0 0 1x20", 2,
        "A second node began to claim containers that the proxy p1 knows on another one.", "1x20",
    ),
    "PymonDirectoryOld": one(
        'pymon_proxy_directory_age_seconds{instance="p1"}', "0 61x20", 2,
        "The proxy p1 serves from a directory that it read 1m 1s ago.", "60x20",
    ),
    "PymonCopyNotWritten": one(
        'pymon_proxy_copy_pending{instance="p1"}', "0 2x20", 6,
        "The proxy p1 has 2 copies that it cannot write to its data directory.", "0 1 1 1 0x20",
    ),
    "PymonNobodyRegisters": Case(
        {'pymon_dns_registers{instance="p1"}': "1 0x20", 'pymon_dns_registers{instance="p2"}': "0x20"},
        3, {}, "No proxy registers names in the DNS servers.",
        {'pymon_dns_registers{instance="p1"}': "1 0x20", 'pymon_dns_registers{instance="p2"}': "0 1x20"},
    ),
    "PymonRegistrationOld": one(
        'pymon_dns_registration_age_seconds{server="192.0.2.1",zone="pymon.internal.",instance="p1"}', "0 301x20", 2,
        "The zone pymon.internal. at 192.0.2.1 was last known to be right 5m 1s ago.", "300x20",
    ),
    "PymonRegistrationFails": one(
        'pymon_dns_registration_failures_total{server="192.0.2.1",reason="timeout",instance="p1"}', "0+1x20", 6,
        "Registration at 192.0.2.1 fails (timeout).", "3x20",
    ),
    "PymonDirectoryDown": one(
        'pymon_proxy_directory_up{instance="p1"}', "1 0x20", 6,
        "The proxy p1 cannot read its directory and serves what it knew.", "1x20",
    ),
    "PymonAccountThrottled": one(
        'pymon_proxy_throttled_total{account="acme",limit="rate",instance="p1"}', "0+1x40", 16,
        "Account acme asks p1 for more than its rate allows.", "1x40",
    ),
    "PymonCollectorFails": Case(
        {
            'pymon_collector_success{collector="zfs",instance="n1"}': "1 0x20",
            'pymon_collector_failures_total{collector="zfs",reason="eio",instance="n1"}': "0+1x20",
        },
        11, {"collector": "zfs", "instance": "n1"}, "Collector zfs on n1 fails.",
        {
            'pymon_collector_success{collector="zfs",instance="n1"}': "0x5 1x20",
            'pymon_collector_success{collector="nvme",instance="n1"}': "0x20",
            'pymon_collector_failures_total{collector="nvme",reason="nodata",instance="n1"}': "1+1x20",
        },
    ),
    "PymonDescriptionsOverdue": one(
        'pymon_container_descriptions_overdue{instance="n1"}', "0 2x20", 11,
        "The runtime's files of 2 containers on n1 cannot be read in time.", "2x5 0x20",
    ),
    "PymonUuidLabelsRefused": one(
        'pymon_uuid_labels_refused{instance="n1"}', "0 2x20", 11,
        "The agent n1 refuses the UUID labels of 2 containers.", "2x5 0x20",
    ),
    "PymonPluginFails": one(
        'pymon_plugin_failures_total{plugin="disks",reason="timeout",instance="n1"}', "0+1x40", 16,
        "Plugin disks on n1 fails (timeout).", "3x40",
    ),
    "PymonBpfColumnsLost": one(
        'pymon_bpf_columns_lost_total{instance="n1"}', "0 0 2x40", 2,
        "BPF and files disagree on n1; the agent reads files there.", "2x40",
    ),
    "PymonBpfFallsBack": Case(
        {'pymon_bpf_fallbacks_total{reason="failed",instance="n1"}': "0+1x60"},
        31, {"reason": "failed", "instance": "n1"},
        "The agent n1 keeps reading files where BPF should do (failed).",
        {
            'pymon_bpf_fallbacks_total{reason="failed",instance="n1"}': "0+1x5 5x60",
            'pymon_bpf_fallbacks_total{reason="gone",instance="n1"}': "0+1x60",
        },
    ),
    "PymonKstatBusy": one(
        'pymon_kstat_busy_seconds{instance="n1"}', "0 60x20", 2,
        "A collection of kstats on n1 has not ended for 1m 0s.", "30x20",
    ),
    "PymonNodesUnknown": one(
        'pymon_proxy_nodes_unknown{instance="p1"}', "0 2x20", 6,
        "The proxy p1 knows nothing of 2 nodes that other proxies have heard.", "2x3 0x20",
    ),
    "PymonProxyLeft": one(
        'pymon_proxy_left{instance="p1"}', "0 1x20", 3,
        "The proxy p1 is out of DNS because it reaches too few nodes.", "0 1 0x20",
    ),
    "PymonWorkersRestart": one(
        'pymon_proxy_worker_restarts_total{instance="p1"}', "0+1x20", 4, "Workers of the proxy p1 end again and again.",
        "0 1 2 3x20",
    ),
    "PymonQuotaExchangeDown": one(
        'pymon_proxy_quota_exchange_up{instance="p1"}', "1 0x20", 6,
        "The proxy p1 cannot exchange demands with others, so quotas keep their last shares.", "0 0 0 1x20",
    ),
    "PymonHoldersDown": one(
        'pymon_proxy_holders_up{instance="p1"}', "1 0x20", 6, "The proxy p1 cannot read the holders of UUIDs.",
        "0 0 0 1x20",
    ),
    "PymonAccountMetricsCut": one(
        'pymon_proxy_account_metrics_cut_total{reason="too_large",instance="p1"}', "0+1x30", 11,
        "Answers of /v1/account/metrics at p1 end before their end (too_large).", "0 0 1x30",
    ),
    "ContainerWaitsForCPU": one(
        'container_pressure_cpu_waiting_seconds_total{name="web",instance="i"}', "1000+36x40", 19,
        "Processes of container web on i wait for a CPU 60% of the time.", "0+24x40",
    ),
    "ContainerRestarting": one(
        'container_start_time_seconds{name="web",instance="i"}', "10 20 30 40x40", 3,
        "Container web on i has started 3 times in half an hour.", "10 20 30x40",
    ),
}  # fmt: skip


def alerts() -> list[str]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule]


def test_each_alert_is_tested_and_has_its_line_in_the_runbook() -> None:
    names = alerts()
    assert sorted(names) == sorted(CASES)
    lines = (REPOSITORY / "docs" / "runbook.md").read_text().splitlines()
    assert sorted(name for name in names if any(line.startswith(f"| `{name}` | ") for line in lines)) == sorted(names)


def test_each_alert_fires_in_time(tmp_path: Path) -> None:
    """All in one run of promtool: each case is a world of its own."""
    promtool = require("promtool")
    tests = []
    for name, case in CASES.items():
        alert = {"exp_labels": case.labels, "exp_annotations": {"summary": case.summary}}
        for series, outcomes in (
            (case.series, {case.at: [alert], case.at - 1: []}),
            (case.quiet, {minute: [] for minute in (2, 6, 11, 16, 20, 35)}),
        ):
            tests.append(
                {
                    "name": name,
                    "interval": "1m",
                    "input_series": [{"series": one, "values": values} for one, values in series.items()],
                    "alert_rule_test": [
                        {"alertname": name, "eval_time": f"{minute}m", "exp_alerts": expected}
                        for minute, expected in outcomes.items()
                    ],
                }
            )
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rule_that_says_something_else_is_noticed(tmp_path: Path) -> None:
    """The same run over rules that are wrong."""
    text = RULES.read_text()
    assert "seconds > 60\n" in text
    file = tmp_path / "rules.yml"
    file.write_text(text.replace("seconds > 60\n", "seconds > 62\n"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{__name__}.RULES", file)
        patch.setattr(f"{__name__}.CASES", {"PymonDirectoryOld": CASES["PymonDirectoryOld"]})
        with pytest.raises(AssertionError, match="FAILED"):
            test_each_alert_fires_in_time(tmp_path)

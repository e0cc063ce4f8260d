"""Generated Prometheus configurations: complete files, and jobs to paste into a file."""

from __future__ import annotations

import json

from pymon.config import Address
from pymon.directory.authority import CERTIFICATE_FILE

JOB = "pymon"
"""The scrape job for containers, which the proxy answers."""

AGENT_JOB = "pymon-agent"
PROXY_JOB = "pymon-proxy"
"""The operator's scrape jobs for agents and proxies. deploy/prometheus-rules.yml refers to the job of agents."""


def prometheus_yml(account: str, zone: str, proxy: Address) -> str:
    """Return a prometheus.yml with HTTP discovery, and with Triton discovery as a comment.

    It refers to the account's certificate and key by file names relative to itself.
    """
    key = f"{account}-key.pem"
    tls = {"ca_file": CERTIFICATE_FILE, "cert_file": f"{account}-cert.pem", "key_file": key}
    http = "".join(f"  {line}\n" for line in http_sd_job(proxy, tls).splitlines())
    triton = "".join(f"  # {line}\n" for line in triton_sd_job(account, zone, proxy, tls).splitlines())
    return (
        "# File names are relative to this file. Prometheus's user has to read the key; where that is another user:\n"
        f"#   chown prometheus {key}\n"
        "global:\n"
        "  scrape_interval: 15s\n"
        "\n"
        "scrape_configs:\n"
        "  # Each container is scraped at the proxy's own address, by path: no name has to resolve.\n"
        f"{http}\n"
        f"  # Instead of the job above, where the targets' names, <uuid>.cmon.{zone}, resolve to the proxy:\n"
        f"{triton}"
    )


def triton_sd_job(account: str, zone: str, proxy: Address, tls: dict[str, str]) -> str:
    """Return an item of scrape_configs that uses Triton discovery. tls: the entries of a tls_config."""
    return f"""\
- job_name: {JOB}
  scheme: https
  tls_config:
{_lines(tls, 4)}  triton_sd_configs:
    - account: {_quoted(account)}
      dns_suffix: {_quoted(f"cmon.{zone}")}
      endpoint: {_quoted(_bracketed(proxy.host))}
      port: {proxy.port}
      version: 1
      tls_config:
{_lines(tls, 8)}{_RELABEL}"""


def http_sd_job(proxy: Address, tls: dict[str, str]) -> str:
    """Return an item of scrape_configs with HTTP discovery, scraping by path. tls: the entries of a tls_config."""
    return f"""\
- job_name: {JOB}
  scheme: https
  tls_config:
{_lines(tls, 4)}  http_sd_configs:
    - url: {_quoted(f"https://{proxy}/v1/sd?via=path")}
      refresh_interval: 15s
      tls_config:
{_lines(tls, 8)}{_RELABEL}"""


def own_jobs(agent: Address, telemetry_path: str, proxy: Address) -> str:
    """Return items of scrape_configs for the agent and for the proxy's own metrics. proxy: the telemetry address."""
    path = f"  metrics_path: {_quoted(telemetry_path)}\n" if telemetry_path != "/metrics" else ""
    return (
        f"- job_name: {AGENT_JOB}\n{path}  static_configs:\n    - targets: [{_quoted(str(agent))}]\n"
        f"- job_name: {PROXY_JOB}\n  static_configs:\n    - targets: [{_quoted(str(proxy))}]\n"
    )


# The target label is not called `name`, because the samples have a label `name`, and Prometheus would rename that to
# `exported_name`.
_RELABEL = """\
  relabel_configs:
    - source_labels: [__meta_triton_machine_alias]
      target_label: alias
"""


def _lines(values: dict[str, str], indent: int) -> str:
    return "".join(f"{' ' * indent}{name}: {_quoted(value)}\n" for name, value in values.items())


def _quoted(text: str) -> str:
    """Return text as a YAML string. JSON strings are valid YAML."""
    return json.dumps(text)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host

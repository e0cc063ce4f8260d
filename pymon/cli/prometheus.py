"""Prometheus configurations to paste."""

from __future__ import annotations

import json

from pymon.config import Address
from pymon.directory.authority import CERTIFICATE_FILE


def prometheus_yml(account: str, zone: str, proxy: Address) -> str:
    """A prometheus.yml with Triton's discovery, and HTTP discovery in comments, for files that are beside it."""
    tls = {
        "ca_file": CERTIFICATE_FILE,
        "cert_file": f"{account}-cert.pem",
        "key_file": f"{account}-key.pem",
    }
    http = "".join(f"  # {line}\n" for line in http_sd_job(proxy, tls).splitlines())
    triton = "".join(f"  {line}\n" for line in triton_sd_job(account, zone, proxy, tls).splitlines())
    return (
        "# File names are relative to this file.\n"
        "scrape_configs:\n"
        f"  # Targets are <uuid>.cmon.{zone}, which have to resolve to the proxy.\n"
        f"{triton}\n"
        "  # Instead of the job above, where those names do not resolve: scrapes go to the proxy's own address.\n"
        f"{http}"
    )


def triton_sd_job(account: str, zone: str, proxy: Address, tls: dict[str, str]) -> str:
    """An item of scrape_configs that finds containers by Triton's discovery. tls: the keys of a tls_config."""
    return f"""\
- job_name: pymon
  scheme: https
  tls_config:
{_lines(tls, 4)}  triton_sd_configs:
    - account: {_quoted(account)}
      dns_suffix: {_quoted(f"cmon.{zone}")}
      endpoint: {_quoted(_bracketed(proxy.host))}
      port: {proxy.port}
      version: 1
      tls_config:
{_lines(tls, 8)}  relabel_configs:
    - source_labels: [__meta_triton_machine_alias]
      target_label: name
"""


def http_sd_job(proxy: Address, tls: dict[str, str]) -> str:
    """An item of scrape_configs that finds containers by HTTP discovery, and scrapes them by path."""
    return f"""\
- job_name: pymon
  scheme: https
  tls_config:
{_lines(tls, 4)}  http_sd_configs:
    - url: {_quoted(f"https://{proxy}/v1/sd?via=path")}
      tls_config:
{_lines(tls, 8)}  relabel_configs:
    - source_labels: [__meta_triton_machine_alias]
      target_label: name
"""


def _lines(values: dict[str, str], indent: int) -> str:
    return "".join(f"{' ' * indent}{name}: {_quoted(value)}\n" for name, value in values.items())


def _quoted(text: str) -> str:
    """A YAML string; JSON's are."""
    return json.dumps(text)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host

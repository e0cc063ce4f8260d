"""Options of the agent: the table, and the values with their types."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pymon.config import (
    ADDRESS,
    BOOL,
    CONFIG_FILE,
    INT,
    MAPPING,
    PATH,
    REGEX,
    STR,
    Address,
    ConfigError,
    Option,
    Settings,
    load,
    load_file,
)

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping, Sequence

Source = Literal["auto", "bpf", "cgroupfs", "kstat"]
Dialect = Literal["cadvisor", "cmon"]
LogLevel = Literal["debug", "info", "warn", "error"]
LogFormat = Literal["logfmt", "json"]


GZ_PLUGINS, VM_PLUGINS = Path("/opt/custom/cmon/gz-plugins"), Path("/opt/custom/cmon/vm-plugins")
"""Where operators of Triton have their plugins."""


class CollectorOption(NamedTuple):
    """A collector that ``--collector.NAME`` and ``--no-collector.NAME`` switch."""

    name: str
    default: bool
    help: str


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """What an agent was told. `collectors` are the enabled ones; max_requests 0 is no limit."""

    listen_addresses: tuple[Address, ...]
    telemetry_path: str
    web_config_file: Path | None
    max_requests: int
    procfs: Path
    sysfs: Path
    cgroupfs: Path
    rootfs: Path
    source: Source
    kstat_library: Path | None
    dialect: Dialect
    cmon_legacy_values: bool
    collectors: frozenset[str]
    textfile_directories: tuple[str, ...]
    plugin_node_directory: Path | None
    plugin_container_directory: Path | None
    container_patterns: tuple[re.Pattern[str], ...]
    container_all: bool
    container_labels: tuple[str, ...]
    owners: tuple[Mapping[str, Any], ...]
    log_level: LogLevel
    log_format: LogFormat


def _telemetry_path(path: str) -> None:
    plain = path.isascii() and path.isprintable() and not set(path) & set(" ?#%")
    if not path.startswith("/") or path == "/" or not plain:
        raise ValueError("a path such as /metrics")
    if path.startswith(("/v1/", "/-/")):
        raise ValueError("a path outside /v1/ and /-/")


def _not_negative(value: int) -> None:
    if value < 0:
        raise ValueError("0 or more")


def option_table(collectors: Sequence[CollectorOption], platform: str = sys.platform) -> tuple[Option, ...]:
    """The agent's options; `platform` (as sys.platform) decides the default dialect."""
    sunos = platform.startswith("sunos")
    return (
        CONFIG_FILE,
        Option("web.listen-address", ADDRESS, (Address("127.0.0.1", 9164),), "Address to listen on.", repeatable=True),
        Option("web.telemetry-path", STR, "/metrics", "Path of the metrics.", check=_telemetry_path),
        Option("web.config.file", PATH, None, "File with TLS, basic authentication, headers and rate limit, in "
               "the format of the Prometheus exporters; read again when it changes."),
        Option("web.max-requests", INT, 40, "Requests answered at the same time, 503 beyond; 0 is no limit.",
               check=_not_negative),
        Option("path.procfs", PATH, Path("/proc"), "Where procfs is mounted."),
        Option("path.sysfs", PATH, Path("/sys"), "Where sysfs is mounted."),
        Option("path.cgroupfs", PATH, Path("/sys/fs/cgroup"), "Where the cgroup file systems are mounted."),
        Option("path.rootfs", PATH, Path("/"), "Where the root file system of the node is mounted."),
        Option("source", STR, "auto", "Where statistics of containers come from.",
               choices=("auto", "bpf", "cgroupfs", "kstat")),
        Option("kstat.library", PATH, None, "The libkstat to load, instead of the system's."),
        Option("dialect", STR, "cmon" if sunos else "cadvisor", "Names of the metrics.", choices=("cadvisor", "cmon")),
        Option("cmon.legacy-values", BOOL, False, "In the cmon dialect, the errors of Triton's agent too, for "
               "those who have dashboards on them."),
        Option("plugin.node-directory", PATH, GZ_PLUGINS if sunos else None, "Programs that measure the node."),
        Option("plugin.container-directory", PATH, VM_PLUGINS if sunos else None,
               "Programs that measure a container, each called for each one."),
        Option("collector.textfile.directory", STR, (), "Directory of *.prom files, or a pattern of directories.",
               repeatable=True),
        Option("collector.disable-defaults", BOOL, False, "Only the collectors that are switched on by name."),
        *(Option(f"collector.{name}", BOOL, None, f"{text} {'On' if default else 'Off'} by default.")
          for name, default, text in collectors),
        Option("container.pattern", REGEX, (), "Cgroup paths that are containers, besides those of the known runtimes; "
               "named groups name and account are used.", repeatable=True),
        Option("container.all", BOOL, False, "Every cgroup is a container."),
        Option("container.label", STR, (), "Label of the runtime to export as container_label_KEY.", repeatable=True),
        Option("owners", MAPPING, (), "Rules that say which account owns a container.", repeatable=True),
        Option("log.level", STR, "info", "Least level that is logged.", choices=("debug", "info", "warn", "error")),
        Option("log.format", STR, "logfmt", "Form of log lines.", choices=("logfmt", "json")),
    )  # fmt: skip


def agent_options(settings: Settings, collectors: Sequence[CollectorOption]) -> AgentOptions:
    """The agent's part of settings whose table has the agent's options. Raises ConfigError."""
    if not settings["web.listen-address"]:
        raise ConfigError("web.listen-address: expected at least one address, got none")
    enabled = set()
    for name, default, _ in collectors:
        said = settings[f"collector.{name}"]
        if said if said is not None else default and not settings["collector.disable-defaults"]:
            enabled.add(name)
    return AgentOptions(
        listen_addresses=settings["web.listen-address"],
        telemetry_path=settings["web.telemetry-path"],
        web_config_file=settings["web.config.file"],
        max_requests=settings["web.max-requests"],
        procfs=settings["path.procfs"],
        sysfs=settings["path.sysfs"],
        cgroupfs=settings["path.cgroupfs"],
        rootfs=settings["path.rootfs"],
        source=settings["source"],
        kstat_library=settings["kstat.library"],
        dialect=settings["dialect"],
        cmon_legacy_values=settings["cmon.legacy-values"],
        collectors=frozenset(enabled),
        textfile_directories=settings["collector.textfile.directory"],
        plugin_node_directory=settings["plugin.node-directory"],
        plugin_container_directory=settings["plugin.container-directory"],
        container_patterns=settings["container.pattern"],
        container_all=settings["container.all"],
        container_labels=settings["container.label"],
        owners=settings["owners"],
        log_level=settings["log.level"],
        log_format=settings["log.format"],
    )


def load_agent_options(
    argv: Sequence[str],
    environ: Mapping[str, str],
    collectors: Sequence[CollectorOption],
    *,
    program: str = "pymon agent",
    description: str = "Answer scrapes of this node and its containers.",
    version: str = "",
    platform: str = sys.platform,
) -> AgentOptions:
    """The agent's options from flags, variables and file. ConfigError on bad ones, SystemExit(0) after ``--help``."""
    table = option_table(collectors, platform)
    settings = load(table, argv, environ, program=program, description=description, version=version)
    return agent_options(settings, collectors)


def check_agent_file(file: Path, collectors: Sequence[CollectorOption]) -> Path | None:
    """Raise ConfigError unless the file is one that an agent would take. The web configuration file it names."""
    values = load_file(option_table(collectors), file)
    web: Path | None = values.get("web.config.file")
    return web

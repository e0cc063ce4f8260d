"""The agent's options: their table, and their values with types."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from pymon.config import (
    ADDRESS,
    BOOL,
    CONFIG_FILE,
    INT,
    LOG_FORMAT,
    LOG_LEVEL,
    MAPPING,
    PATH,
    REGEX,
    SECONDS,
    STR,
    Address,
    ConfigError,
    Kind,
    Option,
    Settings,
    load,
    option,
    options_of,
    setting,
    values_of,
)
from pymon.containers.node_identity import parse_node_uuid
from pymon.containers.owner import rule_errors
from pymon.containers.recognise import PATTERN_GROUPS
from pymon.containers.runtimes import KINDS, ChosenPath, parse_path
from pymon.data_dir import DATA_DIR

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from uuid import UUID

    from pymon.config import LogFormat, LogLevel

Source = Literal["auto", "bpf", "cgroupfs", "kstat"]
Dialect = Literal["cadvisor", "cmon"]


_DAY_SECONDS = 86400.0


def _uuid_yaml(value: Any) -> UUID:
    return parse_node_uuid(value if isinstance(value, str) else "")


NODE_UUID = Kind("UUID", parse_node_uuid, _uuid_yaml)


_JOIN_URL = re.compile(r"https://(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):[0-9]{1,5}/?")


def _join_url(text: str) -> str:
    if not _JOIN_URL.fullmatch(text):
        raise ValueError("https://HOST:PORT")
    return text.rstrip("/")


def _join_url_yaml(value: Any) -> str:
    return _join_url(value if isinstance(value, str) else "")


JOIN_URL = Kind("URL", _join_url, _join_url_yaml)


def _runtime_path_yaml(value: Any) -> ChosenPath:
    return parse_path(value if isinstance(value, str) else "")


RUNTIME_PATH = Kind("KIND=DIR", parse_path, _runtime_path_yaml)


class CollectorOption(NamedTuple):
    """A collector that ``--collector.NAME`` and ``--no-collector.NAME`` switch. default: whether it is on."""

    name: str
    default: bool
    help: str


def _telemetry_path(path: str) -> None:
    plain = path.isascii() and path.isprintable() and not set(path) & set(" ?#%")
    if not path.startswith("/") or path == "/" or not plain:
        raise ValueError("a path such as /metrics")
    if path.startswith(("/v1/", "/-/")):
        raise ValueError("a path outside /v1/ and /-/")


def _dataset(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z][\w.:-]*(/[\w.: -]+)*", name, re.ASCII):
        raise ValueError("a dataset of ZFS, such as zones or rpool/zones")


def _a_day(seconds: float) -> None:
    if seconds > _DAY_SECONDS:
        raise ValueError("at most 1d")


def _not_negative(value: int) -> None:
    if value < 0:
        raise ValueError("0 or more")


def _pattern(pattern: re.Pattern[str]) -> None:
    for name in pattern.groupindex:
        if name not in PATTERN_GROUPS:
            raise ValueError(f"no named groups but {' and '.join(PATTERN_GROUPS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """The values of the agent's options. collectors: names of the enabled ones. max_requests: 0 for no limit."""

    listen_addresses: tuple[Address, ...] = option("web.listen-address", ADDRESS, (Address("127.0.0.1", 9164),),
        "Address to listen on.", repeatable=True)  # fmt: skip
    telemetry_path: str = option("web.telemetry-path", STR, "/metrics", "Path of the metrics.", check=_telemetry_path)
    web_config_file: Path | None = option("web.config.file", PATH, None, "File with TLS, basic authentication, "
        "headers and rate limit, in the format of the Prometheus exporters; read again when it changes.")  # fmt: skip
    join: str | None = option("join", JOIN_URL, None, "URL of a proxy, https://HOST:PORT: get this node's certificate "
        "there, register the node, and serve with that certificate to proxies only.")  # fmt: skip
    join_token_file: Path | None = option("join.token-file", PATH, None, "File with the token of `pymon node token "
        "create`. It is read when there is no certificate yet, or when it has expired.")  # fmt: skip
    join_ca_file: Path | None = option("join.ca-file", PATH, None, "Authorities of the proxy's certificate, in PEM. "
        "Default: the authority whose fingerprint is in the token, later the one that came with the "
        "certificate.")  # fmt: skip
    join_name: str | None = option("join.name", STR, None, "Name of the node that the token is for. Default: the host "
        "name.")  # fmt: skip
    join_node_url: str | None = option("join.node-url", JOIN_URL, None, "URL at which proxies reach this agent. "
        "Default: the address and port that it listens on; if it listens on all, the one that the proxy is reached "
        "from.")  # fmt: skip
    max_requests: int = option("web.max-requests", INT, 40, "Requests answered at the same time, 503 beyond; 0 is no "
        "limit.", check=_not_negative)  # fmt: skip
    procfs: Path = option("path.procfs", PATH, Path("/proc"), "Where procfs is mounted.")
    sysfs: Path = option("path.sysfs", PATH, Path("/sys"), "Where sysfs is mounted.")
    cgroupfs: Path = option("path.cgroupfs", PATH, Path("/sys/fs/cgroup"), "Where the cgroup file systems are mounted.")
    rootfs: Path = option("path.rootfs", PATH, Path("/"), "Where the root file system of the node is mounted.")
    source: Source = option("source", STR, "auto", "Where statistics of containers come from. With auto, BPF reads "
        "the columns for which it agrees with the files; bpf is an error where BPF cannot be used.",
        choices=get_args(Source))  # fmt: skip
    kstat_library: Path | None = option("kstat.library", PATH, None, "The libkstat to load, instead of the system's.")
    zfs_parent: str = option("zfs.parent", STR, "zones", "Dataset right below which each zone has its own, with source "
        "kstat.", check=_dataset)  # fmt: skip
    dialect: Dialect = option("dialect", STR, "cadvisor", "Names of the metrics.", choices=get_args(Dialect))
    cmon_legacy_values: bool = option("cmon.legacy-values", BOOL, False, "In the cmon dialect, the errors of Triton's "
        "agent too, for those who have dashboards on them.")  # fmt: skip
    plugin_node_directory: Path | None = option("plugin.node-directory", PATH, None, "Programs that measure the node.")
    plugin_container_directory: Path | None = option("plugin.container-directory", PATH, None, "Programs that measure "
        "a container, each called for each one.")  # fmt: skip
    textfile_directories: tuple[str, ...] = option("collector.textfile.directory", STR, (), "Directory of *.prom "
        "files, or a pattern of directories.", repeatable=True)  # fmt: skip
    arp_exclude: re.Pattern[str] | None = option("collector.arp.device-exclude", REGEX, None, "Devices that the "
        "collector arp leaves out. A pattern matches anywhere in a name. Default: none.")  # fmt: skip
    disk_exclude: re.Pattern[str] | None = option("collector.diskstats.device-exclude", REGEX, None, "Devices that the "
        "collector diskstats leaves out. Default: that of node_exporter, partitions and memory.")  # fmt: skip
    fs_types_exclude: re.Pattern[str] | None = option("collector.filesystem.fs-types-exclude", REGEX, None, "Types "
        "that the collector filesystem leaves out. Default: that of node_exporter, what has no disk.")  # fmt: skip
    mount_points_exclude: re.Pattern[str] | None = option("collector.filesystem.mount-points-exclude", REGEX, None,
        "Mount points that the collector filesystem leaves out. Default: that of node_exporter, the kernel's and "
        "containers'.")  # fmt: skip
    netclass_exclude: re.Pattern[str] | None = option("collector.netclass.ignored-devices", REGEX, None, "Devices that "
        "the collector netclass leaves out. Default: none.")  # fmt: skip
    netdev_exclude: re.Pattern[str] | None = option("collector.netdev.device-exclude", REGEX, None, "Devices that the "
        "collector netdev leaves out. Default: none.")  # fmt: skip
    unit_include: re.Pattern[str] | None = option("collector.systemd.unit-include", REGEX, None, "Units that the "
        "collector systemd measures. The pattern matches a whole name. Default: all.")  # fmt: skip
    unit_exclude: re.Pattern[str] | None = option("collector.systemd.unit-exclude", REGEX, None, "Units that the "
        "collector systemd leaves out of those. Default: that of node_exporter, automounts, devices, mounts, scopes "
        "and slices.")  # fmt: skip
    unit_start_times: bool = option("collector.systemd.enable-start-time-metrics", BOOL, False, "The collector systemd "
        "tells since when units are active: one more call for each.")  # fmt: skip
    unit_restarts: bool = option("collector.systemd.enable-restarts-metrics", BOOL, False, "The collector systemd "
        "counts restarts of services: one more call for each.")  # fmt: skip
    unit_tasks: bool = option("collector.systemd.enable-task-metrics", BOOL, False, "The collector systemd counts "
        "tasks of services: two more calls for each.")  # fmt: skip
    collectors: frozenset[str]
    container_patterns: tuple[re.Pattern[str], ...] = option("container.pattern", REGEX, (), "Cgroup paths that are "
        "containers, besides those of the known runtimes; named groups name and account are used.", repeatable=True,
        check=_pattern)  # fmt: skip
    container_all: bool = option("container.all", BOOL, False, "Every cgroup is a container.")
    container_root: bool = option("container.root", BOOL, True, 'The root of the cgroups is measured, as id="/", with '
        "names of cAdvisor.")  # fmt: skip
    container_slices: bool = option("container.slices", BOOL, False, "The groups that hold containers and services are "
        "measured, too: slices of systemd and of the kubelet.")  # fmt: skip
    container_interface_excludes: tuple[str, ...] = option("container.interface-exclude", STR, ("veth*", "docker*",
        "nerdctl*"), "Pattern, as in a shell, of interfaces inside containers that are left out, instead of the "
        "defaults; / leaves out none.", repeatable=True)  # fmt: skip
    container_labels: tuple[str, ...] = option("container.label", STR, (), "Label of the runtime to export as "
        "container_label_KEY.", repeatable=True)  # fmt: skip
    runtime_paths: tuple[ChosenPath, ...] = option("runtime.path", RUNTIME_PATH, (), "Directory of a runtime on the "
        "node, besides the usual ones: " + "; ".join(f"{kind}=its {what}" for kind, what in KINDS.items()) + ".",
        repeatable=True)  # fmt: skip
    container_uuid_label: str = option("container.uuid-label", STR, "", "Label of the runtime that is the container's "
        "UUID: whoever can write it chooses the UUID. None by default.")  # fmt: skip
    container_keep_stopped: float = option("container.keep-stopped", SECONDS, 300.0, "How long a container that has "
        "ended is told of, with its last numbers and its exit code; 0 for not at all.", check=_a_day)  # fmt: skip
    container_app_metrics: Path | None = option("container.app-metrics", PATH, None, "Socket of `pymon app-fetcher`, "
        "which fetches the metrics of applications from inside their containers' network. Without it, none are "
        "fetched.")  # fmt: skip
    container_show_neighbours: bool = option("container.show-neighbours", BOOL, False, "Export in scrapes of "
        "one container, which tenants get, how much containers of other accounts took of its CPUs.")  # fmt: skip
    owners: tuple[Mapping[str, Any], ...] = option("owners", MAPPING, (), "Rules that say which account owns a "
        "container.", repeatable=True)  # fmt: skip
    node_uuid: UUID | None = option("node.uuid", NODE_UUID, None, "UUID of this node. Default: what SmartOS' sysinfo "
        "says, else made of the machine-id or of the firmware's UUID, else a random one that the data directory "
        "keeps.")  # fmt: skip
    data_dir: Path | None = setting(DATA_DIR)
    log_level: LogLevel = setting(LOG_LEVEL)
    log_format: LogFormat = setting(LOG_FORMAT)


_DISABLE_DEFAULTS = Option(
    "collector.disable-defaults", BOOL, False, "Only the collectors that are switched on by name."
)

_ON_SUNOS = {
    "dialect": "cmon",
    "plugin.node-directory": Path("/opt/custom/cmon/gz-plugins"),
    "plugin.container-directory": Path("/opt/custom/cmon/vm-plugins"),
}
"""Defaults that differ on illumos. Operators of Triton keep their plugins in these directories."""


def option_table(collectors: Sequence[CollectorOption], platform: str = sys.platform) -> tuple[Option, ...]:
    """Return the table of the agent's options. platform: as sys.platform; some defaults depend on it."""
    other = _ON_SUNOS if platform.startswith("sunos") else {}
    table = [replace(row, default=other.get(row.name, row.default)) for row in options_of(AgentOptions)]
    after = 1 + [row.name for row in table].index("collector.textfile.directory")
    switches = (
        Option(f"collector.{name}", BOOL, None, f"{text} {'On' if default else 'Off'} by default.")
        for name, default, text in collectors
    )
    return CONFIG_FILE, *table[:after], _DISABLE_DEFAULTS, *switches, *table[after:]


def agent_errors(settings: Settings) -> Iterator[str]:
    """Yield a line for each error in settings whose table contains the agent's options.

    The result does not depend on the machine.
    """
    if not settings["web.listen-address"]:
        yield "web.listen-address: expected at least one address, got none"
    origin = settings.given.get("owners", "")
    for error in rule_errors(settings["owners"]):
        yield f"{origin}: {error}" if origin else error
    if settings["join"] is None:
        for name in ("join.token-file", "join.ca-file", "join.name", "join.node-url"):
            if settings[name] is not None:
                yield f"{name}: expected with --join, got none"
    elif settings["web.config.file"] is not None:
        yield "web.config.file: expected none with --join, which makes one"
    source = settings["source"]
    if source in ("bpf", "cgroupfs") and settings["kstat.library"] is not None:
        yield f"kstat.library: expected source kstat with it, got {source}"


def agent_options(settings: Settings, collectors: Sequence[CollectorOption]) -> AgentOptions:
    """Return the agent's options from settings whose table contains them. Raises ConfigError if one is not valid."""
    for error in agent_errors(settings):
        raise ConfigError(error)
    enabled = set()
    for name, default, _ in collectors:
        said = settings[f"collector.{name}"]
        if said if said is not None else default and not settings["collector.disable-defaults"]:
            enabled.add(name)
    return AgentOptions(collectors=frozenset(enabled), **values_of(AgentOptions, settings))


def load_agent_options(
    argv: Sequence[str],
    environ: Mapping[str, str],
    collectors: Sequence[CollectorOption],
    *,
    version: str = "",
    platform: str = sys.platform,
) -> AgentOptions:
    """Return the agent's options from flags, environment variables and the configuration file.

    Raises ConfigError if one is not valid, SystemExit(0) after ``--help``.
    """
    table, description = option_table(collectors, platform), "Answer scrapes of this node and its containers."
    settings = load(table, argv, environ, program="pymon agent", description=description, version=version)
    return agent_options(settings, collectors)


def load_with_agent_options(
    own: Sequence[Option],
    argv: Sequence[str],
    environ: Mapping[str, str],
    collectors: Sequence[CollectorOption],
    *,
    program: str,
    description: str,
    version: str,
) -> tuple[Settings, AgentOptions]:
    """Return all settings and the agent's options, for a command that takes the agent's options and some of its own.

    own: the command's own options. Raises ConfigError if an option is not valid, SystemExit(0) after ``--help``.
    """
    settings = load(
        option_table(collectors), argv, environ, program=program, description=description, version=version, own=own
    )
    return settings, agent_options(settings, collectors)

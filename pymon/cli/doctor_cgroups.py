"""The lines of ``pymon doctor`` about control groups: what the kernel offers, and where each metric comes from."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pymon.agent.platform_parts import enabled_metrics
from pymon.catalogue import disk, latency, load, peaks, resctrl
from pymon.catalogue.cgroup_fields import NUMBERED, PROCESS_TABLES, TABLES
from pymon.cli import doctor_access, doctor_apps, doctor_bpf, doctor_zones
from pymon.config import ConfigError
from pymon.sources.cgroup import Hierarchies, find_hierarchies, published
from pymon.sources.errors import SourceError
from pymon.sources.node import CMON_COLLECTORS, NODE_COLLECTORS

if TYPE_CHECKING:
    from pymon.agent.options import AgentOptions
    from pymon.catalogue.model import Metric, Sample

_NUMBERED_OF = {numbered: table for table, numbered in NUMBERED.items()}
_SAMPLED = (peaks.TABLE, peaks.MEMORY_TABLE, load.TABLE, disk.TABLE, resctrl.TABLE)
_COUNTED = frozenset((*latency.COLUMNS, *_SAMPLED))
"""Tables that no file is read for."""

_CAPABILITIES = (
    ("CAP_DAC_READ_SEARCH", 2),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_SYS_RESOURCE", 24),
    ("CAP_PERFMON", 38),
    ("CAP_BPF", 39),
)


def machine(options: AgentOptions) -> Iterator[tuple[str, str]]:
    """Yield pairs of a heading and a line about the machine. Raises ConfigError if it has no cgroup hierarchies."""
    hierarchies = _hierarchies(options)
    yield "cgroup version 1", ", ".join(sorted(hierarchies.v1)) or "not mounted"
    controllers = ", ".join(sorted(hierarchies.v2_controllers)) or "no controllers"
    yield "cgroup version 2", f"{hierarchies.v2}: {controllers}" if hierarchies.v2 else "not mounted"
    yield "pressure (PSI)", _readable(options.procfs / "pressure/cpu", "on", "off, or kernel older than 4.20")
    yield "BTF", _readable(options.sysfs / "kernel/btf/vmlinux", "there", "not there")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield "descriptors", f"soft limit {soft}, hard limit {hard}; each reader may keep nearly as many open"
    yield "inotify watches", _text(options.procfs / "sys/fs/inotify/max_user_watches")
    yield "capabilities", _capabilities(options.procfs)
    yield from doctor_access.runtimes(options)
    yield from doctor_access.daemons(options)
    yield from doctor_access.namespaces(options)
    yield from doctor_access.owners(options)
    yield from doctor_apps.fetcher(options)
    yield "kstat", doctor_zones.library_found(options.kstat_library)
    yield "OpenZFS", _readable(options.procfs / "spl/kstat/zfs/arcstats", "there", "not there")
    yield from doctor_bpf.report(options, hierarchies)
    yield from doctor_bpf.waits(options, hierarchies)
    yield from doctor_access.collectors(options)


def metrics(options: AgentOptions) -> Iterator[str]:
    """Yield a line for each container metric: the source of its value, or why there is none."""
    hierarchies = _hierarchies(options)
    node = {item.name for item in (*NODE_COLLECTORS, *CMON_COLLECTORS)}
    every = [metric for metric in enabled_metrics(options) if metric.collector not in node]
    tables = published(hierarchies, every) | _COUNTED
    if "memory" not in hierarchies.v2_controllers:
        tables -= {peaks.MEMORY_TABLE}
    width = max((len(metric.name) for metric in every), default=0) + 2
    for metric in every:
        yield f"{metric.name:<{width}}{_source(metric, tables, hierarchies)}\n"


def _hierarchies(options: AgentOptions) -> Hierarchies:
    try:
        return find_hierarchies(options.cgroupfs)
    except SourceError as error:
        raise ConfigError(f"path.cgroupfs: {error}") from error


def _source(metric: Metric, tables: frozenset[str], hierarchies: Hierarchies) -> str:
    sample: Sample = metric.samples[0] if len(metric.samples) == 1 else _first(metric, tables)
    for column in sample.columns:
        if column.table in tables:
            return f"{_where(column.table)} {column.key}"
    programs = [column for column in sample.columns if column.table in doctor_zones.PROGRAMS]
    if programs:
        return f"{doctor_zones.program(doctor_zones.PROGRAMS[programs[0].table])}: {programs[0].key}"
    wanted = sorted({column.table for column in sample.columns if not column.table.startswith("kstat.")})
    if not wanted:
        return "absent: only zones have it"
    return "absent: " + "; ".join(_why_not(table, hierarchies) for table in wanted)


def _first(metric: Metric, tables: frozenset[str]) -> Sample:
    for sample in metric.samples:
        if any(column.table in tables for column in sample.columns):
            return sample
    return metric.samples[0]


def _where(table: str) -> str:
    if table in ("container", *_SAMPLED):
        return "pymon"
    if table in latency.COLUMNS:
        return f"BPF, if {latency.COLLECTOR} can run:"
    if table in PROCESS_TABLES:
        return "/proc/PID"
    files = TABLES.get(_NUMBERED_OF.get(table, table))
    if files is None:
        return "cgroup.procs" if table == "process" else "/proc/PID/net"
    return f"cgroup v{files.version}"


def _why_not(table: str, hierarchies: Hierarchies) -> str:
    if table == peaks.MEMORY_TABLE:
        return "the version 2 tree has no controller memory"
    files = TABLES.get(_NUMBERED_OF.get(table, table))
    if files is None:
        return f"{table}: no cgroup tree has processes"
    if files.version == 1:
        return f"no version 1 hierarchy of controller {files.controller}"
    if hierarchies.v2 is None:
        return "no version 2 tree"
    if files.controller and files.controller not in hierarchies.v2_controllers:
        return f"the version 2 tree has no controller {files.controller}"
    return "read from version 1"


def _readable(path: Path, yes: str, no: str) -> str:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        return f"{no} ({path}: {error.strerror})"
    return yes


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        return f"unknown ({path}: {error.strerror})"


def _capabilities(procfs: Path) -> str:
    try:
        lines = (procfs / "self/status").read_text().splitlines()
        mask = int(next(line for line in lines if line.startswith("CapEff:")).split()[1], 16)
    except (OSError, StopIteration, ValueError, IndexError):
        return "unknown"
    return ", ".join(f"{name} {'yes' if mask >> bit & 1 else 'no'}" for name, bit in _CAPABILITIES)

"""The part of ``pymon doctor`` for zones: the library, the chain, and where each metric comes from."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pymon
from pymon.agent.parts import enabled_metrics
from pymon.catalogue.kstat_fields import KSTATS
from pymon.catalogue.program_fields import NTP_PEER_TABLE, NTP_SYSPEER_TABLE, NTP_TABLE, ZFS_TABLE, ZPOOL_TABLE
from pymon.config import ConfigError
from pymon.sources.errors import SourceError
from pymon.sources.kstat import LIBRARY, NODE_STATUS_TABLE, STATUS_TABLE, KstatReader, ZoneAppeared
from pymon.sources.programs.process import find_program, program_directories

if TYPE_CHECKING:
    from pathlib import Path

    from pymon.agent.options import AgentOptions
    from pymon.catalogue.model import Metric

PROGRAMS = {
    ZFS_TABLE: "zfs",
    ZPOOL_TABLE: "zpool",
    NTP_TABLE: "ntpq",
    NTP_SYSPEER_TABLE: "ntpq",
    NTP_PEER_TABLE: "ntpq",
}
"""Which program fills a table."""

_KSTATS = {item.table: item for item in KSTATS}


def library_found(library: Path | None) -> str:
    """Whether there is a libkstat, in words that name the one that was looked for."""
    try:
        KstatReader(library).close()
    except SourceError as error:
        return str(error)
    return f"{library or LIBRARY}: there"


def machine(options: AgentOptions) -> Iterator[tuple[str, str]]:
    """Lines about the machine. ConfigError when it cannot be measured."""
    try:
        reader = KstatReader(options.kstat_library)
        zones = [change for change in reader.collect(frozenset()) if isinstance(change, ZoneAppeared)]
        library = reader.library
        reader.close()
    except SourceError as error:
        raise ConfigError(f"source kstat: {error}") from error
    yield "pymon", pymon.__version__
    yield "kernel", f"{platform.system()} {platform.release()} {platform.machine()}"
    yield "libkstat", library
    yield "zones", str(len(zones))
    index = options.rootfs / "etc/zones/index"
    yield "configuration", str(index) if index.exists() else f"{index}: not there; zones have their names only"
    for name in dict.fromkeys(PROGRAMS.values()):
        yield name, program(name)
    yield "source", "kstat: the chain is indexed once, one thread reads it"


def metrics(options: AgentOptions) -> Iterator[str]:
    """A line for each metric: its kstat or program."""
    every = enabled_metrics(options)
    width = max((len(metric.name) for metric in every), default=0) + 2
    for metric in every:
        yield f"{metric.name:<{width}}{_origin(metric)}\n"


def _origin(metric: Metric) -> str:
    for sample in metric.samples:
        for column in sample.columns:
            if column.table in _KSTATS:
                item = _KSTATS[column.table]
                return f"kstat {item.module}:{_instance(item.instance)}:{item.name or '*'} {column.key}"
            if column.table in PROGRAMS:
                return f"{program(PROGRAMS[column.table])}: {column.key}"
            if column.table in {"container", "time", STATUS_TABLE, NODE_STATUS_TABLE}:
                return "pymon"
    return "absent: no kstat has it"


def _instance(instance: int | None) -> str:
    return "*" if instance is None else str(instance)


def program(name: str) -> str:
    """Where a program is, or that it is not."""
    try:
        return find_program(name)
    except SourceError:
        return f"{name} is not in {', '.join(program_directories())}"

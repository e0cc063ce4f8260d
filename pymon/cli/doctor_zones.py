"""The lines of ``pymon doctor`` about illumos zones: libkstat, the kstat chain, and where each metric comes from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pymon.agent.platform_parts import enabled_metrics
from pymon.catalogue.kstat_fields import KSTATS
from pymon.catalogue.program_fields import NTP_PEER_TABLE, NTP_SYSPEER_TABLE, NTP_TABLE, ZFS_TABLE, ZPOOL_TABLE
from pymon.cli import doctor_access
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
"""The program that fills each table."""

_KSTATS = {item.table: item for item in KSTATS}


def library_found(library: Path | None) -> str:
    """Return text that says whether libkstat can be used, with its name. library: its path, None for the default."""
    try:
        KstatReader(library).close()
    except SourceError as error:
        return str(error) if library else f"{LIBRARY}: not there; illumos has it"
    return f"{library or LIBRARY}: there"


def machine(options: AgentOptions) -> Iterator[tuple[str, str]]:
    """Yield pairs of a heading and a line about the machine. Raises ConfigError if its kstats cannot be read."""
    try:
        reader = KstatReader(options.kstat_library)
        zones = [change for change in reader.collect(frozenset()) if isinstance(change, ZoneAppeared)]
        library = reader.library
        reader.close()
    except SourceError as error:
        raise ConfigError(f"source kstat: {error}") from error
    yield "libkstat", library
    yield "zones", str(len(zones))
    index = options.rootfs / "etc/zones/index"
    yield "configuration", str(index) if _can_be_read(index) else f"{index}: not read; zones have their names only"
    yield from doctor_access.owners(options)
    for name in dict.fromkeys(PROGRAMS.values()):
        yield name, program(name)
    yield "source", "kstat: the chain is indexed once, one thread reads it"


def _can_be_read(path: Path) -> bool:
    try:
        with path.open("rb"):
            return True
    except OSError:
        return False


def metrics(options: AgentOptions) -> Iterator[str]:
    """Yield a line for each metric: the kstat or program that it comes from."""
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
    """Return the path of a program, or text that says where it was searched for."""
    try:
        return find_program(name)
    except SourceError:
        return f"{name} is not in {', '.join(program_directories())}"

"""An agent for illumos: zones by their kstats."""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING

from pymon.agent.collectors import collectors_of
from pymon.agent.parts import Parts
from pymon.agent.zone_containers import PATIENCE_SECONDS, ZoneConfiguration, ZoneContainers
from pymon.agent.zones import ZoneRegistry
from pymon.catalogue.kstat_fields import KSTATS, NODE_EXPORTER_KSTATS, Rows
from pymon.catalogue.program_fields import ZFS_TABLE
from pymon.config import ConfigError
from pymon.containers.files import UnreadableError
from pymon.containers.identity import NodeIdentity, named_identity, node_identity
from pymon.containers.labels import LabelExport
from pymon.containers.owner import OwnerRules, RuleError
from pymon.containers.zones import IndexEntry, ZoneDetails, describe_zone, outline_zone, read_index, zone_stamp
from pymon.sources.errors import SourceError
from pymon.sources.kstat import NODE_STATUS_TABLE, KstatReader
from pymon.sources.node.time_of_day import TimeOfDay
from pymon.sources.programs import Ntpq, Zfs, Zpool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pymon.agent.options import AgentOptions
    from pymon.catalogue.model import Metric
    from pymon.sources.node import NodeSource

OWNED_BY_ZONE = ({"zone": True},)
"""The rules where the operator has none: a zone is its owner's."""


def build_zones(options: AgentOptions, metrics: Sequence[Metric], *, serving: bool) -> Parts:
    """Reader, registry and programs. ConfigError where the options and the machine do not agree.

    serving: what takes long to read is read while the agent answers.
    """
    try:
        owners = OwnerRules(options.owners or OWNED_BY_ZONE)
        export = LabelExport(options.container_labels)
    except (RuleError, ValueError) as error:
        raise ConfigError(str(error)) from error
    identity = _node_identity(options)
    if options.dialect == "cmon":
        kstats = KSTATS
        programs = [program() for program in (Zfs, Zpool, Ntpq) if program.name in options.collectors]
    else:
        kstats, programs = NODE_EXPORTER_KSTATS, []
    try:
        reader = KstatReader(options.kstat_library, kstats)
        registry = ZoneRegistry(owners, export, identity)
        node = {item.table for item in kstats if item.rows is Rows.NODE} | {NODE_STATUS_TABLE}
        node |= {table.name for program in programs for table in program.tables} - {ZFS_TABLE}
        tables = {"container", *reader.layout, *(table.name for program in programs for table in program.tables)}
        containers = ZoneContainers(
            reader,
            registry,
            _configuration(options.rootfs),
            programs,
            collectors_of(metrics, tables, node),
            patience_seconds=PATIENCE_SECONDS if serving else math.inf,
        )
    except SourceError as error:
        raise ConfigError(f"source kstat: {error}") from error
    sources: list[NodeSource] = []
    if options.dialect == "cmon" and TimeOfDay.name in options.collectors:
        sources.append(TimeOfDay(time.time_ns))
    gauges = (("pymon_containers", "Zones that are there.", lambda: len(registry)),)
    return Parts(registry, containers, sources, programs, gauges)


def _node_identity(options: AgentOptions) -> NodeIdentity:
    """As on Linux where the machine has such files, else by the node's name."""
    try:
        return node_identity(options.rootfs, options.sysfs, options.procfs)
    except UnreadableError:
        return named_identity(os.uname().nodename)


def _configuration(root: Path) -> ZoneConfiguration:
    """What is written below a root directory."""
    index: dict[str, IndexEntry] = {}

    def refresh() -> None:
        nonlocal index
        try:
            index = read_index(root)
        except UnreadableError:
            index = {}

    def outline(name: str) -> ZoneDetails:
        return outline_zone(name, index)

    def describe(name: str) -> ZoneDetails:
        return describe_zone(root, name, index)

    def stamp(name: str) -> tuple[int, ...]:
        return zone_stamp(root, name, index)

    return ZoneConfiguration(refresh, outline, describe, stamp)

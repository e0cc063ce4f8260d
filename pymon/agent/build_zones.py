"""Builds the parts of an agent for illumos, where containers are zones."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from pymon.agent import core_zones
from pymon.agent.collectors import collectors_of
from pymon.agent.node import node_sysinfo, zones_node_identity
from pymon.agent.platform_parts import PlatformParts
from pymon.agent.zone_containers import PATIENCE_SECONDS, ZoneConfiguration, ZoneContainers
from pymon.agent.zones import ZoneRegistry
from pymon.catalogue.kstat_fields import KSTATS, NODE_EXPORTER_KSTATS, Rows
from pymon.catalogue.program_fields import ZFS_TABLE
from pymon.config import ConfigError
from pymon.containers.files import UnreadableError
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
"""The default rules: a zone belongs to the owner that its configuration names."""


def build_zones(options: AgentOptions, metrics: Sequence[Metric], *, serving: bool) -> PlatformParts:
    """Return the kstat reader, the registry and the programs.

    serving: read configurations that take long after the agent has started.
    Raises ConfigError when the options cannot be used on this machine.
    """
    try:
        owners = OwnerRules(options.owners or OWNED_BY_ZONE)
        export = LabelExport(options.container_labels)
    except (RuleError, ValueError) as error:
        raise ConfigError(str(error)) from error
    sysinfo = node_sysinfo(options)
    identity = zones_node_identity(options, sysinfo)
    if options.dialect == "cmon":
        kstats = KSTATS
        every = (Zfs(parent=options.zfs_parent), Zpool(), Ntpq())
        programs = [program for program in every if program.name in options.collectors]
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
    gauges = (
        ("pymon_containers", "Zones that are there.", lambda: len(registry)),
        (
            "pymon_kstat_busy_seconds",
            "Time since the current collection by libkstat began; 0 when there is none.",
            lambda: containers.busy_seconds,
        ),
    )
    datacenter = sysinfo.datacenter if sysinfo else ""
    plugins = []
    if options.dialect == "cmon" and core_zones.NAME in options.collectors:
        plugins.append(core_zones.plugin(registry.core_zone))
    return PlatformParts(registry, containers, sources, programs, gauges, datacenter=datacenter, plugins=plugins)


def _configuration(root: Path) -> ZoneConfiguration:
    """Return functions that read the zone configurations below a root directory."""
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

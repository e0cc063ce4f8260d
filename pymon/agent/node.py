"""The identity of this node: its UUID and where it comes from."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from pymon.agent.source import source_of
from pymon.config import ConfigError
from pymon.containers.files import UnreadableError
from pymon.containers.node_identity import (
    NodeIdentity,
    keep,
    kept_identity,
    machine_identity,
    named_identity,
    passing_identity,
)
from pymon.data_dir import default_data_dir
from pymon.sources.errors import SourceError
from pymon.sources.programs.sysinfo import read_sysinfo

if TYPE_CHECKING:
    from pymon.agent.options import AgentOptions
    from pymon.sources.programs.sysinfo import Sysinfo

_log = logging.getLogger("pymon.agent")


def node_identity(options: AgentOptions, *, serving: bool) -> NodeIdentity:
    """Return the identity of a Linux node: from `--node.uuid`, from the machine, or from the data directory.

    serving: if there is none, create one and store it in the data directory. Otherwise return a random one that is
    valid for this run only, and log a warning.
    Raises ConfigError when the identity cannot be read or stored.
    """
    identity = _told(options)
    if identity is not None:
        return identity
    try:
        data_dir = options.data_dir or default_data_dir(os.environ, os.geteuid())
        kept = kept_identity(data_dir)
        if kept is None and serving:
            kept = keep(data_dir)
            _log.info("made a UUID for this node", extra={"fields": {"uuid": str(kept.uuid), "data_dir": data_dir}})
    except (UnreadableError, ConfigError) as error:
        raise ConfigError(f"{error}; this machine has no machine-id: --node.uuid says which node it is") from None
    if kept is None:
        _log.warning("this node has no UUID before an agent has started here: UUIDs are for this run only")
        return passing_identity()
    return kept


def zones_node_identity(options: AgentOptions, sysinfo: Sysinfo | None = None) -> NodeIdentity:
    """Return the identity of an illumos node: from `--node.uuid`, `sysinfo`, the machine, or the node's name."""
    if sysinfo is not None and options.node_uuid is None:
        return NodeIdentity(sysinfo.uuid, "sysinfo")
    return _told(options) or named_identity(os.uname().nodename)


def own_identity(options: AgentOptions) -> NodeIdentity:
    """Return the identity of the node that an agent with these options serves as. Raises ConfigError as the others."""
    if source_of(options) == "kstat":
        return zones_node_identity(options, node_sysinfo(options))
    return node_identity(options, serving=True)


def node_sysinfo(options: AgentOptions) -> Sysinfo | None:
    """Return what the command `sysinfo` of SmartOS reports about this node, None on other systems.

    If its output cannot be used, return None if `--node.uuid` is given, else raise ConfigError. Another UUID would make
    this a different node, and change every UUID that is derived from it.
    """
    try:
        return read_sysinfo(options.rootfs / "usr/bin/sysinfo")
    except SourceError as error:
        if options.node_uuid is not None:
            return None
        raise ConfigError(f"{error}; --node.uuid says which node it is") from None


def _told(options: AgentOptions) -> NodeIdentity | None:
    if options.node_uuid is not None:
        return NodeIdentity(options.node_uuid, "node.uuid")
    return machine_identity(options.rootfs, options.sysfs)

"""Opens the registry of a node whose containers are cgroups, and the source from which their files are read."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pymon._native.readers import Mailbox
from pymon.agent.bpf_checks import BpfChecks
from pymon.agent.node import node_identity
from pymon.agent.registry import Registry
from pymon.catalogue.latency import COLLECTOR
from pymon.config import ConfigError
from pymon.containers.labels import LabelExport
from pymon.containers.owner import OwnerRules, RuleError
from pymon.containers.recognise import Patterns, Recogniser
from pymon.containers.runtimes import Runtimes
from pymon.sources.bpf import BpfSource
from pymon.sources.bpf_check import BpfCheck
from pymon.sources.cgroup import CgroupSource, find_hierarchies, raise_descriptor_limit
from pymon.sources.errors import SourceError
from pymon.sources.kernel_file import read_small
from pymon.sources.latency import LatencySource
from pymon.sources.memory_limit import memory_limit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pymon.agent.options import AgentOptions
    from pymon.catalogue.model import Column
    from pymon.sources.cgroup import Hierarchies

_log = logging.getLogger(__name__)

MEMORY_SHARE = 0.25
"""Share of the agent's own memory limit that kept descriptors may take, because the kernel's memory counts too."""

_OWN_CGROUPS = Path("/sys/fs/cgroup")


class Opened(NamedTuple):
    """A registry, the source that reads its containers, and the mailbox to which the readers post results.

    bpf: what decides which columns BPF fills; None when the source is cgroupfs alone.
    """

    source: CgroupSource
    registry: Registry
    mailbox: Mailbox
    bpf: BpfChecks | None


def open_registry(options: AgentOptions, columns: Iterable[Column], *, serving: bool) -> Opened:
    """Return a registry of the current containers and its source. The caller closes both.

    columns: the columns to read. serving: create and store a UUID for a node that has none.
    Raises ConfigError when the options cannot be used on this machine.
    """
    _check_readable("path.procfs", options.procfs, "stat")
    try:
        hierarchies = find_hierarchies(options.cgroupfs)
    except SourceError as error:
        raise ConfigError(f"path.cgroupfs: {error}") from error
    try:
        owners = OwnerRules(options.owners)
        export = LabelExport(options.container_labels)
        patterns = Patterns(options.container_patterns)
    except (RuleError, ValueError) as error:
        raise ConfigError(str(error)) from error
    bpf = _bpf(options, hierarchies)
    identity = node_identity(options, serving=serving)
    mailbox = Mailbox()
    columns = list(columns)
    latency = None
    if COLLECTOR in options.collectors:
        latency = LatencySource(hierarchies, procfs=options.procfs, sysfs=options.sysfs)
        if latency.error is not None:
            _log.warning("collector %s: %s", COLLECTOR, latency.error)
    try:
        source = CgroupSource(
            hierarchies,
            columns,
            mailbox,
            procfs=options.procfs,
            sysfs=options.sysfs,
            descriptors=raise_descriptor_limit(),
            filler=bpf.filler if bpf else None,
            latency=latency,
            memory_bytes=_memory_for_descriptors(hierarchies),
            excluded_interfaces=options.container_interface_excludes,
        )
        registry = Registry(
            source,
            Recogniser(
                patterns,
                every=options.container_all,
                root=options.container_root and options.dialect != "cmon",
                pods=options.dialect != "cmon",
                slices=options.container_slices,
            ),
            Runtimes(options.rootfs, options.runtime_paths),
            owners,
            export,
            identity,
            procfs=options.procfs,
            uuid_label=options.container_uuid_label,
            fetches_apps=options.container_app_metrics is not None,
            # The dialect cmon has no names for what is kept.
            keep_stopped_seconds=options.container_keep_stopped if serving and options.dialect != "cmon" else 0.0,
        )
    except SourceError as error:
        raise ConfigError(f"path.cgroupfs: {error}") from error
    except OSError as error:
        raise ConfigError(f"path.cgroupfs: {error.filename}: {error.strerror}") from error
    checks = None
    if bpf is not None:
        check = BpfCheck(bpf, hierarchies, columns, procfs=options.procfs, sysfs=options.sysfs)
        checks = BpfChecks(bpf, check, repeat=serving, first=options.source == "bpf")
    return Opened(source, registry, mailbox, checks)


def _bpf(options: AgentOptions, hierarchies: Hierarchies) -> BpfSource | None:
    if options.source == "cgroupfs":
        return None
    bpf = BpfSource(hierarchies, procfs=options.procfs, sysfs=options.sysfs)
    if options.source == "bpf" and bpf.facts.obstacle:
        raise ConfigError(f"source: expected BPF to be usable with bpf, but {bpf.facts.obstacle}")
    return bpf


def _memory_for_descriptors(hierarchies: Hierarchies) -> int | None:
    """Return the kernel memory in bytes that kept descriptors may take, None if this process has no memory limit.

    In a container, the node's cgroups are mounted at `hierarchies`, and its own where they always are.
    """
    groups = read_small("/proc/self/cgroup").decode(errors="surrogateescape")
    limits = [memory_limit(groups, hierarchies)]
    with contextlib.suppress(SourceError):
        limits.append(memory_limit(groups, find_hierarchies(_OWN_CGROUPS)))
    return min((int(limit * MEMORY_SHARE) for limit in limits if limit is not None), default=None)


def _check_readable(key: str, root: Path, name: str) -> None:
    try:
        with (root / name).open("rb") as file:
            file.read(1)
    except OSError as error:
        raise ConfigError(f"{key}: {root / name}: {error.strerror}, expected a readable procfs") from error

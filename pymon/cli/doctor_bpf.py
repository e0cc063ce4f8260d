"""The lines of ``pymon doctor`` about BPF: for each column that it could fill, whether it does, and why not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pymon._native.readers import Mailbox
from pymon.agent.platform_parts import enabled_metrics
from pymon.catalogue.latency import COLLECTOR
from pymon.sources.bpf import BpfSource
from pymon.sources.bpf_check import BpfCheck
from pymon.sources.cgroup import CgroupSource, Hierarchies, columns_of
from pymon.sources.latency import LatencySource

if TYPE_CHECKING:
    from pymon.agent.options import AgentOptions

_FILES = "cgroupfs: descriptors kept open, one thread for each group of files"


def report(options: AgentOptions, hierarchies: Hierarchies) -> Iterator[tuple[str, str]]:
    """Yield pairs of a heading and a line. Columns are compared with the files, as the agent does at its start."""
    if options.source == "cgroupfs":
        yield "source", _FILES
        return
    bpf = BpfSource(hierarchies, procfs=options.procfs, sysfs=options.sysfs)
    if bpf.facts.obstacle:
        yield "source", _FILES
        yield "BPF", f"not used: {bpf.facts.obstacle}"
        return
    columns = columns_of(enabled_metrics(options))
    procfs, sysfs = options.procfs, options.sysfs
    source = CgroupSource(hierarchies, columns, Mailbox(), procfs=procfs, sysfs=sysfs, descriptors=0, filler=bpf.filler)
    check = BpfCheck(bpf, hierarchies, columns, procfs=procfs, sysfs=sysfs)
    try:
        check.run()
        decisions = bpf.decisions()
    finally:
        check.close()
        source.close()
    yield "source", f"BPF fills {bpf.filled} columns; the others are files: {_FILES.partition(': ')[2]}"
    for name, decision in decisions.items():
        yield "column", f"{name}: {'BPF' if decision.is_bpf else 'files'}, {decision.reason}"


def waits(options: AgentOptions, hierarchies: Hierarchies) -> Iterator[tuple[str, str]]:
    """Yield the line about `container_latency`. Its programs are loaded and run for a moment, as the agent does."""
    source = LatencySource(hierarchies, procfs=options.procfs, sysfs=options.sysfs)
    source.close()
    if source.error is not None:
        text = f"cannot run: {source.error}"
    elif COLLECTOR in options.collectors:
        text = "can run"
    else:
        text = f"can run; off; --collector.{COLLECTOR} switches it on"
    yield COLLECTOR, text

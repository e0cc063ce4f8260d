"""The node itself: one module a collector, and the list of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pymon.sources.node.arcstats import Arcstats
from pymon.sources.node.clock import Time
from pymon.sources.node.cpu import Cpu
from pymon.sources.node.cpu_info import CpuInfo
from pymon.sources.node.cpu_util import CpuUtil
from pymon.sources.node.diskstats import Diskstats
from pymon.sources.node.filesystem import Filesystem
from pymon.sources.node.loadavg import Loadavg
from pymon.sources.node.machine import Machine
from pymon.sources.node.meminfo import Meminfo
from pymon.sources.node.netdev import Netdev
from pymon.sources.node.pressure import Pressure
from pymon.sources.node.source import NodeSource
from pymon.sources.node.stat import Stat
from pymon.sources.node.statfs import StatfsProbe
from pymon.sources.node.time_of_day import TimeOfDay
from pymon.sources.node.uname import Uname
from pymon.sources.node.vmstat import Vmstat
from pymon.sources.node.zfs import Zfs


@dataclass(frozen=True, slots=True)
class NodeContext:
    """What the collectors take from outside: where the node's file systems are, its clock (ns since 1970), statvfs."""

    procfs: Path = Path("/proc")
    sysfs: Path = Path("/sys")
    rootfs: Path = Path("/")
    clock: Callable[[], int] = time.time_ns
    statvfs: Callable[[str], os.statvfs_result] = os.statvfs


@dataclass(frozen=True, slots=True)
class NodeCollector:
    """A collector by name, and how to make its source."""

    name: str
    make: Callable[[NodeContext], NodeSource]


NODE_COLLECTORS: tuple[NodeCollector, ...] = (
    NodeCollector(Cpu.name, lambda node: Cpu(node.procfs)),
    NodeCollector(
        Diskstats.name, lambda node: Diskstats(node.procfs, node.sysfs, node.rootfs / "run" / "udev" / "data")
    ),
    NodeCollector(
        Filesystem.name, lambda node: Filesystem(node.procfs, node.rootfs, StatfsProbe(statvfs=node.statvfs))
    ),
    NodeCollector(Loadavg.name, lambda node: Loadavg(node.procfs)),
    NodeCollector(Machine.name, lambda node: Machine(node.procfs, node.sysfs, node.rootfs)),
    NodeCollector(Meminfo.name, lambda node: Meminfo(node.procfs)),
    NodeCollector(Netdev.name, lambda node: Netdev(node.procfs)),
    NodeCollector(Pressure.name, lambda node: Pressure(node.procfs)),
    NodeCollector(Stat.name, lambda node: Stat(node.procfs)),
    NodeCollector(Time.name, lambda node: Time(node.sysfs, node.clock)),
    NodeCollector(Uname.name, lambda node: Uname(node.procfs)),
    NodeCollector(Vmstat.name, lambda node: Vmstat(node.procfs)),
    NodeCollector(Zfs.name, lambda node: Zfs(node.procfs)),
)
"""Every collector of the node, in the order of its metrics."""

CMON_COLLECTORS: tuple[NodeCollector, ...] = (
    NodeCollector(CpuInfo.name, lambda node: CpuInfo(node.procfs)),
    NodeCollector(CpuUtil.name, lambda node: CpuUtil(node.procfs)),
    NodeCollector(Arcstats.name, lambda node: Arcstats(node.procfs)),
    NodeCollector(TimeOfDay.name, lambda node: TimeOfDay(node.clock)),
)
"""Those of the cmon dialect."""

__all__ = ["CMON_COLLECTORS", "NODE_COLLECTORS", "NodeCollector", "NodeContext", "NodeSource"]

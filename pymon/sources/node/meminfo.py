"""Memory of the node, from /proc/meminfo.

Keys that are not known here become metrics too, as in node_exporter. They are looked for once, at the start.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import KIB, ONE, Column, Metric, Unit, gauge
from pymon.sources.kernel_file import read_small
from pymon.sources.node.kernel_text import complete_lines
from pymon.sources.node.source import Collector, KeyedSource, NodeContext

MEMINFO_KIB_FIELDS = (
    "MemTotal",
    "MemFree",
    "MemAvailable",
    "Buffers",
    "Cached",
    "SwapCached",
    "Active",
    "Inactive",
    "Active(anon)",
    "Inactive(anon)",
    "Active(file)",
    "Inactive(file)",
    "Unevictable",
    "Mlocked",
    "HighTotal",
    "HighFree",
    "LowTotal",
    "LowFree",
    "MmapCopy",
    "SwapTotal",
    "SwapFree",
    "Zswap",
    "Zswapped",
    "Dirty",
    "Writeback",
    "AnonPages",
    "Mapped",
    "Shmem",
    "KReclaimable",
    "Slab",
    "SReclaimable",
    "SUnreclaim",
    "KernelStack",
    "ShadowCallStack",
    "PageTables",
    "SecPageTables",
    "Quicklists",
    "NFS_Unstable",
    "Bounce",
    "WritebackTmp",
    "CommitLimit",
    "Committed_AS",
    "VmallocTotal",
    "VmallocUsed",
    "VmallocChunk",
    "Percpu",
    "EarlyMemtestBad",
    "HardwareCorrupted",
    "AnonHugePages",
    "ShmemHugePages",
    "ShmemPmdMapped",
    "FileHugePages",
    "FilePmdMapped",
    "CmaTotal",
    "CmaFree",
    "Unaccepted",
    "Balloon",
    "Hugepagesize",
    "Hugetlb",
    "DirectMap4k",
    "DirectMap64k",
    "DirectMap1M",
    "DirectMap2M",
    "DirectMap4M",
    "DirectMap1G",
    "DirectMap2G",
)
"""The lines of /proc/meminfo with the unit kB (fs/proc/meminfo.c and the architectures)."""

MEMINFO_COUNT_FIELDS = ("HugePages_Total", "HugePages_Free", "HugePages_Rsvd", "HugePages_Surp")
"""The lines of /proc/meminfo that count huge pages."""


_LINE = re.compile(rb"([^\s:]{1,100}): +\d+( kB)?")
_OTHER_KEYS_MAX = 200


def other_keys(data: bytes) -> dict[str, Unit]:
    """Return the keys that are not in this module, and the unit of each."""
    found: dict[str, Unit] = {}
    names = {_field(key) for key in MEMINFO_KIB_FIELDS + MEMINFO_COUNT_FIELDS}
    for line in complete_lines(data):
        match = _LINE.fullmatch(line.rstrip())
        if match and match[1].isascii() and len(found) < _OTHER_KEYS_MAX:
            key = match[1].decode()
            if _field(key) not in names:
                names.add(_field(key))
                found[key] = KIB if match[2] else ONE
    return found


class Meminfo(KeyedSource):
    """Table node_meminfo: one row, in KiB, and in pages for the HugePages counts. others: more keys to read."""

    name: ClassVar[str] = "meminfo"

    def __init__(self, procfs: Path, others: Sequence[str] = ()) -> None:
        columns = (*MEMINFO_KIB_FIELDS, *MEMINFO_COUNT_FIELDS, *others)
        super().__init__(procfs / "meminfo", Table("node_meminfo", columns))


def _field(key: str) -> str:
    """Return the key as node_exporter has it in names of metrics: ``Active(anon)`` becomes ``Active_anon``."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", key.replace("(", "_").replace(")", ""))


def _memory(key: str, unit: Unit) -> Metric:
    """Return the metric of a line of /proc/meminfo."""
    field = _field(key) + ("_bytes" if unit is KIB else "")
    return gauge(
        f"node_memory_{field}", f"Memory information field {field}.", "meminfo", Column("node_meminfo", key, unit)
    )


def _others(node: NodeContext) -> dict[str, Unit]:
    return other_keys(read_small(node.procfs / "meminfo"))


METRICS = (
    *(_memory(key, KIB) for key in MEMINFO_KIB_FIELDS),
    *(_memory(key, ONE) for key in MEMINFO_COUNT_FIELDS),
)

COLLECTOR = Collector(
    Meminfo.name,
    lambda node: Meminfo(node.procfs, tuple(_others(node))),
    METRICS,
    more_metrics=lambda node: tuple(_memory(key, unit) for key, unit in _others(node).items()),
)

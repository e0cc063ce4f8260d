"""ZFS, from /proc/spl/kstat/zfs of OpenZFS on Linux.

Most files are named kstats. They have a line of numbers, a header, and lines of name, type and value:
    6 1 0x01 91 4368 5266997922 97951858082072
    name                            type data
    hits                            4    8772612
A pool is a directory with the files `io` (a table of two lines), `state` (one word) and `objset-0x…` for each dataset.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import ONE, SIGNED, Column, Kind, Metric, Sample, unknown
from pymon.catalogue.zfs_fields import ZFS_FIELDS, ZFS_SIGNED, ZIL_FIELDS
from pymon.sources.errors import SourceError
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.kernel_text import complete_lines, text, unsigned
from pymon.sources.node.source import Collector, NodeSource

ZFS_POOL_IO_FIELDS = (
    "nread",
    "nwritten",
    "reads",
    "writes",
    "wtime",
    "wlentime",
    "wupdate",
    "rtime",
    "rlentime",
    "rupdate",
    "wcnt",
    "rcnt",
)
"""/proc/spl/kstat/zfs/POOL/io (kstat_io_t): bytes, operations, nanoseconds, queue lengths."""

ZFS_DATASET_FIELDS = ("writes", "nwritten", "reads", "nread", "nunlinks", "nunlinked", *ZIL_FIELDS)
"""/proc/spl/kstat/zfs/POOL/objset-0x…. The fields about the ZIL exist since OpenZFS 2.2."""

ZFS_POOL_STATES = ("online", "degraded", "faulted", "offline", "removed", "unavail", "suspended")
"""The possible contents of /proc/spl/kstat/zfs/POOL/state, in lower case."""

VALUE_WORD = 2
_DATASET_NAME = b"dataset_name"


def parse_pool_io(data: bytes) -> dict[str, int]:
    """Return the fields of a pool's `io` file by name. Fields that are not numbers are left out."""
    lines = [line.split() for line in complete_lines(data)]
    names, values = next(
        ((head, line) for head, line in pairwise(lines) if head[:1] == [b"nread"]),
        ([], []),
    )
    numbers = {text(name): unsigned(value) for name, value in zip(names, values, strict=False)}
    return {name: number for name, number in numbers.items() if number is not None}


def parse_dataset_name(data: bytes) -> str | None:
    """Return the value of the line `dataset_name`, which may contain blanks, or None without such a line."""
    for line in complete_lines(data):
        if line.startswith(_DATASET_NAME):
            words = line.split(None, VALUE_WORD)
            return text(words[VALUE_WORD]) if len(words) > VALUE_WORD else None
    return None


class Zfs(NodeSource):
    """Statistics of ZFS, in bytes, counts and nanoseconds, as OpenZFS has them.

    Tables: node_zfs_<file> of one row, node_zfs_pool {zpool}, node_zfs_pool_state {zpool} with 1 in the column of the
    pool's state and 0 in the others, and node_zfs_dataset {zpool, dataset}.
    """

    name: ClassVar[str] = "zfs"

    def __init__(self, procfs: Path) -> None:
        self._root = procfs / "spl" / "kstat" / "zfs"
        self._node = [
            (KernelFile(self._root / name), Table(f"node_zfs_{name}", fields, ZFS_SIGNED))
            for name, fields in ZFS_FIELDS.items()
        ]
        self._pools = Table("node_zfs_pool", ZFS_POOL_IO_FIELDS)
        self._states = Table("node_zfs_pool_state", ZFS_POOL_STATES)
        self._datasets = Table("node_zfs_dataset", ZFS_DATASET_FIELDS)
        super().__init__(
            (*(table for _, table in self._node), self._pools, self._states, self._datasets),
            (file for file, _ in self._node),
        )

    def _fill(self) -> None:
        try:
            pools = sorted(entry.name for entry in self._root.iterdir() if entry.is_dir())
        except FileNotFoundError:
            raise SourceError("nodata", f"{self._root}: not there, so ZFS is not loaded") from None
        except OSError as error:
            raise SourceError.from_os_error(self._root, error) from None
        for file, table in self._node:
            # The set of files differs between releases of ZFS.
            data = self._read(file, optional=True)
            if data is not None and not self._scan_keyed(table, file.path, data):
                table.clear()
        for pool in pools:
            self._fill_pool(pool)

    def _fill_pool(self, pool: str) -> None:
        zpool = ("zpool", pool)
        io = self._read_once(self._root / pool / "io")
        if io is not None:
            fields = parse_pool_io(io)
            if fields:
                self._pools.fill(self._pools.add_row((zpool,)), [fields.get(name) for name in ZFS_POOL_IO_FIELDS])
            else:
                self._misread(self._root / pool / "io", "a line of names from 'nread' on, and a line of integers")
        state = self._read_once(self._root / pool / "state")
        if state is not None:
            word = text(state.strip()).lower()
            if word:
                self._states.fill(self._states.add_row((zpool,)), [int(word == name) for name in ZFS_POOL_STATES])
            else:
                self._misread(self._root / pool / "state", f"a word such as {ZFS_POOL_STATES[0].upper()}")
        for name in self._objsets(pool):
            data = self._read_once(self._root / pool / name)
            if data is None:
                continue
            dataset = parse_dataset_name(data)
            if dataset is None:
                self._misread(self._root / pool / name, "a line 'dataset_name 7 NAME'")
                continue
            self._scan_keyed(self._datasets, self._root / pool / name, data, (zpool, ("dataset", dataset)))

    def _scan_keyed(self, table: Table, path: Path, data: bytes, labels: Sequence[tuple[str, str]] = ()) -> int:
        """Add a row from lines of name, type and value. Returns the number of cells."""
        cells = table.scan_keyed(table.add_row(labels), data, VALUE_WORD)
        if not cells or table.malformed:
            self._misread(path, "lines of name, type and an integer that is not negative")
        return cells

    def _objsets(self, pool: str) -> list[str]:
        try:
            return sorted(entry.name for entry in (self._root / pool).iterdir() if entry.name.startswith("objset-"))
        except OSError as error:
            self.problems.append(SourceError.from_os_error(self._root / pool, error))
            return []

    def _read_once(self, path: Path) -> bytes | None:
        """Read a file of a pool. There can be thousands, which come and go with datasets, so none stays open."""
        file = KernelFile(path)
        try:
            return self._read(file, optional=True)
        finally:
            file.close()


_ZFS_SUBSYSTEMS = {
    "abdstats": "abd",
    "arcstats": "arc",
    "dbufstats": "dbuf",
    "dmu_tx": "dmu_tx",
    "dnodestats": "dnode",
    "fm": "fm",
    "vdev_cache_stats": "vdev_cache",
    "vdev_mirror_stats": "vdev_mirror",
    "xuio_stats": "xuio",
    "zfetchstats": "zfetch",
    "zil": "zil",
}


def _zfs(subsystem: str, file: str, table: str, field: str) -> Metric:
    """Return the metric of a field on Linux. As in node_exporter, the value is exported without conversion.

    The help is the name of the sysctl that FreeBSD has for the field.
    """
    return unknown(
        f"node_zfs_{subsystem}_{field.replace('-', '_')}",
        f"kstat.zfs.misc.{file}.{field}",
        "zfs",
        Column(table, field, SIGNED if field in ZFS_SIGNED else ONE),
    )


_ZFS = (
    *(
        _zfs(_ZFS_SUBSYSTEMS[file], file, f"node_zfs_{file}", field)
        for file, fields in ZFS_FIELDS.items()
        for field in fields
    ),
    *(_zfs("zpool", "io", "node_zfs_pool", field) for field in ZFS_POOL_IO_FIELDS),
    *(_zfs("zpool_dataset", "objset", "node_zfs_dataset", field) for field in ZFS_DATASET_FIELDS),
    Metric(
        "node_zfs_zpool_state",
        Kind.GAUGE,
        "kstat.zfs.misc.state",
        "zfs",
        tuple(Sample((Column("node_zfs_pool_state", state),), (("state", state),)) for state in ZFS_POOL_STATES),
    ),
)


def _arc(suffix: str, kind: Kind, help: str, field: str) -> Metric:
    """Return a metric of the cache on illumos, with the name that node_exporter uses on Solaris and FreeBSD."""
    return Metric(
        f"node_zfs_arcstats_{suffix}", kind, f"ZFS ARC {help}", "zfs", (Sample((Column("kstat.arcstats", field),)),)
    )


_ARCSTATS = (
    _arc("anon_bytes", Kind.GAUGE, "anon size", "anon_size"),
    _arc("c_bytes", Kind.GAUGE, "target size", "c"),
    _arc("c_max_bytes", Kind.GAUGE, "maximum size", "c_max"),
    _arc("c_min_bytes", Kind.GAUGE, "minimum size", "c_min"),
    _arc("data_bytes", Kind.GAUGE, "data size", "data_size"),
    _arc("demand_data_hits_total", Kind.COUNTER, "demand data hits", "demand_data_hits"),
    _arc("demand_data_misses_total", Kind.COUNTER, "demand data misses", "demand_data_misses"),
    _arc("demand_metadata_hits_total", Kind.COUNTER, "demand metadata hits", "demand_metadata_hits"),
    _arc("demand_metadata_misses_total", Kind.COUNTER, "demand metadata misses", "demand_metadata_misses"),
    _arc("hdr_bytes", Kind.GAUGE, "header size", "hdr_size"),
    _arc("hits_total", Kind.COUNTER, "hits", "hits"),
    _arc("mfu_bytes", Kind.GAUGE, "MFU size", "mfu_size"),
    _arc("mfu_ghost_hits_total", Kind.COUNTER, "MFU ghost hits", "mfu_ghost_hits"),
    _arc("mfu_ghost_size", Kind.GAUGE, "MFU ghost size", "mfu_ghost_size"),
    _arc("misses_total", Kind.COUNTER, "misses", "misses"),
    _arc("mru_bytes", Kind.GAUGE, "MRU size", "mru_size"),
    _arc("mru_ghost_bytes", Kind.GAUGE, "MRU ghost size", "mru_ghost_size"),
    _arc("mru_ghost_hits_total", Kind.COUNTER, "MRU ghost hits", "mru_ghost_hits"),
    _arc("other_bytes", Kind.GAUGE, "other size", "other_size"),
    _arc("p_bytes", Kind.GAUGE, "MRU target size", "p"),
    _arc("size_bytes", Kind.GAUGE, "size", "size"),
)

METRICS = (*_ZFS, *_ARCSTATS)
"""Metrics of OpenZFS on Linux, then of the cache on illumos."""

COLLECTOR = Collector(
    Zfs.name,
    lambda node: Zfs(node.procfs),
    METRICS,
    row_labels={
        "node_zfs_pool": ("zpool",),
        "node_zfs_pool_state": ("zpool",),
        "node_zfs_dataset": ("zpool", "dataset"),
    },
)

"""The kstat source: zones of an illumos system and their kernel statistics, through libkstat.

native/illumos walks the kstats. This module tells it which kstats to read (the catalogue's KSTATS), and returns changes
as Python values. The interfaces are uts/common/sys/kstat.h and lib/libkstat of illumos.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pymon._native.kstat import ffi, lib
from pymon._native.table import Table
from pymon.catalogue.kstat_fields import KSTATS, NODE_STATUS, STATUS_COLUMNS, ZONE_STATUS, Kstat, Rows
from pymon.sources.errors import SourceError

LIBRARY = "libkstat.so.1"
"""The default library. The dynamic loader finds it."""

STATUS_TABLE = "kstat.status"
NODE_STATUS_TABLE = "kstat.node_status"

_IDENTITY_CLASS = "zone_misc"
_TEXT_BYTES = 1024
_ROWS = {Rows.ZONE: lib.PM_KSTAT_ZONE, Rows.OF_ZONE: lib.PM_KSTAT_OF_ZONE, Rows.NODE: lib.PM_KSTAT_NODE}
_LABELS = {
    "instance": lib.PM_KSTAT_FROM_INSTANCE,
    "name": lib.PM_KSTAT_FROM_NAME,
    "interface": lib.PM_KSTAT_FROM_INTERFACE,
    "stat": lib.PM_KSTAT_FROM_STATISTIC,
}
_REASONS = {
    **{number: name.lower() for number, name in errno.errorcode.items()},
    lib.PM_KSTAT_MALFORMED: "malformed",
    lib.PM_KSTAT_STRING: "string",
    lib.PM_KSTAT_FLOAT: "float",
    lib.PM_KSTAT_TYPE: "type",
}


class ZoneAppeared(NamedTuple):
    """A zone booted, or was running at the first collection.

    row: its row in every table of zones, until its ZoneGone. name: not truncated. boot_time_seconds: since the epoch;
    None while the kernel does not report it.
    """

    row: int
    zone_id: int
    name: str
    boot_time_seconds: int | None


class ZoneGone(NamedTuple):
    """The zone of this row halted. The row can be given to another zone."""

    row: int


class LinkAppeared(NamedTuple):
    """A zone got a network link.

    table_row: row of the link in the table of links, whose labels may be set with `Table.relabel`. zone_row: row of the
    zone. name: of the kstat as the global zone spells it, such as `z5_net0`. The row is removed together with the link
    or the zone. No change reports that.
    """

    table_row: int
    zone_row: int
    name: str


Change = ZoneAppeared | ZoneGone | LinkAppeared


class KstatReader:
    """Reads the kstats of the catalogue into tables, for all zones or for one. Not safe for concurrent use.

    layout: columns of each table. tables: those of all zones and of the node; the objects never change.
    failures: number of failures by reason in the last collection. A failure leaves values absent. The reasons are an
    errno name in lower case ("enxio": the kstat was removed after the chain was updated; "eagain": its owner stayed
    busy), "malformed" (contradictory sizes), "string" (text outside the data), "float" (not an integer), "type" (text
    or an unknown type instead of a number, or raw data instead of statistics).
    """

    def __init__(self, library: str | os.PathLike[str] | None = None, kstats: Sequence[Kstat] = KSTATS) -> None:
        """Load the library and open the kstat chain.

        library: a path, or a name for the dynamic loader. Raises SourceError with the reason "library" when it cannot
        be loaded, "symbol" when it lacks a function, or an errno name when the chain cannot be opened.
        """
        path = Path(LIBRARY if library is None else library)
        # The loader does not search the working directory for a name without a slash, so a path is made absolute.
        named = library is None or (len(path.parts) == 1 and not path.exists())
        self.library = str(path if named else path.absolute())
        self.layout: Mapping[str, tuple[str, ...]] = {
            **{item.table: item.statistics for item in kstats},
            STATUS_TABLE: ZONE_STATUS,
            NODE_STATUS_TABLE: NODE_STATUS,
        }
        self.tables = tuple(Table(name, columns) for name, columns in self.layout.items())
        self.failures: dict[str, int] = {}
        # The C code expects the kstat that identifies zones to be the first.
        self._kstats = sorted(kstats, key=lambda item: item.kstat_class != _IDENTITY_CLASS)
        self._table = {table.name: table for table in self.tables}
        self._reader: Any = ffi.gc(lib.pm_kstat_new(), lib.pm_kstat_free)
        if not self._reader:
            raise MemoryError
        self._load()
        for item in self._kstats:
            self._add(item)
        self._check(lib.pm_kstat_open(self._reader), "kstat_open")

    @property
    def rows(self) -> int:
        """Number of rows in tables of zones: one per zone, and unused rows."""
        return int(lib.pm_kstat_zone_rows(self._reader))

    @property
    def index_seconds(self) -> float:
        """Time that indexing took at the last update of the chain, without the time of libkstat itself."""
        return float(lib.pm_kstat_index_ns(self._reader)) / 1e9

    def collect(self, wanted: frozenset[str] | None = None) -> list[Change]:
        """Update the chain and read each kstat of the wanted tables once. Other tables are cleared.

        wanted: names of tables; None means all. Returns the changes since the last call, in order. Changes that concern
        a zone precede its ZoneGone, in the same list or an earlier one. Raises SourceError when the chain cannot be
        updated; the tables then keep the data of the last collection.
        """
        flags = bytes(wanted is None or item.table in wanted for item in self._kstats)
        status, node_status = self._pointer(STATUS_TABLE), self._pointer(NODE_STATUS_TABLE)
        result = lib.pm_kstat_collect(self._reader, flags, status, node_status)
        self._count_failures()
        self._check(result, "kstat_chain_update")
        return self.changes()

    def new_row_tables(self) -> list[Table]:
        """Return new, empty tables for `collect_zone`: one for each kstat that zones have, and that of statuses."""
        names = [item.table for item in self._kstats if item.rows is not Rows.NODE]
        return [Table(name, self.layout[name]) for name in (*names, STATUS_TABLE)]

    def collect_zone(self, row: int, tables: Sequence[Table | None]) -> bool:
        """Read one zone into tables made by `new_row_tables`. The parent of the rows is 0.

        tables: None skips a table. Returns False when the zone of this row has halted, even when the row already
        belongs to a zone that has not been reported yet. Raises SourceError when the chain cannot be updated.
        """
        given = {table.name: table for table in tables if table is not None}
        pointers = [_address(given.get(item.table)) for item in self._kstats]
        result = lib.pm_kstat_collect_zone(self._reader, row, pointers, _address(given.get(STATUS_TABLE)))
        self._count_failures()
        self._check(-result if result < 0 else 0, "kstat_chain_update")
        return bool(result)

    def changes(self) -> list[Change]:
        """Return the changes that have not been returned yet, in order."""
        count, names = ffi.new("size_t *"), ffi.new("const char **")
        events = lib.pm_kstat_events(self._reader, count, names)
        changes = [_change(events[i], names[0]) for i in range(count[0])]
        lib.pm_kstat_clear_events(self._reader)
        return changes

    def close(self) -> None:
        """Close the chain and the library. No other method may be called after it."""
        if self._reader is not None:
            ffi.release(self._reader)
            self._reader = None

    def _load(self) -> None:
        text, symbol = ffi.new("char[]", _TEXT_BYTES), ffi.new("int *")
        if lib.pm_kstat_load(self._reader, os.fsencode(self.library), text, _TEXT_BYTES, symbol) < 0:
            line = ffi.string(text).decode(errors="replace").replace("\n", " ")
            raise SourceError("symbol" if symbol[0] else "library", line)

    def _add(self, item: Kstat) -> None:
        status = NODE_STATUS if item.rows is Rows.NODE else ZONE_STATUS
        statistics = [ffi.new("char[]", name.encode()) for name in item.statistics]
        family = lib.pm_kstat_add_family(
            self._reader,
            _ROWS[item.rows],
            item.module.encode(),
            item.kstat_class.encode(),
            item.name.encode(),
            lib.PM_KSTAT_ANY if item.instance is None else item.instance,
            ffi.new("const char *[]", statistics),
            len(statistics),
            self._pointer(item.table),
            status.index(f"{item.collector}:{STATUS_COLUMNS[0]}"),
        )
        failed = family < 0
        for label, source in item.labels.items():
            kind, _, statistic = source.partition(":")
            failed |= (
                lib.pm_kstat_add_label(self._reader, family, label.encode(), _LABELS[kind], statistic.encode()) < 0
            )
        for name, values in item.absent.items():
            for value in values:
                failed |= lib.pm_kstat_add_nothing(self._reader, family, item.statistics.index(name), value) < 0
        if failed:
            raise ValueError(f"{item.table}: too many labels or absent values, or a kstat of zones of any name")

    def _pointer(self, name: str) -> Any:
        return _address(self._table[name])

    def _check(self, number: int, call: str) -> None:
        if number:
            raise SourceError.from_os_error(f"{self.library}: {call}", OSError(number, ""))

    def _count_failures(self) -> None:
        counts = ffi.unpack(lib.pm_kstat_failures(self._reader), lib.PM_KSTAT_REASONS)
        self.failures = {_REASONS.get(i, f"errno{i}"): count for i, count in enumerate(counts) if count}


def _address(table: Table | None) -> Any:
    return ffi.NULL if table is None else ffi.cast("pm_table *", table.address)


def _change(event: Any, names: Any) -> Change:
    if event.change == lib.PM_KSTAT_ZONE_GONE:
        return ZoneGone(event.row)
    name = bytes(ffi.buffer(names + event.name_offset, event.name_len)).decode(errors="surrogateescape")
    if event.change == lib.PM_KSTAT_LINK_APPEARED:
        return LinkAppeared(event.link_row, event.row, name)
    return ZoneAppeared(event.row, event.zone_id, name, event.boot_time_seconds or None)

"""The kstat source: zones of an illumos system and what the kernel counts of them, through libkstat.

The loops are in native/illumos; here is which kstats it looks for (the catalogue's KSTATS), and what changed, as Python
values. uts/common/sys/kstat.h and lib/libkstat of illumos are what it relies on.
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
"""What is looked for where no library is named: the loader knows where it is."""

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
    """A zone booted, or was there at the first collection. Until it goes, `row` is its own in every table of zones.

    name: the whole name. boot_time_seconds: since the epoch; None while the kernel doesn't say.
    """

    row: int
    zone_id: int
    name: str
    boot_time_seconds: int | None


class ZoneGone(NamedTuple):
    """The zone of this row halted; the row will be another's."""

    row: int


class LinkAppeared(NamedTuple):
    """A zone has a network link that it had not: this row of its table, whose labels may be added to by `relabel`.

    name: of the kstat, as the global zone spells it, `z5_net0`. The row goes with the link or the zone, silently.
    """

    table_row: int
    zone_row: int
    name: str


Change = ZoneAppeared | ZoneGone | LinkAppeared


class KstatReader:
    """Reads the kstats of the catalogue for all zones, or for one, into tables. For one thread at a time.

    layout: the columns of each table. tables: of all zones and the node, the same objects for life.
    failures: how often each reason made something absent in the last collection: an errno in lower case ("enxio": the
    kstat went after the chain was updated; "eagain": its owner was busy all the time), "malformed" (sizes that
    contradict one another), "string" (text that is not inside the data), "float" (no integer), "type" (text or an
    unknown type for a number, raw data for statistics).
    """

    def __init__(self, library: str | os.PathLike[str] | None = None, kstats: Sequence[Kstat] = KSTATS) -> None:
        """library: a path, or a name for the loader. SourceError with the reason "library", "symbol" or an errno."""
        path = Path(LIBRARY if library is None else library)
        # Absolute: a word without a slash is a name to the loader, which does not look here.
        named = library is None or (len(path.parts) == 1 and not path.exists())
        self.library = str(path if named else path.absolute())
        self.layout: Mapping[str, tuple[str, ...]] = {
            **{item.table: item.statistics for item in kstats},
            STATUS_TABLE: ZONE_STATUS,
            NODE_STATUS_TABLE: NODE_STATUS,
        }
        self.tables = tuple(Table(name, columns) for name, columns in self.layout.items())
        self.failures: dict[str, int] = {}
        # The one that makes zones known is first: that is where the C side looks for it.
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
        """Rows that tables of zones have: one for each zone, and some that are free."""
        return int(lib.pm_kstat_zone_rows(self._reader))

    @property
    def index_seconds(self) -> float:
        """Time that the index took at the last update of the chain, without the library's own part."""
        return float(lib.pm_kstat_index_ns(self._reader)) / 1e9

    def collect(self, wanted: frozenset[str] | None = None) -> list[Change]:
        """Bring the chain up to date and read the kstats of the wanted tables, once each; the others are emptied.

        What changed since the last time, in order: what is of a zone that went comes before it, in the same list or an
        earlier one. SourceError where the chain could not be updated; the tables are then those of the last time.
        """
        flags = bytes(wanted is None or item.table in wanted for item in self._kstats)
        status, node_status = self._pointer(STATUS_TABLE), self._pointer(NODE_STATUS_TABLE)
        result = lib.pm_kstat_collect(self._reader, flags, status, node_status)
        self._count_failures()
        self._check(result, "kstat_chain_update")
        return self.changes()

    def new_row_tables(self) -> list[Table]:
        """Tables for one zone, for `collect_zone`."""
        names = [item.table for item in self._kstats if item.rows is not Rows.NODE]
        return [Table(name, self.layout[name]) for name in (*names, STATUS_TABLE)]

    def collect_zone(self, row: int, tables: Sequence[Table | None]) -> bool:
        """Read one zone into tables of `new_row_tables`, None for what isn't wanted; its label block is parent 0.

        False when the zone that had this row has gone, also when there is another there now, unreported.
        SourceError where the chain could not be updated.
        """
        given = {table.name: table for table in tables if table is not None}
        pointers = [_address(given.get(item.table)) for item in self._kstats]
        result = lib.pm_kstat_collect_zone(self._reader, row, pointers, _address(given.get(STATUS_TABLE)))
        self._count_failures()
        self._check(-result if result < 0 else 0, "kstat_chain_update")
        return bool(result)

    def changes(self) -> list[Change]:
        """What changed and has not been told yet, in order."""
        count, names = ffi.new("size_t *"), ffi.new("const char **")
        events = lib.pm_kstat_events(self._reader, count, names)
        changes = [_change(events[i], names[0]) for i in range(count[0])]
        lib.pm_kstat_clear_events(self._reader)
        return changes

    def close(self) -> None:
        """Close the chain and the library. Nothing else may be called after it."""
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

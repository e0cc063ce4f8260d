"""The data types of a catalogue: columns of kernel values, and the metrics that are made from them.

A column is one kernel field in the kernel's own unit. A metric gives it a name, a type and a help text. The column's
unit converts the value to base units. This module does no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The type of a metric family, in the terms of OpenMetrics."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Unit:
    """The conversion of a kernel integer to a number in base units.

    ``((value - subtract) * multiply // divide + add) / 10**decimals``. A negative difference counts as 0.
    """

    multiply: int = 1
    decimals: int = 0
    signed: bool = False
    subtract: int = 0
    divide: int = 1
    add: int = 0


ONE = Unit()
SIGNED = Unit(signed=True)
MILLI = Unit(decimals=3)
USEC = Unit(decimals=6)
NSEC = Unit(decimals=9)
CENTI = Unit(decimals=2)
USER_HZ = Unit(decimals=2)
"""Clock ticks in the kernel's user interface. USER_HZ is 100 on every Linux that runs Python."""
FSCALE = Unit(multiply=5**8, decimals=8)
"""1/256, converted exactly. Load averages of illumos have this unit."""
KIB = Unit(multiply=1024)
SECTOR = Unit(multiply=512)
"""Sectors of the block layer are always 512 bytes, regardless of the device (block/blk.h)."""


@dataclass(frozen=True, slots=True)
class Column:
    """A kernel field: the table that contains it, its key in the table, and its unit."""

    table: str
    key: str
    unit: Unit = ONE


@dataclass(frozen=True, slots=True)
class Sample:
    """A series for each row of a table.

    columns: alternatives in order. The first one whose table the running sources provide is used.
    labels: constant labels of the series, before those of the row.
    minus: alternatives of a column to subtract. A negative difference counts as 0.
    plus: alternatives of a column to add.
    when: alternatives of a column that must have a value. Otherwise there is no sample.
    suffix: what follows the name of the family.
    The columns of minus, plus and when are in the same table as the one that is used.
    """

    columns: tuple[Column, ...]
    labels: tuple[tuple[str, str], ...] = ()
    minus: tuple[Column, ...] = ()
    plus: tuple[Column, ...] = ()
    when: tuple[Column, ...] = ()
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric family and its series. collector: the name of the collector that enables and disables it.

    The samples of a histogram are of one table: the buckets with ascending bounds, then the sum and the count.
    """

    name: str
    kind: Kind
    help: str
    collector: str
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Creation:
    """When containers were created, and which counters were 0 then.

    column: seconds since the epoch, in the table whose rows the rows of other tables have as parents. tables: the names
    of those whose counters begin at 0 when the container is created.
    """

    column: Column
    tables: frozenset[str]


def counter(name: str, help: str, collector: str, *columns: Column) -> Metric:
    """Return a counter with one series for each row. columns: alternatives, as in `Sample`."""
    return Metric(name, Kind.COUNTER, help, collector, (Sample(columns),))


def gauge(name: str, help: str, collector: str, *columns: Column) -> Metric:
    """Return a gauge with one series for each row. columns: alternatives, as in `Sample`."""
    return Metric(name, Kind.GAUGE, help, collector, (Sample(columns),))


def unknown(name: str, help: str, collector: str, *columns: Column) -> Metric:
    """Return a family of type unknown (untyped in the text format) with one series for each row."""
    return Metric(name, Kind.UNKNOWN, help, collector, (Sample(columns),))

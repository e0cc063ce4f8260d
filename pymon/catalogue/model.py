"""The words of a catalogue: columns of kernel numbers, and the metrics made of them.

A column is one kernel field in the kernel's own unit. A metric names it, gives it a
type and a help text, and says through the column's unit how to write it in base units.
Nothing here reads anything.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Type of a metric family, in OpenMetrics' words."""

    COUNTER = "counter"
    GAUGE = "gauge"
    INFO = "info"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Unit:
    """How a kernel integer becomes a number in base units.

    ``((value - subtract) * multiply // divide + add) / 10**decimals``; the difference has a floor of 0.
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
"""Clock ticks of the kernel's user interface: USER_HZ is 100 on every Linux that runs Python."""
FSCALE = Unit(multiply=5**8, decimals=8)
"""256ths, exactly: load averages of illumos."""
KIB = Unit(multiply=1024)
SECTOR = Unit(multiply=512)
"""Block layer sectors are 512 bytes whatever the device says (block/blk.h)."""
PAGE = Unit(multiply=os.sysconf("SC_PAGE_SIZE"))


@dataclass(frozen=True, slots=True)
class Column:
    """A kernel field: the table that carries it, its key there, and its unit."""

    table: str
    key: str
    unit: Unit = ONE


@dataclass(frozen=True, slots=True)
class Sample:
    """One line for each row of a table.

    columns: alternatives in order; the first whose table the running sources publish is used.
    labels: constant labels of this line, before those of the row.
    minus: alternatives of a column (same table as the one used) to subtract; the difference has a floor of 0.
    plus: alternatives of a column (same table) to add.
    when: alternatives of a column (same table) that must be present for the line to be written.
    """

    columns: tuple[Column, ...]
    labels: tuple[tuple[str, str], ...] = ()
    minus: tuple[Column, ...] = ()
    plus: tuple[Column, ...] = ()
    when: tuple[Column, ...] = ()


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric family and the lines it is made of. `collector` is the name that switches it on and off."""

    name: str
    kind: Kind
    help: str
    collector: str
    samples: tuple[Sample, ...]


def counter(name: str, help: str, collector: str, *columns: Column) -> Metric:
    """A counter with one line for each row."""
    return Metric(name, Kind.COUNTER, help, collector, (Sample(columns),))


def gauge(name: str, help: str, collector: str, *columns: Column) -> Metric:
    """A gauge with one line for each row."""
    return Metric(name, Kind.GAUGE, help, collector, (Sample(columns),))


def unknown(name: str, help: str, collector: str, *columns: Column) -> Metric:
    """A family of type unknown (untyped in the text format) with one line for each row."""
    return Metric(name, Kind.UNKNOWN, help, collector, (Sample(columns),))

"""Kstats for tests to load into the double, and what a reader made of them."""

from __future__ import annotations

import pytest

from pymon.catalogue.kstat_fields import KSTATS, Kstat, Rows

ZONE_MISC = KSTATS[0]
NEVER = frozenset[str]()
READ_WAYS = pytest.mark.parametrize("direct", [True, False], ids=["ioctl", "kstat_read"])


def table_of(reader, name):
    return next(table for table in reader.tables if table.name == name)


def cells(table, row):
    found = {column: table.get(row, column) for column in table.columns}
    return {column: value for column, value in found.items() if value is not None}


def kstat(module, instance, name, kstat_class, data, **members):
    return {
        "module": module,
        "instance": instance,
        "name": name,
        "class": kstat_class,
        "type": 1,
        "data": data,
        **members,
    }


def zone(number, name, **data):
    return kstat("zones", number, name[:30], "zone_misc", {"zonename": name, "boot_time": 1000 + number, **data})


def link(name, **data):
    return kstat("link", 0, name, "net", {"rbytes64": 7, **data})


def only(column, **arguments):
    """KSTATS with one more of a kind that the catalogue has none of."""
    options = {"module": "m", "kstat_class": "c", "name": "n", "rows": Rows.NODE, "collector": "cpu_util"}
    return (ZONE_MISC, Kstat(table="t", statistics=column, **(options | arguments)))


def unsigned(value):
    return value % 2**64

from fractions import Fraction
from pathlib import Path

from pymon._native.table import Table
from pymon.catalogue import cmon
from pymon.catalogue.kstat_fields import KSTATS, NODE_STATUS, ZONE_STATUS
from pymon.catalogue.program_fields import (
    LABELS,
    NTP_FIELDS,
    NTP_PEER_FIELDS,
    NTP_SYSPEER_FIELDS,
    TIME_FIELDS,
    ZPOOL_FIELDS,
)
from pymon.catalogue.program_fields import ZFS_FIELDS as ZFS_LIST_FIELDS
from pymon.catalogue.zfs_fields import ZFS_FIELDS
from pymon.sources.node.cpu_info import CPU_INFO_FIELDS
from pymon.sources.node.cpu_util import CPU_UTIL_FIELDS
from tests.oracle import Series, parse, render_text

PROGRAMS = {
    "zfs": ZFS_LIST_FIELDS,
    "zpool_list": ZPOOL_FIELDS,
    "ntp": NTP_FIELDS,
    "ntp_syspeer": NTP_SYSPEER_FIELDS,
    "ntp_peer": NTP_PEER_FIELDS,
}
KSTAT_COLUMNS = {
    **{kstat.table: kstat.statistics for kstat in KSTATS},
    "kstat.status": ZONE_STATUS,
}
OF_NODE = {"kstat.node_status": NODE_STATUS, "time": TIME_FIELDS}
OF_ZONES = {**KSTAT_COLUMNS, **PROGRAMS, "container": ("last_seen",)}
"""With the tables of the node, but for those whose metrics zones have too."""
LABELS_OF = {**{kstat.table: tuple(kstat.labels) for kstat in KSTATS}, **LABELS}
EXACT = 2**32 * 10**6
"""A cell that is a multiple of it is whole after every unit of the dialect."""


def lines(name):
    text = (Path(__file__).parent / name).read_text()
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def scale(text):
    return Fraction(text)


def tables_of(columns, first=1):
    """Every table with one row, every cell another number."""
    tables, number = [], first
    for name, keys in columns.items():
        table = Table(name, tuple(keys))
        row = table.add_row([(label, f"the {label}") for label in LABELS_OF.get(name, ())])
        for key in table.columns:
            table.set(row, key, number * EXACT)
            number += 1
        tables.append(table)
    return tables


def cells(tables):
    return {(table.name, key): table.get(0, key) for table in tables for key in table.columns}


def expected(listed, tables):
    """The series that lines `metric type scale labels tables column` say there are."""
    cell = cells(tables)
    by_name = {table.name for table in tables}
    series: dict[Series, Fraction] = {}
    for line in listed:
        metric, _, factor, names, of_tables, key = line.split(" ", 5)
        label = frozenset((name, f"the {name}") for name in names.split(",")) if names != "-" else frozenset()
        for table in of_tables.split(","):
            if table in by_name:
                series[metric, label] = cell[table, key] * scale(factor)
    return series


def test_every_metric_of_the_list_and_no_other_with_its_type():
    listed = {tuple(line.split(" ", 5)[:2]) for line in lines("cmon.txt")}
    assert sorted(listed) == sorted((metric.name, metric.kind.value) for metric in cmon.metrics())


def test_every_metric_has_the_cell_the_unit_and_the_labels_of_the_list():
    for columns in (OF_ZONES, OF_NODE):
        tables = tables_of(columns)
        assert parse(render_text(cmon.metrics(), tables)) == expected(lines("cmon.txt"), tables)


def test_the_legacy_switch_changes_what_its_list_says_and_nothing_else():
    legacy = [line.split(" ", 4) for line in lines("cmon_legacy.txt")]
    for columns in (OF_ZONES, OF_NODE):
        tables = tables_of(columns)
        cell = cells(tables)
        wanted = expected(lines("cmon.txt"), tables)
        for metric, _, factor, table, key in legacy:
            if table in columns:
                wanted[metric, frozenset()] = cell[table, key] * scale(factor)
        assert parse(render_text(cmon.metrics(legacy=True), tables)) == wanted
    kinds = {metric.name: metric.kind.value for metric in cmon.metrics()} | {name: kind for name, kind, *_ in legacy}
    assert {metric.name: metric.kind.value for metric in cmon.metrics(legacy=True)} == kinds
    assert [metric.name for metric in cmon.metrics(legacy=True)] == [metric.name for metric in cmon.metrics()]


def linux_lines():
    """metric, scale, table, column, column to add or None; a line for each statistic of the cache that Linux has."""
    for line in lines("cmon_linux.txt"):
        metric, factor, table, key = line.split(" ", 3)
        if metric == "arcstats_*":
            for listed in lines("cmon.txt"):
                name, _, factor, _, of_tables, statistic = listed.split(" ", 5)
                if of_tables == "kstat.arcstats" and statistic in ZFS_FIELDS["arcstats"]:
                    yield name, factor, table, statistic, None
        else:
            first, _, plus = key.partition(" + ")
            yield metric, factor, table, first, plus or None


def test_what_linux_has_is_on_its_list_with_its_units():
    listed = list(linux_lines())
    columns: dict[str, list[str]] = {}
    for _, _, table, key, plus in listed:
        columns.setdefault(table, []).extend(filter(None, (key, plus)))
    seen = 0
    for name, keys in columns.items():
        tables = tables_of({name: keys})
        cell = cells(tables)
        wanted = {
            (metric, frozenset()): (cell[name, key] + (cell[name, plus] if plus else 0)) * scale(factor)
            for metric, factor, table, key, plus in listed
            if table == name
        }
        assert parse(render_text(cmon.metrics(), tables)) == wanted, name
        seen += len(wanted)
    assert seen == len(listed)


def test_nothing_else_is_taken_from_linux():
    named = {
        (metric.name, column.table, column.key)
        for metric in cmon.metrics()
        for sample in metric.samples
        for column in sample.columns
        if column.table not in OF_ZONES and column.table not in OF_NODE
    }
    assert named == {(metric, table, key) for metric, _, table, key, _ in linux_lines()}


def test_the_columns_of_small_sources_are_all_used():
    used = {(table, key) for _, _, table, key, _ in linux_lines()}
    assert {key for table, key in used if table == "node_cpu_util"} == set(CPU_UTIL_FIELDS)
    assert {key for table, key in used if table == "node_cpu_info"} == set(CPU_INFO_FIELDS)

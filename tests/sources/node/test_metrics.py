import re
import shutil
import subprocess

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from pymon._native.renderer import Body
from pymon._native.table import Table
from pymon.catalogue.kstat_fields import NODE_EXPORTER_KSTATS, Rows
from pymon.catalogue.model import Kind
from pymon.exposition.compile import compile_catalogue
from pymon.sources.node import NODE_COLLECTORS, NODE_METRICS, NodeContext
from tests.oracle import openmetrics_family, parse, render_text

TABLES = {table.name: table for collector in NODE_COLLECTORS for table in collector.make(NodeContext()).tables}
TABLES_OF = {
    collector.name: {table.name for table in collector.make(NodeContext()).tables} for collector in NODE_COLLECTORS
}
EVERY_COLUMN = [(metric, column) for metric in NODE_METRICS for sample in metric.samples for column in sample.columns]
COLUMNS = [(metric, column) for metric, column in EVERY_COLUMN if not column.table.startswith("kstat.")]
LINUX = [metric for metric in NODE_METRICS if any(of is metric for of, _ in COLUMNS)]
KSTAT_TABLES = {kstat.table: kstat for kstat in NODE_EXPORTER_KSTATS}

LINT_OF_NODE_EXPORTER = re.compile(
    r"node_(memory|netstat|sockstat)_\S+ metric names should be written in 'snake_case' not 'camelCase'"
    r'|machine_(dimm|node_hugepages|thread_siblings)_count .* should not have "_count" suffix'
    r"|node_power_supply_charge_counter metric name should not include type 'counter'"
    r"|node_entropy_\S+ use base unit \"bytes\" instead of \"bits\""
    r'|node_systemd_socket_refused_connections_total non-counter metrics should not have "_total" suffix'
)
"""What promtool says of node_exporter's names too, and of cAdvisor's."""


def filled():
    """Every table with one row, every cell another number: what a node with everything would publish."""
    tables, number = [], 1
    for source in TABLES.values():
        table = Table(source.name, source.columns)
        row = table.add_row([("device", 'a"\\\n')])
        for column in table.columns:
            table.set(row, column, number)
            number += 1
        tables.append(table)
    return tables


def test_names_are_those_of_prometheus_and_unique():
    names = [metric.name for metric in NODE_METRICS]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"(node|machine)_[a-zA-Z0-9_]+", name)] == []


def test_collectors_and_order():
    collectors = list(dict.fromkeys(metric.collector for metric in NODE_METRICS))
    assert collectors == [collector.name for collector in NODE_COLLECTORS]
    runs = [metric.collector for previous, metric in zip((None, *NODE_METRICS), NODE_METRICS, strict=False) if
            previous is None or previous.collector != metric.collector]  # fmt: skip
    assert runs == collectors, "the families of a collector stand together"


def test_every_column_is_in_a_table_of_its_collector():
    for metric, column in COLUMNS:
        assert column.table in TABLES_OF[metric.collector], metric.name
        assert column.key in TABLES[column.table].columns, metric.name


def test_every_column_of_every_table_has_exactly_one_line():
    published = [(column.table, column.key) for _, column in COLUMNS]
    assert sorted(published) == sorted((name, key) for name, table in TABLES.items() for key in table.columns)


def test_every_column_of_a_kstat_is_in_a_table_of_the_node():
    of_kstats = [column for _, column in EVERY_COLUMN if column.table.startswith("kstat.")]
    assert len({(column.table, column.key) for column in of_kstats}) == len(of_kstats) == 29
    for column in of_kstats:
        assert KSTAT_TABLES[column.table].rows is Rows.NODE
        assert column.key in KSTAT_TABLES[column.table].statistics, column


def test_on_illumos_the_node_has_the_names_of_node_exporter_on_solaris():
    cpu = Table("kstat.cpu_sys", KSTAT_TABLES["kstat.cpu_sys"].statistics)
    row = cpu.add_row([(label, "3") for label in KSTAT_TABLES["kstat.cpu_sys"].labels])
    for at, mode in enumerate(("idle", "kernel", "user", "dtrace")):
        cpu.set(row, f"cpu_nsec_{mode}", 10**9 + at)
    misc = Table("kstat.system_misc", KSTAT_TABLES["kstat.system_misc"].statistics)
    for key, value in (("avenrun_1min", 1), ("avenrun_5min", 384), ("avenrun_15min", 2**32 - 1), ("boot_time", 7)):
        misc.set(0 if len(misc) else misc.add_row(), key, value)
    lines = [line for line in render_text(NODE_METRICS, (cpu, misc)).decode().splitlines() if line[0] != "#"]
    assert lines == [
        'node_cpu_seconds_total{mode="idle",cpu="3"} 1',
        'node_cpu_seconds_total{mode="kernel",cpu="3"} 1.000000001',
        'node_cpu_seconds_total{mode="user",cpu="3"} 1.000000002',
        "node_load1 0.00390625",
        "node_load15 16777215.99609375",
        "node_load5 1.5",
        "node_boot_time_seconds 7",
    ]


GAUGES_THERE = {"node_systemd_socket_refused_connections_total"}
"""Counters by their name, which are gauges in node_exporter."""


def test_kinds_fit_names():
    for metric in NODE_METRICS:
        is_counter = metric.name.endswith("_total") and metric.name not in GAUGES_THERE
        assert (metric.kind is Kind.COUNTER) == is_counter, metric.name
        assert metric.help
        assert metric.kind is not Kind.INFO, "node_exporter's are gauges"


def test_samples_of_a_family_differ_by_a_label():
    for metric in NODE_METRICS:
        told_apart = {(sample.labels, sample.columns[0].table.startswith("kstat.")) for sample in metric.samples}
        assert len(told_apart) == len(metric.samples), metric.name


def test_text_is_read_back():
    text = render_text(NODE_METRICS, filled())
    families = list(text_families(text.decode()))
    assert len(families) == len(LINUX)
    assert len(parse(text)) == len(COLUMNS)
    assert sorted(parse(text).values()) != []


def test_openmetrics_is_read_back():
    text = render_text(NODE_METRICS, filled(), openmetrics=True).decode()
    families = list(openmetrics_families(text))
    assert [(family.name, family.type) for family in families] == [openmetrics_family(metric) for metric in LINUX]
    names = {sample.name for family in families for sample in family.samples}
    assert names == {metric.name for metric in LINUX}, "no name differs from the text format's"


@pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])
def test_the_native_renderer_writes_the_same_bytes(openmetrics):
    tables = filled()
    compiled = compile_catalogue(NODE_METRICS, {table.name: table.columns for table in tables})
    body = Body()
    lines = compiled.renderer.render(body, tables, openmetrics=openmetrics)
    assert lines == len(COLUMNS)
    assert bytes(memoryview(body)) == render_text(NODE_METRICS, tables, openmetrics).removesuffix(b"# EOF\n")


def test_units():
    lines = parse(render_text(NODE_METRICS, filled()))
    scales = {name: value / cell_of(name) for (name, _), value in lines.items()}
    assert scales["node_memory_Active_anon_bytes"] == 1024
    assert scales["node_memory_HugePages_Total"] == 1
    assert scales["node_disk_read_bytes_total"] == 512
    assert scales["node_disk_discarded_sectors_total"] == 1
    assert scales["node_disk_io_time_weighted_seconds_total"] * 1000 == 1
    assert scales["node_cpu_seconds_total"] * 100 == 1
    assert scales["node_pressure_irq_stalled_seconds_total"] * 10**6 == 1
    assert scales["node_load15"] * 100 == 1
    assert scales["node_time_seconds"] * 10**9 == 1
    assert scales["machine_memory_bytes"] == 1024


def cell_of(name):
    """The cell of the family's last sample in the filled tables."""
    column = [column for metric, column in COLUMNS if metric.name == name][-1]
    return next(table.get(0, column.key) for table in filled() if table.name == column.table)


@pytest.mark.parametrize(
    ("name", "table", "key"),
    [
        ("node_memory_Inactive_file_bytes", "node_meminfo", "Inactive(file)"),
        ("node_memory_Committed_AS_bytes", "node_meminfo", "Committed_AS"),
        ("node_zfs_arc_arc_meta_used", "node_zfs_arcstats", "arc_meta_used"),
        ("node_zfs_dmu_tx_dmu_tx_assigned", "node_zfs_dmu_tx", "dmu_tx_assigned"),
        ("node_zfs_fm_erpt_set_failed", "node_zfs_fm", "erpt-set-failed"),
        ("node_zfs_vdev_mirror_rotating_seek", "node_zfs_vdev_mirror_stats", "rotating_seek"),
        ("node_zfs_zil_zil_commit_count", "node_zfs_zil", "zil_commit_count"),
        ("node_zfs_zpool_rlentime", "node_zfs_pool", "rlentime"),
        ("node_zfs_zpool_dataset_nunlinked", "node_zfs_dataset", "nunlinked"),
    ],
)
def test_names_made_of_kernel_words(name, table, key):
    assert [(column.table, column.key) for metric, column in COLUMNS if metric.name == name] == [(table, key)]


def test_promtool_says_what_it_says_of_node_exporter():
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=render_text(NODE_METRICS, filled()), capture_output=True, check=False
    )
    findings = checked.stderr.decode().splitlines() + checked.stdout.decode().splitlines()
    assert [finding for finding in findings if not LINT_OF_NODE_EXPORTER.fullmatch(finding)] == []
    assert checked.returncode == 3

import re

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from pymon._native.renderer import Body
from pymon._native.table import Table
from pymon.catalogue import cadvisor, cmon
from pymon.catalogue.cgroup_fields import NETWORK_TABLES, TABLES
from pymon.catalogue.kstat_fields import KSTATS, UNLIMITED_64, UNLIMITED_PAGES, Rows
from pymon.exposition.compile import compile_catalogue
from pymon.sources.cgroup import columns_of
from pymon.sources.node import NODE_METRICS
from tests.oracle import openmetrics_family, render_text

KSTAT = {kstat.table: kstat for kstat in KSTATS}
BOTH = pytest.mark.parametrize("legacy", [False, True], ids=["right", "legacy"])


def table(name, *rows, **cells):
    made = Table(name, tuple(cells))
    made.fill(made.add_row(*rows), cells.values())
    return made


def lines(metrics, *tables):
    return [line for line in render_text(metrics, tables).decode().splitlines() if line[0] != "#"]


def whole(metrics):
    """Every table that the metrics name with one row, every cell 1."""
    layout: dict[str, dict[str, None]] = {}
    for column in columns_of(metrics):
        layout.setdefault(column.table, {})[column.key] = None
    return [table(name, [("table", name)], **dict.fromkeys(keys, 1)) for name, keys in layout.items()]


@BOTH
def test_names_and_collectors(legacy):
    metrics = cmon.metrics(legacy=legacy)
    names = [metric.name for metric in metrics]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"[a-z][a-zA-Z0-9_]*", name)] == []
    collectors = [metric.collector for metric in metrics]
    runs = [now for before, now in zip(["", *collectors], collectors, strict=False) if before != now]
    assert runs == (
        "zone_misc cpucap memcap zone_vfs zone_zfs swapresv nprocs tcp link zfs time cpu_info cpu_util zpool arcstats"
        " ntp".split()
    ), "the families of a collector stand together"
    assert all(metric.help and "\n" not in metric.help for metric in metrics)


@BOTH
def test_what_is_written_is_read_back_by_strict_parsers(legacy):
    metrics = cmon.metrics(legacy=legacy)
    tables = whole(metrics)
    text = render_text(metrics, tables).decode()
    assert len(list(text_families(text))) == len(metrics)
    families = list(openmetrics_families(render_text(metrics, tables, openmetrics=True).decode()))
    assert [(family.name, family.type) for family in families] == [openmetrics_family(metric) for metric in metrics]
    assert {sample.name for family in families for sample in family.samples} == {metric.name for metric in metrics}


@pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])
@BOTH
def test_the_native_renderer_writes_the_same_bytes(legacy, openmetrics):
    metrics = cmon.metrics(legacy=legacy)
    tables = whole(metrics)
    compiled = compile_catalogue(metrics, {table.name: table.columns for table in tables})
    # With both systems' tables published only the first alternative counts.
    body = Body()
    compiled.renderer.render(body, tables, openmetrics=openmetrics)
    assert bytes(memoryview(body)) == render_text(metrics, tables, openmetrics).removesuffix(b"# EOF\n")


def test_no_name_means_something_else_in_another_dialect():
    names = {metric.name for metric in cmon.metrics()}
    assert not names & {metric.name for metric in (*cadvisor.METRICS, *NODE_METRICS)}


def test_load_averages_are_exact():
    assert lines(cmon.metrics(), table("kstat.zone_misc", avenrun_1min=1524)) == ["load_average 5.953125"]
    assert lines(cmon.metrics(), table("kstat.zone_misc", avenrun_1min=2**32 - 1)) == ["load_average 16777215.99609375"]


def test_64_bits_are_exact():
    assert lines(cmon.metrics(), table("kstat.memcap", swap=2**64 - 1)) == ["mem_swap 18446744073709551615"]
    assert lines(cmon.metrics(), table("kstat.cpu_sys", cpu_nsec_idle=2**63 + 1)) == [
        "cpu_idle_seconds_total 9223372036.854775809"
    ]


def test_the_clock_is_in_seconds_or_in_milliseconds():
    now = table("time", now_ns=1507171309247999999)
    assert lines(cmon.metrics(), now) == ["time_of_day 1507171309.247"]
    assert lines(cmon.metrics(legacy=True), now) == ["time_of_day 1507171309247"]


def test_times_of_ntpd():
    cells = {"reference time": 0xDD9E1C1E67C8D279, "reference time:legacy": 3718126622174121432}
    now = table("ntp", **cells)
    assert lines(cmon.metrics(), now) == ["ntp_reftime_seconds 3718126622.405408052"]
    assert lines(cmon.metrics(legacy=True), now) == ["ntp_reftime_seconds 3718126622.174121432"]


def test_decimals_of_ntpd_keep_their_sign_and_their_digits():
    peer = table("ntp_peer", [("remote", "216.229.0.49")], offset=-6_985_000_000, state=-1, when=-1)
    assert lines(cmon.metrics(), peer) == [
        'ntp_peer_offset_seconds{remote="216.229.0.49"} -0.006985',
        'ntp_peer_state{remote="216.229.0.49"} -1',
        'ntp_peer_last_query_seconds{remote="216.229.0.49"} -1',
    ]
    system = table("ntp", **{"maximum error": 299_354_000_000, "broadcast delay": -50_000_000_000, "kilobytes": 1})
    assert lines(cmon.metrics(), system) == [
        "ntp_maximum_error_seconds 0.000299354",
        "ntp_mru_monitor_memory_bytes 1024",
        "ntp_broadcast_delay_seconds -0.00005",
    ]
    assert "ntp_mru_monitor_memory_bytes 0.0009765625" in lines(cmon.metrics(legacy=True), system)


def test_values_that_stand_for_no_limit():
    assert KSTAT["kstat.memcap"].absent == {
        "physcap": (0, 17592186040320, UNLIMITED_64),
        "swapcap": (0, 18446744073709551615),
    }
    assert UNLIMITED_PAGES == 17592186040320


def test_the_clock_of_the_node_and_those_of_zones_are_one_family():
    zones = Table("container", ("last_seen",))
    zones.grow(1)
    zones.set(0, "last_seen", 2 * 10**9)
    text = render_text(cmon.metrics(), [table("time", now_ns=10**9), zones], parents=[b'zone="a"']).decode()
    assert text.splitlines()[2:] == ["time_of_day 1", 'time_of_day{zone="a"} 2']


def test_linux_tables_are_those_of_linux_sources():
    tables: dict[str, dict[str, None]] = {}
    for metric in cmon.metrics():
        named = dict.fromkeys(column.table for column in columns_of([metric]) if not column.table.startswith("kstat."))
        tables[metric.collector] = tables.get(metric.collector, {}) | named
    assert {collector: tuple(of) for collector, of in tables.items() if of} == {
        "zone_misc": ("cpu.v2", "cpu.v1"),
        "memcap": ("memory.v2", "memory.v1"),
        "zone_vfs": ("io.v2", "io.v1"),
        "tcp": ("advtcp",),
        "link": ("network",),
        "zfs": ("zfs",),
        "time": ("time", "container"),
        "cpu_info": ("node_cpu_info",),
        "cpu_util": ("node_cpu_util",),
        "zpool": ("zpool_list",),
        "arcstats": ("node_zfs_arcstats",),
        "ntp": ("ntp", "ntp_syspeer", "ntp_peer"),
    }
    of_containers = {"zone_misc", "memcap", "zone_vfs", "tcp", "link"}
    assert {name for collector in of_containers for name in tables[collector]} <= {*TABLES, *NETWORK_TABLES}


def test_on_illumos_containers_have_the_names_of_cadvisor():
    columns = [column for column in columns_of(cadvisor.METRICS) if column.table.startswith("kstat.")]
    assert all(column.key in KSTAT[column.table].statistics for column in columns)
    assert {KSTAT[column.table].rows for column in columns} == {Rows.ZONE, Rows.OF_ZONE}
    zone = table("kstat.zone_misc", nsec_user=1_500_000_000, nsec_sys=2_000_000_001, boot_time=1500000000)
    memory = table("kstat.memcap", rss=4096, physcap=8192, swap=100, swapcap=200, nover=3)
    link = table("kstat.link", [("interface", "vnic0")], rbytes64=1, obytes64=2, norcvbuf=3, oerrors=4)
    assert lines(cadvisor.METRICS, zone, memory, link, table("kstat.tcp", currEstab=7, listenDrop=8)) == [
        "container_start_time_seconds 1500000000",
        'container_cpu_usage_seconds_total{cpu="total"} 3.500000001',
        "container_cpu_user_seconds_total 1.5",
        "container_cpu_system_seconds_total 2.000000001",
        "container_memory_rss 4096",
        "container_memory_swap 100",
        "container_memory_failcnt 3",
        "container_memory_usage_bytes 4096",
        'container_network_receive_bytes_total{interface="vnic0"} 1',
        'container_network_receive_packets_dropped_total{interface="vnic0"} 3',
        'container_network_transmit_bytes_total{interface="vnic0"} 2',
        'container_network_transmit_errors_total{interface="vnic0"} 4',
        'container_network_advance_tcp_stats_total{tcp_state="currestab"} 7',
        'container_network_advance_tcp_stats_total{tcp_state="listenoverflows"} 8',
        "container_spec_memory_limit_bytes 8192",
        "container_spec_memory_swap_limit_bytes 200",
    ]


def test_neither_half_of_a_sum_is_published_alone():
    assert lines(cadvisor.METRICS, table("kstat.zone_misc", nsec_user=1, nsec_sys=None)) == [
        "container_cpu_user_seconds_total 0.000000001"
    ]
    assert lines(cmon.metrics(), table("memory.v2", **{"memory.stat:anon": 1})) == []

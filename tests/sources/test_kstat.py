from __future__ import annotations

import errno
import json
import resource
import time
from pathlib import Path

import pytest

from pymon.catalogue.kstat_fields import KSTATS, NODE_STATUS, UNLIMITED_64, ZONE_STATUS, Kstat, Rows
from pymon.sources.kstat import KstatReader, LinkAppeared, ZoneAppeared, ZoneGone
from tests.kstat.double import CHAINS, INVALID, VIRTUAL, plain
from tests.sources.kstats import NEVER, READ_WAYS, ZONE_MISC, cells, kstat, link, only, table_of, unsigned, zone

# What is where.


def expected_zone_cells(chain, item, zone_id):
    """What the table of a family says of a zone, worked out from the text of the chain."""
    names = {entry["instance"]: entry["data"]["zonename"] for entry in chain if entry["module"] == "zones"}
    wanted = item.name.replace("{zone}", names[zone_id][:30]).replace("{instance}", str(zone_id))
    for entry in chain:
        if (entry["module"], entry["instance"], entry["class"]) != (item.module, zone_id, item.kstat_class):
            continue
        if entry["name"] == wanted:
            pairs = ((name, entry["data"].get(name)) for name in item.statistics)
            return {
                name: unsigned(value)
                for name, value in pairs
                if value is not None and value not in item.absent.get(name, ())
            }
    return {}


@READ_WAYS
@pytest.mark.parametrize("name", ["smartos-small", "omnios"])
def test_every_number_of_a_chain_is_in_its_cell(double, open_reader, name, direct):
    path = CHAINS / f"{name}.json"
    chain = json.loads(path.read_text())
    double.load(path)
    double.direct(direct)
    reader = open_reader()
    changes = reader.collect()
    zones = {change.row: change.zone_id for change in changes if isinstance(change, ZoneAppeared)}
    ids = {entry["instance"] for entry in chain if entry["module"] == "zones" and entry["instance"] != 0}
    assert set(zones.values()) == ids
    compared = 0
    for item in KSTATS:
        if item.rows is not Rows.ZONE:
            continue
        table = table_of(reader, item.table)
        assert len(table) == reader.rows == len(zones)
        for row, zone_id in zones.items():
            assert table.parent(row) == row
            expected = expected_zone_cells(chain, item, zone_id)
            assert cells(table, row) == expected, (item.table, zone_id)
            compared += len(expected)
    assert compared > 20 * len(zones)
    assert reader.failures == {}
    counters = double.counters()
    assert (counters["direct_reads"] > 0, counters["library_reads"] > 0) == (direct, not direct)


def test_the_node_has_a_row_for_each_of_its_kstats(double, open_reader):
    chain = json.loads((CHAINS / "smartos-small.json").read_text())
    double.load(chain)
    reader = open_reader()
    reader.collect()
    cpus = table_of(reader, "kstat.cpu_sys")
    assert [cpus.labels(row) for row in range(len(cpus))] == [b'cpu_id="0",', b'cpu_id="1",']
    assert cpus.parent(0) is None
    user = {entry["instance"]: entry["data"]["cpu_nsec_user"] for entry in chain if entry["name"] == "sys"}
    assert [cpus.get(row, "cpu_nsec_user") for row in range(2)] == [user[0], user[1]]
    pools = table_of(reader, "kstat.metaslab_group")
    groups = [entry for entry in chain if entry["module"] == "zfs_metaslab_group"]
    assert {pools.labels(row).decode() for row in range(len(pools))} == {
        f'pool="{group["data"]["spa_name"]}",vdev_guid="{group["name"]}",' for group in groups
    }
    assert len(table_of(reader, "kstat.cpu_info")) == 1
    arcstats = table_of(reader, "kstat.arcstats")
    data = next(entry["data"] for entry in chain if entry["name"] == "arcstats")
    assert cells(arcstats, 0) == {name: data[name] for name in arcstats.columns if name in data}
    assert len(table_of(reader, "kstat.system_misc")) == 1


def test_names_that_share_their_first_thirty_characters_are_two_zones(double, open_reader):
    double.load(CHAINS / "smartos-small.json")
    reader = open_reader()
    changes = reader.collect()
    twins = [change for change in changes if isinstance(change, ZoneAppeared) and change.name.startswith("962bc668")]
    assert [(twin.zone_id, twin.name) for twin in twins] == [
        (28, "962bc668-09d5-c087-b16f-d5aa6e88d042"),
        (29, "962bc668-09d5-c087-b16f-d5aa6e4f1c03"),
    ]
    links = table_of(reader, "kstat.link")
    assert [links.parent(row) for row in range(len(links))].count(twins[0].row) == 1
    assert twins[1].row not in [links.parent(row) for row in range(len(links))]


def test_unlimited_is_no_limit(double, open_reader):
    double.load(CHAINS / "smartos-small.json")
    reader = open_reader()
    row = next(item.row for item in reader.collect() if isinstance(item, ZoneAppeared) and item.zone_id == 29)
    memory = cells(table_of(reader, "kstat.memcap"), row)
    assert "rss" in memory
    assert not memory.keys() & {"physcap", "swapcap"}
    assert cells(table_of(reader, "kstat.cpucap"), row) == {}


def test_caps_of_swap_and_processes_are_read_and_none_is_no_limit(double, open_reader):
    caps = [
        kstat("caps", number, f"{kind}_zone_{number}", "zone_caps", {"zonename": name, "usage": number, "value": value})
        for number, name, swap, processes in ((1, "a", 2**30, 2000), (2, "b", UNLIMITED_64, 2**31 - 1))
        for kind, value in (("swapresv", swap), ("nprocs", processes))
    ]
    double.load([zone(1, "a"), zone(2, "b"), *caps])
    reader = open_reader()
    rows = {change.zone_id: change.row for change in reader.collect() if isinstance(change, ZoneAppeared)}
    assert cells(table_of(reader, "kstat.swapresv"), rows[1]) == {"usage": 1, "value": 2**30}
    assert cells(table_of(reader, "kstat.nprocs"), rows[1]) == {"usage": 1, "value": 2000}
    for table in ("kstat.swapresv", "kstat.nprocs"):
        assert cells(table_of(reader, table), rows[2]) == {"usage": 2}
    assert reader.failures == {}


def test_an_empty_chain_is_no_zones(double, open_reader):
    reader = open_reader()
    assert reader.collect() == []
    assert reader.rows == 0
    assert reader.failures == {}


def test_names_of_any_bytes_are_kept(double, open_reader):
    double.load(CHAINS / "hostile.json")
    reader = open_reader()
    names = [change.name for change in reader.collect() if isinstance(change, ZoneAppeared)]
    assert names[:4] == ['say "zone"', "back\\slash", "zürich-日本", "co:lon"]
    assert any("\udcff" in name for name in names)


def test_a_collector_whose_kstat_has_nothing_that_is_wanted_is_not_available(double, open_reader):
    zone_vfs = kstat("zone_vfs", 1, "a", "zone_vfs", {})
    cpu = kstat("cpu", 0, "sys", "misc", {"cpu_ticks_idle": 5})
    double.load([zone(1, "a"), zone_vfs, cpu, link("z1_net0", zonename="a", rbytes64="seven")])
    reader = open_reader()
    reader.collect()
    tables = reader.new_row_tables()
    assert reader.collect_zone(0, tables)
    for status in (table_of(reader, "kstat.status"), tables[-1]):
        found = {name: status.get(0, f"{name}:available") for name in ("zone_misc", "zone_vfs", "link")}
        assert found == {"zone_misc": 1, "zone_vfs": 0, "link": 0}
    assert table_of(reader, "kstat.node_status").get(0, "cpu_util:available") == 0


# What changes.


def test_zones_come_and_go_and_rows_are_used_again(double, open_reader):
    double.generate(3)
    reader = open_reader()
    assert [change.zone_id for change in reader.collect() if isinstance(change, ZoneAppeared)] == [1, 2, 3]
    double.remove_zone(2)
    assert reader.collect() == [ZoneGone(1)]
    assert cells(table_of(reader, "kstat.zone_misc"), 1) == {}
    assert cells(table_of(reader, "kstat.status"), 1) == {}
    double.generate(2, first=8)
    came = [change for change in reader.collect() if isinstance(change, ZoneAppeared)]
    assert [(change.row, change.zone_id) for change in came] == [(1, 8), (3, 9)]
    assert reader.rows == 4


@READ_WAYS
def test_a_low_kid_that_appears_moves_no_zone(double, open_reader, direct):
    double.load([kstat("m", 0, "low", "misc", {"a": 1}, flags=INVALID)])
    double.generate(20)
    double.direct(direct)
    reader = open_reader()
    rows = {change.zone_id: change.row for change in reader.collect() if isinstance(change, ZoneAppeared)}
    before = {row: cells(table_of(reader, "kstat.memcap"), row) for row in rows.values()}
    links = {row: table_of(reader, "kstat.link").labels(row) for row in range(20)}
    made = double.counters()["made"]
    double.set_flags(("m", 0, "low"), VIRTUAL)
    double.generate(1, first=21)
    double.set(("link", 0, "z5_net0"), "rbytes64", 17)
    changes = reader.collect()
    assert double.counters()["made"] - made == 21 * 7 + 1
    assert [type(change) for change in changes] == [ZoneAppeared, LinkAppeared]
    assert {row: cells(table_of(reader, "kstat.memcap"), row) for row in rows.values()} == before
    assert {row: table_of(reader, "kstat.link").labels(row) for row in range(20)} == links
    link_row = next(row for row in range(20) if table_of(reader, "kstat.link").parent(row) == rows[5])
    assert table_of(reader, "kstat.link").get(link_row, "rbytes64") == 17
    assert reader.failures == {}
    double.remove(("m", 0, "low"))
    double.remove_zone(7)
    assert reader.collect() == [ZoneGone(rows[7])]


@READ_WAYS
def test_a_zone_that_becomes_visible_in_front_of_others_is_the_only_change(double, open_reader, direct):
    double.generate(3)
    double.direct(direct)
    with double.opened() as control:
        names = {
            header.instance: plain(header.name) for header in double.chain(control) if plain(header.module) == "zones"
        }
    hidden = ("zones", 1, names[1])
    double.set_flags(hidden, INVALID)
    reader = open_reader()
    assert {change.zone_id for change in reader.collect() if isinstance(change, ZoneAppeared)} == {2, 3}
    double.set_flags(hidden, VIRTUAL)
    double.generate(1, first=9)
    appeared = [change.zone_id for change in reader.collect() if isinstance(change, ZoneAppeared)]
    assert appeared == [1, 9]


def test_a_zone_that_becomes_valid_after_an_update_is_seen_though_the_id_stays_the_same(double, open_reader):
    double.generate(2)
    with double.opened() as control:
        chain = double.chain(control)
        names = {header.instance: plain(header.name) for header in chain if plain(header.module) == "zones"}
    reader = open_reader()
    reader.collect()
    for zone_id in (1, 2):
        double.set_flags(("zones", zone_id, names[zone_id]), INVALID)
        double.generate(1, first=10 + zone_id)
        assert len(reader.collect()) == 3  # one gone, another and its link here
        double.set_flags(("zones", zone_id, names[zone_id]), VIRTUAL)
        assert reader.collect() == []
        time.sleep(1.1)
        appeared = [change.zone_id for change in reader.collect() if isinstance(change, ZoneAppeared)]
        assert appeared == [zone_id]
    made = double.counters()["made"]
    time.sleep(1.1)
    assert reader.collect() == []
    assert double.counters()["made"] == made


def test_a_chain_that_changes_between_open_and_probe_is_read_directly_all_the_same(double, open_reader):
    double.generate(1)
    double.busy(True)
    reader = open_reader()
    double.fail(("caps", 1, "cpucaps_zone_1"), errno.EAGAIN)
    reader.collect()
    counters = double.counters()
    assert (counters["library_reads"], counters["direct_reads"] > 0) == (0, True)
    assert reader.failures == {"eagain": 1}


def test_another_zone_under_the_same_id_is_another_zone(double, open_reader):
    double.generate(2)
    reader = open_reader()
    first = reader.collect()
    double.replace_zone(2)
    changes = reader.collect()
    assert changes[0] == ZoneGone(1)
    assert isinstance(changes[1], ZoneAppeared)
    assert changes[1].zone_id == 2
    assert changes[1].name not in {change.name for change in first if isinstance(change, ZoneAppeared)}


def test_a_zone_that_boots_after_it_appeared_is_another_from_then_on(double, open_reader):
    ready = zone(1, "a")
    ready["data"]["boot_time"] = 0
    double.load([ready, link("z1_net0", zonename="a")])
    reader = open_reader()
    assert reader.collect() == [ZoneAppeared(0, 1, "a", None), LinkAppeared(0, 0, "z1_net0")]
    double.set(("zones", 1, "a"), "boot_time", 77)
    assert reader.collect() == [ZoneGone(0), ZoneAppeared(0, 1, "a", 77), LinkAppeared(0, 0, "z1_net0")]
    assert reader.collect() == []


def test_only_what_changed_is_read_for_the_index(double, open_reader):
    double.generate(50)
    reader = open_reader()
    reader.collect(NEVER)
    reads = double.counters()["direct_reads"]
    assert reads == 100  # who a zone is, whose a link is
    double.generate(1, first=60)
    double.remove_zone(7)
    reader.collect(NEVER)
    assert double.counters()["direct_reads"] == reads + 2


def test_each_kstat_is_read_once_and_only_for_what_is_wanted(double, open_reader):
    double.generate(2)
    reader = open_reader()
    reader.collect(NEVER)
    before = double.counters()["direct_reads"]
    reader.collect()
    assert double.counters()["direct_reads"] == before + 2 * 7
    reader.collect(frozenset({"kstat.tcp", "kstat.link"}))
    assert double.counters()["direct_reads"] == before + 2 * 7 + 2 * 2
    assert cells(table_of(reader, "kstat.zone_misc"), 0) == {}
    assert cells(table_of(reader, "kstat.tcp"), 0) != {}
    status = cells(table_of(reader, "kstat.status"), 0)
    assert status.keys() == {
        f"{name}:{what}" for name in ("tcp", "link") for what in ("available", "cached", "timer_ns")
    }


def test_status_says_what_came_of_each_collector(double, open_reader):
    double.generate(1)
    double.remove(("caps", 1, "cpucaps_zone_1"))
    reader = open_reader()
    reader.collect()
    status = cells(table_of(reader, "kstat.status"), 0)
    assert (status["zone_misc:available"], status["zone_misc:cached"]) == (1, 0)
    assert status["zone_misc:timer_ns"] > 0
    assert (status["cpucap:available"], status["cpucap:cached"], status["cpucap:timer_ns"]) == (0, 0, 0)
    node = cells(table_of(reader, "kstat.node_status"), 0)
    assert (node["arcstats:available"], node["arcstats:cached"]) == (0, 0)
    assert reader.layout["kstat.status"] == ZONE_STATUS
    assert reader.layout["kstat.node_status"] == NODE_STATUS


def test_tables_are_the_same_objects_for_life(double, open_reader):
    double.generate(1)
    reader = open_reader()
    tables = reader.tables
    reader.collect()
    double.generate(500, first=10)
    reader.collect()
    assert all(one is other for one, other in zip(tables, reader.tables, strict=True))
    assert {table.name: table.columns for table in tables} == reader.layout


# One zone.


def test_one_zone_is_read_as_in_a_collection_of_all(double, open_reader):
    double.load(CHAINS / "smartos-small.json")
    reader = open_reader()
    zones = [change for change in reader.collect() if isinstance(change, ZoneAppeared)]
    tables = reader.new_row_tables()
    for item in zones:
        assert reader.collect_zone(item.row, tables)
        for table in tables[:-1]:
            whole = table_of(reader, table.name)
            rows = [row for row in range(len(whole)) if whole.parent(row) == item.row]
            got = {table.labels(row): cells(table, row) for row in range(len(table))}
            assert got == {whole.labels(row): cells(whole, row) for row in rows}
            assert [table.parent(row) for row in range(len(table))] == [0] * len(rows)
        available = {key: value for key, value in cells(tables[-1], 0).items() if key.endswith("available")}
        assert available == {
            key: value
            for key, value in cells(table_of(reader, "kstat.status"), item.row).items()
            if key.endswith("available")
        }


def test_one_zone_that_has_gone_or_is_another_is_not_answered_for(double, open_reader):
    double.generate(3)
    reader = open_reader()
    reader.collect()
    tables = reader.new_row_tables()
    double.remove_zone(1)
    double.replace_zone(2)
    assert not reader.collect_zone(0, tables)
    assert not reader.collect_zone(1, tables)
    assert reader.collect_zone(2, tables)
    assert not reader.collect_zone(77, tables)
    changes = reader.changes()
    assert [type(change) for change in changes] == [ZoneGone, ZoneGone, ZoneAppeared, LinkAppeared]
    assert reader.changes() == []
    assert reader.collect_zone(changes[2].row, tables)


def test_one_zone_takes_only_the_tables_it_is_given(double, open_reader):
    double.generate(1)
    reader = open_reader()
    reader.collect(NEVER)
    before = double.counters()["direct_reads"]
    tables = [table if table.name == "kstat.tcp" else None for table in reader.new_row_tables()]
    assert reader.collect_zone(0, tables)
    assert double.counters()["direct_reads"] == before + 1


# Types.


def test_all_data_types_become_numbers_or_are_counted(double, open_reader):
    data = {
        "i32": -5, "u32": 2**32 - 1, "i64": 1 - 2**63, "u64": 2**64 - 1, "whole": 3.0, "part": 2.5, "half": 4.0,
        "text": "7", "short": "9", "none": 1, "x" * 31: 12,
    }  # fmt: skip
    types = {"i32": "int32", "u32": "uint32", "i64": "int64", "half": "float", "short": "char", "none": 77}
    double.load([kstat("m", 0, "n", "c", data, types=types, unnamed=2)])
    reader = open_reader(kstats=only(tuple(data)))
    reader.collect()
    assert cells(table_of(reader, "t"), 0) == {
        "i32": unsigned(-5), "u32": 2**32 - 1, "i64": 2**63 + 1, "u64": 2**64 - 1, "whole": 3, "half": 4, "x" * 31: 12,
    }  # fmt: skip
    assert reader.failures == {"float": 1, "type": 3}


def test_io_intr_and_timer_kstats_have_columns_too(double, open_reader):
    io = {
        "nread": 2**63, "nwritten": 2, "reads": 3, "writes": 4, "wtime": 5, "wlentime": 6, "rtime": 7, "rlentime": 8,
        "wcnt": 9, "rcnt": 10,
    }  # fmt: skip
    intr = {"hard": 1, "soft": 2, "watchdog": 3, "spurious": 4, "multsvc": 5}
    times = {"num_events": 11, "elapsed_time": 12, "min_time": 13, "max_time": 14, "start_time": 15, "stop_time": 16}
    double.load(
        [
            kstat("d", 0, "n", "c", io) | {"type": 3},
            kstat("i", 0, "n", "c", intr) | {"type": 2},
            kstat("t", 0, "n", "c", {"name": "tick", **times}) | {"type": 4},
            kstat("r", 0, "n", "c", {}) | {"type": 0},
        ]
    )
    columns = {"d": tuple(io), "i": tuple(intr), "t": tuple(f"tick:{name}" for name in times), "r": ("nread",)}
    kstats = [ZONE_MISC] + [Kstat(name, "cpu_util", "c", name, "n", Rows.NODE, columns[name]) for name in columns]
    reader = open_reader(kstats=kstats)
    reader.collect()
    assert cells(table_of(reader, "d"), 0) == io
    assert cells(table_of(reader, "i"), 0) == intr
    assert cells(table_of(reader, "t"), 0) == {f"tick:{name}": value for name, value in times.items()}
    assert len(table_of(reader, "r")) == 0
    assert reader.failures == {"type": 1}


def test_layouts_that_differ_from_kstat_to_kstat_are_told_apart(double, open_reader):
    double.load(
        [
            kstat("m", 0, "n", "c", {"a": 1, "b": 2, "c": 3}),
            kstat("m", 1, "n", "c", {"b": 5, "a": 4, "c": 6}),
            kstat("m", 2, "n", "c", {"a": 7, "d": 8, "c": 9}),
            kstat("m", 3, "n", "c", {"a": 10, "b": -11, "c": 12}),
            kstat("m", 4, "n", "c", {"c": 13}),
            kstat("m", 5, "n", "c", {}),
            kstat("m", 6, "n", "c", {"a": 14, "b": 15, "c": 16}),
        ]
    )
    reader = open_reader(kstats=only(("a", "b", "c"), labels={"i": "instance"}))
    for _ in range(2):
        reader.collect()
        table = table_of(reader, "t")
        assert [cells(table, row) for row in range(len(table))] == [
            {"a": 1, "b": 2, "c": 3},
            {"a": 4, "b": 5, "c": 6},
            {"a": 7, "c": 9},
            {"a": 10, "b": unsigned(-11), "c": 12},
            {"c": 13},
            {},
            {"a": 14, "b": 15, "c": 16},
        ]


def test_a_kstat_that_grows_is_read_whole(double, open_reader):
    many = {f"s{i}": i for i in range(5000)}
    double.load([kstat("m", 0, "n", "c", {"s0": 1}, flags=2)])
    reader = open_reader(kstats=only(("s0", "s4999")))
    reader.collect()
    double.load([kstat("m", 0, "n", "c", many, flags=2)], add=True)
    reader.collect()
    assert cells(table_of(reader, "t"), 0) == {"s0": 0, "s4999": 4999}


def test_a_zone_without_a_full_name_has_the_name_of_its_kstat(double, open_reader):
    double.load([kstat("zones", 3, "old", "zone_misc", {"nsec_user": 1})])
    reader = open_reader()
    assert reader.collect() == [ZoneAppeared(0, 3, "old", None)]


def test_a_family_of_zones_needs_a_name(double, open_reader):
    with pytest.raises(ValueError, match="t: too many labels"):
        open_reader(kstats=only(("a",), rows=Rows.ZONE, name="", collector="tcp"))


# Over time.


def test_nothing_grows_over_a_thousand_collections_with_churn(double, open_reader):
    double.generate(20)
    reader = open_reader()
    tables = reader.new_row_tables()

    def churn(rounds):
        for i in range(rounds):
            double.replace_zone(1 + i % 20, salt=i)
            if i % 3 == 0:
                double.remove_zone(100 + i % 7)
                double.generate(2, first=100 + i % 7, salt=i)
            reader.collect()
            reader.collect_zone(i % 25, tables)
            if i % 10 == 0:
                double.fail(("tcp", 1 + i % 20, "tcp"), errno.EIO)
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    churn(300)
    before = churn(100)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    assert churn(1000) - before < 1 << 20
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    assert reader.rows <= 40
    assert double.counters()["headers"] == double.counters()["records"]


def test_closing_gives_everything_back(double):
    double.generate(5)
    before = len(list(Path("/proc/self/fd").iterdir()))
    reader = KstatReader(double.path)
    reader.collect()
    reader.close()
    reader.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    counters = double.counters()
    assert (counters["opens"], counters["closes"], counters["headers"]) == (1, 1, 0)

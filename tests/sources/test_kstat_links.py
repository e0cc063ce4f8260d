"""Kstats of links: whose they are, and what they are called."""

from __future__ import annotations

import pytest

from pymon.sources.kstat import LinkAppeared, ZoneAppeared
from tests.sources.kstats import link, table_of, zone


def links_of(reader):
    table = table_of(reader, "kstat.link")
    rows = [row for row in range(len(table)) if table.parent(row) is not None]
    return sorted((table.parent(row), table.labels(row).decode()) for row in rows)


def test_a_link_is_of_the_zone_it_names_or_of_that_in_its_own_name(double, open_reader):
    double.load(
        [
            link("z7_net0"),
            link("z8_net1", zonename="b"),
            link("moved0", zonename="b"),
            link("z8_e1000g0", zonename="b"),
            link("ixgbe0", zonename="global"),
            link("igb0"),
            link("z99_net0"),
            link("z8_net5", zonename="nobody"),
            zone(7, "a"),
            zone(8, "b"),
        ]
    )
    reader = open_reader()
    changes = reader.collect()
    assert links_of(reader) == [
        (0, 'interface="vnic0",'),
        (1, 'interface="vnic0",'),
        (1, 'interface="vnic1",'),
        (1, 'interface="vnic1000g0",'),
    ]
    told = [(change.zone_row, change.name) for change in changes if isinstance(change, LinkAppeared)]
    assert sorted(told) == [(0, "z7_net0"), (1, "moved0"), (1, "z8_e1000g0"), (1, "z8_net1")]


def test_two_links_of_a_zone_never_have_one_name(double, open_reader):
    double.load([zone(1, "a"), link("z1_net0", zonename="a"), link("z1_eth0", zonename="a")])
    reader = open_reader()
    reader.collect()
    assert links_of(reader) == [(0, 'interface="eth0",'), (0, 'interface="vnic0",')]


@pytest.mark.parametrize(
    ("name", "interface"),
    [
        ("net0", "vnic0"),
        ("my_net12", "vnic12"),
        ("net0_1", "vnic0_1"),
        ("lo", "lo"),
        ("9net", "9net"),
        ("z2_a3", "vnic2_a3"),
    ],
)
def test_links_are_called_as_cmon_agent_calls_them(double, open_reader, name, interface):
    double.load([zone(1, "a"), link(f"z1_{name}", zonename="a")])
    reader = open_reader()
    reader.collect()
    assert links_of(reader) == [(0, f'interface="{interface}",')]


def test_a_link_waits_for_its_zone_without_being_read_again(double, open_reader):
    double.load([link("z5_net0", zonename="late")])
    reader = open_reader()
    for _ in range(3):
        assert reader.collect() == []
    assert double.reads(("link", 0, "z5_net0")) == 1
    double.load([zone(5, "late")], add=True)
    assert reader.collect() == [ZoneAppeared(0, 5, "late", 1005), LinkAppeared(0, 0, "z5_net0")]


def test_a_link_that_changes_hands_is_looked_up_again(double, open_reader):
    double.load([zone(1, "a"), zone(2, "b"), link("net0", zonename="a", crtime=1)])
    reader = open_reader()
    reader.collect()
    double.load([link("net0", zonename="b", crtime=1)], add=True)
    changes = [*reader.collect(), *reader.collect()]
    assert [change.zone_row for change in changes if isinstance(change, LinkAppeared)] == [1]
    assert links_of(reader) == [(1, 'interface="vnic0",')]


def test_labels_added_to_a_link_stay_with_it(double, open_reader):
    double.load([zone(1, "a"), link("z1_net0", zonename="a")])
    reader = open_reader()
    reader.collect()
    table = table_of(reader, "kstat.link")
    table.relabel(0, [("interface", "vnic0"), ("nic_tag", 'a"b')])
    reader.collect()
    tables = reader.new_row_tables()
    assert reader.collect_zone(0, tables)
    own = next(item for item in tables if item.name == "kstat.link")
    assert table.labels(0) == own.labels(0) == b'interface="vnic0",nic_tag="a\\"b",'
    assert own.parent(0) == 0
    assert own.get(0, "rbytes64") == 7

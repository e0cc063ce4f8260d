"""Chains as kstat(1M) prints them, against what the reader and the dialect make of them."""

import json
import re
from fractions import Fraction
from pathlib import Path

import pytest

from pymon._native.renderer import Body, Labels
from pymon.catalogue import cmon
from pymon.catalogue.kstat_fields import KSTATS
from pymon.exposition.compile import compile_catalogue, label_block
from pymon.sources.kstat import KstatReader, ZoneAppeared
from tests.kstat.double import CHAINS, Double
from tests.oracle import parse

LIST = Path(__file__).with_name("cmon.txt")
NO_LIMIT = {"physcap": {0, 2**64 - 1, (2**32 - 1) * 4096}, "swapcap": {0, 2**64 - 1}, "value": {2**31 - 1, 2**64 - 1}}
WHERE = {
    "kstat.zone_misc": ("zones", "zone_misc"),
    "kstat.cpucap": ("caps", "zone_caps", r"cpucaps_zone_\d+"),
    "kstat.memcap": ("memory_cap", "zone_memory_cap"),
    "kstat.zone_vfs": ("zone_vfs", "zone_vfs"),
    "kstat.zone_zfs": ("zone_zfs", "zone_zfs"),
    "kstat.swapresv": ("caps", "zone_caps", r"swapresv_zone_\d+"),
    "kstat.nprocs": ("caps", "zone_caps", r"nprocs_zone_\d+"),
    "kstat.tcp": ("tcp", "mib2", "tcp"),
    "kstat.link": ("link", "net"),
    "kstat.cpu_info": ("cpu_info", "misc", "cpu_info0"),
    "kstat.cpu_sys": ("cpu", "misc", "sys"),
    "kstat.metaslab_group": ("zfs_metaslab_group", "misc"),
    "kstat.arcstats": ("zfs", "misc", "arcstats"),
}
"""Module, class and name (a pattern; any) of the kstats of a table."""


def chain(name):
    return json.loads(re.sub(r"\\\?", "?", (CHAINS / f"{name}.json").read_text()))


def listed():
    for line in LIST.read_text().splitlines():
        metric, _, factor, _, table, key = (line.split(" ", 5) + [""] * 6)[:6]
        if table in WHERE:
            yield metric, Fraction(factor), table, key


def labels_of(table, kstat, zones):
    """Labels of the kstat's lines, or None where it is of no container."""
    match table:
        case "kstat.cpu_sys":
            return {"cpu_id": str(kstat["instance"])}
        case "kstat.metaslab_group":
            return {"pool": kstat["data"]["spa_name"], "vdev_guid": kstat["name"]}
        case "kstat.cpu_info" | "kstat.arcstats":
            return {}
        case "kstat.link":
            prefix = re.fullmatch(r"(?:z(\d+)_)?(.*)", kstat["name"])
            zone = kstat["data"].get("zonename") or zones.get(int(prefix[1] or 0))
            if zone not in zones.values():
                return None
            return {"interface": re.sub("^[a-z]+", "vnic", prefix[2]), "zone": zone}
    return {"zone": zones[kstat["instance"]]} if kstat["instance"] in zones else None


def expected(kstats):
    zones = {
        kstat["instance"]: kstat["data"]["zonename"]
        for kstat in kstats
        if kstat["class"] == "zone_misc" and kstat["instance"] != 0
    }
    series = {}
    for metric, factor, table, key in listed():
        module, kstat_class, *name = WHERE[table]
        for kstat in kstats:
            value = kstat["data"].get(key)
            if (
                (kstat["module"], kstat["class"]) != (module, kstat_class)
                or (name and not re.fullmatch(name[0], kstat["name"]))
                or value is None
                or value in NO_LIMIT.get(key, ())
            ):
                continue
            labels = labels_of(table, kstat, zones)
            if labels is not None:
                series[metric, frozenset(labels.items())] = value * factor
    return series


@pytest.mark.parametrize("name", ["smartos-small", "omnios"])
def test_every_number_of_a_chain_is_published_and_no_other(name):
    double = Double()
    double.load(CHAINS / f"{name}.json")
    reader = KstatReader(double.path)
    try:
        zones = {item.row: item.name for item in reader.collect() if isinstance(item, ZoneAppeared)}
        metrics = [metric for metric in cmon.metrics() if "_metrics_" not in metric.name]
        compiled = compile_catalogue(metrics, reader.layout)
        blocks = [label_block([("zone", zones[row])]) if row in zones else None for row in range(reader.rows)]
        body = Body()
        compiled.renderer.render(body, reader.tables, Labels(blocks))
        got = parse(bytes(body))
    finally:
        reader.close()
        double.reset()
    wanted = expected(chain(name))
    assert len(wanted) > 100
    assert got == wanted


def test_every_table_of_kstats_is_checked_here_or_belongs_to_another_dialect():
    assert {item.table for item in KSTATS} - set(WHERE) == {"kstat.system_misc"}

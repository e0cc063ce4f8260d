"""Zones that come, go and change while they are read, and the inventory."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from pymon.agent.journal import JOURNAL_ENTRIES
from pymon.sources.kstat import KstatReader
from tests.agent.zone_host import (
    CAPPED,
    CHAIN,
    OWNER,
    TWIN,
    UNCAPPED,
    WAIT_SECONDS,
    ZoneHost,
    failures,
    names,
    running,
    scrape,
    series,
    until,
    value,
    zone,
    zones,
)


@pytest.fixture
def polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """More often than once a second."""
    monkeypatch.setattr("pymon.agent.zone_containers.POLL_SECONDS", 0.05)


async def test_the_inventory_says_what_is_written_of_a_zone(node: ZoneHost) -> None:
    async with running(node.options()) as agent:
        document = json.loads(agent.registry.document())
        found = zone(agent, CAPPED)
        assert found | {"start": 0} == {
            "uuid": CAPPED, "id": f"/{CAPPED}", "name": "web-1", "runtime": "joyent", "runtime_id": "1",
            "image": "c02a2044-c1bd-11e4-bd8c-dfc1db8b0182", "owner": OWNER, "state": "running", "health": "",
            "start": 0, "groups": ["front", "eu-1"], "services": "web:8080", "namespace": "", "pod": "", "pod_id": "",
            "addresses": ["198.51.100.7", "2001:db8::7", "10.88.88.9"],
        }  # fmt: skip
        assert found["start"] == 1447924847
        assert len(document["containers"]) == 7
        assert zone(agent, UNCAPPED)["runtime"] == "bhyve"
        bare = zone(agent, "fc239649-a7b2-4270-879c-976521c37e91")
        assert (bare["name"], bare["runtime"], bare["owner"], bare["addresses"]) == (bare["uuid"], "zone", None, [])


async def test_the_inventory_is_put_together_of_what_was_written_before(
    node: ZoneHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(node.options()) as agent:
        before = json.loads(agent.registry.document())
        node.double.remove_zone(1)
        await series(agent)
        monkeypatch.delattr("pymon.agent.rows._document")
        after = json.loads(agent.registry.document())
        assert after["containers"] == [item for item in before["containers"] if item["uuid"] != CAPPED]
        assert after["containers"] == sorted(after["containers"], key=lambda item: item["id"])
        assert (after["node"], after["version"]) == (before["node"], agent.registry.version)


async def test_an_agent_that_serves_does_not_wait_for_configurations(
    node: ZoneHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pymon.agent.build_zones.PATIENCE_SECONDS", 0)
    options = node.options("--dialect=cadvisor")
    async with running(options) as agent:
        expected = json.loads(agent.registry.document())["containers"]
    async with running(options, serving=True) as agent:
        assert agent.registry.ready() == "the configurations of 7 zones are still to be read"
        # Under other labels than it will have a zone is not shown: not at all in the whole, and read for itself first.
        assert zones(await series(agent)) == set()
        alone = await series(agent, TWIN)
        (link,) = {labels for name, labels in alone if name == "container_network_receive_bytes_total"}
        assert {("interface", "vnic0"), ("nic_tag", "internal"), ("name", r"say \"hé\"")} <= link
        assert agent.registry.ready() == "the configurations of 6 zones are still to be read"
        assert zones(await series(agent)) == {TWIN}
        await until("everything has been read", lambda: agent.registry.ready() is None)
        assert json.loads(agent.registry.document())["containers"] == expected
        assert len(zones(await series(agent))) == 7


async def test_rules_of_the_operator_decide_on_owners_where_there_are_some(node: ZoneHost, tmp_path: Path) -> None:
    config = tmp_path / "agent.yml"
    config.write_text("owners: [{account: ops}]\n")
    async with running(node.options("--dialect=cmon", f"--config.file={config}")) as agent:
        assert zone(agent, CAPPED)["owner"] == "ops"


async def test_a_zone_that_appears_is_there_at_the_next_scrape(node: ZoneHost) -> None:
    async with running(node.options()) as agent:
        assert len(zones(await series(agent))) == 7
        node.double.generate(1, first=77)
        found = await series(agent)
        assert len(zones(found)) == 8
        assert found["pymon_containers", frozenset()] == 8
        (new,) = zones(found) - {item for item in zones(await series(agent)) if item in CHAIN.read_text()}
        assert (await series(agent, new)).keys()


async def test_a_zone_that_appears_is_there_for_who_asks_for_it_alone(node: ZoneHost) -> None:
    async with running(node.options()) as agent:
        before = agent.registry.version
        node.double.generate(1, first=77)
        node.double.load(CHAIN, add=True)
        seen = {str(item.uuid) for item in agent.registry.containers()}
        reader = KstatReader(node.double.path)
        (name,) = {change.name for change in reader.collect() if getattr(change, "zone_id", 0) == 77}
        reader.close()
        assert name not in seen
        assert "cpu_user_usage" in names(await series(agent, name))
        assert agent.registry.version != before


async def test_a_zone_that_is_not_there_is_none(node: ZoneHost) -> None:
    async with running(node.options()) as agent:
        assert await scrape(agent, "00000000-0000-0000-0000-000000000000") is None
        node.double.remove_zone(1)
        assert await scrape(agent, CAPPED) is None, "it halted since it was last looked for"
        assert CAPPED not in zones(await series(agent))
        assert agent.registry.row_of(CAPPED) is None


async def test_a_zone_that_boots_again_under_another_id_is_another_one(node: ZoneHost) -> None:
    async with running(node.options()) as agent:
        before = zone(agent, CAPPED)
        kstats = [item for item in json.loads(CHAIN.read_text()) if item["instance"] == 1 or "z1_" in item["name"]]
        again = [item for item in kstats if item["data"].get("zonename") == CAPPED]
        node.double.remove_zone(1)
        for item in again:
            item["name"] = re.sub(r"_1$", "_41", re.sub("^z1_", "z41_", item["name"]))
            item["instance"] = item["instance"] and 41
            if "boot_time" in item["data"]:
                item["data"]["boot_time"] = 1447999999
        node.double.load(again, add=True)
        found = await series(agent)
        after = zone(agent, CAPPED)
        assert (after["uuid"], after["runtime_id"], after["start"]) == (before["uuid"], "41", 1447999999)
        assert value(found, "net_agg_bytes_in", id=f"/{CAPPED}", nic_tag="external") == 2**53 + 1
        one = await series(agent, CAPPED)
        assert value(one, "net_agg_bytes_in", nic_tag="external") == 2**53 + 1
        assert value(one, "cpucap_limit_percentage") == 200
        assert len(zones(found)) == 7


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_zone_that_goes_while_it_is_read_is_not_there(
    replaced: bool, empty_node: ZoneHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty_node.double.generate(3)
    async with running(empty_node.options()) as agent:
        (asked,) = [item for item in agent.registry.containers() if item.runtime_id == "2"]
        read = KstatReader.collect_zone

        def going(reader: KstatReader, row: int, tables: object) -> bool:
            if replaced:
                empty_node.double.replace_zone(2)
            else:
                empty_node.double.remove_zone(2)
            return read(reader, row, tables)

        monkeypatch.setattr(KstatReader, "collect_zone", going)
        assert await scrape(agent, str(asked.uuid)) is None
        monkeypatch.setattr(KstatReader, "collect_zone", read)
        assert len(agent.registry) == 2 + replaced
        assert agent.registry.row_of(str(asked.uuid)) is None
        assert len(zones(await series(agent))) == 2 + replaced


@pytest.mark.parametrize("returns", [False, True])
async def test_a_zone_that_vanishes_in_the_middle_of_a_collection_costs_its_own_cells(
    returns: bool, empty_node: ZoneHost
) -> None:
    empty_node.double.generate(5)
    async with running(empty_node.options()) as agent:
        for reads in range(1, 30, 4):
            await series(agent)
            empty_node.double.vanish_after(reads, 3, returns=returns)
            found = await series(agent)
            others = [labels for name, labels in found if name == "cpu_user_usage"]
            assert len(others) >= 4
            healed = await series(agent)
            assert len(zones(healed)) == 4 + returns
            empty_node.double.replace_zone(3, salt=reads + 2)
        assert set(failures(found)) <= {"enxio"}


async def test_the_inventory_follows_the_chain_and_the_files_within_two_seconds(node: ZoneHost) -> None:
    """Of a scrape there is none: a poll a second looks at the chain, every other one at the files."""
    async with running(node.options()) as agent:
        for change, seen in (
            (lambda: node.double.remove_zone(1), lambda: agent.registry.row_of(CAPPED) is None),
            (lambda: node.double.load(CHAIN), lambda: agent.registry.row_of(CAPPED) is not None),
            (
                lambda: node.configure(TWIN, alias="other", owner=OWNER, tags={"triton.cmon.groups": "new"}),
                lambda: zone(agent, TWIN)["name"] == "other" and zone(agent, TWIN)["groups"] == ["new"],
            ),
            (
                lambda: node.write(f"zones/{TWIN}/config/tags.json", '{"triton.cmon.groups": "newer"}'),
                lambda: zone(agent, TWIN)["groups"] == ["newer"],
            ),
        ):
            version = agent.registry.version
            waiting = asyncio.ensure_future(agent.registry.wait_change(version, WAIT_SECONDS))
            change()
            begin = time.monotonic()
            await waiting
            assert agent.registry.version != version
            await until("the change is seen", seen)
            assert time.monotonic() - begin < 10, "a poll is a second"


async def test_a_zone_that_is_written_of_later_gets_its_details(node: ZoneHost, polls: None) -> None:
    late = "fc239649-a7b2-4270-879c-976521c37e91"
    async with running(node.options()) as agent:
        assert zone(agent, late)["name"] == late
        node.configure(late, alias="late", owner=OWNER)
        await until("its alias", lambda: zone(agent, late)["name"] == "late")
        found = await series(agent)
        assert value(found, "cpu_user_usage", id=f"/{late}", name="late") is not None


async def test_no_change_makes_no_new_version(node: ZoneHost, polls: None) -> None:
    async with running(node.options()) as agent:
        await series(agent)
        version = agent.registry.version
        await agent.registry.wait_change(version, 0.5)
        await series(agent)
        assert agent.registry.version == version


async def test_churn_with_scrapes_of_all_kinds_at_once(empty_node: ZoneHost) -> None:
    empty_node.double.generate(20)
    async with running(empty_node.options()) as agent:
        for salt in range(1, 30):
            asked = [str(item.uuid) for item in agent.registry.containers()][:6]
            wanted = [scrape(agent), scrape(agent, scope="node"), *(scrape(agent, uuid) for uuid in asked)]
            tasks = [asyncio.ensure_future(item) for item in wanted]
            await asyncio.sleep(0)
            for zone_id in range(salt % 7, 20, 7):
                empty_node.double.replace_zone(zone_id + 1, salt=salt)
            bodies = await asyncio.gather(*tasks)
            assert bodies[0]
        found = await series(agent)
        assert len(zones(found)) == len(agent.registry) == 20
        assert sum(name == "cpu_user_usage" for name, _ in found) == 20


def pages() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])


def blocks() -> int:
    """How many blocks of memory Python has allocated."""
    gc.collect()
    return sys.getallocatedblocks()


async def test_a_thousand_collections_with_churn_do_not_grow(empty_node: ZoneHost) -> None:
    """What the reader keeps is tested with the reader; here it is what the agent keeps of zones in Python.

    The journal keeps blocks of each zone until it is full, so counting begins then. Other threads of a long run may
    allocate during one part of the collections; what stays of each collection is there after every part.
    """
    empty_node.double.generate(10)
    parts, collections, full = 4, 200, JOURNAL_ENTRIES + 10
    async with running(empty_node.options()) as agent:

        async def churn(first: int, count: int) -> None:
            for salt in range(first, first + count):
                empty_node.double.replace_zone(salt % 10 + 1, salt=salt)
                await scrape(agent)
                if salt % 4 == 0:
                    asked = agent.registry.containers()[salt % 10]
                    assert await scrape(agent, str(asked.uuid))

        await churn(1, full)
        before_pages, counts = pages(), [blocks()]
        for part in range(parts):
            await churn(1 + full + part * collections, collections)
            counts.append(blocks())
        grown = (pages() - before_pages) * os.sysconf("SC_PAGE_SIZE")
        assert min(later - earlier for earlier, later in pairwise(counts)) < collections, counts
        assert grown < 32 << 20, f"{grown} bytes of the process"
        assert len(agent.registry) == 10
        assert agent.registry.rows <= 20


async def test_of_two_zones_with_one_name_the_later_one_is_measured(node: ZoneHost, polls: None) -> None:
    """The kernel keeps what is dead for as long as somebody holds on to it; the name is free by then."""
    kstats = [item for item in json.loads(CHAIN.read_text()) if item["data"].get("zonename") == CAPPED]
    again = [item for item in kstats if item["module"] in ("zones", "memory_cap")]
    for item in again:
        item["instance"] = 41
        item["data"] |= {"boot_time": 1447999999} if "boot_time" in item["data"] else {"rss": 4096}
    async with running(node.options()) as agent:
        await series(agent)
        node.double.load(again, add=True)
        found = await series(agent)
        assert zone(agent, CAPPED)["runtime_id"] == "41"
        assert value(found, "mem_agg_usage", id=f"/{CAPPED}") == 4096
        assert value(await series(agent, CAPPED), "mem_agg_usage") == 4096
        node.configure(CAPPED, alias="again")
        await until("another alias", lambda: zone(agent, CAPPED)["name"] == "again")
        assert zone(agent, CAPPED)["runtime_id"] == "41"
        node.double.remove_zone(1)
        assert len(zones(await series(agent))) == 7
        node.double.remove_zone(41)
        assert len(zones(await series(agent))) == 6
        assert await scrape(agent, CAPPED) is None


async def test_labels_of_links_follow_what_is_written_of_them(node: ZoneHost, polls: None) -> None:
    async with running(node.options()) as agent:
        for nics, expected in (
            ([("net0", "internal", "198.51.100.7")], {"vnic0": "internal", "vnic1": None}),
            ([], {"vnic0": None, "vnic1": None}),
            ([("net0", "a", "dhcp"), ("net1", "b", "dhcp")], {"vnic0": "a", "vnic1": "b"}),
        ):
            version = agent.registry.version
            node.configure(CAPPED, nics=nics)
            await agent.registry.wait_change(version, WAIT_SECONDS)
            for uuid in ("", CAPPED):
                found = await series(agent, uuid)
                labels = [dict(own) for name, own in found if name == "net_agg_bytes_in"]
                mine = [own for own in labels if own.get("id", f"/{CAPPED}") == f"/{CAPPED}"]
                assert {own["interface"]: own.get("nic_tag") for own in mine} == expected
        node.double.remove(("link", 0, "z1_net1"))
        await series(agent)
        version = agent.registry.version
        node.configure(CAPPED, nics=[("net0", "c", "dhcp"), ("net1", "d", "dhcp")])
        await agent.registry.wait_change(version, WAIT_SECONDS)
        assert {
            dict(own).get("nic_tag") for name, own in await series(agent, CAPPED) if name == "net_agg_bytes_in"
        } == {"c"}

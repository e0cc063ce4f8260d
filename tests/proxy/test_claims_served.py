"""What a hostile node cannot take, in proxies that serve: scrapes, discovery, metrics and the log."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from uuid import UUID

from pymon.uuid_name import container_uuid
from tests.proxy.agents import until
from tests.proxy.running import (
    A,
    B,
    C,
    FakeNode,
    Site,
    answer,
    container,
    on_uvloop,
    process,
    running,
    says,
)

MINE, FORGED = answer(b"mine 1\n"), answer(b"forged 1\n")


def proven(node: FakeNode, text: str, owner: str | None = "alice", **fields) -> dict:
    return container(str(container_uuid(UUID(node.uuid), text)), owner, uuid_name=text, **fields)


def uuids(found) -> set[str]:
    assert found.status == 200, found
    return {one["vm_uuid"] for one in json.loads(found.body)["containers"]}


@on_uvloop
async def test_claims_of_a_hostile_node_have_no_effect_and_are_counted_and_logged(tmp_path):
    site = Site(tmp_path)
    alice, mallory, op = site.account("alice"), site.account("mallory"), site.account("op", operator=True)
    honest, hostile = FakeNode(name="n1", scrape=says(MINE)), FakeNode(name="n2", scrape=says(FORGED))
    checked = proven(honest, "docker::abc")
    honest.change(container(A, "alice"), checked)
    mine = container(B, "mallory")
    async with honest, hostile:
        site.node("n1", honest)
        site.node("n2", hostile)
        for restart in (False, True):
            with process(site) as proxy:
                await until(lambda: honest.waits and hostile.waits)
                hostile.change(
                    mine,
                    container(A, "mallory", start=time.time()),
                    container(checked["uuid"], "mallory", start=time.time()),
                    container(honest.uuid, "mallory"),
                    proven(honest, "docker::other", "mallory"),
                    container(C, "mallory", start=time.time() + 4000),
                )
                async with proxy.client(alice) as client:

                    async def attacked() -> float:
                        return await proxy.metric("pymon_proxy_claims_refused_total", node="n2")

                    async with asyncio.timeout(20):
                        while await attacked() < 5:  # noqa: ASYNC110  # another process counts
                            await asyncio.sleep(0.05)
                        while not uuids(await proxy.ask("/v1/discover", mallory)):  # noqa: ASYNC110  # its row
                            await asyncio.sleep(0.05)
                    for uuid in (A, checked["uuid"]):
                        assert (await client.ask(f"/v1/{uuid}/metrics")).body == b"mine 1\n"
                    assert uuids(await client.ask("/v1/discover")) == {A, checked["uuid"]}
                assert uuids(await proxy.ask("/v1/discover", mallory)) == {B}
                assert (await proxy.ask(f"/v1/{honest.uuid}/metrics", op)).body == b"mine 1\n"
                assert (await proxy.ask(f"/v1/{honest.uuid}/metrics", mallory)).status == 404
                for reason, count in (("held", 2), ("node_uuid", 1), ("uuid_name", 1), ("future", 1)):
                    assert await proxy.metric("pymon_proxy_claims_refused_total", node="n2", reason=reason) == count
            lines = [line for line in proxy.log.splitlines() if "claims refused" in line]
            assert len(lines) == 4, lines
            assert any("node=n2 reason=held containers=2" in line and "holder=n1" in line for line in lines), restart


@on_uvloop
async def test_a_node_keeps_its_uuid_over_restarts_until_another_is_accepted(tmp_path):
    site = Site(tmp_path)
    alice = site.account("alice")
    async with (
        FakeNode(container(A, "alice"), name="z", scrape=says(MINE)) as first,
        FakeNode(container(B, "alice"), name="a", scrape=says(FORGED)) as second,
    ):
        site.node("z", first)
        async with running(site):
            assert str(site.directory.snapshot().nodes["z"].uuid) == first.uuid
        second.uuid = first.uuid
        site.node("a", second)
        for _ in range(2):  # the name that sorts first comes later
            async with running(site) as proxy:
                await until(lambda proxy=proxy: proxy.proxy.poller.failures["a", "identity"])
                assert (await proxy.ask(f"/v1/{A}/metrics", alice)).body == b"mine 1\n"
                assert (await proxy.ask(f"/v1/{B}/metrics", alice)).status == 404
                assert proxy.proxy.fleet.node(first.uuid).name == "z"
        other = str(UUID(int=7))
        first.uuid = other
        async with running(site, containers=1) as proxy:
            await until(lambda: site.directory.offers().get("z") == UUID(other))
            assert proxy.proxy.fleet.node(other) is None
            site.directory.accept_node("z", UUID(other))
            await until(lambda: proxy.proxy.fleet.node(other) is not None)
            await until(lambda: proxy.proxy.fleet.find(A) is not None)
            assert (await proxy.ask(f"/v1/{A}/metrics", alice)).body == b"mine 1\n", "its containers are its own still"


@on_uvloop
async def test_from_a_node_that_was_never_pinned_nothing_is_routed_while_the_directory_is_away(tmp_path):
    site = Site(tmp_path)
    alice = site.account("alice")
    async with FakeNode(container(A, "alice"), name="n1") as known, FakeNode(container(B, "alice"), name="n2") as new:
        site.node("n1", known)
        async with running(site) as proxy:
            file = site.data_dir / "directory.db"
            new.containers.append(proven(new, "docker::abc"))
            known.change(container(A, "alice"), proven(known, "docker::abc"))
            await until(lambda: len(proxy.proxy.fleet) == 2)
            site.node("n2", new)
            new.inventory = says(answer(b"", "500 Later"))
            await until(lambda: proxy.proxy.poller.failures["n2", "status"])
            moved = file.rename(tmp_path / "away")
            await until(lambda: proxy.proxy.holders.error)
            new.inventory = None
            await until(lambda: proxy.proxy.poller.failures["n2", "directory"])
            assert len(proxy.proxy.fleet) == 2
            assert (await proxy.ask(f"/v1/{A}/metrics", alice)).status == 200
            moved.rename(file)
            await until(lambda: len(proxy.proxy.fleet) == 4)


@on_uvloop
async def test_a_node_that_is_limited_claims_for_others_in_vain(tmp_path):
    site = Site(tmp_path)
    alice, bob = site.account("alice"), site.account("bob")
    async with FakeNode(container(A, "alice"), container(B, "bob"), container(C)) as node:
        site.directory.create_node("n1", node.url, accounts=["bob"])
        async with running(site) as proxy:
            assert (await proxy.ask(f"/v1/{A}/metrics", alice)).status == 404
            assert (await proxy.ask(f"/v1/{B}/metrics", bob)).status == 200
            assert await proxy.metric("pymon_proxy_claims_refused_total", node="n1", reason="account") == 1
            site.directory.set_node("n1", accounts=None)
            await until(lambda: proxy.proxy.fleet.find(A) is not None)


@on_uvloop
async def test_of_a_node_with_too_many_containers_those_that_are_known_stay(tmp_path):
    site = Site(tmp_path)
    site.account("alice")
    many = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(30)]
    async with FakeNode(*(container(uuid, "alice") for uuid in many[20:28])) as node:
        site.node("n1", node)
        async with running(site, containers=8, node_max_containers=10) as proxy:
            for _ in range(2):
                node.change(*(container(uuid, "alice") for uuid in many))
                await until(lambda: proxy.proxy.poller.left_out("n1") == 20)
                await until(lambda: len(proxy.proxy.fleet) == 10)
                assert {place.container.uuid for place in proxy.proxy.fleet.all()} == {*many[20:28], *many[:2]}
                assert await proxy.metric("pymon_proxy_containers_left_out", node="n1") == 20
                node.change(*(container(uuid, "alice", name="x") for uuid in reversed(many)))
        async with running(site, containers=10, node_max_containers=10) as proxy:  # from its copy
            assert {place.container.uuid for place in proxy.proxy.fleet.all()} == {*many[20:28], *many[:2]}
        async with running(site, containers=30) as proxy:
            assert proxy.proxy.poller.left_out("n1") == 0


@on_uvloop
async def test_a_hundred_thousand_containers_hold_nobody_up(tmp_path):
    site = Site(tmp_path)
    alice = site.account("alice")
    site.directory.set_quota("alice", requests_per_second=0.0)
    rows = [proven_fast(number) for number in range(99_000)]
    body = json.dumps({"node": {"uuid": str(UUID(int=5)), "hostname": "h"}, "containers": rows}).encode()
    async with FakeNode(container(A, "alice"), name="n1") as quiet, FakeNode(name="n2") as huge:
        huge.uuid = str(UUID(int=5))
        site.node("n1", quiet)
        site.node("n2", huge)
        async with running(site) as proxy, proxy.client(alice) as client:
            gc.collect()
            gc.freeze()  # what other tests have left in this process is not the proxy's to look through
            huge.inventory = says(answer(body, "200 OK", 'ETag: "huge"', content_type="application/json"))
            longest = 0.0
            while not proxy.proxy.poller.left_out("n2"):
                before = time.thread_time()
                assert (await client.ask(f"/v1/{A}/metrics")).status == 200
                longest = max(longest, time.thread_time() - before)
            gc.unfreeze()
            assert len(proxy.proxy.fleet.containers("n2")) == 20_000
        assert longest < LONGEST_SECONDS


@on_uvloop
async def test_what_a_node_says_of_its_containers_takes_little_memory(tmp_path):
    site = Site(tmp_path)
    site.account("alice")
    name = "x" * 150_000 + "\N{GRINNING FACE}"  # which takes four times as much in memory as on the way
    node = {"uuid": str(UUID(int=5)), "hostname": "h"}
    bodies = [
        json.dumps(
            {"node": node, "containers": [container(str(UUID(int=first + n)), "alice", name=name) for n in range(260)]},
            ensure_ascii=False,
        ).encode()
        for first in (1000, 2000, 3000)
    ]
    async with FakeNode(name="n2") as hostile:
        hostile.uuid = node["uuid"]
        site.node("n2", hostile)
        with process(site) as proxy:
            await until(lambda: hostile.waits)
            before, asked = proxy.rss_bytes(), 0

            async def inventory(peer, _):
                nonlocal asked
                asked += 1
                await peer.say(answer(bodies[asked % 3], "200 OK", f'ETag: "{asked}"', content_type="application/json"))

            hostile.inventory = inventory
            hostile.change()
            async with asyncio.timeout(60):
                while asked < 4:  # noqa: ASYNC110  # the third is known then
                    await asyncio.sleep(0.1)
            assert proxy.rss_bytes() - before < 250 << 20


LONGEST_SECONDS = 0.3
"""Of the loop's processor time, which an answer to somebody else waits for while a document of 99,000 containers is
taken over. Decoding it whole takes 0.4 s and more.
"""


def proven_fast(number: int) -> dict:
    return container(f"{number:08x}-0000-4000-8000-0000000000aa", "alice", start=1.0 + number)

"""A hostile node and a hostile tenant together cost another account nothing but time; `bench attack` measures that."""

import asyncio
import contextlib
import time

from tests.proxy.agents import until
from tests.proxy.hostile import COUNT, node_of, uuid_of
from tests.proxy.running import A, B, FakeNode, Site, container, on_uvloop, process

SECONDS = 6.0
NAMES = 1000
CLIENTS = 24
QUIET = [
    f"/v1/{A}/metrics", f"/v1/{B}/metrics", "/v1/discover", "/v1/sd", "/v1/sd?shard=0&shards=2", "/v1/account/metrics",
    *(f"/v1/account/metrics?by={by}" for by in ("service", "group", "node")),
]  # fmt: skip


@on_uvloop
async def test_a_hostile_node_and_tenant_change_no_answer_of_another_account_and_take_no_memory(tmp_path):
    site = Site(tmp_path)
    tenant, quiet = site.account("tenant"), site.account("quiet")
    mine = [container(uuid, "quiet", services="web:80", groups=["shop"], addresses=["192.0.2.1"]) for uuid in (A, B)]
    async with FakeNode(*mine, name="honest") as honest, node_of("tenant", names=NAMES) as hostile:
        site.node("hostile", hostile)
        site.node("honest", honest)
        with process(site) as proxy:
            async with proxy.client(quiet) as client:
                await until(lambda: honest.waits)
                asked = [f"/v1/{uuid_of(n)}/metrics" for n in range(COUNT)]
                asked += [f"/v1/account/metrics{by}" for by in ("", "?by=group", "?by=service", "?by=node")] * 4
                asked += ["/v1/discover", "/v1/sd", f"/v1/{A}/metrics"] * 4
                async with asyncio.timeout(60):
                    while (await proxy.ask("/v1/discover", tenant)).body.count(b"vm_uuid") < NAMES:  # noqa: ASYNC110
                        await asyncio.sleep(0.1)
                first = {path: (await client.ask(path)).told for path in QUIET}
                assert {status for status, _, _ in first.values()} == {200}
                before = proxy.rss_bytes()
                end = time.monotonic() + SECONDS

                async def attack(number):
                    statuses = set()
                    while time.monotonic() < end:
                        # Those that wait for an answer that never comes do so for a second.
                        fields = "X-Prometheus-Scrape-Timeout-Seconds: 1"
                        with contextlib.suppress(OSError, EOFError):
                            async with proxy.client(tenant) as other:
                                for path in asked[number::CLIENTS]:
                                    statuses.add((await other.ask(path, fields)).status)
                    return statuses

                attackers = [asyncio.create_task(attack(number)) for number in range(CLIENTS)]
                rounds = 0
                while time.monotonic() < end:
                    for path in QUIET:
                        assert (await client.ask(path)).told == first[path], path
                    rounds += 1
                    await asyncio.sleep(0.2)  # below its own quota
                statuses = set().union(*await asyncio.gather(*attackers))
                assert rounds
                assert statuses <= {200, 404, 413, 429, 502, 503, 504}, statuses
                assert {502, 504} <= statuses
                for path in QUIET:
                    assert (await client.ask(path)).told == first[path], path
            assert proxy.rss_bytes() - before < 300 << 20, (before, proxy.rss_bytes())
            assert "raceback" not in proxy.log
            assert "internal error" not in proxy.log

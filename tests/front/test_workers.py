"""`pymon proxy --workers`: real processes that answer as one proxy, with the limits of one, and that die alone."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import re
import shutil
import signal
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pymon.directory.data_dir import MACHINES_FOLDER
from pymon.directory.machines import Machines
from tests.proxy.agents import Peer
from tests.proxy.running import (
    EXPOSITION,
    A,
    Answer,
    B,
    Client,
    FakeNode,
    Running,
    Site,
    answer,
    container,
    on_uvloop,
    process,
    running,
)  # fmt: skip

SECONDS = 30.0


async def until(condition) -> None:
    """Wait for what may take the start of a process on a busy machine."""
    async with asyncio.timeout(SECONDS):
        while not (await condition() if asyncio.iscoroutinefunction(condition) else condition()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def proxy_of(site: Site, *flags: str, killed: bool = False) -> AsyncIterator[Running]:
    """A proxy of two workers that is ready; it must end well, unless the test kills it."""
    running = process(site, "--workers=2", *flags)
    proxy = await asyncio.to_thread(running.__enter__)
    try:

        async def ready() -> bool:
            async with proxy.client(part="telemetry") as client:
                return (await client.ask("/-/ready")).status == 200

        await until(ready)
        yield proxy
    except BaseException as error:
        with contextlib.suppress(BaseException):
            await asyncio.to_thread(running.__exit__, type(error), error, None)
        raise
    with pytest.raises(AssertionError) if killed else contextlib.nullcontext():
        await asyncio.to_thread(running.__exit__, None, None, None)


def workers(proxy: Running) -> list[int]:
    """The processes of the workers."""
    return [int(pid) for pid in Path(f"/proc/{proxy.pid}/task/{proxy.pid}/children").read_text().split()]


def ports_of(pid: int) -> set[int]:
    """The remote ports of the connections of a process."""
    inodes = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(file.readlink().name.removeprefix("socket:[").removesuffix("]"))
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(fields[2].rpartition(":")[2], 16) for fields in lines if fields[9] in inodes}


@on_uvloop
async def test_two_workers_are_one_proxy(tmp_path) -> None:
    site = Site(tmp_path)
    alice, bob = site.account("alice"), site.account("bob")
    async with FakeNode(container(A, "alice"), container(B, "bob")) as node:
        site.node("n1", node)
        async with proxy_of(site) as proxy:
            # Each connection goes to one of the workers, and each answers the same.
            answers = [await proxy.ask(f"/v1/{A}/metrics", alice) for _ in range(12)]
            assert {one.status for one in answers} == {200}
            assert {(await proxy.ask(f"/v1/{A}/metrics", bob)).status for _ in range(6)} == {404}
            bodies = {(await proxy.ask("/v1/discover", alice)).body for _ in range(6)}
            assert len(bodies) == 1
            # What was counted is the sum.
            assert await proxy.metric("pymon_proxy_requests_total", account="alice", route="container") == 12
            assert await proxy.metric("pymon_proxy_requests_total", account="bob", code="404") == 6
            assert await proxy.metric("pymon_proxy_upstream_request_duration_seconds_count") == 12
            assert await proxy.metric("pymon_proxy_workers") == 2
            # A change is everywhere, and so is a deleted credential.
            node.change(container(A, "bob"))

            async def moved() -> bool:
                found = [(await proxy.ask(f"/v1/{A}/metrics", one)).status for one in (alice, bob) for _ in range(6)]
                return found == [404] * 6 + [200] * 6

            await until(moved)
            # A limit of failed authentications is one for all. A failure is told to the other worker, which takes a
            # moment, and one a second is allowed again.
            found, begun = Counter(), time.monotonic()
            for number in range(40):
                wrong = f"Authorization: Bearer pymon_{'x' * 12}_{number:043}"
                async with proxy.client(source="127.0.0.2") as client:
                    found[(await client.ask("/v1/discover", wrong)).status] += 1
            assert 20 <= found[401] <= 23 + time.monotonic() - begun
            assert found[429] == 40 - found[401]
            # Who was made a moment ago is known to each.
            for name in ("carol", "dave"):
                tenant = site.account(name)
                assert {(await proxy.ask("/v1/discover", tenant)).status for _ in range(6)} == {200}
            site.directory.delete_account("alice")

            async def refused() -> bool:
                return {(await proxy.ask("/v1/discover", alice)).status for _ in range(8)} == {401}

            await until(refused)


@on_uvloop
async def test_a_quota_and_the_slots_of_an_agent_are_those_of_one_proxy(tmp_path) -> None:
    site = Site(tmp_path)
    alice, bob = site.account("alice"), site.account("bob")
    site.directory.set_quota("alice", requests_per_second=0.001, burst=10, concurrency=512)
    site.directory.set_quota("bob", requests_per_second=0.0, burst=1, concurrency=512)
    now, most = 0, 0

    async def slow(peer: Peer, _: bytes) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1
        await peer.say(answer())

    uuids = [f"{n:08x}-0000-4000-8000-000000000000" for n in range(40)]
    async with FakeNode(*(container(uuid, "bob") for uuid in uuids), scrape=slow) as node:
        site.node("n1", node)
        async with proxy_of(site, "--upstream.max-requests=3") as proxy:
            found = Counter([(await proxy.ask("/v1/discover", alice)).status for _ in range(20)])
            assert found == {200: 10, 429: 10}
            answers = await asyncio.gather(*(proxy.ask(f"/v1/{uuid}/metrics", bob) for uuid in uuids))
            assert {one.status for one in answers} == {200}
            assert most == 3
            assert await proxy.metric("pymon_proxy_throttled_total", account="alice") == 10


@on_uvloop
async def test_a_worker_that_dies_fails_alone_and_the_parent_takes_all_along(tmp_path) -> None:
    site = Site(tmp_path)
    alice = site.account("alice")
    async with FakeNode(container(A, "alice")) as node:
        site.node("n1", node)
        async with proxy_of(site, killed=True) as proxy:
            first, second = workers(proxy)
            async with contextlib.AsyncExitStack() as close:
                clients: dict[int, Client] = {}
                while not all(ports_of(pid) & clients.keys() for pid in (first, second)):
                    client = await close.enter_async_context(proxy.client(alice))
                    clients[client.writer.get_extra_info("sockname")[1]] = client
                    assert (await client.ask("/v1/discover")).status == 200
                before = await proxy.metric("pymon_proxy_requests_total", account="alice")
                assert before == len(clients)
                of_first = ports_of(first)
                os.kill(first, signal.SIGKILL)
                for port, client in clients.items():
                    if port in of_first:
                        assert await client.ended() == b""
                    else:
                        assert (await client.ask("/v1/discover")).status == 200

            async def again() -> bool:
                return await proxy.metric("pymon_proxy_workers") == 2

            await until(lambda: first not in workers(proxy))
            await until(again)
            assert await proxy.metric("pymon_proxy_worker_restarts_total") == 1
            assert second in workers(proxy)
            assert {(await proxy.ask("/v1/discover", alice)).status for _ in range(8)} == {200}
            assert await proxy.metric("pymon_proxy_requests_total", account="alice") > before
            assert re.search(r"worker \d ended with status -9 and is started again", proxy.log)
            left = workers(proxy)
            os.kill(proxy.pid, signal.SIGKILL)
            await until(lambda: not any(Path(f"/proc/{pid}/fd/0").exists() for pid in left))


@on_uvloop
async def test_workers_tell_other_proxies_what_their_parent_has_heard(tmp_path) -> None:
    site = Site(tmp_path)
    alice = site.account("alice")
    machines = Machines.load_or_create(site.data_dir / MACHINES_FOLDER)
    shutil.copytree(machines.folder, tmp_path / "other" / MACHINES_FOLDER)
    (tmp_path / "peer.pem").write_bytes(machines.issue_proxy("front9"))
    context = ssl.create_default_context(cafile=str(site.ca))
    context.load_cert_chain(tmp_path / "peer.pem")

    async def told(proxy: Running, what: str, *fields: str) -> Answer:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, ssl=context)
        try:
            return await Client(reader, writer).ask(f"/v1/peer/{what}", *fields)
        finally:
            writer.transport.abort()

    async def holds(proxy: Running, containers: int) -> bool:
        return await proxy.metric("pymon_proxy_containers") == containers

    async with FakeNode(container(A, str(alice.uuid))) as node:
        site.node("n1", node)
        async with proxy_of(site) as one:
            for _ in range(6):  # each connection goes to one of the workers
                nodes = await told(one, "nodes")
                assert (nodes.status, json.loads(nodes.body)) == (200, ["n1"])
                assert (await told(one, "nodes", f"If-None-Match: {nodes['etag']}")).status == 304
                inventory = await told(one, "inventory?node=n1")
                found = json.loads(inventory.body)["document"]["containers"]
                assert (inventory.status, [one["uuid"] for one in found]) == (200, [A])
                assert (await told(one, "inventory?node=n2")).status == 404
                assert (await told(one, "inventory")).status == 400
                through = await told(one, f"scrape?node=n1&path=/v1/{A}/metrics")
                assert (through.status, through.body) == (200, EXPOSITION)
            assert (await one.ask("/v1/peer/nodes", alice)).status == 404, "a tenant is no proxy"
            # Large ones, asked for together, arrive all.
            node.change(*(container(f"{n:08x}-0000-4000-8000-00000000000a", name="x" * 500) for n in range(5000)))
            await until(functools.partial(holds, one, 5000))
            large = await asyncio.gather(*(told(one, "inventory?node=n1") for _ in range(8)))
            assert {one.status for one in large} == {200}
            assert {len(json.loads(one.body)["document"]["containers"]) for one in large} == {5000}
            node.change(container(A, str(alice.uuid)))
            await until(functools.partial(holds, one, 1))
            await node.__aexit__()
            directory = str(site.data_dir / "directory.db")
            async with running(site, data_dir=tmp_path / "other", directory=directory, containers=1) as two:

                async def found() -> bool:
                    answer = await two.ask("/v1/discover", alice)
                    return answer.status == 200 and [
                        one["vm_uuid"] for one in json.loads(answer.body)["containers"]
                    ] == [A]

                await until(found)


@on_uvloop
async def test_clients_leave_workers_whose_parent_is_silent(tmp_path) -> None:
    site = Site(tmp_path)
    alice = site.account("alice")
    async with FakeNode(container(A, "alice")) as node:
        site.node("n1", node)
        async with proxy_of(site) as proxy:

            async def told(connection: str | None, status: int) -> bool:
                """Whether each worker answers discovery with this status, and kept connections so."""
                found = []
                for _ in range(6):
                    async with proxy.client(alice) as client:
                        scraped = await client.ask(f"/v1/{A}/metrics")
                        assert scraped.status == 200, "what is known is answered"
                        found.append((scraped["connection"], (await proxy.ask("/v1/discover", alice)).status))
                return set(found) == {(connection, status)}

            assert await told(None, 200)
            os.kill(proxy.pid, signal.SIGSTOP)
            try:
                await until(functools.partial(told, "close", 503))
            finally:
                os.kill(proxy.pid, signal.SIGCONT)
            await until(functools.partial(told, None, 200))


@on_uvloop
async def test_a_worker_that_hangs_is_replaced_within_seconds(tmp_path) -> None:
    site = Site(tmp_path)
    alice = site.account("alice")
    async with FakeNode(container(A, "alice")) as node:
        site.node("n1", node)
        async with proxy_of(site) as proxy:
            hung, _ = workers(proxy)
            os.kill(hung, signal.SIGSTOP)
            await until(lambda: hung not in workers(proxy))

            async def again() -> bool:
                return await proxy.metric("pymon_proxy_workers") == 2

            await until(again)
            assert f"worker with process {hung} hangs and is ended" in proxy.log
            assert {(await proxy.ask("/v1/discover", alice)).status for _ in range(6)} == {200}
            # One that was stopped together with its parent does not hang.
            every = [proxy.pid, *workers(proxy)]
            for pid in every:
                os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(6)
            for pid in every:
                os.kill(pid, signal.SIGCONT)
            await until(again)
            assert [proxy.pid, *workers(proxy)] == every

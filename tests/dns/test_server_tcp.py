"""TCP clients that stall, flood or crowd: bounded in number, in time and in memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import socket
from pathlib import Path

import dns.message
import dns.rcode
import pytest
import uvloop

from pymon.dns.tcp import Limits
from tests.dns.serving import ORIGIN, SIGNED, Client, serving, until

SOA = dns.message.make_query(ORIGIN, "SOA")


async def connect_from(served, address: str) -> Client:
    return Client(*await asyncio.open_connection(*served.where, local_addr=(address, 0)))


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
def test_connections_without_a_query_end_in_time(runner):
    async def check() -> None:
        async with serving(limits=Limits(message_seconds=0.2, idle_seconds=0.2)) as served:
            silent, partial, used = [await served.connect() for _ in range(3)]
            partial.writer.write(b"\0\x20half")
            used.send(SOA)
            assert (await used.read()).answer
            for client in (silent, partial, used):
                assert await client.ended()
                await client.close()
            assert served.server.tcp.closed == {"idle": 2, "slow": 1}
            assert not served.server.tcp.open

    runner(check())


async def test_a_message_that_drips_in_is_not_waited_for():
    async with serving(limits=Limits(message_seconds=0.3)) as served:
        client = await served.connect()

        async def drip() -> None:
            with contextlib.suppress(ConnectionError):
                for octet in b"\0\xff" + b"\0" * 255:
                    client.writer.write(bytes([octet]))
                    await client.writer.drain()
                    await asyncio.sleep(0.01)

        dripping = asyncio.create_task(drip())
        assert await client.ended()
        await dripping
        await client.close()
        assert served.server.tcp.closed == {"slow": 1}


async def test_when_there_are_too_many_the_one_that_was_silent_longest_gives_way():
    limits = Limits(connections=4, connections_of_source=3)
    async with serving(limits=limits) as served:
        clients = []
        for number in range(4):
            client = await connect_from(served, f"127.0.0.{number // 2 + 1}")
            client.send(SOA)
            assert (await client.read()).answer
            clients.append(client)
        clients[0].send(SOA)
        await clients[0].read()
        clients.append(await connect_from(served, "127.0.0.3"))
        assert await clients[1].ended()
        clients += [await connect_from(served, "127.0.0.3") for _ in range(3)]
        await until(lambda: len(served.server.tcp.open) <= 4 and served.server.tcp.accepted == 8, "too many are open")
        clients[-1].send(SOA)
        assert (await clients[-1].read()).answer
        assert served.server.tcp.closed["crowded"] >= 1
        assert sum(served.server.tcp.closed.values()) == 4
        for client in clients:
            await client.close()


async def test_one_source_has_no_more_than_its_part():
    async with serving(limits=Limits(connections_of_source=2)) as served:
        first = await served.connect()
        others = [await connect_from(served, "127.0.0.9") for _ in range(3)]
        assert await others[0].ended()
        for client in (first, *others[1:]):
            client.send(SOA)
            assert (await client.read()).answer
        for client in (first, *others):
            await client.close()
        assert served.server.tcp.closed == {"source_crowded": 1}


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
def test_who_asks_and_takes_no_answers_holds_no_memory(runner):
    async def check() -> None:
        async with serving(count=100, limits=Limits(stall_seconds=0.5)) as served:
            query = dns.message.make_query(f"web.svc.alice.{ORIGIN}", "SRV").to_wire()
            flood = (len(query).to_bytes(2, "big") + query) * 200
            answer = len((await served.tcp(dns.message.make_query(f"web.svc.alice.{ORIGIN}", "SRV"))).to_wire())
            before = resident()
            clients = [await _flooding(served, flood) for _ in range(30)]
            await until(lambda: served.server.tcp.closed["stalled"] == 30, "not all were ended")
            assert resident() - before < 30 << 20
            assert served.server.tcp.queries * answer < 30 * (2 << 20)
            assert (await served.tcp(SOA)).answer
            for client in clients:
                client.close()

    runner(check())


async def _flooding(served, flood: bytes) -> socket.socket:
    """A client that sends as much as is taken, and reads nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, served.where)
    with contextlib.suppress(BlockingIOError, ConnectionError):
        client.send(flood)
    return client


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_requests_for_transfers_are_taken_no_faster_than_their_rate():
    async with serving(SIGNED, limits=Limits(rate=40.0)) as served:
        client = await served.connect()
        query = dns.message.make_query(ORIGIN, "AXFR")
        client.send(*[query] * 30)
        other = await served.connect()
        other.send(*[SOA] * 100)
        for _ in range(100):
            assert (await other.read()).answer
        assert served.server.tcp.responses[dns.rcode.REFUSED] < 30
        for _ in range(30):
            assert (await client.read()).rcode() == dns.rcode.REFUSED
        await client.close()
        await other.close()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_no_message_makes_an_exception(transport, caplog):
    seeds = [
        dns.message.make_query(ORIGIN, "AXFR").to_wire(),
        dns.message.make_query(ORIGIN, "SOA", use_edns=0).to_wire(),
        bytes.fromhex("000128000001000000010001")
        + b"\5pymon\x08internal\0\0\6\0\1"
        + b"\xc0\x0c\0\xff\0\xff"
        + b"\0" * 6,
    ]
    query = dns.message.make_query(ORIGIN, "IXFR")
    query.use_tsig(next(iter(SIGNED.keys.values())))
    seeds.append(query.to_wire())
    generator = random.Random(7)  # noqa: S311
    async with serving(SIGNED, limits=Limits(rate_of_source=500.0)) as served:
        for _ in range(2000):
            message = bytearray(generator.choice(seeds))
            for _ in range(generator.randrange(1, 5)):
                message[generator.randrange(len(message))] = generator.choice(
                    (0, 1, 0xC0, 0xFF, generator.randrange(256))
                )
            if generator.random() < 0.3:
                del message[generator.randrange(len(message)) :]
            wire = bytes(message)
            if transport == "udp":
                answer = served.server.authority.answer(wire, "127.0.0.1", udp=True)
                assert answer is None or (isinstance(answer, bytes) and answer[:2] == wire[:2])
            else:
                client = await served.connect()
                client.send(wire)
                client.writer.write_eof()
                assert await client.ended()
                await client.close()
        assert (await served.tcp(SOA)).answer
    assert not caplog.records


async def test_udp_is_handed_over_no_faster_than_its_rate():
    async with serving(SIGNED) as served:
        wire = dns.message.make_query(ORIGIN, "AXFR").to_wire()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(served.where)
            for _ in range(1000):
                client.send(wire)
            await until(lambda: _dropped(served) > 100, "nothing was dropped")
        assert (await served.tcp(SOA)).answer
        names = [family.name for family in served.server.families()]
        assert all(re.fullmatch(r"pymon_dns_[a-z_]+", name) for name in names)


def _dropped(served) -> float:
    family = next(family for family in served.server.families() if family.name == "pymon_dns_dropped")
    return family.read().get(("limited",), 0)

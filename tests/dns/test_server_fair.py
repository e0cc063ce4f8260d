"""Strangers who send what is dear to answer do not starve others: limits are by source."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
import time
from typing import Self

import dns.message
import dns.query
import dns.rcode
import dns.tsig
import dns.zone
import pytest

from pymon.dns import server as server_module
from pymon.dns.tcp import Limits
from tests.dns.serving import KEY, ORIGIN, SIGNED, Client, serving, until

WRONG_KEY = dns.tsig.Key(KEY.name, b"x" * 32, KEY.algorithm)
STRANGER, GOOD = "127.0.0.1", "127.0.0.2"
FLOOD_PER_SECOND = 1500
SECONDS = 3.0


def asked(key: dns.tsig.Key = KEY, type: str = "SOA") -> dns.message.Message:
    query = dns.message.make_query(ORIGIN, type)
    query.use_tsig(key)
    return query


class Flood:
    """So many datagrams a second with a signature that does not hold, from one address, until the block ends."""

    def __init__(self, where: tuple[str, int]) -> None:
        self._where = where
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent = 0

    def _run(self) -> None:
        wire = asked(WRONG_KEY).to_wire()
        began = time.monotonic()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((STRANGER, 0))
            while not self._end.wait(0.005):
                while self.sent < (time.monotonic() - began) * FLOOD_PER_SECOND:
                    sender.sendto(wire, self._where)
                    self.sent += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def dropped(served, reason: str) -> float:
    family = next(family for family in served.server.families() if family.name == "pymon_dns_dropped")
    return family.read().get((reason,), 0)


async def test_signed_queries_are_answered_while_a_stranger_floods_with_bad_signatures():
    async with serving(SIGNED) as served:
        with Flood(served.where) as flood:
            await until(lambda: dropped(served, "limited") > 0, "the stranger is over his limit")
            until_then = asyncio.get_running_loop().time() + SECONDS
            answered = 0
            while asyncio.get_running_loop().time() < until_then:
                answer = await asyncio.to_thread(
                    dns.query.udp, asked(), served.where[0], timeout=1, port=served.where[1], source=GOOD
                )
                assert answer.rcode() == dns.rcode.NOERROR
                assert answer.had_tsig
                answered += 1
                await asyncio.sleep(0.05)
            zone = dns.zone.Zone(ORIGIN, relativize=False)
            await served.transfer(zone, asked(type="AXFR"), source=GOOD)
            assert zone == served.expected()
        assert answered > 10
        of_stranger = served.server.authority.signatures["BADSIG"]
        allowed = server_module.HANDED_OF_SOURCE_PER_SECOND * (SECONDS + 15)
        assert 0 < of_stranger < allowed
        assert dropped(served, "limited") > flood.sent / 2


async def test_over_tcp_too():
    async with serving(SIGNED) as served:
        strangers = [Client(*await asyncio.open_connection(*served.where, local_addr=(STRANGER, 0))) for _ in range(60)]
        wires = [asked(WRONG_KEY).to_wire()] * 200
        for client in strangers:
            client.send(*wires)
        await until(lambda: served.server.authority.signatures["BADSIG"] > 25, "the stranger is answered")
        good = Client(*await asyncio.open_connection(*served.where, local_addr=(GOOD, 0)))
        for _ in range(20):
            began = asyncio.get_running_loop().time()
            good.send(asked())
            answer = await good.read_wire()
            assert (answer[3] & 15, answer[10:12]) == (dns.rcode.NOERROR, b"\0\1")
            assert asyncio.get_running_loop().time() - began < 1.0
        zone = dns.zone.Zone(ORIGIN, relativize=False)
        await served.transfer(zone, asked(type="AXFR"), source=GOOD)
        assert zone == served.expected()
        for client in (*strangers, good):
            client.writer.transport.abort()


async def test_a_source_is_answered_no_faster_than_its_rate_over_tcp():
    async with serving(SIGNED, limits=Limits(rate_of_source=40.0)) as served:
        clients = [await served.connect() for _ in range(4)]
        began = asyncio.get_running_loop().time()
        for client in clients:
            client.send(*[asked(WRONG_KEY)] * 15)
        for client in clients:
            for _ in range(15):
                assert (await client.read_wire())[3] & 15 == dns.rcode.NOTAUTH
        assert asyncio.get_running_loop().time() - began > (60 - 10) / 40 - 0.1
        for client in clients:
            await client.close()


async def test_udp_is_handed_over_no_faster_than_the_rate_of_all():
    async with serving(SIGNED) as served:
        wire = dns.message.make_query(ORIGIN, "AXFR").to_wire()
        senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(20)]
        for number, sender in enumerate(senders):
            sender.bind((f"127.0.1.{number + 1}", 0))
        for sender, _ in itertools.product(senders, range(50)):
            sender.sendto(wire, served.where)
        await until(lambda: dropped(served, "busy") > 100, "nothing was dropped")
        for sender in senders:
            sender.close()


@pytest.mark.parametrize("address", [STRANGER, GOOD])
async def test_one_source_has_its_share_and_no_more(address):
    async with serving(SIGNED) as served:
        wire = dns.message.make_query(ORIGIN, "AXFR").to_wire()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind((address, 0))
            for _ in range(1000):
                client.sendto(wire, served.where)
        await until(lambda: dropped(served, "limited") > 500, "it is limited")
        assert dropped(served, "busy") == 0

"""Zone transfers: who may, whole and incremental, signed, and beside everything else."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from dataclasses import replace
from ipaddress import ip_network

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.xfr
import dns.zone
import pytest

from pymon.dns.options import Source
from pymon.dns.tcp import Limits
from pymon.dns.transfer import MESSAGE_BYTES
from tests.dns.serving import KEY, OPTIONS, ORIGIN, OTHER_KEY, REVERSE, SIGNED, instance, serving, until, uuid_of


def empty(origin: str = ORIGIN) -> dns.zone.Zone:
    return dns.zone.Zone(origin, relativize=False)


def transfer_query(kind: str = "AXFR", *, serial: int | None = None, key: dns.tsig.Key | None = None):
    query = dns.message.make_query(ORIGIN, kind)
    if serial is not None:
        data = f". . {serial} 0 0 0 0"
        query.authority.append(dns.rrset.from_text(ORIGIN, 0, "IN", "SOA", data))
    if key is not None:
        query.use_tsig(key)
    return query


async def read_transfer(client, query) -> list[dns.message.Message]:
    """All messages, each with its signature checked; ends with the SOA that ends them."""
    messages, context, soas, first = [], None, 0, None
    while True:
        wire = await client.read_wire()
        message = dns.message.from_wire(
            wire, keyring=query.keyring, request_mac=query.mac, xfr=True, tsig_ctx=context, multi=True,
            one_rr_per_rrset=True,
        )  # fmt: skip
        context = message.tsig_ctx
        messages.append(message)
        if message.rcode():
            return messages
        for rrset in message.answer:
            if rrset.rdtype == dns.rdatatype.SOA:
                first = first or rrset[0].serial
                soas += rrset[0].serial == first
        if soas >= 2 and message.answer[-1].rdtype == dns.rdatatype.SOA:
            return messages


@pytest.mark.parametrize("key", [None, KEY, OTHER_KEY])
async def test_axfr_gives_the_zone(key):
    async with serving(SIGNED if key else OPTIONS, count=100) as served:
        for origin in (ORIGIN, REVERSE):
            query = dns.message.make_query(origin, "AXFR")
            if key:
                query.use_tsig(key)
            zone = empty(origin)
            await served.transfer(zone, query)
            assert zone == served.expected(origin)
        assert served.server.authority.transfers == {"axfr": 2}
        assert served.server.tcp.transfers == {"sent": 2}


async def test_messages_are_of_bounded_size_and_each_is_signed():
    async with serving(SIGNED, count=1000) as served:
        client = await served.connect()
        query = transfer_query(key=KEY)
        client.send(query)
        messages = await read_transfer(client, query)
        await client.close()
        assert len(messages) > 5
        assert all(message.had_tsig for message in messages)
        assert max(len(message.wire) for message in messages) < MESSAGE_BYTES + 512
        assert sum(len(message.answer) for message in messages) == len(served.zone) + 1


async def test_ixfr_gives_the_changes():
    async with serving(SIGNED) as served:
        secondary = empty()
        await served.transfer(secondary, transfer_query(key=KEY))
        for number in range(5):
            served.change(instance(number, last=number + 1), removed=(uuid_of(number + 7),))
        query, _ = dns.xfr.make_query(secondary, keyring=KEY)
        await served.transfer(secondary, query)
        assert secondary == served.expected()
        assert served.server.authority.transfers == {"axfr": 1, "ixfr": 1}


async def test_ixfr_of_the_current_serial_is_soa_alone_and_of_an_unknown_one_the_whole_zone():
    async with serving() as served:
        client = await served.connect()
        serial = served.zone.serial
        for asked in (serial, serial + 1000):
            query = transfer_query("IXFR", serial=asked)
            client.send(query)
            answer = await client.read()
            assert [rrset.rdtype for rrset in answer.answer] == [dns.rdatatype.SOA]
            assert answer.answer[0][0].serial == serial
        query = transfer_query("IXFR", serial=serial - 1000)
        client.send(query)
        messages = await read_transfer(client, query)
        assert sum(len(message.answer) for message in messages) == len(served.zone) + 1
        await client.close()
        assert served.server.authority.transfers == {"current": 2, "axfr": 1}


async def test_ixfr_over_udp_is_the_serial_and_axfr_formerr():
    async with serving() as served:
        answer = await served.udp(transfer_query("IXFR", serial=1))
        assert [rrset.rdtype for rrset in answer.answer] == [dns.rdatatype.SOA]
        assert (await served.udp(transfer_query())).rcode() == dns.rcode.FORMERR


async def test_a_transfer_of_what_is_no_zone_is_notauth():
    async with serving() as served:
        query = dns.message.make_query(f"cmon.{ORIGIN}", "AXFR")
        assert (await served.tcp(query)).rcode() == dns.rcode.NOTAUTH
        query = dns.message.make_query("example.com.", "AXFR")
        assert (await served.tcp(query)).rcode() == dns.rcode.REFUSED


async def test_strangers_are_refused():
    nobody = replace(OPTIONS, transfer_from=())
    others = replace(
        OPTIONS, transfer_from=(Source(ip_network("192.0.2.0/24"), None), Source(ip_network("::/0"), None))
    )
    for options in (nobody, others, SIGNED):
        async with serving(options) as served:
            for kind, serial in (("AXFR", None), ("IXFR", 1)):
                answer = await served.tcp(transfer_query(kind, serial=serial))
                assert answer.rcode() == dns.rcode.REFUSED
                assert not answer.answer
            assert served.server.authority.refused == {"axfr": 1, "ixfr": 1}


async def test_the_key_that_stands_beside_an_address_is_the_one_that_counts():
    options = replace(SIGNED, transfer_from=(Source(ip_network("127.0.0.1/32"), KEY.name),))
    async with serving(options) as served:
        answer = await served.tcp(transfer_query(key=OTHER_KEY))
        assert answer.rcode() == dns.rcode.REFUSED
        assert answer.had_tsig
        await served.transfer(empty(), transfer_query(key=KEY))


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_signed_queries_are_answered_signed(transport):
    async with serving(SIGNED) as served:
        query = dns.message.make_query(ORIGIN, "SOA", use_edns=0)
        query.use_tsig(KEY)
        answer = await getattr(served, transport)(query)
        assert answer.had_tsig
        assert answer.answer[0][0].serial == served.zone.serial
        assert answer.edns == 0
        query = dns.message.make_query(f"nothing.{ORIGIN}", "A")
        query.use_tsig(OTHER_KEY)
        answer = await getattr(served, transport)(query)
        assert (answer.rcode(), answer.had_tsig) == (dns.rcode.NXDOMAIN, True)


async def test_a_signed_answer_that_does_not_fit_is_truncated():
    async with serving(SIGNED, count=28) as served:
        name = f"web.svc.alice.{ORIGIN}"
        plain = await served.udp(dns.message.make_query(name, "A"))
        assert not plain.flags & dns.flags.TC
        query = dns.message.make_query(name, "A")
        query.use_tsig(OTHER_KEY)
        answer = await served.udp(query)
        assert answer.flags & dns.flags.TC
        assert answer.had_tsig
        assert len((await served.tcp(query)).answer[0]) == 28


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_signatures_that_do_not_hold_have_their_error(transport):
    async with serving(SIGNED) as served:
        unknown = dns.tsig.Key("unknown.", b"0" * 32)
        forged = dns.tsig.Key(KEY.name, b"1" * 32, KEY.algorithm)
        other_algorithm = dns.tsig.Key(KEY.name, KEY.secret, "hmac-sha384.")
        for key, error in ((unknown, "BADKEY"), (other_algorithm, "BADKEY"), (forged, "BADSIG")):
            query = dns.message.make_query(ORIGIN, "SOA")
            query.use_tsig(key)
            answer = await _answer_unchecked(served, transport, query.to_wire())
            assert answer.rcode() == dns.rcode.NOTAUTH
            assert dns.rcode.to_text(answer.tsig_error, tsig=True) == error
            assert answer.mac == b""
            assert not answer.answer
        assert served.server.authority.signatures == {"BADKEY": 2, "BADSIG": 1}


async def _answer_unchecked(served, transport: str, wire: bytes) -> dns.message.Message:
    if transport == "tcp":
        client = await served.connect()
        client.send(wire)
        data = await client.read_wire()
        await client.close()
    else:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(served.where)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, wire)
            data = await asyncio.wait_for(loop.sock_recv(client, 4096), 10)
    return dns.message.from_wire(data, keyring=False)


async def test_an_old_signature_is_badtime_and_says_the_time():
    async with serving(SIGNED) as served:
        query = dns.message.make_query(ORIGIN, "SOA")
        query.use_tsig(KEY)
        wire = _signed_at(query, int(time.time()) - 1000)
        answer = await _answer_unchecked(served, "tcp", wire)
        assert answer.rcode() == dns.rcode.NOTAUTH
        assert answer.tsig_error == dns.rcode.BADTIME
        assert len(answer.mac) == 32
        assert abs(int.from_bytes(answer.tsig[0].other, "big") - time.time()) < 60


def _signed_at(query: dns.message.Message, when: int) -> bytes:
    query.want_tsig_sign = False
    bare = dns.message.make_query(ORIGIN, "SOA", id=query.id).to_wire()
    data, _ = dns.tsig.sign(bare, KEY, query.tsig[0].replace(original_id=query.id), when)
    rdata = data.to_wire()
    head = struct.pack("!HHIH", dns.rdatatype.TSIG, 255, 0, len(rdata))
    return bare[:10] + b"\0\1" + bare[12:] + KEY.name.to_wire() + head + rdata


async def test_damaged_signatures_are_answered_and_never_verified():
    async with serving(SIGNED) as served:
        query = transfer_query(key=KEY)
        wire = query.to_wire()
        client = await served.connect()
        for at in range(2, len(wire)):
            damaged = bytearray(wire)
            damaged[at] ^= 0x21
            if damaged[2] & 0x80:
                continue
            client.send(bytes(damaged))
            answer = await client.read_wire()
            assert answer[3] & 15, f"octet {at} was not missed"
        await client.close()
        assert not served.server.authority.transfers


async def test_transfers_and_queries_on_one_connection_are_answered_in_their_order():
    async with serving(count=400) as served:
        client = await served.connect()
        for _ in range(3):
            query, soa = transfer_query(), dns.message.make_query(ORIGIN, "SOA")
            client.send(query, soa)
            messages = await read_transfer(client, query)
            assert sum(len(message.answer) for message in messages) == len(served.zone) + 1
            assert (await client.read()).id == soa.id
        await client.close()


async def test_a_transfer_is_of_one_moment_and_others_are_answered_meanwhile():
    async with serving(count=1000) as served:
        before = set(served.text().splitlines())
        client = await served.connect()
        client.writer.transport.pause_reading()
        query = transfer_query()
        client.send(query)
        await until(lambda: served.server.tcp.sent_bytes > 0, "nothing was sent")
        for number in range(50):
            served.change(instance(number, last=9))
        for _ in range(20):
            assert (await served.tcp(dns.message.make_query(ORIGIN, "SOA"))).answer
        client.writer.transport.resume_reading()
        messages = await read_transfer(client, query)
        await client.close()
        got = [rrset.to_text().split(" ", 2) for message in messages for rrset in message.answer]
        assert sorted(" ".join(line.split()) for line in before) == sorted(map(" ".join, got[:-1]))


async def test_a_client_that_takes_nothing_is_ended_and_its_memory_is_free():
    limits = Limits(stall_seconds=0.3)
    async with serving(count=5000, limits=limits) as served:
        client = await served.connect()
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.writer.transport.pause_reading()
        client.send(transfer_query())
        await until(lambda: served.server.tcp.closed["stalled"] == 1, "it was not ended")
        await until(lambda: served.server.tcp.transfers["aborted"] == 1, "its transfer goes on")
        assert served.server.tcp.sent_bytes < 1_000_000
        assert not served.server.tcp.open
        client.writer.transport.resume_reading()
        assert await client.ended()
        await client.close()


async def test_more_transfers_than_are_made_at_a_time_wait_for_their_turn():
    async with serving(count=50, limits=Limits(transfers=1)) as served:
        zones = [empty() for _ in range(4)]
        await asyncio.gather(*(served.transfer(zone) for zone in zones))
        assert all(zone == served.expected() for zone in zones)


async def test_a_transfer_that_takes_too_long_is_ended():
    async with serving(count=5000, limits=Limits(transfer_seconds=0.2)) as served:
        client = await served.connect()
        client.writer.transport.pause_reading()
        client.send(transfer_query())
        await until(lambda: served.server.tcp.closed["transfer_timeout"] == 1, "it was not ended")
        client.writer.transport.resume_reading()
        assert await client.ended()
        await client.close()


async def test_the_end_of_the_server_ends_transfers():
    async with serving(count=5000) as served:
        client = await served.connect()
        client.writer.transport.pause_reading()
        client.send(transfer_query())
        await until(lambda: served.server.tcp.sent_bytes > 0, "nothing was sent")
    assert served.server.tcp.transfers == {"aborted": 1}
    client.writer.transport.resume_reading()
    assert await client.ended()
    await client.close()


async def test_zones_that_lack_names_are_not_transferred_and_are_told_of_when_they_have_them() -> None:
    async with serving(OPTIONS) as served:
        server, first = served.server, served.zone.serial
        server.hold(incomplete=True)
        for kind, serial in (("AXFR", None), ("IXFR", first)):
            (refused,) = await asked(served, transfer_query(kind, serial=serial))
            assert refused.rcode() == dns.rcode.SERVFAIL
        server.hold(incomplete=False)
        (*_, last) = await asked(served, transfer_query())
        assert last.rcode() == dns.rcode.NOERROR


async def asked(served, query) -> list[dns.message.Message]:
    client = await served.connect()
    client.send(query)
    try:
        return await read_transfer(client, query)
    finally:
        await client.close()

"""Queries over UDP and TCP, with dig and dnspython; refusals of what is none."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.update
import pytest
import uvloop

from pymon.config import Address
from pymon.dns.options import DnsOptions
from tests.dns.serving import ORIGIN, SIGNED, dig, instance, serving, uuid_of

CMON = f"{uuid_of(0)}.cmon.{ORIGIN}"


async def test_dig_gets_the_same_over_udp_and_tcp():
    async with serving() as served:
        for transport in ("+notcp", "+tcp"):
            text = await dig(served, transport, CMON, "A")
            assert "status: NOERROR" in text
            assert "flags: qr aa rd" in text
            assert "recursion requested but not available" in text
            lines = [" ".join(line.split()) for line in text.splitlines()]
            assert f"{CMON} 30 IN CNAME cmon.{ORIGIN}" in lines
            assert f"cmon.{ORIGIN} 5 IN A 192.0.2.1" in lines


async def test_soa_and_ns_of_the_zone():
    async with serving() as served:
        text = await dig(served, "+short", ORIGIN, "SOA")
        assert text == f"cmon.{ORIGIN} hostmaster.{ORIGIN} {served.zone.serial} 30 60 2592000 30\n"
        assert await dig(served, "+short", ORIGIN, "NS") == f"cmon.{ORIGIN}\n"


async def test_cookies_are_not_answered_and_a_later_edns_is_badvers():
    async with serving() as served:
        text = await dig(served, "+tcp", "+cookie=0123456789abcdef", CMON)
        assert "status: NOERROR" in text
        assert "COOKIE" not in text
        for transport in ("+tcp", "+notcp"):
            text = await dig(served, transport, "+edns=1", "+noednsnegotiation", CMON)
            assert "status: BADVERS" in text
            assert "EDNS: version: 0" in text


async def test_a_change_is_answered_at_once():
    async with serving() as served:
        served.change(instance(1, last=5))
        name = f"{uuid_of(1)}.inst.alice.{ORIGIN}"
        answer = await served.udp(dns.message.make_query(name, "A"))
        assert answer.answer[0][0].to_text() == "10.5.0.2"
        assert (await dig(served, "+short", "-x", "10.5.0.2")) == f"web-1.inst.alice.{ORIGIN}\n"


async def test_many_queries_on_one_connection_are_answered_in_their_order():
    async with serving(count=200) as served:
        client = await served.connect()
        queries = [dns.message.make_query(f"web-{number}.inst.alice.{ORIGIN}", "A") for number in range(200)]
        client.send(*queries)
        for query in queries:
            answer = await client.read()
            assert answer.id == query.id
            assert answer.question == query.question
            assert len(answer.answer) == 1
        await client.close()


async def test_a_query_that_comes_octet_by_octet_is_answered():
    async with serving() as served:
        client = await served.connect()
        wire = dns.message.make_query(CMON, "A").to_wire()
        for octet in len(wire).to_bytes(2, "big") + wire:
            client.writer.write(bytes([octet]))
            await client.writer.drain()
            await asyncio.sleep(0)
        assert (await client.read()).answer
        await client.close()


async def test_a_client_that_ends_its_side_gets_its_answers():
    async with serving() as served:
        client = await served.connect()
        client.send(*[dns.message.make_query(CMON, "A") for _ in range(40)])
        client.writer.write_eof()
        for _ in range(40):
            assert (await client.read()).answer
        assert await client.ended()
        await client.close()


def test_the_same_on_uvloop():
    async def ask() -> None:
        await test_many_queries_on_one_connection_are_answered_in_their_order()
        await test_a_client_that_ends_its_side_gets_its_answers()
        await test_notify_and_update_are_refused("udp")
        await test_dig_gets_the_same_over_udp_and_tcp()

    uvloop.run(ask())


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_notify_and_update_are_refused(transport):
    async with serving() as served:
        for name, rcode in ((ORIGIN, dns.rcode.REFUSED), ("example.com.", dns.rcode.NOTAUTH)):
            notify = dns.message.make_query(name, "SOA")
            notify.set_opcode(dns.opcode.NOTIFY)
            answer = await getattr(served, transport)(notify)
            assert (answer.opcode(), answer.rcode()) == (dns.opcode.NOTIFY, rcode)
            update = dns.update.UpdateMessage(name)
            update.add("new", 30, "A", "10.0.0.9")
            update.delete("web", "A")
            update.present("www")
            answer = await getattr(served, transport)(update)
            assert (answer.opcode(), answer.rcode()) == (dns.opcode.UPDATE, rcode)
        assert served.server.authority.refused == {"notify": 2, "update": 2}


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize(
    ("opcode", "wire", "rcode"),
    [
        (dns.opcode.NOTIFY, b"\0\0\0\0\0\0\0\0", dns.rcode.FORMERR),  # no question
        (dns.opcode.NOTIFY, b"\0\1\0\0\0\0\0\0\0\0\1\0\1", dns.rcode.NOTIMP),  # of an A record
        (dns.opcode.UPDATE, b"\0\1\0\0\0\0\0\0\0\0\1\0\1", dns.rcode.FORMERR),
        (dns.opcode.UPDATE, b"\0\1\0\0\0\1\0\0\0\0\6\0\1\xc0", dns.rcode.FORMERR),  # ends inside a record
        (dns.opcode.UPDATE, b"\0\1\0\0\0\0\0\0\0\0\6\0\1rest", dns.rcode.FORMERR),
        (dns.opcode.UPDATE, b"\0\1\0\0\0\0\0\0\xc0\x0c\0\6\0\1", dns.rcode.FORMERR),  # a name that points to itself
        (dns.opcode.STATUS, b"\0\1\0\0\0\0\0\0\0\0\1\0\1", dns.rcode.NOTIMP),
        (3, b"\0\1\0\0\0\0\0\0\0\0\1\0\1", dns.rcode.NOTIMP),
    ],
)
async def test_what_is_malformed_or_unknown_has_its_rcode(transport, opcode, wire, rcode):
    message = b"\x12\x34" + bytes([opcode << 3]) + b"\0" + wire
    async with serving() as served:
        if transport == "tcp":
            client = await served.connect()
            client.send(message)
            answer = await client.read_wire()
            await client.close()
        else:
            answer = await _ask_udp(served, message)
        assert answer[:2] == message[:2]
        assert answer[2] >> 3 & 15 == opcode
        assert answer[2] & 0x80
        assert answer[3] & 15 == rcode
        assert len(answer) <= len(message)


async def _ask_udp(served, message: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect(served.where)
        await loop.sock_sendall(client, message)
        async with asyncio.timeout(10):
            return await loop.sock_recv(client, 4096)


async def test_answers_and_too_short_messages_end_the_connection():
    async with serving() as served:
        answer = dns.message.make_response(dns.message.make_query(CMON, "A")).to_wire()
        for message in (answer, b"", b"\0" * 11):
            client = await served.connect()
            client.send(message)
            assert await client.ended()
            await client.close()
        assert served.server.tcp.closed == {"malformed": 3}


async def test_a_message_that_is_too_large_is_formerr_and_the_next_one_is_answered():
    async with serving() as served:
        client = await served.connect()
        query = dns.message.make_query(CMON, "A")
        client.send(query.to_wire() + b"\0" * 60000, query)
        answer = await client.read()
        assert (answer.id, answer.rcode()) == (query.id, dns.rcode.FORMERR)
        assert (await client.read()).answer
        await client.close()


@pytest.mark.parametrize(
    ("opcode", "rcode"),
    [
        (dns.opcode.QUERY, dns.rcode.FORMERR),
        (dns.opcode.UPDATE, dns.rcode.FORMERR),
        (dns.opcode.STATUS, dns.rcode.NOTIMP),
    ],
)
async def test_a_datagram_that_is_too_large_is_answered_without_its_question(opcode, rcode):
    query = dns.message.make_query(CMON, "A")
    query.set_opcode(opcode)
    async with serving() as served:
        for size in (5000, 65000):
            wire = query.to_wire() + b"\0" * size
            answer = dns.message.from_wire(await _ask_udp(served, wire[:65500]))
            assert (answer.id, answer.opcode(), answer.rcode()) == (query.id, opcode, rcode)
            assert not answer.question
        assert (await served.udp(dns.message.make_query(CMON, "A"))).answer


async def test_every_type_of_listener_address_is_bound_for_both_transports():
    for host in ("", "::1", "127.0.0.1", "localhost"):
        async with serving(DnsOptions(listen_addresses=(Address(host, 0),))) as served:
            for address in served.server.addresses:
                asked = address.host or "127.0.0.1"
                served.server.addresses = (Address(asked, address.port),)
                assert (await served.udp(dns.message.make_query(CMON, "A"))).answer
                assert (await served.tcp(dns.message.make_query(CMON, "A"))).answer


async def test_an_address_that_is_taken_is_named():
    async with serving() as served:
        options = replace(SIGNED, listen_addresses=served.server.addresses)
        with pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.1:\d+: Address already in use"):
            async with serving(options):
                pass


async def test_its_counters_tell_what_was_asked():
    async with serving() as served:
        await served.udp(dns.message.make_query(CMON, "A"))
        await served.tcp(dns.message.make_query(CMON, "A"))
        await served.tcp(dns.message.make_query("example.com.", "A"))
        await served.udp(dns.message.make_query("example.com.", "A"))
        await served.udp(dns.message.make_query(ORIGIN, "AXFR"))
        families = {family.name: family for family in served.server.families()}
        values = {name: dict(family.read()) for name, family in families.items()}
        assert values["pymon_dns_queries"] == {("udp",): 3, ("tcp",): 2}
        responses = {key: count for key, count in values["pymon_dns_responses"].items() if count}
        assert responses == {
            ("udp", "NOERROR"): 1, ("udp", "REFUSED"): 1, ("udp", "FORMERR"): 1,
            ("tcp", "NOERROR"): 1, ("tcp", "REFUSED"): 1,
        }  # fmt: skip
        assert values["pymon_dns_tcp_accepted"] == {(): 2}
        assert values["pymon_dns_zone_serial"][ORIGIN,] == served.zone.serial
        assert values["pymon_dns_zone_records"][ORIGIN,] == len(served.text().splitlines())
        for family in families.values():
            assert all(len(labels) == len(family.labels) for labels in family.read())
            assert family.help.endswith(".")
    assert families["pymon_dns_queries"].read()["udp",] == 3

import itertools
import random
import select
import socket
import time

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.tsigkeyring
import dns.update
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymon._native.responder import HandOver, Responder, Zones
from pymon.dns.records import Record
from pymon.dns.zone import Zone
from tests.native.knot import knot

ORIGIN = "pymon.internal."
UUIDS = [f"{i:08x}-0000-4000-8000-{i:012x}" for i in range(8)]
UNLIMITED = {"responses_per_second": 0, "excess_bytes_per_second": 0, "handed_per_second": 0, "slip": 2}


def alias(target):
    return (Record("CNAME", 30, target),)


CONTENT = {
    ORIGIN: (
        Record("SOA", 60, f"ns.{ORIGIN} hostmaster.{ORIGIN} 0 30 60 2592000 30"),
        Record("NS", 3600, f"ns.{ORIGIN}"),
        Record("NS", 3600, "ns.example.net."),
    ),
    f"ns.{ORIGIN}": (Record("A", 30, "192.0.2.53"),),
    f"cmon.{ORIGIN}": (
        Record("A", 30, "192.0.2.1"),
        Record("A", 30, "192.0.2.2"),
        Record("A", 30, "192.0.2.3"),
        Record("AAAA", 30, "2001:db8::1"),
    ),
    **{f"{uuid}.cmon.{ORIGIN}": alias(f"cmon.{ORIGIN}") for uuid in UUIDS},
    **{
        f"{uuid}.inst.a.{ORIGIN}": (Record("A", 30, f"10.0.0.{i}"), Record("TXT", 30, f'"{uuid}"'))
        for i, uuid in enumerate(UUIDS)
    },
    f"web.svc.a.{ORIGIN}": (
        *(Record("A", 30, f"10.0.0.{i}") for i in range(40)),
        *(Record("SRV", 30, f"0 10 80 {uuid}.inst.a.{ORIGIN}") for uuid in UUIDS),
    ),
    f"chain1.{ORIGIN}": alias(f"chain2.{ORIGIN}"),
    f"chain2.{ORIGIN}": alias(f"chain3.deep.{ORIGIN}"),
    f"chain3.deep.{ORIGIN}": alias(f"cmon.{ORIGIN}"),
    f"dangling.{ORIGIN}": alias(f"nothing.here.{ORIGIN}"),
    f"out.{ORIGIN}": alias("www.example.net."),
    f"loop1.{ORIGIN}": alias(f"loop2.{ORIGIN}"),
    f"loop2.{ORIGIN}": alias(f"loop1.{ORIGIN}"),
    f"to-apex.{ORIGIN}": alias(ORIGIN),
    f"to-empty.{ORIGIN}": alias(f"svc.a.{ORIGIN}"),
    f"odd.{ORIGIN}": (
        Record("MX", 30, "10 mail.example.net."),
        Record("TXT", 30, '"a" "b\\"c" "\\200"'),
        Record("LOC", 30, "52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m"),
    ),
}
ELSEWHERE = [
    *(f"{label}.{ORIGIN}" for label in ("deep", "inst.a", "a", "nothing", "x.cmon", "b.a", "*", "x.web.svc.a")),
    *(f"x.{uuid}.{kind}.{ORIGIN}" for uuid in UUIDS[:1] for kind in ("cmon", "inst.a")),
    *(".", "internal.", "example.net.", f"x{ORIGIN}", f"{'a' * 63}.{ORIGIN}", f"{'a.' * 100}{ORIGIN}"),
]
TYPES = "A AAAA CNAME TXT SRV SOA NS MX PTR ANY DS DNSKEY RRSIG NSEC HTTPS LOC TYPE65280".split()


@pytest.fixture(scope="module")
def zone():
    made = Zone(Zones(), ORIGIN, clock=time.time)
    assert made.replace(CONTENT) == []
    return made


@pytest.fixture(scope="module")
def zones(zone):
    return zone._zones


def bound(family=socket.AF_INET, address="127.0.0.1"):
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.bind((address, 0))
    made.settimeout(10)
    return made


@pytest.fixture
def responder(zones):
    with bound() as listening:
        made = Responder(zones, [listening], **UNLIMITED)
        yield made, listening.getsockname()
        made.close()


def sections(message):
    def section(rrsets):
        return sorted(
            (rrset.name.canonicalize(), rrset.rdtype, rrset.ttl, sorted(rdata.to_digestable() for rdata in rrset))
            for rrset in rrsets
        )

    return section(message.answer), section(message.authority)


def differs(mine, other):
    """What of two answers to one query is not the same."""
    if mine.flags & other.flags & dns.flags.TC:
        return []
    pairs = {
        "rcode": (mine.rcode(), other.rcode()),
        "flags": (dns.flags.to_text(mine.flags), dns.flags.to_text(other.flags)),
        "question": (mine.question[0].to_text(), other.question[0].to_text()),
        "sections": (sections(mine), sections(other)),
        "edns": (mine.edns, other.edns, mine.payload if mine.edns >= 0 else 0) if mine.edns != other.edns else (0, 0),
        "do": (mine.ednsflags & dns.flags.DO, other.ednsflags & dns.flags.DO),
    }
    return [what for what, (one, another, *_) in pairs.items() if one != another]


def queries():
    """Every name with every type, in all ways of asking."""
    choice = random.Random(4)  # noqa: S311
    ways = [
        {},
        *({"use_edns": 0, "payload": payload} for payload in (100, 512, 700, 1232, 4096)),
        {"want_dnssec": True},
    ]
    for name, kind in itertools.product([*CONTENT, *ELSEWHERE], TYPES):
        for way in ways:
            asked = "".join(choice.choice((sign.upper(), sign)) for sign in name)
            query = dns.message.make_query(asked, kind, **way)
            query.flags |= choice.choice([0, dns.flags.AD, dns.flags.CD])
            query.flags &= ~choice.choice([0, dns.flags.RD])
            yield query


def test_answers_are_those_of_knot(tmp_path, zone, zones):
    text = "\n".join(zone.text()) + "\n"
    compared, wrong = 0, []
    with knot(tmp_path / "knot", ORIGIN, text) as port, bound() as asking:
        asking.connect(("127.0.0.1", port))
        for query in queries():
            wire = query.to_wire()
            asking.send(wire)
            other = dns.message.from_wire(asking.recv(65535))
            mine = dns.message.from_wire(zones.answer(wire, udp=True))
            if query.question[0].rdtype == dns.rdatatype.ANY and query.question[
                0
            ].name.canonicalize() == dns.name.from_text(ORIGIN):
                continue  # any one set will do (RFC 8482), and Knot's is NS, ours SOA
            compared += 1
            if what := differs(mine, other):
                wrong.append(f"{query.question[0]}: {what}\n{mine}\n\n{other}")
    assert wrong == []
    assert compared > 5000


@pytest.mark.parametrize(
    ("name", "kind", "rcode", "answer"),
    [
        (f"{UUIDS[0]}.cmon.{ORIGIN}", "A", "NOERROR", 2),
        (f"chain1.{ORIGIN}", "AAAA", "NOERROR", 4),
        (f"chain1.{ORIGIN}", "TXT", "NOERROR", 3),
        (f"dangling.{ORIGIN}", "A", "NXDOMAIN", 1),
        (f"inst.a.{ORIGIN}", "A", "NOERROR", 0),
        (f"x.{UUIDS[0]}.cmon.{ORIGIN}", "A", "NXDOMAIN", 0),
        ("example.net.", "A", "REFUSED", 0),
    ],
)
def test_answers_in_short(zones, name, kind, rcode, answer):
    query = dns.message.make_query(name, kind)
    message = dns.message.from_wire(zones.answer(query.to_wire(), udp=True))
    assert (dns.rcode.to_text(message.rcode()), len(message.answer)) == (rcode, answer)
    assert bool(message.flags & dns.flags.AA) is (rcode != "REFUSED")
    assert not message.flags & dns.flags.RA


def test_negative_answers_may_be_kept_as_long_as_the_soa_says(zones):
    message = dns.message.from_wire(zones.answer(dns.message.make_query(f"x.{ORIGIN}", "A").to_wire(), udp=True))
    assert [rrset.ttl for rrset in message.authority] == [30]


def test_addresses_take_turns_at_being_first(zones):
    query = dns.message.make_query(f"{UUIDS[0]}.cmon.{ORIGIN}", "A").to_wire()
    firsts = [dns.message.from_wire(zones.answer(query, udp=True)).answer[1][0].address for _ in range(9)]
    assert sorted(firsts) == [f"192.0.2.{i}" for i in (1, 2, 3) for _ in range(3)]


def test_what_does_not_fit_is_truncated_over_udp_and_whole_over_tcp(zones):
    query = dns.message.make_query(f"web.svc.a.{ORIGIN}", "A", use_edns=0, payload=600).to_wire()
    short = dns.message.from_wire(zones.answer(query, udp=True))
    whole = dns.message.from_wire(zones.answer(query, udp=False))
    assert (bool(short.flags & dns.flags.TC), short.answer) == (True, [])
    assert (bool(whole.flags & dns.flags.TC), len(whole.answer[0])) == (False, 40)


def counted(query, at, count):
    wire = bytearray(query)
    wire[at + 1] = count
    return bytes(wire)


PLAIN = dns.message.make_query(f"cmon.{ORIGIN}", "A", id=1).to_wire()
EDNS = dns.message.make_query(f"cmon.{ORIGIN}", "A", id=1, use_edns=0).to_wire()
MALFORMED = {
    "header only": (PLAIN[:12], "FORMERR"),
    "cut": (PLAIN[:-1], "FORMERR"),
    "no question": (counted(PLAIN, 4, 0), "FORMERR"),
    "two questions": (counted(PLAIN, 4, 2), "FORMERR"),
    "an answer": (counted(PLAIN, 6, 1), "FORMERR"),
    "missing record": (counted(PLAIN, 10, 1), "FORMERR"),
    "trailing": (PLAIN + b"x", "FORMERR"),
    "compressed": (PLAIN[:12] + b"\xc0\x0c" + PLAIN[-4:], "FORMERR"),
    "long label": (PLAIN[:12] + b"\x41" + b"a" * 65 + b"\0" + PLAIN[-4:], "FORMERR"),
    "long name": (PLAIN[:12] + b"\x01a" * 128 + b"\0" + PLAIN[-4:], "FORMERR"),
    "two OPT": (counted(EDNS, 10, 2) + EDNS[-11:], "FORMERR"),
    "option cut": (EDNS[:-2] + b"\0\4\0\3\0\5", "FORMERR"),
    "EDNS 1": (EDNS[:-5] + b"\1" + EDNS[-4:], "BADVERS"),
    "class CH": (PLAIN[:-1] + b"\3", "REFUSED"),
    "opcode STATUS": (PLAIN[:2] + b"\x10" + PLAIN[3:], "NOTIMP"),
    "opcode 15": (PLAIN[:2] + b"\x78" + PLAIN[3:], "NOTIMP"),
    "type OPT": (PLAIN[:-4] + b"\0\x29\0\1", "FORMERR"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_queries_get_a_short_answer(zones, case):
    wire, rcode = MALFORMED[case]
    answer = zones.answer(wire, udp=True)
    message = dns.message.from_wire(answer)
    assert dns.rcode.to_text(message.rcode()) == rcode
    assert message.id == 1
    assert len(answer) <= len(wire)


@pytest.mark.parametrize("wire", [b"", PLAIN[:11], PLAIN[:2] + b"\x80" + PLAIN[3:]])
def test_what_is_no_query_gets_no_answer(zones, wire):
    assert zones.answer(wire, udp=True) is None


@given(st.binary(max_size=600), st.sampled_from([b"", PLAIN, EDNS, PLAIN[:12]]), st.booleans())
def test_any_octets_get_a_message_or_nothing(zones, junk, head, udp):
    try:
        answer = zones.answer(head + junk, udp=udp)
    except HandOver:
        return
    if answer is not None:
        dns.message.from_wire(answer)


def not_ours():
    signed = dns.message.make_query(ORIGIN, "SOA")
    signed.use_tsig(dns.tsigkeyring.from_text({"k.": "c2VjcmV0c2VjcmV0c2VjcmV0"}))
    notify = dns.message.make_query(ORIGIN, "SOA")
    notify.set_opcode(dns.opcode.NOTIFY)
    incremental = dns.message.make_query(ORIGIN, "IXFR")
    incremental.authority.append(dns.rrset.from_text(ORIGIN, 0, "IN", "SOA", ". . 1 0 0 0 0"))
    update = dns.update.UpdateMessage(ORIGIN)
    update.add("a", 30, "A", "10.0.0.1")
    return [signed, notify, incremental, update, dns.message.make_query(ORIGIN, "AXFR")]


def test_what_the_native_part_leaves_to_python_is_answered_where_it_came_from(zones, responder):
    made, address = responder
    wires = [message.to_wire() for message in not_ours()]
    with bound() as asking:
        for wire in wires:
            with pytest.raises(HandOver):
                zones.answer(wire, udp=True)
            asking.sendto(wire, address)
            assert select.select([made], [], [], 10)[0]
            query = made.take()
            assert (query.wire, query.source) == (wire, asking.getsockname())
            made.reply(query, b"answer")
            assert asking.recvfrom(100) == (b"answer", address)
            assert made.take() is None
            assert select.select([made], [], [], 0)[0] == []
    assert made.counters() == dict.fromkeys(made.counters(), 0) | {"queries": 5, "handed": 5}


def test_the_queue_to_python_is_bounded(responder):
    made, address = responder
    wire = dns.message.make_query(ORIGIN, "AXFR").to_wire()
    with bound() as asking:
        for sent in range(1, 1501):
            asking.sendto(wire, address)
            wait_for(lambda: made.counters()["queries"], sent)
    assert (made.counters()["handed"], made.counters()["handed_lost"]) == (1024, 476)
    assert sum(made.take() is not None for _ in range(1500)) == 1024


def wait_for(value, wanted):
    deadline = time.monotonic() + 10
    while value() != wanted:
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize(
    ("family", "listen", "ask"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET, "0.0.0.0", "127.0.0.7"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::", "::1"),
        (socket.AF_INET6, "::", "::ffff:127.0.0.7"),
    ],
)
def test_an_answer_comes_from_the_address_that_was_asked(zones, family, listen, ask):
    try:
        listening, asking = bound(family, listen), bound(family, listen)
    except OSError as error:
        pytest.skip(f"{listen}: {error}")
    with listening, asking:
        made = Responder(zones, [listening], **UNLIMITED)
        try:
            asking.connect((ask, listening.getsockname()[1]))  # the kernel drops what comes from elsewhere
            for wire in (PLAIN, dns.message.make_query(ORIGIN, "AXFR").to_wire()):
                asking.send(wire)
                if wire != PLAIN:
                    assert select.select([made], [], [], 10)[0]
                    made.reply(made.take(), b"answer")
                assert asking.recv(1000)
        finally:
            made.close()


def test_counters_say_what_was_answered(responder):
    made, address = responder
    sent = [
        PLAIN,
        EDNS,
        dns.message.make_query(f"x.{ORIGIN}", "A").to_wire(),
        b"short",
        bytes(5000),
        MALFORMED["EDNS 1"][0],
    ]
    big = dns.message.make_query(f"web.svc.a.{ORIGIN}", "A").to_wire()
    with bound() as asking:
        for wire in (*sent, big):
            asking.sendto(wire, address)
        wait_for(lambda: made.counters()["queries"], 7)
    wait_for(lambda: sum(made.responses().values()) + made.counters()["ignored"], 7)
    assert made.counters()["ignored"] == 1
    assert made.counters()["truncated"] == 1
    assert {rcode: count for rcode, count in made.responses().items() if count} == {
        "NOERROR": 3, "NXDOMAIN": 1, "FORMERR": 1, "BADVERS": 1,
    }  # fmt: skip


def test_answers_go_on_while_the_zone_changes():
    zones = Zones()
    zone = Zone(zones, ORIGIN, clock=time.time)
    zone.replace(CONTENT)
    with bound() as listening, bound() as asking:
        made = Responder(zones, [listening], **UNLIMITED)
        try:
            for i in range(300):
                name = f"n{i % 7}.{ORIGIN}"
                address = f"10.1.{i // 256}.{i % 256}"
                zone.update({name: (Record("A", 30, address),), f"n{(i + 1) % 7}.{ORIGIN}": ()})
                asking.sendto(dns.message.make_query(name, "A").to_wire(), listening.getsockname())
                assert dns.message.from_wire(asking.recv(1000)).answer[0][0].address == address
                if i % 50 == 0:
                    zone.replace(CONTENT)
            zone.close()
            asking.sendto(PLAIN, listening.getsockname())
            assert dns.message.from_wire(asking.recv(1000)).rcode() == dns.rcode.REFUSED
        finally:
            made.close()
            made.close()
    with pytest.raises(ValueError, match="closed"):
        made.take()


def test_a_responder_needs_open_sockets(zones):
    closed = bound()
    closed.close()
    with pytest.raises(OSError, match="descriptor"):
        Responder(zones, [closed], **UNLIMITED)

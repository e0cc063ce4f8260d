"""Transfers are read as dnspython reads them, and what is none is refused."""

import contextlib
import socket
import threading

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rrset
import dns.tsig
import dns.xfr
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pymon.dns import inbound
from pymon.dns.rrsets import Record

ORIGIN = "pymon.test."
KEY = dns.tsig.Key("k.", b"0" * 32, "hmac-sha256")
OTHER = dns.tsig.Key("k.", b"1" * 32, "hmac-sha256")
SOA = (ORIGIN, "SOA", f"ns.{ORIGIN} hostmaster.{ORIGIN} 1 2 3 4 5")
RECORDS = [
    (f"a.{ORIGIN}", "A", "192.0.2.1"),
    (f"A.b.{ORIGIN}", "AAAA", "2001:db8::1"),
    (f"a.b.{ORIGIN}", "TXT", '"heritage=pymon,owner=x"'),
    (f"q.{ORIGIN}", "TXT", '"two" "stri\\"ngs"'),
    (f"q.{ORIGIN}", "TXT", '"caf\\195\\169"'),
    (f"c.{ORIGIN}", "CNAME", f"A.B.{ORIGIN}"),
    (f"p.{ORIGIN}", "PTR", "elsewhere.example."),
    (f"_s.{ORIGIN}", "SRV", f"0 10 80 a.b.{ORIGIN}"),
    (f"m.{ORIGIN}", "MX", f"10 mail.{ORIGIN}"),
    (ORIGIN, "NS", "."),
    (f"*.odd\\.dot\\032x.{ORIGIN}", "A", "192.0.2.2"),
    (f"{'l' * 63}.{'m' * 63}.{ORIGIN}", "A", "192.0.2.3"),
    (f"u.{ORIGIN}", "TYPE65280", "\\# 3 010203"),
]


def answers(query, parts, *, key=None, unsigned=(), rcode=dns.rcode.NOERROR):
    """The messages that answer a query, with these records in each."""
    context = None
    for number, part in enumerate(parts):
        message = dns.message.Message(id=query.id)
        message.flags = dns.flags.QR
        message.question = query.question
        message.set_rcode(rcode)
        for name, kind, data in part:
            message.answer.append(dns.rrset.from_text(name, 30, "IN", kind, data))
        if key is None or number in unsigned:
            wire = message.to_wire()
            if context is not None:
                context.update(wire)
        else:
            message.use_tsig(key)
            message.request_mac = query.mac
            wire = message.to_wire(multi=True, tsig_ctx=context)
            context = message.tsig_ctx
        yield wire


@contextlib.contextmanager
def serving(made):
    """The port of a server that answers one query with what `made` makes of it, and hangs up."""

    def serve():
        connection, _ = listening.accept()
        with connection:
            size = int.from_bytes(connection.recv(2), "big")
            query = dns.message.from_wire(connection.recv(size), keyring={KEY.name: KEY})
            with contextlib.suppress(OSError):
                for wire in made(query):
                    connection.sendall(len(wire).to_bytes(2, "big") + wire)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()
        finally:
            thread.join()


def read(made, key=None):
    with serving(made) as address, contextlib.closing(inbound.transfer(address, ORIGIN, key)) as found:
        return list(found)


def expected(records):
    found = []
    for name, kind, data in records:
        (rdata,) = dns.rrset.from_text(name, 30, "IN", kind, data)
        text = rdata.to_text()
        found.append((name.lower(), Record(kind, 30, text if kind == "TXT" else text.lower())))
    return found


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "signed"])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_all_records_are_there(key, size):
    whole = [SOA, *RECORDS, SOA]
    parts = [whole[at : at + size] for at in range(0, len(whole), size)]
    assert read(lambda query: answers(query, parts, key=key), key) == expected(whole[:-1])


def test_messages_between_signed_ones_need_no_signature():
    parts = [[one] for one in [SOA, *RECORDS, SOA]]
    made = lambda query: answers(query, parts, key=KEY, unsigned={1, 2, 5})  # noqa: E731
    assert read(made, KEY) == expected([SOA, *RECORDS])


@pytest.mark.parametrize(
    ("sent", "unsigned", "error"),
    [
        (None, (), inbound.UnsignedError),
        (KEY, (2,), inbound.UnsignedError),
        (OTHER, (), dns.tsig.BadSignature),
    ],
)
def test_what_is_not_signed_as_it_should_be_is_refused(sent, unsigned, error):
    parts = [[SOA], RECORDS, [SOA]]
    with pytest.raises(error):
        read(lambda query: answers(query, parts, key=sent, unsigned=unsigned), KEY)


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "signed"])
def test_a_refusal_says_why(key):
    made = lambda query: answers(query, [[]], key=key, rcode=dns.rcode.REFUSED)  # noqa: E731
    with pytest.raises(dns.xfr.TransferError) as caught:
        read(made, key)
    assert caught.value.rcode == dns.rcode.REFUSED


@pytest.mark.parametrize("parts", [[RECORDS], [[]], [[SOA]]], ids=["no SOA first", "empty", "no end"])
def test_what_is_no_whole_transfer_is_refused(parts):
    with pytest.raises((dns.exception.FormError, EOFError)):
        read(lambda query: answers(query, parts))


def reader():
    query = dns.message.make_query(ORIGIN, "AXFR", id=7)
    return query, inbound._Reader(query, None)


def test_names_that_point_in_circles_are_refused():
    query, one = reader()
    head = query.to_wire()[:12]
    for pointers in (
        b"\xc0\x0c",
        b"\xc0\x0e\xc0\x0c",
        b"".join((12 + 2 * at).to_bytes(2, "big") for at in range(5000)),
    ):
        wire = head[:2] + b"\x80\0\0\x01\0\0\0\0\0\0" + pointers
        with pytest.raises((dns.exception.FormError, IndexError)):
            one.records(wire)
    chain = b"\0\0" + b"".join((0xC000 | 12 + 2 * at).to_bytes(2, "big") for at in range(4000))
    with pytest.raises(dns.exception.FormError):
        inbound._name(head + chain, 12 + len(chain) - 2, {})


@settings(deadline=None)
@given(st.data())
def test_any_octets_are_records_or_refused(data):
    query, one = reader()
    wire = bytearray(next(answers(query, [[SOA, *RECORDS, SOA]])))
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(wire)))
    try:
        one.records(bytes(wire[:cut]))
    except (dns.exception.DNSException, *inbound.MALFORMED):
        pass

"""What a DNS server answers, against what it should."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rdtypes.ANY.SOA
import dns.rrset
import dns.tsig
import dns.xfr

from pymon.config import Address
from pymon.dns import inbound, registration
from pymon.dns.records import Record, Records

BATCH = 64
"""Queries sent over a connection before their answers are read (RFC 7766 §6.2.1.1)."""

ANSWER_SECONDS = 5.0
_ATTEMPTS = 3

_OF_SIGNING = frozenset(("RRSIG", "NSEC", "NSEC3", "NSEC3PARAM", "DNSKEY", "CDS", "CDNSKEY", "ZONEMD"))
"""What a server that signs a zone adds to it."""


class AnswerError(Exception):
    """A server does not say what it was asked; why, in one line."""


class _Question(NamedTuple):
    name: str
    type: str
    expected: dns.rdataset.Rdataset | None


def differences(server: Address, records: Records, names: Sequence[str], *, registered: bool = False) -> Iterator[str]:
    """One line for each answer of a server that is another than it should be, the SOA's serial aside; one in all for a
    zone that it does not have.

    The zones' SOA records are asked for over UDP, all else over TCP. registered: the records are registered there, and
    SOA and NS are of whoever runs it. Raises AnswerError.
    """
    absent = set()
    try:
        for origin in records.origins:
            query = dns.message.make_query(origin, "SOA", flags=0)
            answer, _ = dns.query.udp_with_fallback(query, server.host, ANSWER_SECONDS, server.port)
            (question,) = (one for one in _questions(origin, records.get(origin)) if one.type == "SOA")
            if _found(question, answer) is None:
                absent.add(origin)
                yield f"{server}: {origin}: expected this zone, got {_got(question, answer)}"
            elif not registered:
                yield from _compared(server, question, answer)
        left_out = absent | {*records.origins} if registered else absent
        asked = (name for name in names if name not in left_out and records.origin(name) not in absent)
        questions = (
            question for name in asked for question in _questions(name, records.get(name)) if question.type != "SOA"
        )
        while batch := list(islice(questions, BATCH * BATCH)):
            for question, answer in zip(batch, _ask(server, batch), strict=True):
                yield from _compared(server, question, answer)
    except (OSError, EOFError, dns.exception.DNSException) as error:
        raise _failure(error) from None


def excess(server: Address, key: dns.tsig.Key | None, origin: str, records: Records, owner: str) -> Iterator[str]:
    """One line for each name that a server has in a zone and should not. Raises AnswerError when it gives no transfer.

    Where names are marked as registered those count that are ours: others may have names beside them.
    """
    try:
        with closing(inbound.transfer((server.host, server.port), origin, key)) as transfer:
            there = [(name, record) for name, record in transfer if record.type not in _OF_SIGNING]
    except dns.xfr.TransferError as error:
        raise AnswerError(dns.rcode.to_text(error.rcode)) from None
    except (OSError, EOFError, dns.exception.DNSException) as error:
        raise _failure(error) from None
    found = registration.sort_out(origin, owner, there)
    if not found.ours and not found.term:
        found.ours.clear()
        for name, record in there:
            found.ours[name] = (*found.ours.get(name, ()), record)
    for name in sorted(found.ours):
        if not records.get(name):
            got = ", ".join(f"{record.type} {record.data}" for record in found.ours[name])
            yield f"{server}: {name}: expected nothing, got {got}"


def _failure(error: Exception) -> AnswerError:
    return AnswerError(" ".join(str(error).split()) or type(error).__name__)


def _questions(name: str, records: Sequence[Record]) -> list[_Question]:
    """What to ask about a name: the types that it has, and those of addresses where it may have them."""
    data: dict[str, list[Record]] = {}
    for record in records:
        data.setdefault(record.type, []).append(record)
    types = dict.fromkeys(data)
    if not types.keys() & {"CNAME", "PTR", "SOA"}:
        types |= {"A": None, "AAAA": None}
    return [_Question(name, kind, _rdataset(kind, data.get(kind, []))) for kind in types]


def _rdataset(kind: str, records: Sequence[Record]) -> dns.rdataset.Rdataset | None:
    if not records:
        return None
    return dns.rdataset.from_text_list("IN", kind, records[0].ttl, [record.data for record in records])


def _ask(server: Address, questions: Sequence[_Question]) -> list[dns.message.Message]:
    """The answers, over TCP. A connection that the server ends is made anew, as it may do that whenever it likes."""
    answers: list[dns.message.Message] = []
    failures = 0
    while len(answers) < len(questions):
        before = len(answers)
        try:
            with socket.create_connection((server.host, server.port), ANSWER_SECONDS) as connection:
                while len(answers) < len(questions):
                    answers += _batch(connection, questions[len(answers) : len(answers) + BATCH])
        except (EOFError, ConnectionError):
            failures = 0 if len(answers) > before else failures + 1
            if failures == _ATTEMPTS:
                raise
    return answers


def _batch(connection: socket.socket, questions: Sequence[_Question]) -> list[dns.message.Message]:
    """Answers to a few questions, which may come in any order."""
    queries = [dns.message.make_query(one.name, one.type, id=number, flags=0) for number, one in enumerate(questions)]
    connection.settimeout(ANSWER_SECONDS)
    connection.sendall(b"".join(query.to_wire(prepend_length=True) for query in queries))
    answers: dict[int, dns.message.Message] = {}
    while len(answers) < len(queries):
        answer = dns.message.from_wire(_read(connection, int.from_bytes(_read(connection, 2), "big")))
        if answer.id >= len(queries) or not queries[answer.id].is_response(answer):
            raise dns.query.BadResponse
        answers[answer.id] = answer
    return [answers[query.id] for query in queries]


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError("the connection ended")
        data += part
    return data


def _compared(server: Address, question: _Question, answer: dns.message.Message) -> Iterator[str]:
    """The line about an answer, if there is one."""
    name, kind, expected = question
    found = _found(question, answer)
    if answer.rcode() == dns.rcode.NOERROR and _plain(found) == _plain(expected):
        # An answer of who is no authority has a TTL that runs down.
        same = found is None or expected is None or found.ttl == expected.ttl
        if not same and answer.flags & dns.flags.AA:
            yield f"{server}: {name} {kind}: expected TTL {expected and expected.ttl}, got {found and found.ttl}"
        return
    yield f"{server}: {name} {kind}: expected {_shown(expected)}, got {_got(question, answer)}"


def _found(question: _Question, answer: dns.message.Message) -> dns.rrset.RRset | None:
    """The records that an answer has of what was asked for."""
    name, kind = dns.name.from_text(question.name), dns.rdatatype.from_text(question.type)
    return answer.get_rrset(dns.message.ANSWER, name, dns.rdataclass.IN, kind)


def _got(question: _Question, answer: dns.message.Message) -> str:
    """What an answer says, in words."""
    code = answer.rcode()
    return _shown(_found(question, answer)) if code == dns.rcode.NOERROR else dns.rcode.to_text(code)


def _plain(found: dns.rdataset.Rdataset | None) -> frozenset[object]:
    """The data of records, with the serial of a SOA left out."""
    return frozenset(
        data.replace(serial=0) if isinstance(data, dns.rdtypes.ANY.SOA.SOA) else data for data in found or ()
    )


def _shown(found: dns.rdataset.Rdataset | None) -> str:
    return ", ".join(sorted(data.to_text() for data in found)) if found else "nothing"

"""Comparison of a DNS server's answers with the expected records."""

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
from pymon.dns import inbound, update_plan
from pymon.dns.records import Record, Records

BATCH = 64
"""Queries sent over a connection before their answers are read (RFC 7766 §6.2.1.1)."""

ANSWER_SECONDS = 5.0
_ATTEMPTS = 3

_OF_SIGNING = frozenset(("RRSIG", "NSEC", "NSEC3", "NSEC3PARAM", "DNSKEY", "CDS", "CDNSKEY", "ZONEMD"))
"""Record types that a server adds when it signs a zone (DNSSEC)."""


class AnswerError(Exception):
    """A server gives no usable answer. The message is one line with the reason."""


class _Question(NamedTuple):
    name: str
    type: str
    expected: dns.rdataset.Rdataset | None


def differences(server: Address, records: Records, names: Sequence[str], *, registered: bool = False) -> Iterator[str]:
    """Yield a line for each answer of a server that differs from the expected records.

    A zone that the server does not have gives a single line. The serial of the SOA is not compared. The zones' SOA
    records are queried over UDP, all other records over TCP.
    registered: the records are registered at the server by dynamic updates. The records at the zones' own names, such
        as SOA and NS, then belong to the server's operator and are not compared.
    Raises AnswerError.
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
    """Yield a line for each name that a server has in a zone and should not have.

    If the zone marks registered names, only the names registered by `owner` count, because others may have names in
    the same zone. key: signs the zone transfer, None for an unsigned one. Raises AnswerError if the transfer fails.
    """
    try:
        with closing(inbound.transfer((server.host, server.port), origin, key)) as transfer:
            there = [(name, record) for name, record in transfer if record.type not in _OF_SIGNING]
    except dns.xfr.TransferError as error:
        raise AnswerError(dns.rcode.to_text(error.rcode)) from None
    except (OSError, EOFError, dns.exception.DNSException) as error:
        raise _failure(error) from None
    found = update_plan.sort_out(origin, owner, there)
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
    """Return the queries for a name: the types of its records, and also A and AAAA if the name may have addresses."""
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
    """Query a server over TCP. Return an answer for each question, in the same order.

    A server may close the connection at any time. The remaining questions are then sent over a new connection. Raises
    EOFError or ConnectionError after three connections in a row without an answer.
    """
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
    """Send a batch of questions. Return the answers in the order of the questions; the server may use another order."""
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
    """Yield a line if an answer differs from the expected records."""
    name, kind, expected = question
    found = _found(question, answer)
    if answer.rcode() == dns.rcode.NOERROR and _plain(found) == _plain(expected):
        # The TTL is only compared in authoritative answers; a cache counts it down.
        same = found is None or expected is None or found.ttl == expected.ttl
        if not same and answer.flags & dns.flags.AA:
            yield f"{server}: {name} {kind}: expected TTL {expected and expected.ttl}, got {found and found.ttl}"
        return
    yield f"{server}: {name} {kind}: expected {_shown(expected)}, got {_got(question, answer)}"


def _found(question: _Question, answer: dns.message.Message) -> dns.rrset.RRset | None:
    """Return the records in an answer that match the question, or None."""
    name, kind = dns.name.from_text(question.name), dns.rdatatype.from_text(question.type)
    return answer.get_rrset(dns.message.ANSWER, name, dns.rdataclass.IN, kind)


def _got(question: _Question, answer: dns.message.Message) -> str:
    """Return the content of an answer as text: its records, or its error code."""
    code = answer.rcode()
    return _shown(_found(question, answer)) if code == dns.rcode.NOERROR else dns.rcode.to_text(code)


def _plain(found: dns.rdataset.Rdataset | None) -> frozenset[object]:
    """Return the data of records for comparison, with the serial of a SOA set to 0."""
    return frozenset(
        data.replace(serial=0) if isinstance(data, dns.rdtypes.ANY.SOA.SOA) else data for data in found or ()
    )


def _shown(found: dns.rdataset.Rdataset | None) -> str:
    return ", ".join(sorted(data.to_text() for data in found)) if found else "nothing"

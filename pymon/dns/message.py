"""Parser of the requests that the native part hands over, and builder of their answers. Does no I/O."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.wire
from dns.rdtypes.ANY.SOA import SOA
from dns.rdtypes.ANY.TSIG import TSIG

from pymon.dns.tsig import Signature

HEADER_BYTES = 12
UDP_PAYLOAD_BYTES = 1232
UDP_PLAIN_BYTES = 512

_HEADER = struct.Struct("!HHHHHH")
_QUESTION = struct.Struct("!HH")
_RECORD = struct.Struct("!HHIH")
_DNSSEC_OK = 0x8000
_POINTER = 0x40


@dataclass(slots=True)
class Request:
    """A parsed request.

    malformed: the message could not be parsed to its end; fields that were not parsed keep their defaults. question:
    the question section in wire form, which answers repeat; empty without a question. type, rdclass: of the question, 0
    without one. serial: of the SOA record in the authority section (IXFR). version: of EDNS, None without EDNS.
    payload: the largest UDP answer that the sender accepts, in octets.
    """

    id: int
    flags: int
    malformed: bool = True
    name: dns.name.Name | None = None
    type: int = 0
    rdclass: int = 0
    question: bytes = b""
    serial: int | None = None
    version: int | None = None
    edns_flags: int = 0
    payload: int = UDP_PLAIN_BYTES
    signature: Signature | None = None

    @property
    def opcode(self) -> int:
        """The OPCODE of the header, 0 to 15."""
        return (self.flags >> 11) & 15


def parse(wire: bytes) -> Request | None:
    """Parse a message. Returns None if it is not a request and must not be answered."""
    if len(wire) < HEADER_BYTES:
        return None
    id, flags, questions, answers, authorities, additional = _HEADER.unpack_from(wire)
    if flags & dns.flags.QR:
        return None
    request = Request(id, flags)
    if questions != 1:
        return request
    parser = dns.wire.Parser(wire, HEADER_BYTES)
    try:
        begin = parser.current
        name = parser.get_name()
        end = parser.current
        request.type, request.rdclass = parser.get_struct(_QUESTION.format)
        request.name = name
        if wire[end - 1]:  # the name ends in a pointer, which could only point into the header
            raise dns.exception.FormError
        request.question = wire[begin : parser.current]
        before = answers + authorities
        for index in range(before + additional):
            _record(request, parser, index, before, last=index + 1 == before + additional)
        request.malformed = parser.remaining() > 0
    except (dns.exception.DNSException, ValueError):
        pass
    return request


def _record(request: Request, parser: dns.wire.Parser, index: int, before: int, *, last: bool) -> None:
    """Parse one record. before: the number of records before the additional section. last: the record is the last."""
    start = parser.current
    _skip_name(parser)
    nameless = parser.current == start + 1
    kind, rdclass, ttl, size = parser.get_struct(_RECORD.format)
    if kind == dns.rdatatype.OPT:
        if index < before or not nameless or request.version is not None:
            raise dns.exception.FormError
        request.payload = max(rdclass, UDP_PLAIN_BYTES)
        request.version = ttl >> 16 & 0xFF
        request.edns_flags = ttl & 0xFFFF
        end = parser.current + size
        while parser.current < end:
            parser.get_bytes(parser.get_struct("!HH")[1])
        if parser.current != end:
            raise dns.exception.FormError
        return
    if kind == dns.rdatatype.TSIG:
        if not last or index < before or rdclass != dns.rdataclass.ANY or ttl:
            raise dns.exception.FormError
        data = dns.rdata.from_wire(rdclass, kind, parser.wire, parser.current, size)
        if isinstance(data, TSIG):
            request.signature = Signature(dns.name.from_wire(parser.wire, start)[0], data, start)
    elif kind == dns.rdatatype.SOA and index < before and request.opcode == dns.opcode.QUERY:
        data = dns.rdata.from_wire(rdclass, kind, parser.wire, parser.current, size)
        if isinstance(data, SOA) and request.serial is None:
            request.serial = data.serial
    parser.get_bytes(size)


def _skip_name(parser: dns.wire.Parser) -> None:
    """Skip a name without following its pointers, whose cost a hostile message could make large."""
    while (size := parser.get_uint8()) and size < _POINTER:
        parser.get_bytes(size)
    if size:
        parser.get_uint8()


def reply(request: Request, rcode: dns.rcode.Rcode, *, truncated: bool = False) -> bytes:
    """Return the wire form of an answer without records."""
    return frame(request, rcode, 0, b"", aa=False, edns=request.version is not None, truncated=truncated)


def frame(
    request: Request,
    rcode: dns.rcode.Rcode,
    count: int,
    records: bytes,
    *,
    aa: bool = True,
    edns: bool = False,
    truncated: bool = False,
) -> bytes:
    """Return the wire form of an answer with records.

    count, records: the answer section in wire form; its compression pointers point to the question at offset 12. edns:
    add an OPT record.
    """
    flags = dns.flags.QR | request.flags & (0x7800 | dns.flags.RD) | rcode & 15
    if aa:
        flags |= dns.flags.AA
    if truncated:
        flags |= dns.flags.TC
    opt = b""
    if edns:
        ttl = (rcode >> 4) << 24 | request.edns_flags & _DNSSEC_OK
        opt = b"\0" + _RECORD.pack(dns.rdatatype.OPT, UDP_PAYLOAD_BYTES, ttl, 0)
    head = _HEADER.pack(request.id, flags, bool(request.question), count, 0, bool(opt))
    return b"".join((head, request.question, records, opt))


def refusal(header: bytes, rcode: dns.rcode.Rcode) -> bytes | None:
    """Return an answer to a message of which only the header was read, None if the message is not a request."""
    id, flags, *_ = _HEADER.unpack_from(header)
    return None if flags & dns.flags.QR else frame(Request(id, flags), rcode, 0, b"", aa=False)


def unsigned(wire: bytes, start: int) -> bytes:
    """Return a message without its TSIG record. start: the offset of that record, which must be the last."""
    count = int.from_bytes(wire[10:12], "big") - 1
    return wire[:10] + count.to_bytes(2, "big") + wire[HEADER_BYTES:start]

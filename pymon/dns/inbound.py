"""Zones as other servers give them out (AXFR, RFC 5936): read in one pass, as most of a large transfer's time would go
into an object for each of its records. Blocks: for a thread of its own.
"""

from __future__ import annotations

import re
import socket
import struct
import time
from collections.abc import Generator
from typing import Any

import dns.exception
import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tsig
import dns.xfr

from pymon.dns.rrsets import Record

READ_SECONDS = 5.0
"""For one message, and to connect."""

TRANSFER_SECONDS = 300.0

MALFORMED = (struct.error, IndexError, ValueError)
"""What reading any octets raises beside exceptions of dnspython."""

_HEADER = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")
_SRV = struct.Struct("!HHH")
_QUESTION_BYTES = 4
_RESPONSE, _CODES = 0x8000, 0x780F  # of the flags: QR, and OPCODE with RCODE
_POINTER, _POINTER_BITS = 0xC0, 0x3FFF
_MAX_NAME_CHARACTERS = 4 * 254  # each an escape
_MAX_POINTERS = 127
_IPV4_BYTES, _IPV6_BYTES = 4, 16
_A, _AAAA, _SOA, _SRV_TYPE, _TXT, _TSIG = (
    int(dns.rdatatype.from_text(kind)) for kind in ("A", "AAAA", "SOA", "SRV", "TXT", "TSIG")
)
_NAMES = frozenset(int(dns.rdatatype.from_text(kind)) for kind in ("CNAME", "NS", "PTR"))
_is_plain_label = re.compile(rb"[a-z0-9_-]+").fullmatch
_is_plain_text = re.compile(rb"[A-Za-z0-9 :_.,=-]*").fullmatch


class UnsignedError(dns.exception.DNSException):
    """The end of a transfer is not signed."""


def transfer(
    address: tuple[Any, ...], origin: str, key: dns.tsig.Key | None
) -> Generator[tuple[str, Record], None, None]:
    """All records of a zone, the last SOA left out; data as in a master file, its names in lower case.

    Raises OSError, EOFError, dns.xfr.TransferError when the server does not give it, and others of dnspython. To be
    closed where it is not read to its end.
    """
    query = dns.message.make_query(origin, "AXFR", flags=0)
    if key is not None:
        query.use_tsig(key)
    wire = query.to_wire()
    reader = _Reader(query, key)
    until = time.monotonic() + TRANSFER_SECONDS
    with socket.create_connection(address[:2], READ_SECONDS) as connection:
        connection.sendall(len(wire).to_bytes(2, "big") + wire)
        while not reader.ended:
            deadline = min(until, time.monotonic() + READ_SECONDS)
            size = int.from_bytes(received(connection, 2, deadline), "big")
            message = received(connection, size, deadline)
            try:
                yield from reader.records(message)
            except MALFORMED:
                raise dns.exception.FormError from None


def received(connection: socket.socket, size: int, deadline: float) -> bytes:
    """So many octets. deadline: on the monotonic clock. Raises TimeoutError, EOFError."""
    data = b""
    while len(data) < size:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


class _Reader:
    """What the messages of one transfer say. ended: the second SOA was there."""

    def __init__(self, query: dns.message.Message, key: dns.tsig.Key | None) -> None:
        self.ended = False
        self._id = query.id
        self._origin = query.question[0].name.to_text().lower()
        self._key = key
        self._mac = query.mac
        self._context: Any = None
        self._begun = False

    def records(self, wire: bytes) -> list[tuple[str, Record]]:
        """The records of the next message, after its signature was checked."""
        number, flags, questions, answers, authorities, others = _HEADER.unpack_from(wire)
        names: dict[int, str] = {}
        at = _HEADER.size
        for _ in range(questions):
            at = _name(wire, at, names)[1] + _QUESTION_BYTES
        found = []
        for index in range(answers + authorities + others):
            start = at
            name, at = _name(wire, at, names)
            kind, _, ttl, size = _RECORD.unpack_from(wire, at)
            at += _RECORD.size
            if at + size > len(wire):
                raise dns.exception.FormError
            if kind == _TSIG:
                self._check(wire, name, start, at, size)
                break
            if index < answers and not self.ended:
                record = Record(_type(kind), ttl, _data(wire, at, size, kind, names))
                if kind == _SOA and name == self._origin:
                    self.ended, self._begun = self._begun, True
                if not self.ended:
                    found.append((name, record))
            at += size
        else:
            self._unsigned(wire)
        if number != self._id or not flags & _RESPONSE:
            raise dns.exception.FormError
        if flags & _CODES:
            raise dns.xfr.TransferError(flags & 0xF)  # type: ignore[no-untyped-call]
        if not self._begun or not answers:
            raise dns.exception.FormError
        return found

    def _check(self, wire: bytes, name: str, start: int, at: int, size: int) -> None:
        data = dns.rdata.from_wire(dns.rdataclass.ANY, dns.rdatatype.TSIG, wire, at, size)
        if self._key is None:
            raise dns.exception.FormError
        self._context = dns.tsig.validate(  # type: ignore[no-untyped-call]
            wire, self._key, dns.name.from_text(name), data, int(time.time()), self._mac, start, self._context, True
        )

    def _unsigned(self, wire: bytes) -> None:
        """Of signed messages the first and the last must be (RFC 8945 §5.3.1); an error is taken without."""
        if self._key is None or wire[3] & 0xF:
            return
        if self.ended or self._context is None:
            raise UnsignedError
        self._context.update(wire)


def _type(kind: int) -> str:
    found = _TYPES.get(kind)
    if found is None:
        found = dns.rdatatype.to_text(dns.rdatatype.RdataType.make(kind))
    return found


_TYPES = {int(kind): dns.rdatatype.to_text(kind) for kind in dns.rdatatype.RdataType}


def _name(wire: bytes, at: int, names: dict[int, str], pointers: int = 0) -> tuple[str, int]:
    """A name in lower case as master files write it, and where it ends. names: those of the message, by place.
    pointers: that led here.
    """
    begin, labels = at, []
    while (size := wire[at]) and size < _POINTER:
        if size > 63:  # noqa: PLR2004  # RFC 1035 §2.3.4
            raise dns.exception.FormError
        label = wire[at + 1 : at + 1 + size].lower()
        labels.append((at, label.decode() if _is_plain_label(label) else _escaped(label)))
        at += 1 + size
    text, end = "", at + 1
    if size:
        target, end = (size << 8 | wire[at + 1]) & _POINTER_BITS, at + 2
        if target >= begin or pointers == _MAX_POINTERS:  # only what was there before: so there is no loop
            raise dns.exception.FormError
        text = names[target] if target in names else _name(wire, target, names, pointers + 1)[0]
    for place, label_text in reversed(labels):
        text = f"{label_text}.{text}"
        names[place] = text
    if len(text) > _MAX_NAME_CHARACTERS:
        raise dns.exception.FormError
    return text or ".", end


def _escaped(label: bytes) -> str:
    return dns.name.Name((label, b"")).to_text(omit_final_dot=True)


def _data(wire: bytes, at: int, size: int, kind: int, names: dict[int, str]) -> str:
    if kind == _A and size == _IPV4_BYTES:
        return socket.inet_ntoa(wire[at : at + size])
    if kind == _AAAA and size == _IPV6_BYTES:
        return socket.inet_ntop(socket.AF_INET6, wire[at : at + size])
    if kind == _TXT and size and wire[at] + 1 == size and _is_plain_text(wire, at + 1, at + size):
        return f'"{wire[at + 1 : at + size].decode()}"'
    if kind in _NAMES:
        return _name(wire, at, names)[0]
    if kind == _SRV_TYPE:
        priority, weight, port = _SRV.unpack_from(wire, at)
        return f"{priority} {weight} {port} {_name(wire, at + _SRV.size, names)[0]}"
    parsed = dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.RdataType.make(kind), wire, at, size)
    text = parsed.to_text()
    return text if kind == _TXT else text.lower()

"""Client side of a zone transfer (AXFR, RFC 5936). Blocking: call it from a thread of its own.

Records are parsed here and not by dnspython, because the objects that dnspython makes for each record would take most
of the time of a large transfer.
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
"""Time limit for one message, and for the connection."""

TRANSFER_SECONDS = 300.0

MALFORMED = (struct.error, IndexError, ValueError)
"""Exceptions that the parser raises for malformed input, in addition to those of dnspython."""

_HEADER = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")
_SRV = struct.Struct("!HHH")
_QUESTION_BYTES = 4
_RESPONSE, _CODES = 0x8000, 0x780F  # masks of the flags word: QR, and OPCODE with RCODE
_POINTER, _POINTER_BITS = 0xC0, 0x3FFF
_MAX_NAME_CHARACTERS = 4 * 254  # if every character is an escape such as \000
_MAX_POINTERS = 127
_IPV4_BYTES, _IPV6_BYTES = 4, 16
_A, _AAAA, _SOA, _SRV_TYPE, _TXT, _TSIG = (
    int(dns.rdatatype.from_text(kind)) for kind in ("A", "AAAA", "SOA", "SRV", "TXT", "TSIG")
)
_NAMES = frozenset(int(dns.rdatatype.from_text(kind)) for kind in ("CNAME", "NS", "PTR"))
_is_plain_label = re.compile(rb"[a-z0-9_-]+").fullmatch
_is_plain_text = re.compile(rb"[A-Za-z0-9 :_.,=-]*").fullmatch


class UnsignedError(dns.exception.DNSException):
    """The last message of a transfer is not signed."""


def transfer(
    address: tuple[Any, ...], origin: str, key: dns.tsig.Key | None
) -> Generator[tuple[str, Record], None, None]:
    """Yield (name, record) for all records of a zone, without the SOA at the end.

    Data is in the format of a master file, with names in lower case. address: as of a socket. key: None for an unsigned
    request. Raises OSError, EOFError, dns.xfr.TransferError if the server refuses, and other exceptions of dnspython. A
    caller that stops early must close the generator.
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
    """Read and return `size` bytes. deadline: on the monotonic clock. Raises TimeoutError, EOFError."""
    data = b""
    while len(data) < size:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


class _Reader:
    """Parser of the messages of one transfer. ended: the second SOA was read, so the transfer is complete."""

    def __init__(self, query: dns.message.Message, key: dns.tsig.Key | None) -> None:
        self.ended = False
        self._id = query.id
        self._origin = query.question[0].name.to_text().lower()
        self._key = key
        self._mac = query.mac
        self._context: Any = None
        self._begun = False

    def records(self, wire: bytes) -> list[tuple[str, Record]]:
        """Check the signature of the next message and return its records. Raises `MALFORMED` or DNSException."""
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
        """Accept a message without signature, or raise UnsignedError.

        The first and the last message of a signed transfer must be signed (RFC 8945 §5.3.1). An error answer need not.
        """
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
    """Return the name at an offset and the offset after it. The name is absolute, in master file format, lower case.

    names: offset -> name, for names of this message that were parsed before. pointers: how many compression pointers
    were followed so far.
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
        if target >= begin or pointers == _MAX_POINTERS:  # a pointer must point backwards, so there is no loop
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
